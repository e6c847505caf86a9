"""MAE: what is hidden of an image is told by the rest of it."""

import dataclasses
from typing import ClassVar

from medjax.losses.views import hidden_blocks
from medjax.tasks.self_supervised import SelfSupervised


@dataclasses.dataclass(frozen=True, kw_only=True)
class MAE(SelfSupervised):
  """Reconstruction of hidden blocks (He et al. 2022; Xie et al. 2022).

  For a model `MaskedAutoencoder`, which hides them.

  channels: of the image, told by the data.
  normalise: each block to be told is normalised by its own mean and variance.
  least_spread: 0, as what must tell images apart cannot collapse, and means
    over maps of an instance norm are alike in any network.
  Others as of `SelfSupervised`.
  """

  over_batch: ClassVar = False
  channels: int = 1
  least_spread: float = 0.0
  normalise: bool = True

  @property
  def num_outputs(self):
    """Channels of the image."""
    return self.channels

  def loss(self, forward, batch):
    """Mean squared error of the hidden blocks: (b,)."""
    found = forward(batch['image'])
    return hidden_blocks(
      found.blocks, found.target, found.hidden, normalise=self.normalise
    )
