"""A folder of small pictures, and a config that learns them in seconds."""

import jax
import numpy as np
import pytest
from labels.noise_pictures import picture

from medjax import engine

CONFIG = '''"""A small network on pictures of two classes."""

from medjax.config import default_config


def get_config(variant='pictures'):
  data, _, method = variant.partition(',')
  config = default_config()
  config.data.update(name='folder', path={path!r}, batch_size=8)
  config.data.preprocess = (dict(name='scale', mean=127.5, std=127.5),)
  config.model = dict(
    name='ResNet18', width=2, stage_sizes=(1, 1), stem='small'
  )
  config.task = dict(name='Classification')
  config.optimizer.learning_rate = 1e-2
  config.train.update(steps=6, log_every=6, ema_decay=0.5)
  if method:
    config.task.name = 'MeanTeacherClassification'
  return config
'''


@pytest.fixture(scope='session')
def pictures(tmp_path_factory):
  """A folder with 40 pictures of each of two classes."""
  root, rng = tmp_path_factory.mktemp('pictures'), np.random.default_rng(0)
  for i in range(80):
    picture(root / 'study' / 'ab'[i % 2] / f'{i}.png', rng, bright=i % 2)
  (root / 'small.py').write_text(CONFIG.format(path=str(root / 'study')))
  return root


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ('data',))
  monkeypatch.setattr(engine, 'make_mesh', lambda devices=None: mesh)
