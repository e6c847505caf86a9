"""Linen layers that the models share."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype

from medjax.ops.convolution import conv
from medjax.ops.normalization import instance_norm
from medjax.ops.upsampling import transposed_conv

Conv = functools.partial(nn.Conv, conv_general_dilated=conv)

# He et al. 2015, by fan-out as torchvision's networks have it.
HE = nn.initializers.variance_scaling(2, 'fan_out', 'normal')
# torch's default for convolutions and dense layers.
UNIFORM = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
# torch's: a leaky ReLU of slope 0.01, and no approximation of the GELU.
_ACTIVATIONS = {
  'relu': nn.relu,
  'leaky_relu': functools.partial(nn.leaky_relu, negative_slope=0.01),
  'elu': nn.elu,
  'gelu': functools.partial(nn.gelu, approximate=False),
  'silu': nn.silu,
  'softplus': nn.softplus,
}


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


def classify(
  x, num_classes, train, *, dropout=0.0, kernel_init=UNIFORM, dtype=None
):
  """Logits (b, num_classes), float32, of an embedding (b, c).

  Dropout, and the dense layer `head` of the module that calls this; a network
  of no classes, a backbone, has no such layer and logits (b, 0).
  """
  if num_classes == 0:
    return jnp.zeros((x.shape[0], 0), jnp.float32)
  x = nn.Dropout(dropout, deterministic=not train)(x)
  head = nn.Dense(
    num_classes, kernel_init=kernel_init, dtype=dtype, name='head'
  )
  return head(x).astype(jnp.float32)


def classify_voxels(x, num_classes, *, kernel_init, dtype=None, name='head'):
  """Logits (b, *spatial, num_classes), float32, of a map (b, *spatial, c).

  The dense layer `head` of the module that calls this, if there are classes.
  """
  if num_classes == 0:
    return jnp.zeros((*x.shape[:-1], 0), jnp.float32)
  head = nn.Dense(num_classes, kernel_init=kernel_init, dtype=dtype, name=name)
  return head(x).astype(jnp.float32)


def headless(model):
  """The network without its head, if it has one: a backbone."""
  return (
    model.clone(num_classes=0) if getattr(model, 'num_classes', 0) else model
  )


def pyramid(maps, pooled, logits, decoder=()):
  """Names what a network gives for features=True, of its maps in their order.

  {'stage_0': … 'stage_n': …, 'pooled': (b, c) float32, 'logits': …}: the last
  map of every resolution, the finest first; the embedding, which in a
  classification network the head sees; and what the call without features
  gives. A segmentation network has 'decoder_0' …, the finest first, between
  the maps and the embedding.
  """
  named = {}
  for name, group in (('stage', maps), ('decoder', decoder)):
    last = {x.shape[1:-1]: x for x in group}
    named |= {f'{name}_{i}': x for i, x in enumerate(last.values())}
  return {**named, 'pooled': pooled.astype(jnp.float32), 'logits': logits}


def depth_rates(rate, blocks):
  """Rates of `DropPath` per block, growing linearly from 0 to `rate`."""
  return np.linspace(0.0, rate, blocks).tolist()


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


def with_groups(norm, groups):
  """A `kind` for `make_norm`: of 'group', with this number of groups.

  Raises:
    ValueError: for groups of another norm.
  """
  if groups is None:
    return norm
  if norm != 'group':
    raise ValueError(f"groups are those of norm='group', not of {norm!r}")
  return norm, groups


def activation(kind):
  """An activation by its name.

  Raises:
    ValueError: for an unknown one.
  """
  if kind not in _ACTIVATIONS:
    raise ValueError(
      f'activation is one of {", ".join(_ACTIVATIONS)}, not {kind!r}'
    )
  return _ACTIVATIONS[kind]


def make_norm(
  kind, features, *, train, dtype, name, momentum=0.9, epsilon=1e-5, groups=None
):
  """A normalisation layer: 'batch', 'instance' or 'group'.

  Statistics are float32 whatever the dtype. Under `jit` over a mesh those of
  'batch' are of the global batch. 'group' has 16 channels per group (Wu & He
  2018, table 3), fewer where 16 do not divide, or as many groups as `groups`
  or a kind ('group', groups) says.

  The running statistics become momentum × old + (1 − momentum) × new:
  `momentum` is one minus PyTorch's. The variance of n values is the biased one
  (a sum by n); what PyTorch adds is n / (n − 1) times as much. PyTorch's
  epsilon is ours.

  Raises:
    ValueError: for another kind.
  """
  if isinstance(kind, tuple):
    kind, groups = kind
  if kind == 'batch':
    return nn.BatchNorm(
      use_running_average=not train,
      momentum=momentum,
      epsilon=epsilon,
      dtype=dtype,
      name=name,
    )
  if kind == 'instance':
    return InstanceNorm(epsilon=epsilon, dtype=dtype, name=name)
  if kind == 'group':
    return nn.GroupNorm(
      num_groups=groups,
      group_size=None if groups else math.gcd(16, features),
      epsilon=epsilon,
      dtype=dtype,
      name=name,
    )
  raise ValueError(f"norm is 'batch', 'instance' or 'group', not {kind!r}")


class InstanceNorm(nn.Module):
  """Every channel of every image has mean 0 and variance 1 (Ulyanov et al.
  2016), before a learned scale and bias. `nn.InstanceNorm`, by `ops`.
  """

  epsilon: float = 1e-5
  dtype: Any = None

  @nn.compact
  def __call__(self, x):
    """(b, *spatial, c) → the same."""
    scale = self.param('scale', nn.initializers.ones, x.shape[-1:])
    bias = self.param('bias', nn.initializers.zeros, x.shape[-1:])
    (x,) = promote_dtype(x, dtype=self.dtype)
    return instance_norm(x, scale, bias, epsilon=self.epsilon)


class ConvNorm(nn.Module):
  """A convolution and a norm: the submodules `conv` and `norm`.

  Attributes:
    features: channels of the output.
    kernel_size: odd unless `padding` is given; one for all axes or one each.
    strides: one for all axes or one each.
    groups: of channels; None: one per channel, a depthwise convolution.
    padding: as in flax; None keeps a kernel centred on its voxel.
    use_bias: a bias before the norm.
    norm: 'batch', 'instance', 'group', ('group', groups), or None for none.
    momentum, epsilon: of the norm; see `make_norm`.
    kernel_init: of the convolution.
    dtype: of the computation.
  """

  features: int
  kernel_size: int | Sequence[int]
  strides: int | Sequence[int] = 1
  groups: int | None = 1
  padding: Any = None
  use_bias: bool = False
  norm: str | tuple[str, int] | None = 'batch'
  momentum: float = 0.9
  epsilon: float = 1e-5
  kernel_init: Any = HE
  dtype: Any = None

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → (b, *ceil(spatial / strides), features)."""
    kernel = per_axis(self.kernel_size, x.ndim - 2)
    x = Conv(
      self.features,
      kernel,
      strides=self.strides,
      padding=centred(kernel) if self.padding is None else self.padding,
      feature_group_count=x.shape[-1] if self.groups is None else self.groups,
      use_bias=self.use_bias,
      kernel_init=self.kernel_init,
      dtype=self.dtype,
      name='conv',
    )(x)
    if self.norm is None:
      return x
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
