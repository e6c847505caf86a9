"""MobileNet V2 and V3 for classification, 2-D and 3-D."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn

from medjax.models.layers import (
  HE,
  ConvNorm,
  DropPath,
  classify,
  depth_rates,
  global_mean,
  pyramid,
  recomputed,
  with_groups,
)

_NORMAL = nn.initializers.normal(0.01)

# Of each stage: blocks, kernel, expansion, features, squeeze-and-excitation,
# the network's activation (else ReLU), stride of the first block.
_V2 = (  # table 2 of the paper
  (1, 3, 1, 16, False, True, 1),
  (2, 3, 6, 24, False, True, 2),
  (3, 3, 6, 32, False, True, 2),
  (4, 3, 6, 64, False, True, 2),
  (3, 3, 6, 96, False, True, 1),
  (3, 3, 6, 160, False, True, 2),
  (1, 3, 6, 320, False, True, 1),
)
_V3_LARGE = (  # tables 1 and 2, expansions in units of the input's channels
  (1, 3, 1, 16, False, False, 1),
  (1, 3, 4, 24, False, False, 2),
  (1, 3, 3, 24, False, False, 1),
  (3, 5, 3, 40, True, False, 2),
  (1, 3, 6, 80, False, True, 2),
  (1, 3, 2.5, 80, False, True, 1),
  (2, 3, 2.3, 80, False, True, 1),
  (2, 3, 6, 112, True, True, 1),
  (3, 5, 6, 160, True, True, 2),
)
_V3_SMALL = (
  (1, 3, 1, 16, True, False, 2),
  (1, 3, 4.5, 24, False, False, 2),
  (1, 3, 11 / 3, 24, False, False, 1),
  (1, 5, 4, 40, True, True, 2),
  (2, 5, 6, 40, True, True, 1),
  (2, 5, 3, 48, True, True, 1),
  (3, 5, 6, 96, True, True, 2),
)


def multiple_of_8(features):
  """The nearest multiple of eight that takes away a tenth at most."""
  rounded = max(8, int(features + 4) // 8 * 8)
  return rounded + 8 if rounded < 0.9 * features else rounded


class SqueezeExcite(nn.Module):
  """Channels scaled by a gate of their means (Hu et al. 2018)."""

  squeezed: int
  activation: Callable = nn.relu
  gate: Callable = nn.hard_sigmoid
  dtype: Any = None

  @nn.compact
  def __call__(self, x):
    """(b, *spatial, c) → the same shape."""
    dense = functools.partial(nn.Dense, kernel_init=HE, dtype=self.dtype)
    scale = dense(self.squeezed, name='reduce')(global_mean(x))
    scale = dense(x.shape[-1], name='expand')(self.activation(scale))
    scale = self.gate(scale).astype(x.dtype)
    return x * scale.reshape(scale.shape[0], *(1,) * (x.ndim - 2), -1)


class InvertedResidual(nn.Module):
  """Expand, convolve depthwise, squeeze and excite, project.

  The projection has no activation, and the input is added where it has the
  shape of the output.

  Attributes:
    expanded: channels of the depthwise convolution; no expansion if they are
      those of the input.
    features: channels of the output.
    kernel_size: of the depthwise convolution.
    strides: of the depthwise convolution.
    activation: after expansion and depthwise convolution.
    layer: makes a convolution with its norm.
    excite: makes the squeeze-and-excitation; None for none.
    drop_path: rate of stochastic depth.
  """

  expanded: int
  features: int
  kernel_size: int
  strides: int
  activation: Callable
  layer: Callable
  excite: Callable | None = None
  drop_path: float = 0.0

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → (b, *ceil(spatial / strides), features)."""
    inputs = x
    if self.expanded != x.shape[-1]:
      x = self.layer(self.expanded, 1, name='expand')(x, train)
      x = self.activation(x)
    depthwise = self.layer(
      self.expanded, self.kernel_size, self.strides, None, name='depthwise'
    )
    x = self.activation(depthwise(x, train))
    if self.excite is not None:
      x = self.excite(name='squeeze_excite')(x)
    x = self.layer(self.features, 1, name='project')(x, train)
    if self.strides != 1 or x.shape != inputs.shape:
      return x
    return inputs + DropPath(self.drop_path)(x, train)


class MobileNet(nn.Module):
  """MobileNet V2 and V3 (Sandler et al. 2018; Howard et al. 2019).

  As torchvision has them, in 2-D and 3-D, at any size. Initialisation is
  torchvision's.

  Parameters lie under stem, block_0 …, last, dense (V3) and head:
  block_3/depthwise/conv/kernel, block_3/squeeze_excite/reduce/kernel.

  Attributes:
    num_classes: channels of the logits.
    stages: of each stage blocks, kernel, expansion, features,
      squeeze-and-excitation, the network's activation (else ReLU), stride of
      the first block.
    stem: channels of the first convolution.
    last: channels of the last convolution; None: six times its input's.
    hidden: units of a dense layer before the head; 0: none.
    activation: of the network.
    width: multiplies all channels, rounded to a multiple of eight; those of
      `last` only if it is above one.
    norm: 'batch', 'instance' or 'group'.
    groups: of a group norm; None: 16 channels each, fewer where 16 do not
      divide.
    momentum, epsilon: of the norm; see `layers.make_norm`.
    dropout: rate before the head.
    drop_path: rate of stochastic depth at the last block, growing from 0.
    remat: recompute a block's activations in the backward pass.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  stages: Sequence[Sequence[float]]
  stem: int
  last: int | None
  hidden: int
  activation: Callable
  width: float = 1.0
  norm: str = 'batch'
  groups: int | None = None
  momentum: float = 0.9
  epsilon: float = 1e-5
  dropout: float = 0.2
  drop_path: float = 0.0
  remat: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, num_classes), float32.

    With features=True the dict of `layers.pyramid`. Raises ValueError for an
    unknown norm.
    """
    layer = functools.partial(
      ConvNorm,
      norm=with_groups(self.norm, self.groups),
      momentum=self.momentum,
      epsilon=self.epsilon,
      dtype=self.dtype,
    )
    stem = layer(multiple_of_8(self.stem * self.width), 3, 2, name='stem')
    x = self.activation(stem(x, train))
    maps = [x]
    rates = iter(depth_rates(self.drop_path, sum(s[0] for s in self.stages)))
    for blocks, kernel, expansion, channels, excite, own, stride in self.stages:
      for j in range(blocks):
        expanded = multiple_of_8(expansion * x.shape[-1])
        squeeze_excite = functools.partial(
          SqueezeExcite, multiple_of_8(expanded // 4), dtype=self.dtype
        )
        block = recomputed(InvertedResidual, self.remat)(
          expanded,
          multiple_of_8(channels * self.width),
          kernel,
          1 if j else stride,
          self.activation if own else nn.relu,
          layer,
          squeeze_excite if excite else None,
          next(rates),
          name=f'block_{len(maps) - 1}',
        )
        x = block(x, train)
        maps.append(x)
    last = 6 * x.shape[-1]
    if self.last is not None:
      last = multiple_of_8(self.last * max(1.0, self.width))
    x = self.activation(layer(last, 1, name='last')(x, train))
    maps.append(x)
    pooled = global_mean(x)
    if self.hidden:
      dense = nn.Dense(
        multiple_of_8(self.hidden * self.width),
        kernel_init=_NORMAL,
        dtype=self.dtype,
        name='dense',
      )
      pooled = self.activation(dense(pooled))
    logits = classify(
      pooled,
      self.num_classes,
      train,
      dropout=self.dropout,
      kernel_init=_NORMAL,
      dtype=self.dtype,
    )
    return pyramid(maps, pooled, logits) if features else logits


MobileNetV2 = functools.partial(
  MobileNet,
  stages=_V2,
  stem=32,
  last=1280,
  hidden=0,
  activation=nn.relu6,
)
# The authors' running statistics keep .99 of the old: after a few hundred steps
# they would still be those of drawn weights, and what was learnt not be used.
_V3 = functools.partial(
  MobileNet,
  stem=16,
  last=None,
  activation=nn.hard_swish,
  epsilon=1e-3,
)
MobileNetV3Large = functools.partial(_V3, stages=_V3_LARGE, hidden=1280)
MobileNetV3Small = functools.partial(_V3, stages=_V3_SMALL, hidden=1024)
