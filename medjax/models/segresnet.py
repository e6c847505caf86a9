"""SegResNet: a residual encoder-decoder for segmentation, 2-D and 3-D."""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn

from medjax.models import layers
from medjax.models.layers import (
  Conv,
  DropPath,
  centred,
  classify_voxels,
  depth_rates,
  global_mean,
  make_norm,
  pyramid,
  recomputed,
  with_groups,
)
from medjax.ops.upsampling import linear_upsample

_HE = nn.initializers.variance_scaling(2, 'fan_in', 'normal')


def _norm_act(x, norm, activation, train, dtype, name):
  features = x.shape[-1]
  norm = make_norm(
    norm, features, train=train, dtype=dtype, name=name,
    groups=math.gcd(8, features),
  )  # fmt: skip
  return layers.activation(activation)(norm(x))


def _conv(x, features, kernel, strides, dtype, name):
  """Convolution without bias."""
  kernel = (kernel,) * (x.ndim - 2)
  return Conv(
    features,
    kernel,
    strides=strides,
    padding=centred(kernel),
    use_bias=False,
    kernel_init=_HE,
    dtype=dtype,
    name=name,
  )(x)


class Block(nn.Module):
  """Twice norm – activation – 3-voxel convolution, and its input."""

  norm: str | tuple[str, int]
  activation: str
  drop_path: float
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → the same."""
    y = x
    for i in range(2):
      y = _norm_act(
        y, self.norm, self.activation, train, self.dtype, f'norm_{i}'
      )
      y = _conv(y, x.shape[-1], 3, 1, self.dtype, f'conv_{i}')
    return x + DropPath(self.drop_path)(y, train)


class SegResNet(nn.Module):
  """SegResNet (Myronenko 2018) without its autoencoder, as MONAI has it.

  A deep encoder of pre-activation residual blocks, a shallow decoder. On the
  way up a 1-voxel convolution and linear interpolation meet the skip
  connection by addition. The rank, 2-D or 3-D, is that of the input, and any
  size works: a stage halves and rounds up.

  Parameters lie under stem, stage_i_block_j, stage_i_down (the strided
  convolution before stage i), decoder_i_block_j, decoder_i_up, norm and head:
  stage_0_block_0/conv_0/kernel.

  Attributes:
    num_classes: channels of the logits.
    features: channels of each stage.
    encoder_blocks: per stage. None: 1, then 2, the coarsest 4, as published.
    decoder_blocks: per stage but the coarsest, the finest first. None: 1.
    norm: 'group' (8 groups, fewer where 8 do not divide), 'instance' or
      'batch'.
    groups: of a group norm; None: 8, fewer where 8 do not divide.
    activation: 'relu', 'leaky_relu', 'elu', …; see `layers.activation`.
    dropout: rate, of whole feature maps, after the stem; the paper has 0.2.
    drop_path: rate of stochastic depth at the encoder's last block, growing
      from 0.
    remat: recompute a block's activations in the backward pass.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  features: Sequence[int] = (32, 64, 128, 256)
  encoder_blocks: Sequence[int] | None = None
  decoder_blocks: Sequence[int] | None = None
  norm: str = 'group'
  groups: int | None = None
  activation: str = 'relu'
  dropout: float = 0.0
  drop_path: float = 0.0
  remat: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, *spatial, num_classes), float32.

    With features=True the dict of `layers.pyramid`.

    Raises:
      ValueError: for an unknown norm, or blocks that do not fit features.
    """
    down, up = self._plan()
    block = recomputed(Block, self.remat)
    acts = with_groups(self.norm, self.groups), self.activation
    rates = iter(depth_rates(self.drop_path, sum(down)))
    x = _conv(x, self.features[0], 3, 1, self.dtype, 'stem')
    spatial = tuple(range(1, x.ndim - 1))
    x = nn.Dropout(
      self.dropout, broadcast_dims=spatial, deterministic=not train
    )(x)
    encoder, decoder = [], []
    for i, n in enumerate(self.features):
      if i:
        x = _conv(x, n, 3, 2, self.dtype, f'stage_{i}_down')
      for j in range(down[i]):
        name = f'stage_{i}_block_{j}'
        x = block(*acts, next(rates), self.dtype, name=name)(x, train)
      encoder.append(x)
    for i, skip in reversed(list(enumerate(encoder[:-1]))):
      x = _conv(x, self.features[i], 1, 1, self.dtype, f'decoder_{i}_up')
      x = linear_upsample(x, skip.shape[1:-1]) + skip
      for j in range(up[i]):
        name = f'decoder_{i}_block_{j}'
        x = block(*acts, 0.0, self.dtype, name=name)(x, train)
      decoder.insert(0, x)
    x = _norm_act(x, *acts, train, self.dtype, 'norm')
    logits = classify_voxels(
      x, self.num_classes, kernel_init=_HE, dtype=self.dtype
    )
    if not features:
      return logits
    return pyramid(encoder, global_mean(encoder[-1]), logits, [x, *decoder[1:]])

  @nn.nowrap
  def _plan(self):
    """Blocks per stage, on the way down and up."""
    stages = len(self.features)
    down = self.encoder_blocks or (1, *(2,) * (stages - 2), 4)[-stages:]
    up = self.decoder_blocks or (1,) * (stages - 1)
    for name, blocks, n in (
      ('encoder_blocks', down, stages),
      ('decoder_blocks', up, stages - 1),
    ):
      if len(blocks) != n:
        raise ValueError(
          f'SegResNet has {stages} stages (features={tuple(self.features)}): '
          f'{name} are {n}, not {len(blocks)}'
        )
    return down, up
