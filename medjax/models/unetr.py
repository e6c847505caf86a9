"""UNETR: a vision transformer with a convolutional decoder, 2-D and 3-D."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from medjax.models import vit
from medjax.models.layers import (
  HE,
  Conv,
  ConvNorm,
  ConvTranspose,
  activation,
  classify_voxels,
  depth_rates,
  global_mean,
  per_axis,
  pyramid,
  recomputed,
  with_groups,
)
from medjax.models.resnet import Block

_PATCH = 16
_NORMAL = nn.initializers.truncated_normal(0.02)


class UNETR(nn.Module):
  """UNETR (Hatamizadeh et al. 2022), as MONAI has it.

  Patches of 16 voxels become tokens of a transformer; those after a quarter,
  half and three quarters of its blocks are enlarged by transposed convolutions
  and residual blocks, and join the decoder as skip connections. The rank, 2-D
  or 3-D, is that of the input. The learned positions are those of the grid of
  an image of `image_size` and are resized to that of another. What is missing
  of the last patch of an axis is filled up with zeros.

  Parameters lie under patches, positions, block_0 …, norm, image, skip_i_up_j,
  skip_i_block_j, up_i, decoder_i (finest to coarsest) and head.

  Attributes:
    num_classes: channels of the logits.
    features: channels of the finest stage; they double from stage to stage.
    width: channels of the tokens.
    depth: blocks of the transformer, four or more.
    heads: of the attention; they divide the width.
    hidden: units between a block's dense layers; None: four times the width.
    image_size: whose grid the positions are learned on; one for all axes or
      one each.
    norm: of the convolutions: 'instance', 'batch' or 'group'.
    groups: of a group norm; None: 16 channels each, fewer where 16 do not
      divide.
    activation: of the convolutions; see `layers.activation`.
    dropout: rate after the positions, the attention and each dense layer.
    drop_path: rate of stochastic depth at the last block, growing from 0.
    remat: recompute a block's activations in the backward pass.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  features: int = 16
  width: int = 768
  depth: int = 12
  heads: int = 12
  hidden: int | None = None
  image_size: int | Sequence[int] = 96
  norm: str = 'instance'
  groups: int | None = None
  activation: str = 'leaky_relu'
  dropout: float = 0.0
  drop_path: float = 0.0
  remat: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, *spatial, num_classes), float32.

    With features=True the dict of `layers.pyramid`; its coarsest stage are the
    tokens.

    Raises:
      ValueError: if the heads do not divide the width, or there are fewer than
        four blocks.
    """
    if self.width % self.heads or self.depth < 4:
      raise ValueError(
        f'UNETR needs heads that divide its width and 4 blocks or more, not '
        f'{self.heads} heads, width {self.width} and {self.depth} blocks'
      )
    size = x.shape[1:-1]
    x = jnp.pad(x, [(0, 0), *((0, -n % _PATCH) for n in size), (0, 0)])
    tokens = self._transform(x, train)
    encoder = [self._residual('image', 0)(x, train)]
    for i, y in enumerate(tokens[:-1], start=1):
      encoder.append(self._skip(y, i, train))
    y, decoder = tokens[-1], []
    for i, skip in reversed(list(enumerate(encoder))):
      y = jnp.concatenate([self._up(f'up_{i}', i, y.ndim - 2)(y), skip], -1)
      y = self._residual(f'decoder_{i}', i)(y, train)
      decoder.insert(0, y)
    cut = tuple(map(slice, size))
    logits = classify_voxels(
      y[(slice(None), *cut)],
      self.num_classes,
      kernel_init=HE,
      dtype=self.dtype,
    )
    if not features:
      return logits
    return pyramid(
      [*encoder, tokens[-1]], global_mean(tokens[-1]), logits, decoder
    )

  @nn.nowrap
  def _transform(self, x, train):
    """Tokens on their grid, of four depths."""
    window = (_PATCH,) * (x.ndim - 2)
    x = Conv(
      self.width,
      window,
      strides=window,
      padding='VALID',
      kernel_init=_NORMAL,
      dtype=self.dtype,
      name='patches',
    )(x)
    batch, *grid, width = x.shape
    x = x.reshape(batch, -1, width) + self._positions(grid).astype(x.dtype)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    found = []
    for i, rate in enumerate(depth_rates(self.drop_path, self.depth)):
      block = recomputed(vit.Block, self.remat)(
        self.heads,
        self.hidden or 4 * width,
        self.dropout,
        rate,
        self.dtype,
        name=f'block_{i}',
      )
      x = block(x, train)
      if i in {self.depth * k // 4 for k in (1, 2, 3)}:
        found.append(x)
    found.append(nn.LayerNorm(1e-6, dtype=self.dtype, name='norm')(x))
    return [y.reshape(batch, *grid, width) for y in found]

  @nn.nowrap
  def _positions(self, grid):
    """Learned positions (tokens, width), resized to the grid."""
    sizes = per_axis(self.image_size, len(grid))
    own = [-(-n // _PATCH) for n in sizes]
    shape = (math.prod(own), self.width)
    positions = self.param('positions', _NORMAL, shape)
    if own == list(grid):
      return positions
    resized = jax.image.resize(
      positions.reshape(*own, self.width), (*grid, self.width), 'cubic'
    )
    return resized.reshape(-1, self.width)

  @nn.nowrap
  def _skip(self, x, i, train):
    """Tokens enlarged to the grid of stage i."""
    for j in range(4 - i):
      x = self._up(f'skip_{i}_up_{j}', i, x.ndim - 2)(x)
      if j:
        x = self._residual(f'skip_{i}_block_{j}', i)(x, train)
    return x

  @nn.nowrap
  def _up(self, name, i, rank):
    features = self.features * 2**i
    return ConvTranspose(features, (2,) * rank, HE, self.dtype, name=name)

  @nn.nowrap
  def _residual(self, name, i):
    norm, features = with_groups(self.norm, self.groups), self.features * 2**i
    layer = functools.partial(ConvNorm, norm=norm, dtype=self.dtype)
    return recomputed(Block, self.remat)(
      (features,) * 2,
      (3, 3),
      (1, 1),
      layer,
      activation(self.activation),
      0.0,
      name=name,
    )
