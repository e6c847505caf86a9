"""EfficientNet for classification, 2-D and 3-D."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn

from medjax.models.layers import (
  ConvNorm,
  classify,
  depth_rates,
  global_mean,
  pyramid,
  recomputed,
  with_groups,
)
from medjax.models.mobilenet import (
  InvertedResidual,
  SqueezeExcite,
  multiple_of_8,
)

# Of each stage: blocks, kernel, expansion, features, stride of the first block
# (table 1 of the paper).
_B0 = (
  (1, 3, 1, 16, 1),
  (2, 3, 6, 24, 2),
  (2, 5, 6, 40, 2),
  (3, 3, 6, 80, 2),
  (3, 5, 6, 112, 1),
  (4, 5, 6, 192, 2),
  (1, 3, 6, 320, 1),
)
# torchvision's: ±1 / √outputs.
_HEAD = nn.initializers.variance_scaling(1 / 3, 'fan_out', 'uniform')


class EfficientNet(nn.Module):
  """EfficientNet (Tan & Le 2019), as torchvision has it.

  Works in 2-D and 3-D, at any size. Initialisation is torchvision's. Batch
  norm has epsilon 1e-5 as there; weights from TensorFlow want 1e-3.

  Parameters lie under stem, block_0 …, last and head:
  block_1/expand/conv/kernel, block_1/squeeze_excite/reduce/kernel.

  Attributes:
    num_classes: channels of the logits.
    width: multiplies all channels, rounded to a multiple of eight.
    depth: multiplies the blocks of every stage, rounded up.
    stages: of each stage blocks, kernel, expansion, features, stride of the
      first block.
    stem: channels of the first convolution.
    last: channels of the last convolution.
    norm: 'batch', 'instance' or 'group'.
    groups: of a group norm; None: 16 channels each, fewer where 16 do not
      divide.
    epsilon: of the norm.
    dropout: rate before the head.
    drop_path: rate of stochastic depth at the last block, growing from 0.
    remat: recompute a block's activations in the backward pass.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  width: float
  depth: float
  stages: Sequence[Sequence[int]] = _B0
  stem: int = 32
  last: int = 1280
  norm: str = 'batch'
  groups: int | None = None
  epsilon: float = 1e-5
  dropout: float = 0.2
  drop_path: float = 0.2
  remat: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, num_classes), float32.

    With features=True the dict of `layers.pyramid`.

    Raises:
      ValueError: for an unknown norm.
    """
    layer = functools.partial(
      ConvNorm,
      norm=with_groups(self.norm, self.groups),
      epsilon=self.epsilon,
      dtype=self.dtype,
    )
    x = layer(multiple_of_8(self.stem * self.width), 3, 2, name='stem')(
      x, train
    )
    maps = [nn.silu(x)]
    blocks = self._blocks()
    rates = depth_rates(self.drop_path, len(blocks))
    for i, (kernel, expansion, channels, stride) in enumerate(blocks):
      inputs = maps[-1].shape[-1]
      excite = functools.partial(
        SqueezeExcite,
        max(1, inputs // 4),
        nn.silu,
        nn.sigmoid,
        dtype=self.dtype,
      )
      block = recomputed(InvertedResidual, self.remat)(
        multiple_of_8(expansion * inputs),
        multiple_of_8(channels * self.width),
        kernel,
        stride,
        nn.silu,
        layer,
        excite,
        rates[i],
        name=f'block_{i}',
      )
      maps.append(block(maps[-1], train))
    last = layer(multiple_of_8(self.last * self.width), 1, name='last')
    maps.append(nn.silu(last(maps[-1], train)))
    pooled = global_mean(maps[-1])
    logits = classify(
      pooled,
      self.num_classes,
      train,
      dropout=self.dropout,
      kernel_init=_HEAD,
      dtype=self.dtype,
    )
    return pyramid(maps, pooled, logits) if features else logits

  @nn.nowrap
  def _blocks(self):
    """Kernel, expansion, features and stride of every block."""
    return [
      (kernel, expansion, channels, 1 if j else stride)
      for blocks, kernel, expansion, channels, stride in self.stages
      for j in range(math.ceil(blocks * self.depth))
    ]


EfficientNetB0 = functools.partial(EfficientNet, width=1.0, depth=1.0)
EfficientNetB1 = functools.partial(EfficientNet, width=1.0, depth=1.1)
_Wide = functools.partial(EfficientNet, dropout=0.3)
EfficientNetB2 = functools.partial(_Wide, width=1.1, depth=1.2)
EfficientNetB3 = functools.partial(_Wide, width=1.2, depth=1.4)
EfficientNetB4 = functools.partial(
  EfficientNet, width=1.4, depth=1.8, dropout=0.4
)
