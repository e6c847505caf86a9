"""MobileNet V2 and V3 for classification, 2-D and 3-D."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from medjax.models.layers import ConvNorm, global_mean

_HE = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
_NORMAL = nn.initializers.normal(0.01)

# Of each stage: expansion, features, blocks, stride of the first (table 2).
_V2 = (
  (1, 16, 1, 1),
  (6, 24, 2, 2),
  (6, 32, 3, 2),
  (6, 64, 4, 2),
  (6, 96, 3, 1),
  (6, 160, 3, 2),
  (6, 320, 1, 1),
)
# Of each block: kernel, expanded, features, squeeze-and-excitation, hard
# swish (else ReLU), stride (tables 1 and 2).
_V3_LARGE = (
  (3, 16, 16, False, False, 1),
  (3, 64, 24, False, False, 2),
  (3, 72, 24, False, False, 1),
  (5, 72, 40, True, False, 2),
  (5, 120, 40, True, False, 1),
  (5, 120, 40, True, False, 1),
  (3, 240, 80, False, True, 2),
  (3, 200, 80, False, True, 1),
  (3, 184, 80, False, True, 1),
  (3, 184, 80, False, True, 1),
  (3, 480, 112, True, True, 1),
  (3, 672, 112, True, True, 1),
  (5, 672, 160, True, True, 2),
  (5, 960, 160, True, True, 1),
  (5, 960, 160, True, True, 1),
)
_V3_SMALL = (
  (3, 16, 16, True, False, 2),
  (3, 72, 24, False, False, 2),
  (3, 88, 24, False, False, 1),
  (5, 96, 40, True, True, 2),
  (5, 240, 40, True, True, 1),
  (5, 240, 40, True, True, 1),
  (5, 120, 48, True, True, 1),
  (5, 144, 48, True, True, 1),
  (5, 288, 96, True, True, 2),
  (5, 576, 96, True, True, 1),
  (5, 576, 96, True, True, 1),
)


def _multiple_of_8(features):
  """The nearest multiple of eight that takes away a tenth at most."""
  rounded = max(8, int(features + 4) // 8 * 8)
  return rounded + 8 if rounded < 0.9 * features else rounded


class SqueezeExcite(nn.Module):
  """Channels scaled by a hard sigmoid of their means (Hu et al. 2018)."""

  squeezed: int
  dtype: Any

  @nn.compact
  def __call__(self, x):
    """(b, *spatial, c) → the same shape."""
    dense = functools.partial(nn.Dense, kernel_init=_HE, dtype=self.dtype)
    scale = nn.relu(dense(self.squeezed, name='reduce')(global_mean(x)))
    scale = nn.hard_sigmoid(dense(x.shape[-1], name='expand')(scale))
    middle = (1,) * (x.ndim - 2)
    return x * scale.reshape(scale.shape[0], *middle, -1).astype(x.dtype)


class Block(nn.Module):
  """An inverted residual: expand, convolve depthwise, project.

  The projection has no activation, and the input is added where it has the
  shape of the output. `layer` makes a convolution with its norm.
  """

  expanded: int
  features: int
  kernel_size: int
  strides: int
  squeezed: int  # 0: no squeeze-and-excitation
  activation: Callable
  layer: Callable
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → (b, *ceil(spatial / strides), features)."""
    inputs = x
    if self.expanded != x.shape[-1]:
      x = self.layer(self.expanded, 1, name='expand')(x, train)
      x = self.activation(x)
    x = self.layer(
      self.expanded,
      self.kernel_size,
      strides=self.strides,
      groups=None,
      name='depthwise',
    )(x, train)
    x = self.activation(x)
    if self.squeezed:
      x = SqueezeExcite(self.squeezed, self.dtype, name='squeeze_excite')(x)
    x = self.layer(self.features, 1, name='project')(x, train)
    added = self.strides == 1 and inputs.shape[-1] == self.features
    return x + inputs if added else x


class MobileNetV2(nn.Module):
  """MobileNetV2 (Sandler et al. 2018), as torchvision has it.

  Works in 2-D and 3-D, at any size. Initialisation is torchvision's.

  Parameters lie under stem, block_0 …, last and head:
  block_1/expand/conv/kernel, block_1/depthwise/norm/scale.

  Attributes:
    num_classes: channels of the logits.
    width: multiplies all channels, rounded to a multiple of eight; the last
      convolution's are multiplied only by a width above one.
    stages: of each stage expansion, features, blocks, stride of the first.
    last: channels of the last convolution.
    norm: 'batch', 'instance' or 'group'.
    dropout: rate before the head.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  width: float = 1.0
  stages: Sequence[Sequence[int]] = _V2
  last: int = 1280
  norm: str = 'batch'
  dropout: float = 0.2
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False):
    """(b, *spatial, c) → logits (b, num_classes), float32.

    Raises:
      ValueError: for an unknown norm.
    """
    layer = functools.partial(ConvNorm, norm=self.norm, dtype=self.dtype)
    features = _multiple_of_8(32 * self.width)
    x = nn.relu6(layer(features, 3, strides=2, name='stem')(x, train))
    index = 0
    for expansion, features, blocks, stride in self.stages:
      for j in range(blocks):
        x = Block(
          expansion * x.shape[-1],
          _multiple_of_8(features * self.width),
          3,
          1 if j else stride,
          0,
          nn.relu6,
          layer,
          self.dtype,
          name=f'block_{index}',
        )(x, train)
        index += 1
    last = _multiple_of_8(self.last * max(1.0, self.width))
    x = global_mean(nn.relu6(layer(last, 1, name='last')(x, train)))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x = nn.Dense(
      self.num_classes, kernel_init=_NORMAL, dtype=self.dtype, name='head'
    )(x)
    return x.astype(jnp.float32)


class MobileNetV3(nn.Module):
  """MobileNetV3 (Howard et al. 2019), as torchvision has it.

  Works in 2-D and 3-D, at any size. Batch norm has torchvision's epsilon,
  0.001, and keeps 0.99 of its running statistics per step. Initialisation is
  torchvision's.

  Parameters lie under stem, block_0 …, last, dense and head:
  block_3/squeeze_excite/reduce/kernel.

  Attributes:
    num_classes: channels of the logits.
    blocks: of each block kernel, expanded, features, squeeze-and-excitation,
      hard swish, stride; the last convolution has six times the features of
      the last block.
    hidden: units of the dense layer before the head.
    norm: 'batch', 'instance' or 'group'.
    dropout: rate before the head.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  blocks: Sequence[Sequence[int | bool]]
  hidden: int
  norm: str = 'batch'
  dropout: float = 0.2
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False):
    """(b, *spatial, c) → logits (b, num_classes), float32.

    Raises:
      ValueError: for an unknown norm.
    """
    layer = functools.partial(
      ConvNorm,
      norm=self.norm,
      momentum=0.99,
      epsilon=1e-3,
      dtype=self.dtype,
    )
    x = nn.hard_swish(layer(16, 3, strides=2, name='stem')(x, train))
    for i, (kernel, expanded, features, excite, swish, stride) in enumerate(
      self.blocks
    ):
      x = Block(
        expanded,
        features,
        kernel,
        stride,
        _multiple_of_8(expanded // 4) if excite else 0,
        nn.hard_swish if swish else nn.relu,
        layer,
        self.dtype,
        name=f'block_{i}',
      )(x, train)
    x = nn.hard_swish(layer(6 * x.shape[-1], 1, name='last')(x, train))
    dense = functools.partial(nn.Dense, kernel_init=_NORMAL, dtype=self.dtype)
    x = nn.hard_swish(dense(self.hidden, name='dense')(global_mean(x)))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return dense(self.num_classes, name='head')(x).astype(jnp.float32)


MobileNetV3Large = functools.partial(MobileNetV3, blocks=_V3_LARGE, hidden=1280)
MobileNetV3Small = functools.partial(MobileNetV3, blocks=_V3_SMALL, hidden=1024)
