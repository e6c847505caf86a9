"""U-Net, 2-D and 3-D, in the layout of nnU-Net."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from medjax.models.layers import (
  Conv,
  ConvTranspose,
  DropPath,
  activation,
  centred,
  classify_voxels,
  depth_rates,
  global_mean,
  make_norm,
  per_axis,
  pyramid,
  recomputed,
  with_groups,
)
from medjax.ops.pooling import avg_pool
from medjax.ops.upsampling import linear_upsample

_SLOPE = 0.01
# torch's kaiming_normal_(a=slope). For a transposed convolution it takes the
# fan over the outputs, and so does nnU-Net.
_HE = nn.initializers.variance_scaling(
  2 / (1 + _SLOPE**2), 'fan_in', 'normal'
)  # fmt: skip
_HE_TRANSPOSED = nn.initializers.variance_scaling(
  2 / (1 + _SLOPE**2), 'fan_out', 'normal'
)


class Stage(nn.Module):
  """Convolutions at one resolution: conv – dropout – norm – activation.

  The first convolution strides. A residual stage adds its input before the
  last activation: averaged over the stride (what is missing at an odd border
  repeats the last voxel), and projected by a 1-voxel
  convolution and normalised where the number of channels changes.
  """

  features: int
  kernel_size: tuple[int, ...]
  strides: tuple[int, ...]
  convs: int
  norm: str | tuple[str, int]
  activation: str
  residual: bool
  dropout: float
  drop_path: float
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → (b, *ceil(spatial / strides), features)."""
    inputs = x
    spatial = tuple(range(1, x.ndim - 1))
    for i in range(self.convs):
      x = Conv(
        self.features,
        self.kernel_size,
        strides=self.strides if i == 0 else 1,
        padding=centred(self.kernel_size),
        kernel_init=_HE,
        dtype=self.dtype,
        name=f'conv_{i}',
      )(x)
      # Whole feature maps: neighbouring voxels stand in for a dropped one.
      x = nn.Dropout(
        self.dropout, broadcast_dims=spatial, deterministic=not train
      )(x)
      x = self._norm(f'norm_{i}', train)(x)
      if self.residual and i == self.convs - 1:
        x = DropPath(self.drop_path)(x, train)
        x = x + self._shortcut(inputs, train)
      x = activation(self.activation)(x)
    return x

  @nn.nowrap
  def _norm(self, name, train):
    return make_norm(
      self.norm, self.features, train=train, dtype=self.dtype, name=name
    )

  @nn.nowrap
  def _shortcut(self, x, train):
    for axis, stride in enumerate(self.strides, start=1):
      # Not jnp.pad(mode='edge'): its gradient moves data between devices.
      rest = -x.shape[axis] % stride
      last = lax.slice_in_dim(x, -1, None, axis=axis)
      x = jnp.concatenate([x] + [last] * rest, axis=axis) if rest else x
    x = avg_pool(x, self.strides)
    if x.shape[-1] == self.features:
      return x
    x = nn.Dense(
      self.features,
      use_bias=False,
      kernel_init=_HE,
      dtype=self.dtype,
      name='shortcut_conv',
    )(x)
    return self._norm('shortcut_norm', train)(x)


class Gate(nn.Module):
  """Attention gate (Oktay et al. 2018, section 3.1): weighs a skip connection.

  Skip and gating signal, the latter coarser by `strides`, are projected onto
  the coarse grid and added; what a ReLU, one channel and a sigmoid make of
  them is interpolated linearly and multiplied with the skip. The projection of
  the skip has kernel = stride, as in the authors' code.
  """

  strides: tuple[int, ...]
  dtype: Any

  @nn.compact
  def __call__(self, skip, signal):
    """(b, *spatial, c), (b, *ceil(spatial / strides), d) → (b, *spatial, c)."""
    rest = [
      (0, -n % s) for n, s in zip(skip.shape[1:-1], self.strides, strict=True)
    ]
    options = dict(kernel_init=_HE, dtype=self.dtype)
    features = skip.shape[-1]
    coarse = Conv(
      features,
      self.strides,
      strides=self.strides,
      padding=rest,
      use_bias=False,
      name='skip',
      **options,
    )(skip)
    signal = nn.Dense(features, name='signal', **options)(signal)
    weight = nn.Dense(1, name='weight', **options)(nn.relu(coarse + signal))
    weight = linear_upsample(nn.sigmoid(weight), skip.shape[1:-1])
    return skip * weight


class UNet(nn.Module):
  """U-Net (Ronneberger et al. 2015) as nnU-Net (Isensee et al. 2021) has it.

  Strided convolutions go down, transposed ones with kernel = stride go up;
  the default is the network of nnU-Net's plan for MSD Task04. The rank, 2-D
  or 3-D, is that of the input.

  Any input size works: a stage of stride s has ceil(size / s) voxels, and on
  the way up what exceeds the skip connection is cropped at the far end, so
  that nothing is padded or cropped where sizes divide.

  Parameters lie under encoder_0 … encoder_n (finest to coarsest), upsample_i
  and decoder_i (the resolution of encoder_i), with attention gate_i, head, and
  with deep supervision head_1 …: encoder_0/conv_0/kernel,
  encoder_0/norm_0/scale.

  Attributes:
    num_classes: channels of the logits.
    features: channels of each stage.
    strides: of each stage's first convolution, an integer or one per axis; a
      plan's first entry is 1. None: 1 and then 2 everywhere. With another
      first entry the finest logits are interpolated linearly to the image's
      size, which MONAI and nnU-Net leave to the caller.
    kernel_sizes: of each stage, odd, an integer or one per axis. None: 3.
    decoder_kernel_sizes: of each stage but the coarsest, on the way up. None:
      those of the way down. MONAI's DynUNet has kernel_sizes[1:].
    convs_per_stage: convolutions per stage, on the way down and up.
    norm: 'instance', 'batch' or 'group'.
    groups: of a group norm; None: 16 channels each, fewer where 16 do not
      divide.
    activation: 'leaky_relu', 'relu', 'elu', …; see `layers.activation`.
    residual: encoder stages are residual blocks, as in nnU-Net's ResEnc.
    attention: the skip connections, but for the finest, pass attention gates
      whose signal is the decoder's next coarser stage (Oktay et al. 2018).
    deep_supervision: a head on every decoder stage; see `__call__`.
    dropout: rate, of whole feature maps, after every convolution.
    drop_path: stochastic depth of a residual encoder: the rate of its coarsest
      stage, growing from 0.
    remat: recompute a stage's activations in the backward pass, to save memory
      on an accelerator; on a CPU XLA keeps them. The same gradients.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  features: Sequence[int] = (32, 64, 128, 256)
  strides: Sequence[int | Sequence[int]] | None = None
  kernel_sizes: Sequence[int | Sequence[int]] | None = None
  decoder_kernel_sizes: Sequence[int | Sequence[int]] | None = None
  convs_per_stage: int = 2
  norm: str = 'instance'
  groups: int | None = None
  activation: str = 'leaky_relu'
  residual: bool = False
  attention: bool = False
  deep_supervision: bool = False
  dropout: float = 0.0
  drop_path: float = 0.0
  remat: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, *spatial, num_classes), float32.

    With deep supervision and train=True a tuple of logits, the highest
    resolution first, one per decoder stage: its spatial sizes are divided by
    the strides and rounded up. With features=True the dict of
    `layers.pyramid`.

    Raises:
      ValueError: if strides or kernel sizes do not fit features or rank, or
        for drop_path without residual stages.
    """
    encoder = self._encode(x, train)
    decoder = self._decode(encoder, train)
    size, levels = x.shape[1:-1], decoder or encoder
    logits = [
      classify_voxels(
        level,
        self.num_classes,
        kernel_init=_HE,
        dtype=self.dtype,
        name=f'head_{i}' if i else 'head',
      )
      for i, level in enumerate(levels if self.deep_supervision else levels[:1])
    ]
    if logits[0].shape[1:-1] != size:
      logits[0] = linear_upsample(logits[0], size)
    logits = tuple(logits) if self.deep_supervision and train else logits[0]
    if not features:
      return logits
    return pyramid(encoder, global_mean(encoder[-1]), logits, decoder)

  @nn.nowrap
  def _encode(self, x, train):
    """The map of every stage, the finest first."""
    if self.drop_path and not self.residual:
      raise ValueError('drop_path of a UNet needs residual=True')
    strides, kernels, _ = self._plan(x.ndim - 2)
    maps = []
    rates = depth_rates(self.drop_path, len(strides))
    for i, stride in enumerate(strides):
      stage = self._stage(
        f'encoder_{i}',
        i,
        kernels[i],
        stride,
        convs=self.convs_per_stage,
        residual=self.residual,
        drop_path=rates[i],
      )
      x = stage(x, train)
      maps.append(x)
    return maps

  @nn.nowrap
  def _decode(self, skips, train):
    """The decoded map of every stage but the coarsest, the finest first."""
    *skips, x = skips
    strides, _, kernels = self._plan(x.ndim - 2)
    maps = []
    for i, skip in reversed(list(enumerate(skips))):
      # The finest skip is too close to the image to be weighed.
      if self.attention and i:
        skip = Gate(strides[i + 1], self.dtype, name=f'gate_{i}')(skip, x)
      x = ConvTranspose(
        self.features[i],
        strides[i + 1],
        kernel_init=_HE_TRANSPOSED,
        dtype=self.dtype,
        name=f'upsample_{i}',
      )(x)
      x = x[tuple(slice(n) for n in skip.shape[:-1])]
      x = jnp.concatenate([x, skip], axis=-1)
      ones, convs = (1,) * (x.ndim - 2), self.convs_per_stage
      stage = self._stage(f'decoder_{i}', i, kernels[i], ones, convs=convs)
      x = stage(x, train)
      maps.insert(0, x)
    return maps

  @nn.nowrap
  def _stage(
    self, name, i, kernel_size, strides, *, convs, residual=False, drop_path=0.0
  ):
    """Convolutions with the features of stage i."""
    return recomputed(Stage, self.remat)(
      self.features[i],
      kernel_size,
      strides,
      convs,
      with_groups(self.norm, self.groups),
      self.activation,
      residual,
      self.dropout,
      drop_path,
      self.dtype,
      name=name,
    )

  @nn.nowrap
  def _plan(self, rank):
    """Strides, kernel sizes and those of the decoder, per stage and axis."""
    stages = len(self.features)
    strides = self.strides or (1,) + (2,) * (stages - 1)
    kernels = self.kernel_sizes or (3,) * stages
    up = self.decoder_kernel_sizes or kernels[:-1]
    plan = []
    for name, values, n in (
      ('strides', strides, stages),
      ('kernel_sizes', kernels, stages),
      ('decoder_kernel_sizes', up, stages - 1),
    ):
      if len(values) != n:
        raise ValueError(
          f'UNet has {stages} stages (features={tuple(self.features)}) but '
          f'{len(values)} {name}; give {n}'
        )
      plan.append([per_axis(value, rank) for value in values])
    if any(
      k % 2 == 0 for sizes in plan[1:] for kernel in sizes for k in kernel
    ):
      raise ValueError(f'kernel sizes of a UNet are odd, got {plan[1:]}')
    return plan
