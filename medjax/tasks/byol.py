"""BYOL: one view predicts what the averaged model makes of the other."""

import dataclasses

from medjax.losses.views import cosine_distance
from medjax.tasks import views
from medjax.tasks.self_supervised import SelfSupervised


@dataclasses.dataclass(frozen=True, kw_only=True)
class BYOL(SelfSupervised):
  """Bootstrap your own latent (Grill et al. 2020): no negatives.

  The target is the averaged model (`train.ema_decay`, .99 or above) as in
  evaluation. For a model `Projected` with predictor=True: without one it may
  collapse.

  dim: numbers of a projection. Others as of `SelfSupervised`.
  """

  dim: int = 64

  @property
  def num_outputs(self):
    """Numbers of a projection."""
    return self.dim

  def loss(self, forward, batch):
    """The mean of both views' distances from their targets: (b,)."""
    views.check(batch, most=2)
    # First, or its running statistics would know of this batch.
    target = views.together(forward.ema, batch, 2).projection
    said = views.together(forward, batch, 2).prediction
    there = cosine_distance(said[:, 0], target[:, 1])
    return (there + cosine_distance(said[:, 1], target[:, 0])) / 2
