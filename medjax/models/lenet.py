"""LeNet-5."""

from typing import Any

import flax.linen as nn

from medjax.models.layers import Conv, classify, pyramid
from medjax.ops.pooling import max_pool

_HE = nn.initializers.he_normal()


class LeNet5(nn.Module):
  """LeNet-5 (LeCun et al. 1998, section II.B) with today's usual changes.

  ReLU for the scaled tanh, max-pool for the trained sub-sampling, all maps
  connected, and a linear head: 61 706 parameters for (32, 32, 1) and ten
  classes. The paper's input is 32 voxels a side; for another size the first
  dense layer has another width. Works in 2-D and 3-D.

  Parameters lie under conv_0, conv_1, dense_0, dense_1 and head.

  Attributes:
    num_classes: channels of the logits.
    dropout: rate before the head.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  dropout: float = 0.0
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, num_classes), float32.

    With features=True the dict of `layers.pyramid`.

    Raises:
      ValueError: if a side has fewer than 16 voxels.
    """
    sides = x.shape[1:-1]
    if min(sides) < 16:
      raise ValueError(f'LeNet5 needs 16 voxels a side or more, got {sides}')
    maps = []
    for i, channels in enumerate((6, 16)):
      x = Conv(
        channels,
        (5,) * len(sides),
        padding='VALID',
        kernel_init=_HE,
        dtype=self.dtype,
        name=f'conv_{i}',
      )(x)
      x = nn.relu(x)
      maps.append(x)
      x = max_pool(x, 2)
    maps.append(x)
    x = x.reshape(x.shape[0], -1)
    for i, units in enumerate((120, 84)):
      x = nn.Dense(units, kernel_init=_HE, dtype=self.dtype, name=f'dense_{i}')(
        x
      )
      x = nn.relu(x)
    logits = classify(
      x,
      self.num_classes,
      train,
      dropout=self.dropout,
      kernel_init=_HE,
      dtype=self.dtype,
    )
    return pyramid(maps, x, logits) if features else logits
