"""SwinUNETR: a transformer of shifted windows with a decoder, 2-D and 3-D."""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from medjax.models.layers import (
  HE,
  Conv,
  ConvNorm,
  ConvTranspose,
  DropPath,
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

_NORMAL = nn.initializers.truncated_normal(0.02)
_EPSILON = 1e-5
_LEVELS = 5  # halvings of the image


class WindowAttention(nn.Module):
  """Self-attention within windows, with a learned bias per relative position.

  `window` is the largest, of which the biases are learned.
  """

  heads: int
  window: tuple[int, ...]
  dtype: Any

  @nn.compact
  def __call__(self, x, window, mask):
    """(b, windows, tokens, c) → the same shape; `mask` (windows, t, t)."""
    channels = x.shape[-1]
    dense = functools.partial(nn.Dense, kernel_init=_NORMAL, dtype=self.dtype)
    qkv = dense(3 * channels, name='qkv')(x)
    qkv = qkv.reshape(*x.shape[:-1], 3, self.heads, channels // self.heads)
    q, k, v = jnp.unstack(qkv, axis=-3)
    sides = [2 * w - 1 for w in self.window]
    table = self.param('positions', _NORMAL, (math.prod(sides), self.heads))
    place = np.indices(window).reshape(len(window), -1)
    apart = place[:, :, None] - place[:, None] + np.reshape(window, (-1, 1, 1))
    apart += np.reshape(np.subtract(self.window, window) - 1, (-1, 1, 1))
    bias = table[np.ravel_multi_index(apart, sides)]
    logits = jnp.einsum('bwihc,bwjhc->bwijh', q, k) / math.sqrt(q.shape[-1])
    logits = logits + (bias + mask[..., None]).astype(x.dtype)
    weights = jax.nn.softmax(logits, axis=-2)
    y = jnp.einsum('bwijh,bwjhc->bwihc', weights, v)
    return dense(channels, name='out')(y.reshape(x.shape))


class SwinBlock(nn.Module):
  """Window attention and two dense layers, each after a LayerNorm.

  `shifted` moves the windows by half their size. A window larger than the map
  is cut to it, and not shifted along that axis.
  """

  heads: int
  window: tuple[int, ...]
  shifted: bool
  dropout: float
  drop_path: float
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → the same shape."""
    norm = functools.partial(nn.LayerNorm, _EPSILON, dtype=self.dtype)
    dense = functools.partial(nn.Dense, kernel_init=_NORMAL, dtype=self.dtype)
    drop = nn.Dropout(self.dropout, deterministic=not train)
    path = DropPath(self.drop_path)
    inputs = x
    x = drop(self._attend(norm(name='norm_0')(x)))
    x = inputs = inputs + path(x, train)
    x = dense(4 * x.shape[-1], name='dense_0')(norm(name='norm_1')(x))
    x = drop(nn.gelu(x, approximate=False))
    x = drop(dense(inputs.shape[-1], name='dense_1')(x))
    return inputs + path(x, train)

  @nn.nowrap
  def _attend(self, x):
    size = x.shape[1:-1]
    window = tuple(map(min, size, self.window))
    shift = [
      w // 2 if self.shifted and n > w else 0
      for n, w in zip(size, self.window, strict=True)
    ]
    rest = [(0, -n % w) for n, w in zip(size, window, strict=True)]
    x = jnp.pad(x, [(0, 0), *rest, (0, 0)])
    padded, axes = x.shape, tuple(range(1, x.ndim - 1))
    x = jnp.roll(x, [-s for s in shift], axes)
    attention = WindowAttention(
      self.heads, self.window, self.dtype, name='attention'
    )
    mask = _mask(padded[1:-1], window, shift)
    x = attention(_partition(x, window), window, mask)
    x = jnp.roll(_joined(x, padded, window), shift, axes)
    return x[(slice(None), *map(slice, size))]


def _partition(x, window):
  """(b, *spatial, c) → (b, windows, tokens, c)."""
  rank = len(window)
  counts = [n // w for n, w in zip(x.shape[1:-1], window, strict=True)]
  split = itertools.chain(*zip(counts, window, strict=True))
  x = x.reshape(x.shape[0], *split, -1)
  order = [*range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2)]
  x = x.transpose(0, *order, 2 * rank + 1)
  return x.reshape(x.shape[0], math.prod(counts), math.prod(window), -1)


def _joined(x, shape, window):
  """(b, windows, tokens, c) → (b, *spatial, c) of that shape."""
  rank = len(window)
  counts = [n // w for n, w in zip(shape[1:-1], window, strict=True)]
  x = x.reshape(x.shape[0], *counts, *window, -1)
  order = [a for i in range(rank) for a in (1 + i, 1 + rank + i)]
  return x.transpose(0, *order, 2 * rank + 1).reshape(shape)


def _mask(size, window, shift):
  """(windows, tokens, tokens): −100 between voxels that a shift brought near.

  Zeros where nothing is shifted.
  """
  region = np.zeros(size, np.float32)
  for axis, (n, w, s) in enumerate(zip(size, window, shift, strict=True)):
    place = np.arange(n)
    own = (place >= n - w).astype(int) + (place >= n - s) if s else 0 * place
    shape = [1] * len(size)
    shape[axis] = n
    region = 3 * region + own.reshape(shape)
  region = _partition(region[None, ..., None], window)[0, ..., 0]
  return np.where(region[:, :, None] != region[:, None], -100, 0).astype('f')


class Merge(nn.Module):
  """Neighbours of two voxels per axis become one of twice the channels."""

  dtype: Any

  @nn.compact
  def __call__(self, x):
    """(b, *spatial, c) → (b, *⌈spatial / 2⌉, 2 c)."""
    rank, channels = x.ndim - 2, x.shape[-1]
    x = jnp.pad(x, [(0, 0), *((0, n % 2) for n in x.shape[1:-1]), (0, 0)])
    # MONAI's order of the neighbours.
    offsets = itertools.product((0, 1), repeat=rank)
    offsets = sorted(offsets, key=lambda o: (sum(o), [-n for n in o]))
    parts = [
      x[(slice(None), *(slice(n, None, 2) for n in offset))]
      for offset in offsets
    ]
    x = nn.LayerNorm(_EPSILON, dtype=self.dtype, name='norm')(
      jnp.concatenate(parts, -1)
    )
    return nn.Dense(
      2 * channels,
      use_bias=False,
      kernel_init=_NORMAL,
      dtype=self.dtype,
      name='reduce',
    )(x)


class SwinUNETR(nn.Module):
  """SwinUNETR (Hatamizadeh et al. 2022), as MONAI has it.

  A Swin transformer (Liu et al. 2021) of four stages over patches of two
  voxels; a residual block on each of its maps, and a convolutional decoder.
  The rank, 2-D or 3-D, is that of the input; zeros fill the image up to a
  multiple of 32. Where a map is smaller than the window, positions are those
  of its own grid, while MONAI takes the first ones of the whole window's.

  Parameters lie under patches, stage_i_block_j, merge_i, skip_i, up_i,
  decoder_i (finest to coarsest) and head.

  Attributes:
    num_classes: channels of the logits.
    features: channels of the first stage and the decoder's two finest ones.
    depths: blocks of the transformer per stage.
    heads: of the attention per stage; they divide its channels.
    window: voxels per side of a window, one for all axes or one each.
    norm: of the convolutions: 'instance', 'batch' or 'group'.
    groups: of a group norm; None: 16 channels each, fewer where 16 do not
      divide.
    activation: of the convolutions; see `layers.activation`.
    dropout: rate after the patches, the attention and each dense layer.
    drop_path: rate of stochastic depth at the last block, growing from 0.
    remat: recompute a block's activations in the backward pass.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  features: int = 24
  depths: Sequence[int] = (2, 2, 2, 2)
  heads: Sequence[int] = (3, 6, 12, 24)
  window: int | Sequence[int] = 7
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

    With features=True the dict of `layers.pyramid`; its maps cover what is
    filled up too.

    Raises:
      ValueError: if there are not four depths and heads, or the heads do not
        divide the channels.
    """
    widths = [self.features * 2**i for i in range(len(self.depths))]
    if not len(self.depths) == len(self.heads) == _LEVELS - 1 or any(
      w % n for w, n in zip(widths, self.heads, strict=True)
    ):
      raise ValueError(
        'SwinUNETR has four stages of heads that divide their channels, not '
        f'depths={tuple(self.depths)}, heads={tuple(self.heads)}, '
        f'features={self.features}'
      )
    size = x.shape[1:-1]
    x = jnp.pad(x, [(0, 0), *((0, -n % 2**_LEVELS) for n in size), (0, 0)])
    encoder = [x, *self._transform(x, train)]
    for i, y in enumerate(encoder):
      if i != _LEVELS - 1:  # as in MONAI
        encoder[i] = self._residual(f'skip_{i}', i)(y, train)
    *skips, y = encoder
    decoder = []
    for i, skip in reversed(list(enumerate(skips))):
      n, two = self._width(i), (2,) * len(size)
      y = ConvTranspose(n, two, HE, self.dtype, name=f'up_{i}')(y)
      y = jnp.concatenate([y, skip], -1)
      y = self._residual(f'decoder_{i}', i)(y, train)
      decoder.insert(0, y)
    logits = classify_voxels(
      y[(slice(None), *map(slice, size))],
      self.num_classes,
      kernel_init=HE,
      dtype=self.dtype,
    )
    if not features:
      return logits
    return pyramid(encoder, global_mean(encoder[-1]), logits, decoder)

  @nn.nowrap
  def _transform(self, x, train):
    """Maps of the patches and of every stage, normalised."""
    rank = x.ndim - 2
    x = Conv(
      self.features,
      (2,) * rank,
      strides=2,
      padding='VALID',
      kernel_init=_NORMAL,
      dtype=self.dtype,
      name='patches',
    )(x)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    maps, window = [x], per_axis(self.window, rank)
    rates = iter(depth_rates(self.drop_path, sum(self.depths)))
    for i, (depth, heads) in enumerate(
      zip(self.depths, self.heads, strict=True)
    ):
      for j in range(depth):
        block = recomputed(SwinBlock, self.remat)(
          heads,
          window,
          j % 2 == 1,
          self.dropout,
          next(rates),
          self.dtype,
          name=f'stage_{i}_block_{j}',
        )
        x = block(x, train)
      x = Merge(self.dtype, name=f'merge_{i}')(x)
      maps.append(x)
    plain = nn.LayerNorm(
      _EPSILON, dtype=self.dtype, use_bias=False, use_scale=False
    )
    return [plain(y) for y in maps]

  @nn.nowrap
  def _width(self, i):
    """Channels of level i, of which the first two are alike."""
    return self.features * 2 ** max(i - 1, 0)

  @nn.nowrap
  def _residual(self, name, i):
    norm, features = with_groups(self.norm, self.groups), self._width(i)
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
