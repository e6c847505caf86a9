"""VICReg and Barlow Twins: alike views, and dimensions that are not."""

import dataclasses

from medjax.losses.views import barlow_twins, vicreg
from medjax.tasks import views
from medjax.tasks.self_supervised import SelfSupervised


@dataclasses.dataclass(frozen=True, kw_only=True)
class VICReg(SelfSupervised):
  """Variance, invariance and covariance of two views (Bardes et al. 2022).

  For a model `Projected`. dim: numbers of a projection. invariance, variance,
  covariance: weights of the terms. Others as of `SelfSupervised`.
  """

  dim: int = 256
  invariance: float = 25.0
  variance: float = 25.0
  covariance: float = 1.0

  @property
  def num_outputs(self):
    """Numbers of a projection."""
    return self.dim

  def loss(self, forward, batch):
    """The three terms, the last two those of the batch: (b,)."""
    views.check(batch, most=2)
    z = views.together(forward, batch, 2).projection
    return vicreg(
      z[:, 0],
      z[:, 1],
      invariance=self.invariance,
      variance=self.variance,
      covariance=self.covariance,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BarlowTwins(SelfSupervised):
  """Correlations across two views (Zbontar et al. 2021).

  For a model `Projected`. dim: numbers of a projection. redundancy: weight of
  what is off the diagonal. Others as of `SelfSupervised`.
  """

  dim: int = 256
  redundancy: float = 5e-3

  @property
  def num_outputs(self):
    """Numbers of a projection."""
    return self.dim

  def loss(self, forward, batch):
    """The loss of the batch, for each image: (b,)."""
    views.check(batch, most=2)
    z = views.together(forward, batch, 2).projection
    return barlow_twins(z[:, 0], z[:, 1], redundancy=self.redundancy)
