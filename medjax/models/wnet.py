"""W-Net: two small U-Nets in a row."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from medjax.models.unet import UNet


class WNet(nn.Module):
  """Two U-Nets, the second of which sees the image and the first's logits.

  Galdran et al. 2022 (Scientific Reports 12:6174) segment retinal vessels with
  some 70 thousand parameters; those are the default. Both networks learn from
  the mask: with train=True the logits of the second and of the first, for which
  a task wants level_weights=(1, 1). What predicts is the second. Any size and
  rank, as of the UNet, whose options these are.

  Parameters lie under first and second: second/encoder_0/conv_0/kernel.

  Attributes:
    num_classes: channels of the logits.
    features, convs_per_stage, norm, activation, residual, dropout, remat,
      dtype: of both networks; see `UNet`.
  """

  num_classes: int
  features: Sequence[int] = (8, 16, 32)
  convs_per_stage: int = 2
  norm: str = 'batch'
  activation: str = 'relu'
  residual: bool = True
  dropout: float = 0.0
  remat: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, *spatial, num_classes), float32.

    With train=True a tuple: the second network's, the first's. With
    features=True the dict of `layers.pyramid`, its maps those of the second.
    """
    first = self._unet('first')(x, train=train)
    both = jnp.concatenate([x, first.astype(x.dtype)], -1)
    found = self._unet('second')(both, train=train, features=features)
    if not train:
      return found
    if features:
      return {**found, 'logits': (found['logits'], first)}
    return found, first

  @nn.nowrap
  def _unet(self, name):
    return UNet(
      self.num_classes,
      self.features,
      convs_per_stage=self.convs_per_stage,
      norm=self.norm,
      activation=self.activation,
      residual=self.residual,
      dropout=self.dropout,
      remat=self.remat,
      dtype=self.dtype,
      name=name,
    )
