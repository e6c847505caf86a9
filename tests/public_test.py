"""`medjax.batches` and `medjax.load`, asked of the package itself."""

import itertools
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import medjax
from medjax import engine, experiment, public
from medjax.prediction import trained
from medjax.train import train

CONFIG = """
from medjax.config import default_config

def get_config(path='study'):
  config = default_config()
  config.data.update(name='folder', path=path, batch_size=8)
  config.data.patch_size = (8, 8)
  config.data.preprocess = (dict(name='scale', std=255.0),)
  config.augment = (dict(name='flip', p=1.0),)
  config.model = dict(name='UNet', features=(2, 4))
  config.task = dict(name='Segmentation', num_classes=2)
  config.train.steps = 3
  return config
"""


@pytest.fixture
def config_file(tmp_path):
  """A config with its folder of twenty small pictures with masks."""
  rng = np.random.default_rng(0)
  for kind, most in (('images', 256), ('masks', 2)):
    (tmp_path / 'study' / kind).mkdir(parents=True)
    for i in range(20):
      pixels = rng.integers(0, most, (12, 11)).astype(np.uint8)
      Image.fromarray(pixels).save(tmp_path / 'study' / kind / f'{i}.png')
  (tmp_path / 'mine.py').write_text(CONFIG)
  return f'{tmp_path}/mine.py:{tmp_path}/study'


def test_batches_are_those_of_training_before_augmentation(
  config_file, tmp_path, monkeypatch
):
  seen = []

  def make_train_step(*args, **options):
    def step(state, metrics, batch, key):
      seen.append(jax.device_get(batch))
      if len(seen) == 2:
        raise InterruptedError
      return state, metrics

    return step

  monkeypatch.setattr(engine, 'make_train_step', make_train_step)
  made = experiment.make(public.read_config(config_file))
  with pytest.raises(InterruptedError):
    train(made, tmp_path / 'run')
  ours = list(medjax.batches(config_file))
  assert len(ours) == 3
  for a, b in zip(ours, seen, strict=False):
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert a['image'].shape == (8, 8, 8, 1)
    assert a['image'].std(axis=(1, 2)).min() > 0


def test_a_config_itself_will_do_and_another_split(config_file):
  config = public.read_config(config_file)
  config.data.fractions = (0.4, 0.2, 0.4)
  each = [
    next(iter(medjax.batches(config, split))) for split in ('train', 'test')
  ]
  held = [{x.tobytes() for x in batch['mask']} for batch in each]
  assert not held[0] & held[1]


def test_a_batch_of_the_whole_split(config_file):
  config = public.read_config(config_file)
  config.data.batch_size = 0
  batch = next(iter(medjax.batches(config)))
  assert len(batch['image']) == len(experiment.make(config).cases('train'))


def test_a_case_that_training_refuses_is_refused(config_file):
  config = public.read_config(config_file)
  config.data.preprocess = ()
  for path in ('masks/1.png', 'masks/2.png'):
    folder = config.data.path
    Image.fromarray(np.full((12, 11), 7, np.uint8)).save(f'{folder}/{path}')
  config.data.fractions = (1.0, 0.0, 0.0)
  with pytest.raises(ValueError, match='holds label 7'):
    list(itertools.islice(medjax.batches(config), 3))


def test_a_file_that_is_no_config_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'nowhere\.py: no such config'):
    medjax.batches('nowhere.py')
  (tmp_path / 'empty.py').touch()
  with pytest.raises(ValueError, match=r'empty\.py has no .*get_config'):
    medjax.batches(tmp_path / 'empty.py')


def test_the_door_is_lazy_and_known():
  assert medjax.load is trained.load
  assert {'load', 'batches'} <= {*dir(medjax)}
  with pytest.raises(AttributeError, match='laod'):
    medjax.laod  # noqa: B018
  # As the guide has it, with nothing else imported.
  code = 'import medjax; print(medjax.metrics.dice.__module__)'
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout.startswith('medjax.metrics')


def test_an_image_that_is_not_finite_is_refused(config_file, tmp_path):
  """By every road of Python, as files are: a network would answer."""
  made = experiment.make(public.read_config(config_file))
  train(made, tmp_path / 'run')
  run = medjax.load(tmp_path / 'run')
  image = np.zeros((12, 11))
  assert run.predict(image).labels.shape == (12, 11)
  image[2, 3] = np.nan
  for ask in (run.predict, run.probabilities, run.features):
    with pytest.raises(ValueError, match=r'^image: 1 of 132 voxels are NaN'):
      ask(image)
