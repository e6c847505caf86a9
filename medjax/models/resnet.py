"""Residual networks for classification, 2-D and 3-D."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from medjax.models.layers import Conv, centred, make_norm
from medjax.ops.pooling import max_pool

_HE = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
# torch.nn.Linear's default.
_LINEAR = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


class Block(nn.Module):
  """A residual block: `kernel_sizes` one after the other, plus the input."""

  features: Sequence[int]
  kernel_sizes: Sequence[int]
  strides: Sequence[int]
  norm: str
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → (b, *ceil(spatial / stride), features[-1])."""
    shortcut = x
    layers = zip(self.features, self.kernel_sizes, self.strides, strict=True)
    for i, (features, kernel, stride) in enumerate(layers):
      if i:
        x = nn.relu(x)
      x = _conv_norm(self, x, features, kernel, stride, train, ('', f'_{i}'))
    if shortcut.shape != x.shape:
      shortcut = _conv_norm(
        self, shortcut, self.features[-1], 1, max(self.strides), train,
        ('shortcut_', ''),
      )  # fmt: skip
    return nn.relu(x + shortcut)


def _conv_norm(module, x, features, kernel, stride, train, affixes):
  """Convolution without bias and norm, as submodules of `module`."""
  before, after = affixes
  kernel = (kernel,) * (x.ndim - 2)
  x = Conv(
    features,
    kernel,
    strides=stride,
    padding=centred(kernel),
    use_bias=False,
    kernel_init=_HE,
    dtype=module.dtype,
    name=f'{before}conv{after}',
  )(x)
  return make_norm(
    module.norm,
    features,
    train=train,
    dtype=module.dtype,
    name=f'{before}norm{after}',
  )(x)


class ResNet(nn.Module):
  """ResNet (He et al. 2016), version 1.5 as torchvision has it.

  A bottleneck strides in its middle convolution. The rank, 2-D or 3-D, is
  that of the input. Initialisation is torchvision's (He normal by fan-out;
  the head uniform by fan-in) but for the head's bias, which is zero.

  Parameters lie under stem_conv, stem_norm, stage_0_block_0 … and head:
  stage_0_block_0/conv_0/kernel, stage_1_block_0/shortcut_conv/kernel.

  Attributes:
    num_classes: channels of the logits.
    stage_sizes: blocks per stage; a stage after the first halves the size and
      doubles the channels.
    block: 'basic' (two 3-voxel convolutions) or 'bottleneck' (1, 3, 1 with
      four times the channels at its end).
    width: channels of the first stage.
    stem: 'imagenet' (7 voxels, stride 2, and max-pool) or 'small' (3 voxels,
      stride 1, none) for images of some 32 voxels a side.
    norm: 'batch', 'instance' or 'group'.
    dropout: rate before the head.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  stage_sizes: Sequence[int]
  block: str = 'basic'
  width: int = 64
  stem: str = 'imagenet'
  norm: str = 'batch'
  dropout: float = 0.0
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False):
    """(b, *spatial, c) → logits (b, num_classes), float32.

    Raises:
      ValueError: for an unknown stem, block or norm.
    """
    x = self._stages(x, train)[-1]
    # Averaged in float32: half precision loses digits over a large image.
    x = x.mean(tuple(range(1, x.ndim - 1)), dtype=jnp.float32)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x = nn.Dense(
      self.num_classes, kernel_init=_LINEAR, dtype=self.dtype, name='head'
    )(x)
    return x.astype(jnp.float32)

  @nn.nowrap
  def _stages(self, x, train):
    """Features of every stage, the highest resolution first."""
    x = self._stem(x, train)
    levels = []
    for i, blocks in enumerate(self.stage_sizes):
      for j in range(blocks):
        stride = 2 if i > 0 and j == 0 else 1
        features, kernels, strides = self._layers(self.width * 2**i, stride)
        x = Block(
          features,
          kernels,
          strides,
          self.norm,
          self.dtype,
          name=f'stage_{i}_block_{j}',
        )(x, train)
      levels.append(x)
    return levels

  @nn.nowrap
  def _stem(self, x, train):
    if self.stem not in ('imagenet', 'small'):
      raise ValueError(f"stem is 'imagenet' or 'small', not {self.stem!r}")
    small = self.stem == 'small'
    kernel, stride = (3, 1) if small else (7, 2)
    x = _conv_norm(self, x, self.width, kernel, stride, train, ('stem_', ''))
    x = nn.relu(x)
    return x if small else max_pool(x, 3, strides=2, padding=1)

  @nn.nowrap
  def _layers(self, width, stride):
    """Features, kernel sizes and strides of a block's convolutions."""
    if self.block == 'basic':
      return (width, width), (3, 3), (stride, 1)
    if self.block == 'bottleneck':
      return (width, width, 4 * width), (1, 3, 1), (1, stride, 1)
    raise ValueError(f"block is 'basic' or 'bottleneck', not {self.block!r}")


ResNet18 = functools.partial(ResNet, stage_sizes=(2, 2, 2, 2))
ResNet34 = functools.partial(ResNet, stage_sizes=(3, 4, 6, 3))
ResNet50 = functools.partial(
  ResNet, stage_sizes=(3, 4, 6, 3), block='bottleneck'
)
