"""ConvNeXt for classification, 2-D and 3-D."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from medjax.models.layers import (
  Conv,
  DropPath,
  centred,
  classify,
  depth_rates,
  global_mean,
  pyramid,
  recomputed,
)

_NORMAL = nn.initializers.truncated_normal(0.02)
_EPSILON = 1e-6


class Block(nn.Module):
  """Depthwise convolution, LayerNorm, two dense layers, and the input.

  `scale`: initial factor of each channel of what is added (layer scale).
  """

  kernel_size: int
  scale: float
  drop_path: float
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → the same shape."""
    inputs, channels = x, x.shape[-1]
    kernel = (self.kernel_size,) * (x.ndim - 2)
    x = Conv(
      channels,
      kernel,
      padding=centred(kernel),
      feature_group_count=channels,
      kernel_init=_NORMAL,
      dtype=self.dtype,
      name='depthwise',
    )(x)
    x = nn.LayerNorm(_EPSILON, dtype=self.dtype, name='norm')(x)
    dense = functools.partial(nn.Dense, kernel_init=_NORMAL, dtype=self.dtype)
    x = nn.gelu(dense(4 * channels, name='expand')(x), approximate=False)
    x = dense(channels, name='project')(x)
    initial = nn.initializers.constant(self.scale)
    scale = self.param('scale', initial, (channels,), jnp.float32)
    return inputs + DropPath(self.drop_path)(x * scale.astype(x.dtype), train)


class ConvNeXt(nn.Module):
  """ConvNeXt (Liu et al. 2022), as torchvision has it.

  Works in 2-D and 3-D. Voxels that fill no 4-voxel patch of the stem, nor
  later a 2-voxel one, are dropped, as there; an axis smaller than a patch is
  filled up with zeros, where torchvision refuses.

  Parameters lie under stem_conv, stem_norm, stage_0_block_0 …,
  downsample_1_norm, downsample_1_conv …, norm and head:
  stage_0_block_0/depthwise/kernel, stage_0_block_0/scale.

  Attributes:
    num_classes: channels of the logits.
    stage_sizes: blocks per stage; a stage after the first halves the size and
      doubles the channels.
    width: channels of the first stage.
    kernel_size: of the depthwise convolutions, odd.
    scale: initial layer scale.
    dropout: rate before the head.
    drop_path: rate of stochastic depth at the last block, growing from 0.
    remat: recompute a block's activations in the backward pass.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  stage_sizes: Sequence[int]
  width: int = 96
  kernel_size: int = 7
  scale: float = 1e-6
  dropout: float = 0.0
  drop_path: float = 0.1
  remat: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, num_classes), float32.

    With features=True the dict of `layers.pyramid`.
    """
    rates = iter(depth_rates(self.drop_path, sum(self.stage_sizes)))
    maps = []
    for i, blocks in enumerate(self.stage_sizes):
      if i:
        x = self._norm(f'downsample_{i}_norm')(x)
        x = self._patches(x, self.width * 2**i, 2, f'downsample_{i}_conv')
      else:
        x = self._patches(x, self.width, 4, 'stem_conv')
        x = self._norm('stem_norm')(x)
      for j in range(blocks):
        block = recomputed(Block, self.remat)(
          self.kernel_size,
          self.scale,
          next(rates),
          self.dtype,
          name=f'stage_{i}_block_{j}',
        )
        x = block(x, train)
      maps.append(x)
    pooled = self._norm('norm')(global_mean(x))
    logits = classify(
      pooled,
      self.num_classes,
      train,
      dropout=self.dropout,
      kernel_init=_NORMAL,
      dtype=self.dtype,
    )
    return pyramid(maps, pooled, logits) if features else logits

  @nn.nowrap
  def _norm(self, name):
    return nn.LayerNorm(_EPSILON, dtype=self.dtype, name=name)

  @nn.nowrap
  def _patches(self, x, channels, size, name):
    missing = [(0, max(0, size - n)) for n in x.shape[1:-1]]
    return Conv(
      channels,
      (size,) * len(missing),
      strides=size,
      padding='VALID',
      kernel_init=_NORMAL,
      dtype=self.dtype,
      name=name,
    )(jnp.pad(x, [(0, 0), *missing, (0, 0)]))


ConvNeXtT = functools.partial(ConvNeXt, stage_sizes=(3, 3, 9, 3))
ConvNeXtS = functools.partial(
  ConvNeXt, stage_sizes=(3, 3, 27, 3), drop_path=0.4
)
