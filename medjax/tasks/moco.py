"""MoCo: SimCLR whose keys are the averaged model's, and kept in a queue."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from medjax.losses.views import contrast
from medjax.ops.normalization import unit
from medjax.tasks import views
from medjax.tasks.self_supervised import SelfSupervised

_STATE = 'moco'  # the collection of variables that holds the queue


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoCo(SelfSupervised):
  """Contrast of views with those of the batch and of earlier ones.

  Momentum contrast (He et al. 2020), in which both views are queries in turn
  and the keys of the batch are candidates too (v3, Chen et al. 2021). Keys are
  those of the averaged model (`train.ema_decay`, .99 or above) as in
  evaluation: its batch norms have running statistics, so that nothing of the
  batch leaks into them. While the averaged model is the trained one and the
  queue is empty the loss is SimCLR's.

  dim: numbers of a projection. temperature: that cosines are divided by.
  queue: keys of earlier steps that are kept, of one view of each image; 0 is
    none.
  Others as of `SelfSupervised`.
  """

  dim: int = 64
  temperature: float = 0.2
  queue: int = 1024

  def __post_init__(self):
    super().__post_init__()
    if self.queue < 0:
      raise ValueError(f'task.queue={self.queue} is below 0')

  @property
  def num_outputs(self):
    """Numbers of a projection."""
    return self.dim

  @property
  def variables(self):
    """What a step changes besides the model's: keys, the newest first."""
    if not self.queue:
      return {}
    keys = np.zeros((self.queue, self.dim), np.float32)
    return {_STATE: {'keys': keys, 'filled': np.zeros((), np.int32)}}

  def loss(self, forward, batch):
    """The mean of both views' losses: (b,)."""
    views.check(batch, most=2)
    # First, or its running statistics would know of this batch.
    keys = views.together(forward.ema, batch, 2).projection
    query = views.together(forward, batch, 2).projection
    options = {'temperature': self.temperature}
    if self.queue:
      state = forward.variables[_STATE]
      options |= {'queue': state['keys'], 'filled': state['filled']}
    (q, r), (k, m) = ((x[:, 0], x[:, 1]) for x in (query, keys))
    loss = (contrast(q, m, k, **options) + contrast(r, k, m, **options)) / 2
    if self.queue:
      kept = jnp.concatenate([unit(k), state['keys']])[: self.queue]
      filled = jnp.minimum(state['filled'] + len(k), self.queue)
      state = {'keys': kept, 'filled': filled.astype(jnp.int32)}
      forward.variables = {**forward.variables, _STATE: state}
    return loss
