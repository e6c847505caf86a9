"""V-Net for segmentation, 2-D and 3-D."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from medjax.models.layers import (
  ConvNorm,
  ConvTranspose,
  DropPath,
  activation,
  depth_rates,
  global_mean,
  make_norm,
  pyramid,
  recomputed,
  with_groups,
)

_HE = nn.initializers.variance_scaling(2, 'fan_in', 'normal')


class Stage(nn.Module):
  """5-voxel convolutions with norm and ELU, added to their input; an ELU.

  Or another `activation`.
  """

  convs: int
  norm: str | tuple[str, int]
  activation: str
  dropout: float
  drop_path: float
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → the same."""
    y, act = _dropout(self.dropout, x, train), activation(self.activation)
    for i in range(self.convs):
      y = ConvNorm(
        x.shape[-1],
        5,
        norm=self.norm,
        kernel_init=_HE,
        dtype=self.dtype,
        name=f'layer_{i}',
      )(y, train)
      y = act(y)
    return act(x + DropPath(self.drop_path)(y, train))


class Head(nn.Module):
  """A 5-voxel convolution onto the classes, norm, ELU; a 1-voxel one."""

  num_classes: int
  norm: str | tuple[str, int]
  activation: str
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → (b, *spatial, num_classes)."""
    if self.num_classes == 0:
      return x[..., :0]
    x = ConvNorm(
      self.num_classes,
      5,
      norm=self.norm,
      kernel_init=_HE,
      dtype=self.dtype,
      name='layer',
    )(x, train)
    return nn.Dense(
      self.num_classes, kernel_init=_HE, dtype=self.dtype, name='logits'
    )(activation(self.activation)(x))


def _dropout(rate, x, train):
  """Drops whole feature maps."""
  spatial = tuple(range(1, x.ndim - 1))
  return nn.Dropout(rate, broadcast_dims=spatial, deterministic=not train)(x)


class VNet(nn.Module):
  """V-Net (Milletari et al. 2016), as MONAI has it.

  That is with batch norm and ELU, where the paper has PReLU alone. A strided
  convolution of 2 voxels goes down, a transposed one up; a stage is residual.
  The rank, 2-D or 3-D, is that of the input, and any size works: a stage
  halves and rounds up. The channels of the image are repeated for the first
  sum; where they do not divide features[0], which MONAI refuses, the last
  repetition is cut.

  Parameters lie under stem, down_i and encoder_i (i ≥ 1), up_i, up_norm_i and
  decoder_i, and head: encoder_1/layer_0/conv/kernel.

  Attributes:
    num_classes: channels of the logits.
    features: channels of each stage.
    norm: 'batch', 'instance' or 'group'.
    groups: of a group norm; None: 16 channels each, fewer where 16 do not
      divide.
    activation: 'elu', 'relu', 'leaky_relu', …; see `layers.activation`.
    dropout: rate, of whole feature maps, where MONAI has it: of skip
      connections, and in the two coarsest stages on either way. MONAI's
      default is 0.5, the paper gives none.
    drop_path: rate of stochastic depth at the coarsest stage, growing from 0.
    remat: recompute a stage's activations in the backward pass.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  features: Sequence[int] = (16, 32, 64, 128, 256)
  norm: str = 'batch'
  groups: int | None = None
  activation: str = 'elu'
  dropout: float = 0.0
  drop_path: float = 0.0
  remat: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, *spatial, num_classes), float32.

    With features=True the dict of `layers.pyramid`.

    Raises:
      ValueError: for an unknown norm.
    """
    encoder = self._encode(x, train)
    decoder = self._decode(encoder, train)
    norm = with_groups(self.norm, self.groups)
    head = Head(
      self.num_classes, norm, self.activation, self.dtype, name='head'
    )
    logits = head((decoder or encoder)[0], train).astype(jnp.float32)
    if not features:
      return logits
    return pyramid(encoder, global_mean(encoder[-1]), logits, decoder)

  @nn.nowrap
  def _encode(self, x, train):
    """The map of every stage, the finest first."""
    stages = len(self.features)
    rates = depth_rates(self.drop_path, stages)
    layer = lambda *args, **options: ConvNorm(
      *args,
      norm=with_groups(self.norm, self.groups),
      kernel_init=_HE,
      dtype=self.dtype,
      **options,
    )
    first = self.features[0]
    repeated = jnp.tile(x, -(-first // x.shape[-1]))[..., :first]
    x = layer(first, 5, name='stem')(x, train)
    act = activation(self.activation)
    maps = [act(x + repeated)]
    for i in range(1, stages):
      # An odd border is filled up, so that a stage rounds up.
      rest = [(0, n % 2) for n in maps[-1].shape[1:-1]]
      x = layer(self.features[i], 2, 2, padding=rest, name=f'down_{i}')(
        maps[-1], train
      )
      convs = 2 if i == stages - 1 else min(i, 3)
      dropout = self.dropout if i >= stages - 2 else 0.0
      stage = self._stage(f'encoder_{i}', convs, dropout, rates[i])
      maps.append(stage(act(x), train))
    return maps

  @nn.nowrap
  def _decode(self, skips, train):
    """The decoded map of every stage but the coarsest, the finest first."""
    *skips, x = skips
    maps = []
    for i, skip in reversed(list(enumerate(skips))):
      if i >= len(skips) - 2:
        x = _dropout(self.dropout, x, train)
      n = self.features[i]
      x = ConvTranspose(
        n, (2,) * (x.ndim - 2), _HE, self.dtype, name=f'up_{i}'
      )(x)
      x = x[tuple(slice(n) for n in skip.shape[:-1])]
      norm = make_norm(
        with_groups(self.norm, self.groups),
        n,
        train=train,
        dtype=self.dtype,
        name=f'up_norm_{i}',
      )
      skip = _dropout(self.dropout, skip, train)
      x = jnp.concatenate([activation(self.activation)(norm(x)), skip], -1)
      x = self._stage(f'decoder_{i}', 1 if i < 2 else 2)(x, train)
      maps.insert(0, x)
    return maps

  @nn.nowrap
  def _stage(self, name, convs, dropout=0.0, drop_path=0.0):
    return recomputed(Stage, self.remat)(
      convs,
      with_groups(self.norm, self.groups),
      self.activation,
      dropout,
      drop_path,
      self.dtype,
      name=name,
    )
