"""MedNeXt for segmentation, 2-D and 3-D."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from medjax.models.layers import (
  UNIFORM,
  Conv,
  DropPath,
  InstanceNorm,
  centred,
  classify_voxels,
  depth_rates,
  global_mean,
  pyramid,
  recomputed,
)


class Block(nn.Module):
  """Depthwise convolution, norm, two dense layers, and the input.

  The norm is a group norm of one channel per group. `resample`: 'down' strides
  by two, 'up' is the transpose of that, with zeros at the near end; the input
  is projected then.
  """

  features: int
  expansion: int
  kernel_size: int
  resample: str | None
  drop_path: float
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → (b, *out, features); out is ⌈n/2⌉ or 2 n."""
    rank, channels = x.ndim - 2, x.shape[-1]
    dense = functools.partial(nn.Dense, kernel_init=UNIFORM, dtype=self.dtype)
    window = (self.kernel_size,) * rank
    stride = 2 if self.resample == 'down' else 1
    x = _spread(x) if self.resample == 'up' else x
    y = Conv(
      channels,
      window,
      strides=stride,
      padding=centred(window),
      feature_group_count=channels,
      kernel_init=UNIFORM,
      dtype=self.dtype,
      name='depthwise',
    )(x)
    y = InstanceNorm(dtype=self.dtype, name='norm')(y)
    y = nn.gelu(
      dense(self.expansion * channels, name='expand')(y), approximate=False
    )
    y = DropPath(self.drop_path)(dense(self.features, name='project')(y), train)
    if self.resample is None:
      return x + y
    x = x[(slice(None), *(slice(None, None, stride),) * rank)]
    y = y + dense(self.features, name='shortcut')(x)
    near = [(0, 0), *[(int(self.resample == 'up'), 0)] * rank, (0, 0)]
    return jnp.pad(y, near)


def _spread(x):
  """Zeros between the voxels: n become 2 n − 1."""
  config = [(0, 0, 0), *[(0, 0, 1)] * (x.ndim - 2), (0, 0, 0)]
  return lax.pad(x, jnp.zeros((), x.dtype), config)


class MedNeXt(nn.Module):
  """MedNeXt (Roy et al. 2023), as MONAI has it, with residual connections.

  ConvNeXt blocks on the way down and up, skip connections are added. The rank,
  2-D or 3-D, is that of the input, and any size works: a stage halves and
  rounds up, and what exceeds on the way up is cut at the far end.

  Parameters lie under stem, encoder_i_block_j, down_i, up_i, decoder_i_block_j
  (finest to coarsest; the coarsest encoder is the bottleneck) and head:
  encoder_0_block_0/depthwise/kernel, down_0/shortcut/kernel.

  Attributes:
    num_classes: channels of the logits.
    blocks: per stage, the finest first; as many on the way up.
    expansions: of the dense layers, per stage, in units of their input.
    width: channels of the finest stage; they double from stage to stage.
    kernel_size: of the depthwise convolutions, odd; the paper has 3 and 5.
    deep_supervision: a head on every coarser stage too; see `__call__`.
    dropout: rate, of whole feature maps, before the heads.
    drop_path: rate of stochastic depth at the bottleneck, growing from 0.
    remat: recompute a block's activations in the backward pass.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  blocks: Sequence[int]
  expansions: Sequence[int]
  width: int = 32
  kernel_size: int = 3
  deep_supervision: bool = False
  dropout: float = 0.0
  drop_path: float = 0.0
  remat: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, *spatial, num_classes), float32.

    With deep supervision and train=True a tuple of logits, the highest
    resolution first, the bottleneck's last. With features=True the dict of
    `layers.pyramid`.

    Raises:
      ValueError: if there are not as many expansions as blocks.
    """
    if len(self.blocks) != len(self.expansions):
      raise ValueError(
        f'MedNeXt has {len(self.blocks)} stages (blocks={tuple(self.blocks)}) '
        f'but {len(self.expansions)} expansions'
      )
    dense = nn.Dense(
      self.width, kernel_init=UNIFORM, dtype=self.dtype, name='stem'
    )
    encoder = self._encode(dense(x), train)
    *decoder, _ = levels = self._decode(encoder, train)
    heads = []
    for i, level in enumerate(levels if self.deep_supervision else levels[:1]):
      spatial = tuple(range(1, x.ndim - 1))
      level = nn.Dropout(
        self.dropout, broadcast_dims=spatial, deterministic=not train
      )(level)
      logits = classify_voxels(
        level,
        self.num_classes,
        kernel_init=UNIFORM,
        dtype=self.dtype,
        name=f'head_{i}' if i else 'head',
      )
      heads.append(logits)
    logits = tuple(heads) if self.deep_supervision and train else heads[0]
    if not features:
      return logits
    return pyramid(encoder, global_mean(encoder[-1]), logits, decoder)

  @nn.nowrap
  def _encode(self, x, train):
    """The map of every stage, the finest first."""
    rates, maps = depth_rates(self.drop_path, len(self.blocks)), []
    for i, blocks in enumerate(self.blocks):
      if i:
        x = self._block(f'down_{i - 1}', i, i - 1, 'down')(x, train)
      for j in range(blocks):
        name = f'encoder_{i}_block_{j}'
        x = self._block(name, i, i, drop_path=rates[i])(x, train)
      maps.append(x)
    return maps

  @nn.nowrap
  def _decode(self, encoder, train):
    """The decoded map of every stage and the bottleneck, the finest first."""
    *skips, x = encoder
    maps = [x]
    for i, skip in reversed(list(enumerate(skips))):
      x = self._block(f'up_{i}', i, i, 'up')(x, train)
      x = x[tuple(slice(n) for n in skip.shape[:-1])] + skip
      for j in range(self.blocks[i]):
        x = self._block(f'decoder_{i}_block_{j}', i, i)(x, train)
      maps.insert(0, x)
    return maps

  @nn.nowrap
  def _block(self, name, to, expansion, resample=None, drop_path=0.0):
    """A block with the channels of stage `to`, expanded as another is."""
    return recomputed(Block, self.remat)(
      self.width * 2**to,
      self.expansions[expansion],
      self.kernel_size,
      resample,
      drop_path,
      self.dtype,
      name=name,
    )


MedNeXtS = functools.partial(
  MedNeXt, blocks=(2, 2, 2, 2, 2), expansions=(2, 2, 2, 2, 2)
)
_Wide = functools.partial(MedNeXt, expansions=(2, 3, 4, 4, 4))
MedNeXtB = functools.partial(_Wide, blocks=(2, 2, 2, 2, 2))
MedNeXtM = functools.partial(_Wide, blocks=(3, 4, 4, 4, 4))
MedNeXtL = functools.partial(
  MedNeXt, blocks=(3, 4, 8, 8, 8), expansions=(3, 4, 8, 8, 8)
)
