"""LeNet-5."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from medjax.models.layers import Conv
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
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False):
    """(b, *spatial, c) → logits (b, num_classes), float32.

    Raises:
      ValueError: if a side has fewer than 16 voxels.
    """
    del train  # Nothing in it behaves differently.
    x = self._features(x)
    x = nn.Dense(
      self.num_classes, kernel_init=_HE, dtype=self.dtype, name='head'
    )(x)
    return x.astype(jnp.float32)

  @nn.nowrap
  def _features(self, x):
    """(b, *spatial, c) → (b, 84)."""
    sides = x.shape[1:-1]
    if min(sides) < 16:
      raise ValueError(f'LeNet5 needs 16 voxels a side or more, got {sides}')
    for i, features in enumerate((6, 16)):
      x = Conv(
        features,
        (5,) * len(sides),
        padding='VALID',
        kernel_init=_HE,
        dtype=self.dtype,
        name=f'conv_{i}',
      )(x)
      x = max_pool(nn.relu(x), 2)
    x = x.reshape(x.shape[0], -1)
    for i, features in enumerate((120, 84)):
      x = nn.Dense(
        features, kernel_init=_HE, dtype=self.dtype, name=f'dense_{i}'
      )(x)
      x = nn.relu(x)
    return x
