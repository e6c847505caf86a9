"""Linen layers that the models share."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from medjax.ops.convolution import conv
from medjax.ops.upsampling import transposed_conv

Conv = functools.partial(nn.Conv, conv_general_dilated=conv)


def per_axis(value, rank):
  """One integer per spatial axis from an integer or a sequence.

  Raises:
    ValueError: if the sequence has another length.
  """
  axes = (value,) * rank if isinstance(value, int) else tuple(value)
  if len(axes) != rank:
    raise ValueError(f'{value} does not fit {rank} spatial axes')
  return axes


def centred(kernel_size):
  """Padding (low, high) per axis that keeps an odd kernel on its voxel.

  The output of stride s has ceil(size / s) voxels. 'SAME' would shift the
  grid by a voxel, depending on whether the size is even.
  """
  return tuple((k // 2, k // 2) for k in kernel_size)


def fitted(window, x):
  """A pooling window per axis of x, no larger than what is left of x.

  A network made for 224 voxels then takes a small image too: an axis is
  pooled until one voxel is left, where PyTorch refuses.
  """
  return tuple(min(window, n) for n in x.shape[1:-1])


def global_mean(x):
  """(b, *spatial, c) → (b, c), float32: half precision would lose digits."""
  return x.mean(tuple(range(1, x.ndim - 1)), dtype=jnp.float32)


def recomputed(block, remat):
  """`block`, a module class called as (x, train); with `remat` its activations
  are computed again in the backward pass, which saves memory on an
  accelerator. The same gradients."""
  return nn.remat(block, static_argnums=(2,)) if remat else block


class DropPath(nn.Module):
  """Stochastic depth (Huang et al. 2016): leaves out a residual branch.

  Per example, with probability `rate`; the branches kept are divided by
  1 − rate, so that evaluation leaves them as they are. Key 'dropout'.
  """

  rate: float

  @nn.compact
  def __call__(self, x, train):
    """(b, …) → (b, …)."""
    others = tuple(range(1, x.ndim))
    return nn.Dropout(
      self.rate, broadcast_dims=others, deterministic=not train
    )(x)


def make_norm(
  kind, features, *, train, dtype, name, momentum=0.9, epsilon=1e-5
):
  """A normalisation layer: 'batch', 'instance' or 'group'.

  Statistics are float32 whatever the dtype. Under `jit` over a mesh those of
  'batch' are of the global batch. Its running variance is the biased one:
  after a step on n values PyTorch's differs by n / (n − 1). 'group' has 16
  channels per group (Wu & He 2018, table 3), fewer where 16 do not divide.
  `momentum` is the share of the old statistics: one minus PyTorch's.

  Raises:
    ValueError: for another kind.
  """
  if kind == 'batch':
    return nn.BatchNorm(
      use_running_average=not train,
      momentum=momentum,
      epsilon=epsilon,
      dtype=dtype,
      name=name,
    )
  if kind == 'instance':
    return nn.InstanceNorm(epsilon=epsilon, dtype=dtype, name=name)
  if kind == 'group':
    return nn.GroupNorm(
      num_groups=None,
      group_size=math.gcd(16, features),
      epsilon=epsilon,
      dtype=dtype,
      name=name,
    )
  raise ValueError(f"norm is 'batch', 'instance' or 'group', not {kind!r}")


class ConvNorm(nn.Module):
  """Convolution without bias, centred unless padding says else, and a norm.

  `groups` = None is a depthwise convolution: one group per channel.
  """

  features: int
  kernel_size: int | Sequence[int]
  strides: int = 1
  groups: int | None = 1
  padding: str | None = None
  norm: str = 'batch'
  momentum: float = 0.9
  epsilon: float = 1e-5
  kernel_init: Any = nn.initializers.variance_scaling(2, 'fan_out', 'normal')
  dtype: Any = None

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → (b, *ceil(spatial / strides), features)."""
    kernel = per_axis(self.kernel_size, x.ndim - 2)
    x = Conv(
      self.features,
      kernel,
      strides=self.strides,
      padding=self.padding or centred(kernel),
      feature_group_count=x.shape[-1] if self.groups is None else self.groups,
      use_bias=False,
      kernel_init=self.kernel_init,
      dtype=self.dtype,
      name='conv',
    )(x)
    return make_norm(
      self.norm,
      self.features,
      train=train,
      dtype=self.dtype,
      name='norm',
      momentum=self.momentum,
      epsilon=self.epsilon,
    )(x)


class ConvTranspose(nn.Module):
  """Transposed convolution with kernel size = stride and a bias."""

  features: int
  strides: tuple[int, ...]
  kernel_init: Any
  dtype: Any = None

  @nn.compact
  def __call__(self, x):
    """(b, *spatial, c) → (b, *(spatial × strides), features)."""
    shape = (*self.strides, x.shape[-1], self.features)
    kernel = self.param('kernel', self.kernel_init, shape, jnp.float32)
    bias = self.param(
      'bias', nn.initializers.zeros, (self.features,), jnp.float32
    )
    x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
    return transposed_conv(x, kernel) + bias
