"""Inception v3 for classification, 2-D."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from medjax.models.layers import (
  ConvNorm,
  classify,
  fitted,
  global_mean,
  pyramid,
  recomputed,
  with_groups,
)
from medjax.ops.pooling import avg_pool, max_pool

_truncated = nn.initializers.truncated_normal

_STEM = ((32, 3, 2), (32, 3), (64, 3), (80, 1), (192, 3))
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


def _layer(features, kernel_size, strides=1, *, width, padding=None, **options):
  """`width` times the features; a convolution of stride 2 is not padded."""
  return ConvNorm(
    max(1, round(features * width)),
    kernel_size,
    strides,
    padding='VALID' if strides == 2 else padding,
    epsilon=1e-3,
    **options,
  )


class Mixed(nn.Module):
  """An Inception block: branches of layers, one channel after the other.

  `layer` makes a convolution with its norm.
  """

  branches: Any
  layer: Callable

  @nn.compact
  def __call__(self, inputs, train):
    """(b, row, column, c) → (b, row, column, sum of the branches)."""
    outputs = []
    for i, branch in enumerate(self.branches):
      x = inputs
      for j, layer in enumerate(branch):
        x = self._apply(layer, x, train, f'branch_{i}_layer_{j}')
      outputs.append(x)
    return jnp.concatenate(outputs, -1)

  @nn.nowrap
  def _apply(self, layer, x, train, name):
    if layer == 'maximum':
      return max_pool(x, 3, strides=2)
    if layer == 'average':
      return avg_pool(x, 3, strides=1, padding=1)
    if isinstance(layer[0], int):
      return nn.relu(self.layer(*layer, name=name)(x, train))
    beside = [
      self._apply(each, x, train, f'{name}_{k}') for k, each in enumerate(layer)
    ]
    return jnp.concatenate(beside, -1)


class Auxiliary(nn.Module):
  """The auxiliary head, for maps of 17 pixels a side.

  Around smaller ones zeros are padded, where torchvision refuses.
  """

  num_classes: int
  layer: Callable
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, row, column, c) → logits (b, num_classes), float32."""
    x = avg_pool(x, fitted(5, x), strides=3)
    x = nn.relu(self.layer(128, 1, name='reduce')(x, train))
    missing = [max(0, 5 - n) for n in x.shape[1:-1]]
    padding = [(n // 2, n - n // 2) for n in missing]
    x = self.layer(
      768, 5, padding=padding, kernel_init=_truncated(0.01), name='conv'
    )(x, train)
    return classify(
      global_mean(nn.relu(x)),
      self.num_classes,
      train,
      kernel_init=_truncated(0.001),
      dtype=self.dtype,
    )


class InceptionV3(nn.Module):
  """Inception v3 (Szegedy et al. 2016), as torchvision has it, 2-D.

  Batch norm has torchvision's epsilon, 0.001. Weights are normal and truncated
  at two deviations of 0.1; in the auxiliary head of 0.01 (its 5-pixel
  convolution) and 0.001 (its dense layer).

  Parameters lie under stem_0 … stem_4, block_0 … block_10, aux and head:
  block_0/branch_1_layer_0/conv/kernel, aux/head/kernel; layers side by side
  are …layer_1_0 and …layer_1_1.

  Attributes:
    num_classes: channels of the logits.
    aux: an auxiliary head on the maps of block_7, for training.
    width: multiplies all channels, rounded, one at least.
    norm: 'batch', 'instance' or 'group'.
    groups: of a group norm; None: 16 channels each, fewer where 16 do not
      divide.
    dropout: rate before the head.
    remat: recompute a block's activations in the backward pass.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  aux: bool = True
  width: float = 1.0
  norm: str = 'batch'
  groups: int | None = None
  dropout: float = 0.5
  remat: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, row, column, c) → logits (b, num_classes), float32.

    With aux and train=True a tuple: those logits, and the auxiliary head's.
    With features=True the dict of `layers.pyramid`.

    Raises:
      ValueError: if the image is not 2-D or has a side below 75 pixels.
    """
    sides = x.shape[1:-1]
    if len(sides) != 2 or min(sides) < 75:
      raise ValueError(
        f'InceptionV3 needs 2-D images of 75 pixels a side or more, got {sides}'
      )
    layer = functools.partial(
      _layer,
      width=self.width,
      norm=with_groups(self.norm, self.groups),
      kernel_init=_truncated(0.1),
      dtype=self.dtype,
    )
    maps = []
    for i, spec in enumerate(_STEM):
      padding = None if i == 2 else 'VALID'
      x = nn.relu(layer(*spec, padding=padding, name=f'stem_{i}')(x, train))
      if i in (2, 4):
        maps.append(x)
        x = max_pool(x, 3, strides=2)
    for i, branches in enumerate(_BLOCKS):
      block = recomputed(Mixed, self.remat)
      x = block(branches, layer, name=f'block_{i}')(x, train)
      maps.append(x)
      if i == 7 and self.aux and self.num_classes:
        aux = Auxiliary(self.num_classes, layer, self.dtype, name='aux')
        auxiliary = aux(x, train)
    pooled = global_mean(x)
    logits = classify(
      pooled,
      self.num_classes,
      train,
      dropout=self.dropout,
      kernel_init=_truncated(0.1),
      dtype=self.dtype,
    )
    if self.aux and self.num_classes and train:
      logits = logits, auxiliary
    return pyramid(maps, pooled, logits) if features else logits
