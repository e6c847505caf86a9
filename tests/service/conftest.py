"""A tiny model of real MRI, and stores of both kinds."""

import contextlib
import shutil
import subprocess

import hospital
import jax
import numpy as np
import pytest
from PIL import Image

from medjax import engine, experiment
from medjax.config import default_config
from medjax.evaluate import evaluate
from medjax.explain import neighbours
from medjax.prediction import trained
from medjax.train import train


@contextlib.contextmanager
def on_one_device():
  """A worker has one device; the virtual eight would cost minutes."""
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ('data',))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(engine, 'make_mesh', lambda devices=None: mesh)
    yield


@pytest.fixture(autouse=True)
def one_device():
  """For each test of its own: other rooms' tests run between these."""
  with on_one_device():
    yield


@pytest.fixture(scope='session')
def images(shared_data):
  """Hippocampus MRIs that the model was not trained on."""
  found = sorted((shared_data('msd_hippocampus') / 'imagesTr').glob('*.nii.gz'))
  return found[100:]


@pytest.fixture(scope='session')
def workdir(shared_data, tmp_path_factory):
  """A run of a few seconds on hippocampus MRI, evaluated."""
  data, home = shared_data('msd_hippocampus'), tmp_path_factory.mktemp('model')
  for kind, name in (('imagesTr', 'images'), ('labelsTr', 'masks')):
    (home / 'data' / name).mkdir(parents=True)
    for path in sorted((data / kind).glob('*.nii.gz'))[:16]:
      (home / 'data' / name / path.name).symlink_to(path)
  config = default_config()
  config.data.update(
    name='folder',
    path=str(home / 'data'),
    batch_size=2,
    patch_size=(32, 48, 32),
    fractions=(0.5, 0.4, 0.1),
    preprocess=(dict(name='zscore'),),
  )
  config.model = dict(name='UNet', features=(8, 16))
  config.task = dict(
    name='Segmentation',
    num_classes=3,
    class_names=('background', 'anterior', 'posterior'),
  )
  config.optimizer.learning_rate = 3e-3
  config.train.update(steps=50, log_every=25, eval_every=50, ema_decay=0.0)
  config.inference.batch_size = 8
  with on_one_device():
    made = experiment.make(config)
    train(made, home / 'tiny')
    evaluate(made, home / 'tiny')
  return home / 'tiny'


@pytest.fixture(scope='session')
def classifier(shared_data, tmp_path_factory):
  """A run of a few seconds on chest X-rays, evaluated."""
  arrays = np.load(shared_data('pneumoniamnist') / 'pneumoniamnist.npz')
  home = tmp_path_factory.mktemp('classifier')
  labels = arrays['train_labels'].ravel()
  for value, name in enumerate(('normal', 'pneumonia')):
    (home / 'data' / name).mkdir(parents=True)
    for k in np.flatnonzero(labels == value)[:60]:
      picture = Image.fromarray(arrays['train_images'][k])
      picture.save(home / 'data' / name / f'{k}.png')
  config = default_config()
  config.data.update(
    name='folder',
    path=str(home / 'data'),
    batch_size=16,
    fractions=(0.5, 0.4, 0.1),
    preprocess=(dict(name='scale', mean=127.5, std=127.5),),
  )
  config.model = dict(name='LeNet5')
  config.task = dict(name='Classification', num_classes=2, positive='pneumonia')
  config.optimizer.learning_rate = 1e-3
  config.train.update(steps=30, log_every=10, eval_every=30, ema_decay=0.0)
  with on_one_device():
    made = experiment.make(config)
    train(made, home / 'tiny')
    evaluate(made, home / 'tiny')
  return home / 'tiny'


@pytest.fixture(scope='session')
def seen(classifier, tmp_path_factory):
  """The classifier with its training cases kept, and what is new fitted."""
  workdir = tmp_path_factory.mktemp('seen') / 'run'
  shutil.copytree(classifier, workdir)
  with on_one_device():
    scores = {'ood': ('mahalanobis', 'knn')}
    evaluate(experiment.restore(workdir, inference=scores), workdir)
    neighbours.stored(trained.load(workdir), workdir)
  return workdir


@pytest.fixture
def store(tmp_path):
  """An empty store on SQLite."""
  return hospital.make_store(tmp_path / 'home')


@pytest.fixture(scope='session')
def postgres():
  """A throw-away PostgreSQL, or a skip."""
  database = hospital.Database()
  if database.bin is None:
    pytest.skip('PostgreSQL is not installed (postgresql-15)')
  pytest.importorskip('psycopg', reason='psycopg is not installed')
  try:
    database.start()
  except (OSError, subprocess.CalledProcessError) as e:
    pytest.skip(f'PostgreSQL does not start here: {e}')
  yield database
  database.stop()
