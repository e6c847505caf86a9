"""The two small networks of the golden attributions, in Flax."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from medjax.explain.target import Network, Score, Target


class Golden(nn.Module):
  """Convolution – ReLU – 2-voxel max-pool, twice the first two, mean, dense."""

  @nn.compact
  def __call__(self, x, *, train=False):
    rank = x.ndim - 2
    kernel, pad = (3,) * rank, 'SAME'
    x = nn.relu(nn.Conv(4, kernel, padding=pad, name='c1')(x))
    x = nn.max_pool(x, (2,) * rank, (2,) * rank)
    x = nn.Conv(8, kernel, padding=pad, name='c2')(x)
    x = Relu(name='r2')(x)
    return nn.Dense(2, name='f')(x.mean(tuple(range(1, x.ndim - 1))))


class Relu(nn.Module):
  """A layer of its own, to be named."""

  @nn.compact
  def __call__(self, x):
    return nn.relu(x)


def golden(data, name):
  """(score, images, about: class 1, golden arrays by name) of a net."""
  about = f'{name}/weight/'
  weights = {k.removeprefix(about): data[k] for k in data if about in k}
  params = {}
  for key, value in weights.items():
    layer, kind = key.split('.')
    axes = (*range(2, value.ndim), 1, 0)
    kind = 'kernel' if kind == 'weight' else kind
    params.setdefault(layer, {})[kind] = (
      value.transpose(axes) if value.ndim > 1 else value
    )
  last = lambda x: np.moveaxis(x, 1, -1)
  start = f'{name}/'
  arrays = {k.removeprefix(start): data[k] for k in data if k.startswith(start)}
  score = Score(({'params': params},), Network(Golden(), Target('value')))
  images = last(arrays['input'])
  about = {'output': np.ones(len(images), int)}
  return score, images, about, arrays


class Linear(nn.Module):
  """Σ w x, whatever the rank."""

  @nn.compact
  def __call__(self, x, *, train=False):
    w = self.param('w', nn.initializers.normal(), x.shape[1:])
    return (x * w).reshape(len(x), -1).sum(1, keepdims=True)


def linear(weights):
  """The score Σ w x."""
  network = Network(Linear(), Target('value'))
  return Outputless(Score(({'params': {'w': weights}},), network))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputless:
  """A score that needs not be told of which output."""

  score: Score

  def __call__(self, images, about):
    return self.score(images, {'output': jnp.zeros(len(images), int), **about})
