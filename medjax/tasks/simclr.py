"""SimCLR: the views of an image are alike, those of others are not."""

import dataclasses

from medjax.losses.views import nt_xent
from medjax.tasks import views
from medjax.tasks.self_supervised import SelfSupervised


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimCLR(SelfSupervised):
  """Contrast of two views within the batch (Chen et al. 2020).

  The candidates are those of the global batch, of all devices. For a model
  `Projected`, after the augmentation `views`.

  dim: numbers of a projection. temperature: that cosines are divided by.
  Others as of `SelfSupervised`.
  """

  dim: int = 64
  temperature: float = 0.2

  @property
  def num_outputs(self):
    """Numbers of a projection."""
    return self.dim

  def loss(self, forward, batch):
    """NT-Xent of each image: (b,)."""
    views.check(batch, most=2)
    z = views.together(forward, batch, 2).projection
    return nt_xent(z[:, 0], z[:, 1], temperature=self.temperature)
