"""The residual U-Net of 2018, which MONAI calls UNet, 2-D and 3-D."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype

from medjax.models.layers import (
  UNIFORM,
  Conv,
  centred,
  global_mean,
  make_norm,
  per_axis,
  pyramid,
  recomputed,
  with_groups,
)
from medjax.ops.convolution import conv
from medjax.ops.normalization import instance_norm

# torch takes the fan of a transposed convolution over its outputs.
_UNIFORM = nn.initializers.variance_scaling(1 / 3, 'fan_out', 'uniform')


class PReLU(nn.Module):
  """ReLU with one learned slope for negative values (He et al. 2015)."""

  @nn.compact
  def __call__(self, x):
    """(b, …) → the same."""
    slope = self.param('slope', nn.initializers.constant(0.25), ())
    return jnp.where(x >= 0, x, slope.astype(x.dtype) * x)


class Finish(nn.Module):
  """Norm, dropout and PReLU; an instance norm has no scale nor bias."""

  norm: str | tuple[str, int]
  dropout: float
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → the same."""
    channels = x.shape[-1]
    if self.norm == 'instance':
      one, zero = jnp.ones(channels), jnp.zeros(channels)
      x = instance_norm(x, one, zero, epsilon=1e-5)
    else:
      x = make_norm(
        self.norm, channels, train=train, dtype=self.dtype, name='norm'
      )(x)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return PReLU(name='act')(x)


class Unit(nn.Module):
  """3-voxel convolutions, each with its finish, and a projection of the input.

  `bare`: the last convolution has no finish, as before logits. `convs` 0: one
  convolution, to which the input is not added.
  """

  features: int
  strides: tuple[int, ...]
  convs: int
  bare: bool
  norm: str | tuple[str, int]
  dropout: float
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → (b, *ceil(spatial / strides), features)."""
    inputs, ones = x, (1,) * (x.ndim - 2)
    for i in range(max(self.convs, 1)):
      x = self._conv(3, ones if i else self.strides, f'conv_{i}')(x)
      if not self.bare or i < self.convs - 1:
        finish = Finish(self.norm, self.dropout, self.dtype, name=f'finish_{i}')
        x = finish(x, train)
    if not self.convs:
      return x
    if self.strides == ones and inputs.shape[-1] == self.features:
      return x + inputs
    kernel = 1 if self.strides == ones else 3
    return x + self._conv(kernel, self.strides, 'residual')(inputs)

  @nn.nowrap
  def _conv(self, kernel, strides, name):
    window = (kernel,) * len(strides)
    return Conv(
      self.features,
      window,
      strides=strides,
      padding=centred(window),
      kernel_init=UNIFORM,
      dtype=self.dtype,
      name=name,
    )


class Decoder(nn.Module):
  """A transposed convolution with its finish, and a unit of one convolution.

  `plain`: without the unit, and before logits without the finish.
  """

  features: int
  strides: tuple[int, ...]
  bare: bool
  plain: bool
  norm: str | tuple[str, int]
  dropout: float
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → (b, *(spatial × strides), features)."""
    options = self.norm, self.dropout, self.dtype
    x = Up(self.features, self.strides, self.dtype, name='up')(x)
    if self.plain and self.bare:
      return x
    x = Finish(*options, name='finish')(x, train)
    if self.plain:
      return x
    ones = (1,) * len(self.strides)
    return Unit(self.features, ones, 1, self.bare, *options, name='unit')(
      x, train
    )


class Up(nn.Module):
  """Transposed convolution of 3 voxels that multiplies the size by strides.

  torch's ConvTranspose of padding 1 and output_padding strides − 1, as a
  convolution of the small map whose channels are the voxels of each block.
  """

  features: int
  strides: tuple[int, ...]
  dtype: Any

  @nn.compact
  def __call__(self, x):
    """(b, *spatial, c) → (b, *(spatial × strides), features)."""
    rank = len(self.strides)
    shape = (*(3,) * rank, x.shape[-1], self.features)
    kernel = self.param('kernel', _UNIFORM, shape)
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
    padding = []
    for axis, stride in enumerate(self.strides):
      taps, reach = _phases(stride)
      kernel = jnp.moveaxis(kernel, axis, -1) @ taps.reshape(3, -1)
      kernel = kernel.reshape(*kernel.shape[:-1], -1, stride)
      # (… offset, phase): the offset takes the tap's place, phases go last.
      kernel = jnp.moveaxis(kernel, -2, axis)
      padding.append(reach)
    # (*offsets, c, o, *phases)
    kernel = kernel.reshape(*kernel.shape[: rank + 1], -1)
    y = conv(x, kernel, (1,) * rank, padding)
    y = y.reshape(*y.shape[:-1], self.features, *self.strides)
    order = [a for i in range(rank) for a in (1 + i, rank + 2 + i)]
    y = y.transpose(0, *order, rank + 1)
    sides = (n * s for n, s in zip(x.shape[1:-1], self.strides, strict=True))
    return y.reshape(x.shape[0], *sides, self.features) + bias


def _phases(stride):
  """(taps (3, offsets, stride), (low, high)) of an axis.

  Voxel `phase` of the block of voxel i sees voxel i + offset through tap
  phase + 1 − stride · offset.
  """
  offsets = [d for d in (-1, 0, 1) if -2 < stride * d < stride + 1]
  taps = np.zeros((3, len(offsets), stride), np.float32)
  for j, offset in enumerate(offsets):
    for phase in range(stride):
      if 0 <= (tap := phase + 1 - stride * offset) < 3:
        taps[tap, j, phase] = 1
  return taps, (-offsets[0], offsets[-1])


class UNet2018(nn.Module):
  """Residual U-Net (Kerfoot et al. 2018), as MONAI has it under the name UNet.

  Units of convolutions with a projected input go down, transposed convolutions
  of 3 voxels and units of one convolution up; the skip connections are
  concatenated. The finest stage strides too. The rank is that of the input,
  and any size works: a stage rounds up, and what exceeds on the way up is cut
  at the far end.

  Parameters lie under encoder_0 … encoder_n (finest to coarsest), decoder_i
  (the way up from encoder_i) and head (that from encoder_0):
  encoder_0/conv_0/kernel, encoder_0/finish_0/act/slope, head/up/kernel.

  Attributes:
    num_classes: channels of the logits.
    features: channels of each stage.
    strides: of each stage but the coarsest, an integer or one per axis.
      None: 2.
    convs_per_stage: convolutions per unit on the way down (num_res_units). 0:
      no units; one convolution each, to which nothing is added.
    norm: 'instance' (without scale and bias), 'batch' or 'group'.
    groups: of a group norm; None: 16 channels each, fewer where 16 do not
      divide.
    dropout: rate after every norm.
    remat: recompute a unit's activations in the backward pass.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  features: Sequence[int] = (16, 32, 64, 128, 256)
  strides: Sequence[int | Sequence[int]] | None = None
  convs_per_stage: int = 2
  norm: str = 'instance'
  groups: int | None = None
  dropout: float = 0.0
  remat: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, *spatial, num_classes), float32.

    With features=True the dict of `layers.pyramid`; its decoder has no map of
    the image's size but the logits.

    Raises:
      ValueError: if strides do not fit features, or for an unknown norm.
    """
    strides, size = self._plan(x.ndim - 2), x.shape
    options = with_groups(self.norm, self.groups), self.dropout, self.dtype
    encoder, decoder = [], []
    for i, (n, stride) in enumerate(zip(self.features, strides, strict=True)):
      unit = recomputed(Unit, self.remat)
      x = unit(
        n, stride, self.convs_per_stage, False, *options, name=f'encoder_{i}'
      )(x, train)
      encoder.append(x)
    sizes = [size, *(y.shape for y in encoder)]
    for i in reversed(range(len(encoder) - 1)):
      x = jnp.concatenate([encoder[i], x], -1)
      n = self.features[i - 1] if i else self.num_classes
      if n:  # else a backbone, which has no logits
        name = f'decoder_{i}' if i else 'head'
        decode = recomputed(Decoder, self.remat)
        plain = not self.convs_per_stage
        x = decode(n, strides[i], i == 0, plain, *options, name=name)(x, train)
        x = x[tuple(slice(m) for m in sizes[i][:-1])]
        decoder.insert(0, x)
    if self.num_classes == 0:
      decoder.insert(0, jnp.zeros((*size[:-1], 0)))
    logits, *decoder = decoder
    logits = logits.astype(jnp.float32)
    if not features:
      return logits
    return pyramid(encoder, global_mean(encoder[-1]), logits, decoder)

  @nn.nowrap
  def _plan(self, rank):
    """Strides per stage and axis; the coarsest stage has none."""
    stages = len(self.features)
    strides = self.strides or (2,) * (stages - 1)
    if len(strides) != stages - 1:
      raise ValueError(
        f'UNet2018 has {stages} stages (features={tuple(self.features)}), the '
        f'coarsest without a stride: give {stages - 1} strides, not '
        f'{len(strides)}'
      )
    return [per_axis(s, rank) for s in (*strides, 1)]
