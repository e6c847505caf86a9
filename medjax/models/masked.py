"""A network that sees a part of an image and says what the rest is."""

import inspect
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from medjax.models.layers import headless, per_axis
from medjax.models.projected import embedding
from medjax.models.vit import Block
from medjax.ops import blocks

_NORMAL = nn.initializers.normal(0.02)


class Reconstructed(NamedTuple):
  """What a `MaskedAutoencoder` gives of a batch.

  blocks, target: (b, n, voxels × channels), said and true, float32.
  pooled: (b, d), the embedding. hidden: (b, n), which blocks it has not seen.
  """

  blocks: jax.Array
  pooled: jax.Array
  target: jax.Array
  hidden: jax.Array


class Decoder(nn.Module):
  """Transformer blocks over the tokens seen, and one token for all hidden."""

  width: int
  depth: int
  heads: int
  dtype: Any

  @nn.compact
  def __call__(self, pooled, tokens, place, train):
    """Class token (b, d), tokens seen (b, k, d) → one for each block (b, n, w).

    place (b, n) says where in (seen, hidden) that of each block is.
    """
    x = jnp.concatenate([pooled[:, None].astype(tokens.dtype), tokens], 1)
    x = nn.Dense(self.width, dtype=self.dtype, name='embed')(x)
    batch, count = place.shape
    hidden = self.param('hidden', _NORMAL, (self.width,)).astype(x.dtype)
    more = (batch, count - tokens.shape[1], self.width)
    rest = jnp.concatenate([x[:, 1:], jnp.broadcast_to(hidden, more)], 1)
    rest = jnp.take_along_axis(rest, place[..., None], 1)
    x = jnp.concatenate([x[:, :1], rest], 1)
    positions = self.param('positions', _NORMAL, (1 + count, self.width))
    x = x + positions.astype(x.dtype)
    for i in range(self.depth):
      block = Block(
        self.heads, 4 * self.width, 0.0, 0.0, self.dtype, name=f'block_{i}'
      )
      x = block(x, train)
    return nn.LayerNorm(dtype=self.dtype, name='norm')(x)[:, 1:]


class MaskedAutoencoder(nn.Module):
  """A network that hides blocks of an image and reconstructs them.

  Of a ViT the hidden patches are left out, so that it is quick, and a small
  transformer decodes (MAE, He et al. 2022). To another network they are shown
  as zeros, the mean of a normalised image, and one layer on its coarsest map
  says the voxels (SimMIM, Xie et al. 2022); with `maps` its own map does, whose
  decoder then learns too. Which blocks are hidden is drawn anew for each image
  and step while it trains; else all of the image is seen.

  Parameters lie under backbone, head_decoder and head_pixels.

  Attributes:
    num_classes: channels of the image, told by the task.
    backbone: a module of medjax.models, in a config dict(name='ViT', …).
    maps: the backbone gives a map of the image, a `UNet`, say.
    ratio: share of the blocks that are hidden.
    block_size: voxels of a block along each axis, or along all; a ViT's are its
      patches.
    width, depth, heads: of the decoder of a ViT.
    dtype: of the decoder's computation.
  """

  num_classes: int
  backbone: nn.Module
  maps: bool = False
  ratio: float = 0.75
  block_size: int | tuple[int, ...] = 4
  width: int = 64
  depth: int = 2
  heads: int = 4
  dtype: Any = None

  def __post_init__(self):
    if not self.maps:
      self.backbone = headless(self.backbone)
    super().__post_init__()

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → `Reconstructed`.

    With features=True the dict of `layers.pyramid` of the backbone, its logits
    being the `Reconstructed`.

    Raises:
      ValueError: for a ratio that hides nothing or all, a backbone without an
        embedding, or one that `maps` does not fit.
    """
    size, sparse = self._size(x)
    count = math.prod(blocks.grid_of(x.shape[1:-1], size))
    order, place, keep = self._drawn(x.shape[0], count, train)
    hidden = place >= keep
    if sparse:
      seen = {'keep': order[:, :keep]} if train else {}
      found = embedding(self.backbone, x, train=train, **seen)
      tokens = found['stage_0'].reshape(len(x), keep, -1)
      y = self._decode(found['pooled'], tokens, place, train)
      y = self._pixels(math.prod(size) * x.shape[-1])(y)
    else:
      shown = blocks.split(jnp.ones_like(x), size) * ~hidden[..., None]
      shown = blocks.join(shown, size, x.shape[1:-1])
      found = embedding(self.backbone, x * shown, train=train)
      y = blocks.split(self._image(found, x), size)
    target = blocks.split(x.astype(jnp.float32), size)
    outputs = Reconstructed(
      y.astype(jnp.float32), found['pooled'], target, hidden
    )
    return {**found, 'logits': outputs} if features else outputs

  @nn.nowrap
  def _size(self, x):
    """(voxels of a block per axis, whether the backbone can leave out some)."""
    sparse = 'keep' in inspect.signature(self.backbone.__call__).parameters
    size = self.backbone.patch_size if sparse else self.block_size
    return per_axis(size, x.ndim - 2), sparse

  @nn.nowrap
  def _drawn(self, batch, count, train):
    """(blocks in the order of a draw, the place of each in it, how many seen).

    In evaluation all are, in their own order.
    """
    keep = round(count * (1 - self.ratio))
    if not 0 < keep < count:
      raise ValueError(
        f'MaskedAutoencoder: ratio={self.ratio} of {count} blocks leaves '
        f'{keep} to be seen: give another ratio or block size'
      )
    if not train:
      order = jnp.broadcast_to(jnp.arange(count), (batch, count))
      return order, order, count
    noise = jax.random.uniform(self.make_rng('dropout'), (batch, count))
    order = jnp.argsort(noise, axis=1)
    return order, jnp.argsort(order, axis=1), keep

  @nn.nowrap
  def _decode(self, pooled, tokens, place, train):
    decoder = Decoder(
      self.width, self.depth, self.heads, self.dtype, name='head_decoder'
    )
    return decoder(pooled, tokens, place, train)

  @nn.nowrap
  def _pixels(self, count):
    return nn.Dense(count, dtype=self.dtype, name='head_pixels')

  @nn.nowrap
  def _image(self, found, x):
    """The image that a network which saw zeros says it is: like x."""
    if self.maps != (found['logits'].ndim == x.ndim):
      raise ValueError(
        f'{type(self.backbone).__name__} gives '
        f'{"no" if self.maps else "a"} map of the image: set model.maps='
        f'{not self.maps}'
      )
    if self.maps:
      return found['logits']
    coarsest = [y for name, y in found.items() if name.startswith('stage_')][-1]
    grid, shape = coarsest.shape[1:-1], x.shape[1:-1]
    size = tuple(-(-n // g) for n, g in zip(shape, grid, strict=True))
    y = self._pixels(math.prod(size) * x.shape[-1])(coarsest)
    whole = tuple(g * p for g, p in zip(grid, size, strict=True))
    y = blocks.join(y.reshape(len(x), math.prod(grid), -1), size, whole)
    return y[(slice(None), *(slice(n) for n in shape))]
