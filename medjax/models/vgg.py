"""VGG networks for classification, 2-D and 3-D."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from medjax.models.layers import Conv, centred, fitted, make_norm
from medjax.ops.pooling import adaptive_avg_pool, max_pool

_HE = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
_NORMAL = nn.initializers.normal(0.01)


class VGG(nn.Module):
  """VGG (Simonyan & Zisserman 2015), as torchvision has it.

  Stages of 3-voxel convolutions, a max-pool after each, and two dense layers.
  The last features are averaged onto a fixed grid as by torch's
  AdaptiveAvgPool, so any image size works, in 2-D and 3-D; an axis that is
  down to one voxel is pooled no further, where torchvision refuses. In 3-D
  the first dense layer has 719 M weights unless `grid` is smaller.

  Parameters lie under conv_0 …, norm_0 … where there is a norm, dense_0,
  dense_1 and head.

  Attributes:
    num_classes: channels of the logits.
    stage_sizes: convolutions per stage; the channels double from stage to
      stage up to eight times the width.
    width: channels of the first stage.
    hidden: units of the two dense layers before the head.
    grid: bins per axis that the dense layers see.
    norm: None as in the paper, 'batch', 'instance' or 'group'.
    dropout: rate after each of the two dense layers.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  stage_sizes: Sequence[int]
  width: int = 64
  hidden: int = 4096
  grid: int = 7
  norm: str | None = None
  dropout: float = 0.5
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False):
    """(b, *spatial, c) → logits (b, num_classes), float32.

    Raises:
      ValueError: for an unknown norm.
    """
    index = 0
    for i, convs in enumerate(self.stage_sizes):
      for _ in range(convs):
        x = self._conv(x, self.width * min(2**i, 8), index, train)
        index += 1
      x = max_pool(x, fitted(2, x), strides=2)
    x = adaptive_avg_pool(x, self.grid)
    x = x.reshape(x.shape[0], -1)
    for i in range(2):
      x = nn.relu(self._dense(self.hidden, f'dense_{i}')(x))
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return self._dense(self.num_classes, 'head')(x).astype(jnp.float32)

  @nn.nowrap
  def _conv(self, x, features, index, train):
    kernel = (3,) * (x.ndim - 2)
    x = Conv(
      features,
      kernel,
      padding=centred(kernel),
      kernel_init=_HE,
      dtype=self.dtype,
      name=f'conv_{index}',
    )(x)
    if self.norm is not None:
      name = f'norm_{index}'
      x = make_norm(
        self.norm, features, train=train, dtype=self.dtype, name=name
      )(x)
    return nn.relu(x)

  @nn.nowrap
  def _dense(self, features, name):
    return nn.Dense(features, kernel_init=_NORMAL, dtype=self.dtype, name=name)


VGG11 = functools.partial(VGG, stage_sizes=(1, 1, 2, 2, 2))
VGG13 = functools.partial(VGG, stage_sizes=(2, 2, 2, 2, 2))
VGG16 = functools.partial(VGG, stage_sizes=(2, 2, 3, 3, 3))
VGG19 = functools.partial(VGG, stage_sizes=(2, 2, 4, 4, 4))
VGG11BN = functools.partial(VGG11, norm='batch')
VGG13BN = functools.partial(VGG13, norm='batch')
VGG16BN = functools.partial(VGG16, norm='batch')
VGG19BN = functools.partial(VGG19, norm='batch')
