"""Inception v3 for classification, 2-D."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from medjax.models.layers import ConvNorm, global_mean
from medjax.ops.pooling import avg_pool, max_pool

_TRUNCATED = nn.initializers.truncated_normal(0.1)

# A block is its branches, a branch its layers: a pooling, a convolution
# (features, kernel), one of stride 2 (features, kernel, 2), or a tuple of
# convolutions side by side.
_ROW, _COLUMN = (1, 7), (7, 1)
_SPLIT = ((384, (1, 3)), (384, (3, 1)))


def _a(pooled):
  return (
    [(64, 1)],
    [(48, 1), (64, 5)],
    [(64, 1), (96, 3), (96, 3)],
    ['average', (pooled, 1)],
  )


def _c(features):
  double = [(features, kernel) for kernel in (1, _COLUMN, _ROW, _COLUMN)]
  return (
    [(192, 1)],
    [(features, 1), (features, _ROW), (192, _COLUMN)],
    [*double, (192, _ROW)],
    ['average', (192, 1)],
  )


_B = ([(384, 3, 2)], [(64, 1), (96, 3), (96, 3, 2)], ['maximum'])
_D = (
  [(192, 1), (320, 3, 2)],
  [(192, 1), (192, _ROW), (192, _COLUMN), (192, 3, 2)],
  ['maximum'],
)
_E = (
  [(320, 1)],
  [(384, 1), _SPLIT],
  [(448, 1), (384, 3), _SPLIT],
  ['average', (192, 1)],
)
_BLOCKS = (
  *(_a(32), _a(64), _a(64), _B),
  *(_c(128), _c(160), _c(160), _c(192), _D),
  *(_E, _E),
)


class InceptionV3(nn.Module):
  """Inception v3 (Szegedy et al. 2016), as torchvision has it, 2-D.

  Without the auxiliary head: a classification task takes one set of logits.
  Batch norm has torchvision's epsilon, 0.001. Initialisation is torchvision's
  (normal of deviation 0.1, truncated at two).

  Parameters lie under stem_0 … stem_4, block_0 … block_10 and head:
  block_0/branch_1_layer_0/conv/kernel; layers side by side are …layer_1_0
  and …layer_1_1.

  Attributes:
    num_classes: channels of the logits.
    width: multiplies all channels, rounded, one at least.
    norm: 'batch', 'instance' or 'group'.
    dropout: rate before the head.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  width: float = 1.0
  norm: str = 'batch'
  dropout: float = 0.5
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False):
    """(b, row, column, c) → logits (b, num_classes), float32.

    Raises:
      ValueError: if the image is not 2-D or has a side below 75 pixels.
    """
    sides = x.shape[1:-1]
    if len(sides) != 2 or min(sides) < 75:
      raise ValueError(
        f'InceptionV3 needs 2-D images of 75 pixels a side or more, got {sides}'
      )
    x = self._stem(x, train)
    for i, branches in enumerate(_BLOCKS):
      x = Mixed(branches, self.width, self.norm, self.dtype, name=f'block_{i}')(
        x, train
      )
    x = global_mean(x)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x = nn.Dense(
      self.num_classes, kernel_init=_TRUNCATED, dtype=self.dtype, name='head'
    )(x)
    return x.astype(jnp.float32)

  @nn.nowrap
  def _stem(self, x, train):
    layers = ((32, 3, 2), (32, 3), (64, 3), (80, 1), (192, 3))
    for i, layer in enumerate(layers):
      padding = None if i == 2 else 'VALID'
      x = _convolve(self, x, layer, train, f'stem_{i}', padding)
      if i in (2, 4):
        x = max_pool(x, 3, strides=2)
    return x


class Mixed(nn.Module):
  """An Inception block: branches of layers, one channel after the other."""

  branches: Any
  width: float
  norm: str
  dtype: Any

  @nn.compact
  def __call__(self, inputs, train):
    """(b, row, column, c) → (b, row, column, sum of the branches)."""
    outputs = []
    for i, branch in enumerate(self.branches):
      x = inputs
      for j, layer in enumerate(branch):
        x = self._layer(x, layer, train, f'branch_{i}_layer_{j}')
      outputs.append(x)
    return jnp.concatenate(outputs, -1)

  @nn.nowrap
  def _layer(self, x, layer, train, name):
    if layer == 'maximum':
      return max_pool(x, 3, strides=2)
    if layer == 'average':
      return avg_pool(x, 3, strides=1, padding=1)
    if isinstance(layer[0], int):
      return _convolve(self, x, layer, train, name)
    beside = [
      _convolve(self, x, each, train, f'{name}_{k}')
      for k, each in enumerate(layer)
    ]
    return jnp.concatenate(beside, -1)


def _convolve(module, x, layer, train, name, padding=None):
  """Convolution, norm and ReLU; one of stride 2 is not padded."""
  features, kernel, stride = (*layer, 1)[:3]
  x = ConvNorm(
    max(1, round(features * module.width)),
    kernel,
    strides=stride,
    padding='VALID' if stride == 2 else padding,
    norm=module.norm,
    epsilon=1e-3,
    kernel_init=_TRUNCATED,
    dtype=module.dtype,
    name=name,
  )(x, train)
  return nn.relu(x)
