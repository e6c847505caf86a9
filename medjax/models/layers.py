"""Linen layers that the models share."""

import functools
import math
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


def make_norm(kind, features, *, train, dtype, name):
  """A normalisation layer: 'batch', 'instance' or 'group'.

  Statistics are float32 whatever the dtype. Under `jit` over a mesh those of
  'batch' are of the global batch. Its running variance is the biased one:
  after a step on n values PyTorch's differs by n / (n − 1). 'group' has 16
  channels per group (Wu & He 2018, table 3), fewer where 16 do not divide.

  Raises:
    ValueError: for another kind.
  """
  if kind == 'batch':
    return nn.BatchNorm(
      use_running_average=not train,
      momentum=0.9,
      epsilon=1e-5,
      dtype=dtype,
      name=name,
    )
  if kind == 'instance':
    return nn.InstanceNorm(epsilon=1e-5, dtype=dtype, name=name)
  if kind == 'group':
    return nn.GroupNorm(
      num_groups=None,
      group_size=math.gcd(16, features),
      epsilon=1e-5,
      dtype=dtype,
      name=name,
    )
  raise ValueError(f"norm is 'batch', 'instance' or 'group', not {kind!r}")


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
