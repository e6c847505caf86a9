"""VGG networks for classification, 2-D and 3-D."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn

from medjax.models.layers import (
  ConvNorm,
  classify,
  fitted,
  pyramid,
  recomputed,
  with_groups,
)
from medjax.ops.pooling import adaptive_avg_pool, max_pool

_NORMAL = nn.initializers.normal(0.01)


class Stage(nn.Module):
  """3-voxel convolutions at one resolution, each with its norm and ReLU."""

  channels: int
  convs: int
  norm: str | None
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → (b, *spatial, channels)."""
    for i in range(self.convs):
      layer = ConvNorm(
        self.channels,
        3,
        use_bias=True,
        norm=self.norm,
        dtype=self.dtype,
        name=f'layer_{i}',
      )
      x = nn.relu(layer(x, train))
    return x


class VGG(nn.Module):
  """VGG (Simonyan & Zisserman 2015), as torchvision has it.

  Stages of 3-voxel convolutions, a max-pool after each, and two dense layers.
  The last features are averaged onto a fixed grid as by torch's
  AdaptiveAvgPool, so any image size works, in 2-D and 3-D; an axis that is
  down to one voxel is pooled no further, where torchvision refuses. In 3-D
  the first dense layer has 719 M weights unless `grid` is smaller.

  Parameters lie under stage_0 … stage_4, dense_0, dense_1 and head:
  stage_0/layer_0/conv/kernel, and stage_0/layer_0/norm/scale with a norm.

  Attributes:
    num_classes: channels of the logits.
    stage_sizes: convolutions per stage; the channels double from stage to
      stage up to eight times the width.
    width: channels of the first stage.
    hidden: units of the two dense layers before the head.
    grid: bins per axis that the dense layers see.
    norm: None as in the paper, 'batch', 'instance' or 'group'.
    groups: of a group norm; None: 16 channels each, fewer where 16 do not
      divide.
    dropout: rate after each of the two dense layers.
    remat: recompute a stage's activations in the backward pass.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  stage_sizes: Sequence[int]
  width: int = 64
  hidden: int = 4096
  grid: int = 7
  norm: str | None = None
  groups: int | None = None
  dropout: float = 0.5
  remat: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, num_classes), float32.

    With features=True the dict of `layers.pyramid`; the
    embedding is what the last of the three dense layers sees.

    Raises:
      ValueError: for an unknown norm.
    """
    maps = []
    for i, convs in enumerate(self.stage_sizes):
      channels = self.width * min(2**i, 8)
      stage = recomputed(Stage, self.remat)
      x = stage(
        channels,
        convs,
        with_groups(self.norm, self.groups),
        self.dtype,
        name=f'stage_{i}',
      )(x, train)
      maps.append(x)
      x = max_pool(x, fitted(2, x), strides=2)
    maps.append(x)
    x = adaptive_avg_pool(x, self.grid)
    x = x.reshape(x.shape[0], -1)
    for i in range(2):
      dense = nn.Dense(
        self.hidden, kernel_init=_NORMAL, dtype=self.dtype, name=f'dense_{i}'
      )
      # The second layer's dropout is the head's.
      rate = 0.0 if i else self.dropout
      x = nn.Dropout(rate, deterministic=not train)(nn.relu(dense(x)))
    logits = classify(
      x,
      self.num_classes,
      train,
      dropout=self.dropout,
      kernel_init=_NORMAL,
      dtype=self.dtype,
    )
    return pyramid(maps, x, logits) if features else logits


VGG11 = functools.partial(VGG, stage_sizes=(1, 1, 2, 2, 2))
VGG13 = functools.partial(VGG, stage_sizes=(2, 2, 2, 2, 2))
VGG16 = functools.partial(VGG, stage_sizes=(2, 2, 3, 3, 3))
VGG19 = functools.partial(VGG, stage_sizes=(2, 2, 4, 4, 4))
VGG11BN = functools.partial(VGG11, norm='batch')
VGG13BN = functools.partial(VGG13, norm='batch')
VGG16BN = functools.partial(VGG16, norm='batch')
VGG19BN = functools.partial(VGG19, norm='batch')
