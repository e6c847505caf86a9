"""Densely connected networks for classification, 2-D and 3-D."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from medjax.models.layers import Conv, centred, fitted, global_mean, make_norm
from medjax.ops.pooling import avg_pool, max_pool

_HE = nn.initializers.variance_scaling(2.0, 'fan_in', 'normal')
# torch.nn.Linear's default.
_LINEAR = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


class Layer(nn.Module):
  """norm – ReLU – 1-voxel conv – norm – ReLU – 3-voxel conv, and its input."""

  growth: int
  bottleneck: int
  norm: str
  dropout: float
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → (b, *spatial, c + growth)."""
    inputs = x
    x = _norm_relu(self, x, 'norm_0', train)
    x = _conv(self, x, self.bottleneck * self.growth, 1, 'conv_0')
    x = _norm_relu(self, x, 'norm_1', train)
    x = _conv(self, x, self.growth, 3, 'conv_1')
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return jnp.concatenate([inputs, x], -1)


def _norm_relu(module, x, name, train):
  """Norm and ReLU, the norm as a submodule of `module`."""
  norm = make_norm(
    module.norm, x.shape[-1], train=train, dtype=module.dtype, name=name
  )
  return nn.relu(norm(x))


def _conv(module, x, features, kernel, name, stride=1):
  """Convolution without bias as a submodule of `module`."""
  kernel = (kernel,) * (x.ndim - 2)
  return Conv(
    features,
    kernel,
    strides=stride,
    padding=centred(kernel),
    use_bias=False,
    kernel_init=_HE,
    dtype=module.dtype,
    name=name,
  )(x)


class DenseNet(nn.Module):
  """DenseNet-BC (Huang et al. 2017), as torchvision has it.

  A transition halves the channels and the size; an axis that is down to one
  voxel is pooled no further, where torchvision refuses. Works in 2-D and 3-D.
  Initialisation is torchvision's (He normal by fan-in; the head uniform).

  Parameters lie under stem_conv, stem_norm, stage_0_layer_0 …,
  transition_0_norm, transition_0_conv …, norm and head:
  stage_0_layer_0/conv_0/kernel.

  Attributes:
    num_classes: channels of the logits.
    stage_sizes: layers per dense block.
    growth: channels that each layer adds.
    width: channels of the stem.
    bottleneck: channels between a layer's convolutions, in units of growth.
    norm: 'batch', 'instance' or 'group'.
    dropout: rate after each layer; the paper has 0.2 without augmentation.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  stage_sizes: Sequence[int]
  growth: int = 32
  width: int = 64
  bottleneck: int = 4
  norm: str = 'batch'
  dropout: float = 0.0
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False):
    """(b, *spatial, c) → logits (b, num_classes), float32.

    Raises:
      ValueError: for an unknown norm.
    """
    x = _conv(self, x, self.width, 7, 'stem_conv', stride=2)
    x = _norm_relu(self, x, 'stem_norm', train)
    x = max_pool(x, 3, strides=2, padding=1)
    for i, layers in enumerate(self.stage_sizes):
      if i:
        x = _norm_relu(self, x, f'transition_{i - 1}_norm', train)
        x = _conv(self, x, x.shape[-1] // 2, 1, f'transition_{i - 1}_conv')
        x = avg_pool(x, fitted(2, x), strides=2)
      for j in range(layers):
        x = Layer(
          self.growth,
          self.bottleneck,
          self.norm,
          self.dropout,
          self.dtype,
          name=f'stage_{i}_layer_{j}',
        )(x, train)
    x = global_mean(_norm_relu(self, x, 'norm', train))
    x = nn.Dense(
      self.num_classes, kernel_init=_LINEAR, dtype=self.dtype, name='head'
    )(x)
    return x.astype(jnp.float32)


DenseNet121 = functools.partial(DenseNet, stage_sizes=(6, 12, 24, 16))
DenseNet169 = functools.partial(DenseNet, stage_sizes=(6, 12, 32, 32))
