"""A segmentation network around any classification network."""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from medjax.models.layers import (
  ConvNorm,
  activation,
  classify_voxels,
  global_mean,
  headless,
  pyramid,
  recomputed,
  with_groups,
)
from medjax.ops.upsampling import linear_upsample

_HE = nn.initializers.variance_scaling(2, 'fan_in', 'normal')


class Stage(nn.Module):
  """Twice 3-voxel convolution – norm – activation."""

  features: int
  norm: str | tuple[str, int]
  activation: str
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → (b, *spatial, features)."""
    for i in range(2):
      x = ConvNorm(
        self.features,
        3,
        norm=self.norm,
        kernel_init=_HE,
        dtype=self.dtype,
        name=f'layer_{i}',
      )(x, train)
      x = activation(self.activation)(x)
    return x


class EncoderDecoder(nn.Module):
  """A U-Net whose encoder is a classification network without its head.

  The backbone's coarsest map is interpolated linearly to the size of its next
  finer one and joined with it, and so on; above the finest it is doubled until
  the image's size is reached. So a backbone that begins with a stride of four,
  or has one map only, gets stages without a skip connection. Any image size
  that the backbone takes; 2-D or 3-D as the backbone is.

  Parameters lie under backbone, decoder_0 … (finest to coarsest) and head:
  backbone/…, decoder_0/layer_0/conv/kernel.

  Attributes:
    num_classes: channels of the logits.
    backbone: a module of medjax.models, in a config dict(name='ResNet18');
      its own arguments (dtype, remat, drop_path, …) are given there. VGG and
      AlexNet bring their dense layers, unused: hidden=1 makes them small.
    features: channels of the decoder's stages, the finest first; the last is
      that of all coarser ones.
    norm: of the decoder: 'batch', 'instance' or 'group'.
    groups: of a group norm; None: 16 channels each, fewer where 16 do not
      divide.
    activation: of the decoder: 'relu', 'elu', …; see `layers.activation`.
    dropout: rate, of whole feature maps, before the head.
    remat: recompute a decoder stage's activations in the backward pass.
    dtype: of the decoder's computation; parameters and logits are float32.
  """

  num_classes: int
  backbone: nn.Module
  features: Sequence[int] = (16, 32, 64, 128, 256)
  norm: str = 'batch'
  groups: int | None = None
  activation: str = 'relu'
  dropout: float = 0.0
  remat: bool = False
  dtype: Any = None

  def __post_init__(self):
    self.backbone = headless(self.backbone)
    super().__post_init__()

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, *spatial, num_classes), float32.

    With features=True the dict of `layers.pyramid`.

    Raises:
      ValueError: for an unknown norm, or a backbone that gives no maps.
    """
    norm = with_groups(self.norm, self.groups)
    encoder = self._encode(x, train)
    sizes, decoder = _sizes(encoder, x.shape[1:-1]), []
    x, skips = encoder[-1], {y.shape[1:-1]: y for y in encoder}
    for i, n in reversed(list(enumerate(reversed(sizes)))):
      x = linear_upsample(x, n)
      if n in skips:
        x = jnp.concatenate([x, skips[n]], -1)
      width = self.features[min(i, len(self.features) - 1)]
      stage = recomputed(Stage, self.remat)
      x = stage(width, norm, self.activation, self.dtype, name=f'decoder_{i}')(
        x, train
      )
      decoder.insert(0, x)
    spatial = tuple(range(1, x.ndim - 1))
    x = nn.Dropout(
      self.dropout, broadcast_dims=spatial, deterministic=not train
    )(x)
    logits = classify_voxels(
      x, self.num_classes, kernel_init=_HE, dtype=self.dtype
    )
    if not features:
      return logits
    return pyramid(encoder, global_mean(encoder[-1]), logits, decoder)

  @nn.nowrap
  def _encode(self, x, train):
    """The maps of the backbone, the finest first."""
    maps = {}
    if 'features' in inspect.signature(self.backbone.__call__).parameters:
      maps = self.backbone(x, train=train, features=True)
    stages = [y for name, y in maps.items() if name.startswith('stage_')]
    if not stages:
      raise ValueError(
        f'{type(self.backbone).__name__} gives no feature maps: the backbone '
        'of an EncoderDecoder must take features=True and return stage_0, …'
      )
    return stages


def _sizes(maps, image):
  """Sizes of the decoder's stages, coarse to fine, the last that of the image.

  One for every map but the coarsest, then doublings. Their number is that of
  the backbone's strides, however these round: else another image size would
  make another network.
  """
  finest = maps[0].shape[1:-1]
  sizes = [y.shape[1:-1] for y in reversed(maps[:-1])]
  ratio = max(m / n for m, n in zip(image, finest, strict=True))
  doublings = max(round(math.log2(ratio)), int(image != finest))
  for i in reversed(range(doublings)):
    halves = (-(-m // 2**i) for m in image)
    sizes.append(tuple(map(max, halves, finest)))
  return sizes
