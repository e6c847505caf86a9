"""AlexNet."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn

from medjax.models.layers import UNIFORM, Conv, classify, fitted, pyramid
from medjax.ops.pooling import adaptive_avg_pool, max_pool

_KERNELS = (11, 5, 3, 3, 3)
_STRIDES = (4, 1, 1, 1, 1)
_PADDINGS = (2, 2, 1, 1, 1)
_POOLED = (0, 1, 4)


class AlexNet(nn.Module):
  """AlexNet in one column (Krizhevsky 2014), as torchvision has it.

  No local response normalisation. Initialisation is torchvision's but for the
  biases, which are zero. The last features are averaged onto a fixed grid as
  by torch's AdaptiveAvgPool, so any image of 7 voxels a side or more works,
  in 2-D and 3-D; below 63 pooling windows are cut to the image, where
  torchvision refuses. In 3-D the first dense layer has 226 M weights unless
  `grid` is smaller.

  Parameters lie under conv_0 … conv_4, dense_0, dense_1 and head.

  Attributes:
    num_classes: channels of the logits.
    features: channels of the five convolutions.
    hidden: units of the two dense layers before the head.
    grid: bins per axis that the dense layers see.
    dropout: rate before each of the two dense layers.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  features: Sequence[int] = (64, 192, 384, 256, 256)
  hidden: int = 4096
  grid: int = 6
  dropout: float = 0.5
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, num_classes), float32.

    With features=True the dict of `layers.pyramid`; the
    embedding is what the last of the three dense layers sees.

    Raises:
      ValueError: if a side has fewer than 7 voxels.
    """
    sides = x.shape[1:-1]
    if min(sides) < 7:
      raise ValueError(f'AlexNet needs 7 voxels a side or more, got {sides}')
    maps = []
    layers = zip(self.features, _KERNELS, _STRIDES, _PADDINGS, strict=True)
    for i, (channels, kernel, stride, padding) in enumerate(layers):
      x = Conv(
        channels,
        (kernel,) * len(sides),
        strides=stride,
        padding=padding,
        kernel_init=UNIFORM,
        dtype=self.dtype,
        name=f'conv_{i}',
      )(x)
      x = nn.relu(x)
      maps.append(x)
      if i in _POOLED:
        x = max_pool(x, fitted(3, x), strides=2)
        maps.append(x)
    x = adaptive_avg_pool(x, self.grid)
    x = x.reshape(x.shape[0], -1)
    for i in range(2):
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
      x = nn.relu(
        nn.Dense(
          self.hidden, kernel_init=UNIFORM, dtype=self.dtype, name=f'dense_{i}'
        )(x)
      )
    logits = classify(x, self.num_classes, train, dtype=self.dtype)
    return pyramid(maps, x, logits) if features else logits
