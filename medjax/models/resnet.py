"""Residual networks for classification, 2-D and 3-D."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn

from medjax.models.layers import (
  ConvNorm,
  DropPath,
  activation,
  classify,
  depth_rates,
  global_mean,
  pyramid,
  recomputed,
  with_groups,
)
from medjax.ops.pooling import max_pool


class Block(nn.Module):
  """A residual block: convolutions one after the other, plus the input.

  `layer` makes a convolution with its norm. The input is projected by a
  1-voxel one, `shortcut`, where its shape is not that of the output.
  """

  features: Sequence[int]
  kernel_sizes: Sequence[int]
  strides: Sequence[int]
  layer: Callable
  activation: Callable
  drop_path: float

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → (b, *ceil(spatial / stride), features[-1])."""
    shortcut = x
    layers = zip(self.features, self.kernel_sizes, self.strides, strict=True)
    for i, layer in enumerate(layers):
      x = self.activation(x) if i else x
      x = self.layer(*layer, name=f'layer_{i}')(x, train)
    if shortcut.shape != x.shape:
      shortcut = self.layer(
        self.features[-1], 1, max(self.strides), name='shortcut'
      )(shortcut, train)
    return self.activation(shortcut + DropPath(self.drop_path)(x, train))


class ResNet(nn.Module):
  """ResNet (He et al. 2016), version 1.5 as torchvision has it.

  A bottleneck strides in its middle convolution. The rank, 2-D or 3-D, is
  that of the input. Initialisation is torchvision's (He normal by fan-out;
  the head uniform by fan-in) but for the head's bias, which is zero.

  Parameters lie under stem, stage_0_block_0 … and head:
  stage_0_block_0/layer_0/conv/kernel, stage_1_block_0/shortcut/norm/scale.

  Attributes:
    num_classes: channels of the logits.
    stage_sizes: blocks per stage; a stage after the first halves the size and
      doubles the channels.
    block: 'basic' (two 3-voxel convolutions) or 'bottleneck' (1, 3, 1 with
      four times the channels at its end).
    width: channels of the first stage.
    stem: 'imagenet' (7 voxels, stride 2, and max-pool) or 'small' (3 voxels,
      stride 1, none) for images of some 32 voxels a side.
    norm: 'batch', 'instance' or 'group'.
    groups: of a group norm; None: 16 channels each, fewer where 16 do not
      divide.
    activation: 'relu', 'leaky_relu', 'elu', …; see `layers.activation`.
    dropout: rate before the head.
    drop_path: rate of stochastic depth at the last block, growing from 0.
    remat: recompute a block's activations in the backward pass.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  stage_sizes: Sequence[int]
  block: str = 'basic'
  width: int = 64
  stem: str = 'imagenet'
  norm: str = 'batch'
  groups: int | None = None
  activation: str = 'relu'
  dropout: float = 0.0
  drop_path: float = 0.0
  remat: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, num_classes), float32.

    With features=True the dict of `layers.pyramid`.

    Raises:
      ValueError: for an unknown stem, block or norm.
    """
    norm, act = with_groups(self.norm, self.groups), activation(self.activation)
    layer = functools.partial(ConvNorm, norm=norm, dtype=self.dtype)
    small = self._is_small()
    x = layer(self.width, *((3, 1) if small else (7, 2)), name='stem')(x, train)
    x = act(x)
    maps = [x]
    if not small:
      x = max_pool(x, 3, strides=2, padding=1)
    rates = iter(depth_rates(self.drop_path, sum(self.stage_sizes)))
    for i, blocks in enumerate(self.stage_sizes):
      for j in range(blocks):
        stride = 2 if i > 0 and j == 0 else 1
        layers = self._layers(self.width * 2**i, stride)
        name = f'stage_{i}_block_{j}'
        block = recomputed(Block, self.remat)(
          *layers, layer, act, next(rates), name=name
        )
        x = block(x, train)
        maps.append(x)
    pooled = global_mean(x)
    logits = classify(
      pooled, self.num_classes, train, dropout=self.dropout, dtype=self.dtype
    )
    return pyramid(maps, pooled, logits) if features else logits

  @nn.nowrap
  def _is_small(self):
    if self.stem not in ('imagenet', 'small'):
      raise ValueError(f"stem is 'imagenet' or 'small', not {self.stem!r}")
    return self.stem == 'small'

  @nn.nowrap
  def _layers(self, width, stride):
    """Features, kernel sizes and strides of a block's convolutions."""
    if self.block == 'basic':
      return (width, width), (3, 3), (stride, 1)
    if self.block == 'bottleneck':
      return (width, width, 4 * width), (1, 3, 1), (1, stride, 1)
    raise ValueError(f"block is 'basic' or 'bottleneck', not {self.block!r}")


ResNet18 = functools.partial(ResNet, stage_sizes=(2, 2, 2, 2))
ResNet34 = functools.partial(ResNet, stage_sizes=(3, 4, 6, 3))
_Bottleneck = functools.partial(ResNet, block='bottleneck')
ResNet50 = functools.partial(_Bottleneck, stage_sizes=(3, 4, 6, 3))
ResNet101 = functools.partial(_Bottleneck, stage_sizes=(3, 4, 23, 3))
ResNet152 = functools.partial(_Bottleneck, stage_sizes=(3, 8, 36, 3))
