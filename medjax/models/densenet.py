"""Densely connected networks for classification, 2-D and 3-D."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from medjax.models.layers import (
  ConvNorm,
  activation,
  classify,
  fitted,
  global_mean,
  make_norm,
  pyramid,
  recomputed,
  with_groups,
)
from medjax.ops.pooling import avg_pool, max_pool

_HE = nn.initializers.he_normal()


class Layer(nn.Module):
  """norm – activation – 1-voxel conv – norm – activation – 3-voxel conv.

  `norm` makes a norm, `layer` a convolution with or without one. All maps
  before this layer are concatenated in here, so that recomputation keeps no
  copies of them (Pleiss et al. 2017).
  """

  growth: int
  bottleneck: int
  norm: Callable
  layer: Callable
  activation: Callable
  dropout: float

  @nn.compact
  def __call__(self, maps, train):
    """[(b, *spatial, c), …] → (b, *spatial, growth)."""
    x = jnp.concatenate(maps, -1)
    act = self.activation
    x = act(self.norm(x.shape[-1], train=train, name='norm')(x))
    channels = self.bottleneck * self.growth
    x = act(self.layer(channels, 1, name='squeeze')(x, train))
    x = self.layer(self.growth, 3, norm=None, name='grow')(x, train)
    return nn.Dropout(self.dropout, deterministic=not train)(x)


class DenseNet(nn.Module):
  """DenseNet-BC (Huang et al. 2017), as torchvision has it.

  A transition halves the channels and the size; an axis that is down to one
  voxel is pooled no further, where torchvision refuses. Works in 2-D and 3-D.
  Initialisation is torchvision's (He normal by fan-in; the head uniform).

  Parameters lie under stem, stage_0_layer_0 …, stage_0_norm …, transition_0 …
  and head: stage_0_layer_0/squeeze/conv/kernel, stage_0_layer_0/grow/….

  Attributes:
    num_classes: channels of the logits.
    stage_sizes: layers per dense block.
    growth: channels that each layer adds.
    width: channels of the stem.
    bottleneck: channels between a layer's convolutions, in units of growth.
    norm: 'batch', 'instance' or 'group'.
    groups: of a group norm; None: 16 channels each, fewer where 16 do not
      divide.
    activation: 'relu', 'leaky_relu', 'elu', …; see `layers.activation`.
    dropout: rate after each layer; the paper has 0.2 without augmentation.
    remat: recompute a layer's activations in the backward pass.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  stage_sizes: Sequence[int]
  growth: int = 32
  width: int = 64
  bottleneck: int = 4
  norm: str = 'batch'
  groups: int | None = None
  activation: str = 'relu'
  dropout: float = 0.0
  remat: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, num_classes), float32.

    With features=True the dict of `layers.pyramid`; those
    of a dense block after its norm and ReLU.

    Raises:
      ValueError: for an unknown norm.
    """
    kind, act = with_groups(self.norm, self.groups), activation(self.activation)
    norm = functools.partial(make_norm, kind, dtype=self.dtype)
    layer = functools.partial(
      ConvNorm, norm=kind, kernel_init=_HE, dtype=self.dtype
    )
    x = act(layer(self.width, 7, 2, name='stem')(x, train))
    maps = [x]
    x = max_pool(x, 3, strides=2, padding=1)
    for i, layers in enumerate(self.stage_sizes):
      if i:
        x = layer(x.shape[-1] // 2, 1, norm=None, name=f'transition_{i - 1}')(
          x, train
        )
        x = avg_pool(x, fitted(2, x), strides=2)
      grown = [x]
      for j in range(layers):
        grow = recomputed(Layer, self.remat)(
          self.growth, self.bottleneck, norm, layer, act, self.dropout,
          name=f'stage_{i}_layer_{j}',
        )  # fmt: skip
        grown.append(grow(grown, train))
      x = jnp.concatenate(grown, -1)
      x = act(norm(x.shape[-1], train=train, name=f'stage_{i}_norm')(x))
      maps.append(x)
    pooled = global_mean(x)
    logits = classify(pooled, self.num_classes, train, dtype=self.dtype)
    return pyramid(maps, pooled, logits) if features else logits


DenseNet121 = functools.partial(DenseNet, stage_sizes=(6, 12, 24, 16))
DenseNet169 = functools.partial(DenseNet, stage_sizes=(6, 12, 32, 32))
