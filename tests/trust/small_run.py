"""A run small enough to be trained in seconds, and its cases."""

import flax.linen as nn
import numpy as np

from medjax.config import default_config


class Net(nn.Module):
  """A convolution, a batch norm, a head; features as the models of medjax."""

  num_classes: int

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    x = nn.Conv(4, (3, 3), name='conv')(x)
    x = nn.BatchNorm(use_running_average=not train, name='norm')(x)
    x = nn.relu(x)
    pooled = x.mean((1, 2))
    logits = nn.Dense(self.num_classes, name='head')(pooled)
    named = {'stage_0': x, 'pooled': pooled, 'logits': logits}
    return named if features else logits


class Blind(nn.Module):
  """A model that gives logits and nothing else."""

  num_classes: int

  @nn.compact
  def __call__(self, x, *, train=False):
    return nn.Dense(self.num_classes)(x.mean((1, 2)))


class Cases(list):
  """Raw cases as a data set gives them."""

  class_names = ('dark', 'bright')


def make_cases(n, seed):
  rng, cases = np.random.default_rng(seed), Cases()
  for i in range(n):
    image = rng.integers(60, 120, (16, 16, 1))
    image[4:12, 4:12] += rng.integers(20, 60) * (i % 2)
    cases.append(
      {
        'image': image.astype(np.uint8),
        'id': f'{seed}-{i}',
        'patient': f'{seed}-{i}',
        'affine': np.eye(3),
        'spacing': np.ones(2),
        'label': np.int32(i % 2),
        'sex': 'FM'[i // 2 % 2],
        'age': float(20 + i),
      }
    )
  return cases


def make_config():
  config = default_config()
  config.data.update(name='synthetic', batch_size=16, subgroups=('sex',))
  config.data.preprocess = (dict(name='scale', mean=90.0, std=40.0),)
  config.model = dict(name=f'{__name__}:Net')
  config.task = dict(name='Classification', risk=0.2)
  config.optimizer.learning_rate = 3e-2
  config.train.update(steps=60, log_every=30, eval_every=60)
  config.inference.update(batch_size=32, ood=('mahalanobis', 'residual'))
  return config


SIZES = {'train': (64, 0), 'validation': (60, 1), 'test': (60, 2)}
