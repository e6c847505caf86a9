"""Vision transformer for classification, 2-D and 3-D."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from medjax.models.layers import (
  Conv,
  DropPath,
  classify,
  depth_rates,
  per_axis,
  pyramid,
  recomputed,
)

_XAVIER = nn.initializers.xavier_uniform()
_NORMAL = nn.initializers.normal(0.02)
_EPSILON = 1e-6


class Attention(nn.Module):
  """Self-attention with several heads; queries, keys and values are one layer.

  Their channels are in this order, each those of the heads one by one, as in
  torch and timm.
  """

  heads: int
  dtype: Any

  @nn.compact
  def __call__(self, x):
    """(b, tokens, c) → the same shape."""
    channels = x.shape[-1]
    dense = functools.partial(nn.Dense, kernel_init=_XAVIER, dtype=self.dtype)
    qkv = dense(3 * channels, name='qkv')(x)
    qkv = qkv.reshape(*x.shape[:-1], 3, self.heads, channels // self.heads)
    x = jax.nn.dot_product_attention(*jnp.unstack(qkv, axis=-3))
    return dense(channels, name='out')(x.reshape(*x.shape[:-2], channels))


class Block(nn.Module):
  """Attention and two dense layers, each after a LayerNorm and plus its input.

  `dropout` follows the attention and each of the dense layers.
  """

  heads: int
  hidden: int
  dropout: float
  drop_path: float
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, tokens, c) → the same shape."""
    norm = functools.partial(nn.LayerNorm, _EPSILON, dtype=self.dtype)
    dense = functools.partial(nn.Dense, kernel_init=_XAVIER, dtype=self.dtype)
    drop = nn.Dropout(self.dropout, deterministic=not train)
    inputs = x
    x = norm(name='norm_0')(x)
    x = drop(Attention(self.heads, self.dtype, name='attention')(x))
    x = inputs = inputs + DropPath(self.drop_path)(x, train)
    x = dense(self.hidden, name='dense_0')(norm(name='norm_1')(x))
    x = drop(nn.gelu(x, approximate=False))
    x = drop(dense(inputs.shape[-1], name='dense_1')(x))
    return inputs + DropPath(self.drop_path)(x, train)


class ViT(nn.Module):
  """Vision transformer (Dosovitskiy et al. 2021), as torchvision has it.

  Patches, 2-D or 3-D, become tokens; the class token is classified. The
  learned positions are those of the grid of an image of `image_size`. An image
  of another size gets them resized to its own grid (cubic, as timm does), so
  the parameters do not depend on the input. What is missing of the last patch
  of an axis is filled up with zeros.

  Initialisation is torchvision's, but for zeros in the biases of the blocks
  and a head that is normal of deviation 0.02, as in timm, where the paper's is
  zero: then the first step would train nothing else.

  Parameters lie under patches, class_token, positions (the class token's
  first), block_0 …, norm and head: block_0/attention/qkv/kernel.

  Attributes:
    num_classes: channels of the logits.
    width: channels of the tokens.
    depth: blocks.
    heads: of the attention; they divide the width.
    hidden: units between a block's dense layers; None: four times the width.
    patch_size: one for all axes or one each.
    image_size: whose grid the positions are learned on; one for all axes or
      one each.
    dropout: rate after the positions, the attention and each dense layer.
    drop_path: rate of stochastic depth at the last block, growing from 0.
    remat: recompute a block's activations in the backward pass.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  width: int
  depth: int
  heads: int
  hidden: int | None = None
  patch_size: int | Sequence[int] = 16
  image_size: int | Sequence[int] = 224
  dropout: float = 0.0
  drop_path: float = 0.0
  remat: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False, keep=None):
    """(b, *spatial, c) → logits (b, num_classes), float32.

    With features=True the dict of `layers.pyramid`: 'stage_0' are the patches'
    tokens on their grid, 'pooled' the class token, both after the last norm.
    With `keep` (b, k), numbers of patches, row by row, it sees only these, and
    their tokens lie in a row (MAE, He et al. 2022).

    Raises:
      ValueError: if the heads do not divide the width, or a size does not fit
        the number of axes.
    """
    if self.width % self.heads:
      raise ValueError(f'{self.heads} heads do not divide width {self.width}')
    x = self._patches(x)
    batch, *grid, width = x.shape
    token = self.param('class_token', nn.initializers.zeros, (1, width))
    token = jnp.broadcast_to(token.astype(x.dtype), (batch, 1, width))
    x = jnp.concatenate([token, x.reshape(batch, -1, width)], 1)
    x = x + self._positions(grid).astype(x.dtype)
    if keep is not None:
      kept = jnp.take_along_axis(x[:, 1:], keep[..., None], 1)
      x, grid = jnp.concatenate([x[:, :1], kept], 1), keep.shape[1:]
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    for i, rate in enumerate(depth_rates(self.drop_path, self.depth)):
      block = recomputed(Block, self.remat)(
        self.heads,
        self.hidden or 4 * width,
        self.dropout,
        rate,
        self.dtype,
        name=f'block_{i}',
      )
      x = block(x, train)
    x = nn.LayerNorm(_EPSILON, dtype=self.dtype, name='norm')(x)
    token, patches = x[:, 0], x[:, 1:].reshape(batch, *grid, width)
    logits = classify(
      token, self.num_classes, train, kernel_init=_NORMAL, dtype=self.dtype
    )
    return pyramid([patches], token, logits) if features else logits

  @nn.nowrap
  def _patches(self, x):
    """(b, *spatial, c) → (b, *grid, width)."""
    size = per_axis(self.patch_size, x.ndim - 2)
    missing = [(0, -n % p) for n, p in zip(x.shape[1:-1], size, strict=True)]
    return Conv(
      self.width,
      size,
      strides=size,
      padding='VALID',
      kernel_init=nn.initializers.lecun_normal(),
      dtype=self.dtype,
      name='patches',
    )(jnp.pad(x, [(0, 0), *missing, (0, 0)]))

  @nn.nowrap
  def _positions(self, grid):
    """Learned positions (1 + tokens, width), resized to the grid."""
    sizes = zip(
      per_axis(self.image_size, len(grid)),
      per_axis(self.patch_size, len(grid)),
      strict=True,
    )
    own = [-(-n // p) for n, p in sizes]
    shape = (1 + math.prod(own), self.width)
    positions = self.param('positions', _NORMAL, shape)
    if own == list(grid):
      return positions
    resized = jax.image.resize(
      positions[1:].reshape(*own, self.width), (*grid, self.width), 'cubic'
    )
    return jnp.concatenate([positions[:1], resized.reshape(-1, self.width)])


ViTS16 = functools.partial(ViT, width=384, depth=12, heads=6)
ViTB16 = functools.partial(ViT, width=768, depth=12, heads=12)
