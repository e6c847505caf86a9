"""How a network's outputs become survival: one entry for each kind of model.

All of them end as the incidence of each cause on the grid of the task,
(causes, intervals): the probability to have had it by the end of an interval.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from medjax.losses import survival as losses
from medjax.metrics import cox as cox_lib
from medjax.metrics.survival_curves import Curve, aalen_johansen


@dataclasses.dataclass(frozen=True)
class Method:
  """A kind of model of survival.

  outputs(causes, intervals): how many numbers the network gives.
  loss(task, forward, batch, valid, survived) → (b,); it is averaged.
  read(outputs, causes) → what is kept of a case: log hazards, or incidences.
  relative: whether that is relative to a baseline, which training cases give.
  over_batch: whether a case's loss depends on the other cases of the batch.
  """

  outputs: Callable
  loss: Callable
  read: Callable
  relative: bool = False
  over_batch: bool = True


def _shared(losses_, which):
  """Losses whose mean over the batch is their sum, by how many these are.

  So a batch that is filled up with cases that do not count has the same mean.
  """
  count = jnp.maximum(which.sum(), 1)
  return losses_ * (len(losses_) / count)


def _cox(task, forward, batch, valid, survived):
  risk = _outputs(task, forward, batch)
  total = 0.0
  for k in range(task.causes):
    hit = batch['event'] == k + 1
    each = losses.cox(risk[:, k], batch['time'], hit, valid, ties=task.ties)
    total = total + each
  return _shared(total, (batch['event'] > 0) & valid)


def _cox_time(task, forward, batch, valid, survived):
  compared = min(task.controls + 1, len(valid))
  times = losses.earlier_times(task.place(batch['time']), compared)
  risk = _outputs(task, forward, batch, times=times)
  hit = (batch['event'] > 0) & valid
  each = losses.cox_time(risk, batch['time'], hit, valid)
  return _shared(each, hit)


def _discrete(task, forward, batch, valid, survived):
  logits = _outputs(task, forward, batch)
  each = losses.logistic_hazard(logits, survived, batch['event'] > 0)
  return _shared(jnp.where(valid, each, 0.0), valid)


def _deephit(task, forward, batch, valid, survived):
  each = losses.deephit(
    _outputs(task, forward, batch),
    survived,
    batch['event'].astype(jnp.int32),
    valid,
    causes=task.causes,
    alpha=task.alpha,
    sigma=task.sigma,
  )
  return _shared(each, valid)


def _outputs(task, forward, batch, **options):
  """The network's outputs, float32; raises ValueError for another number."""
  found = forward(*(batch[name] for name in task.inputs), **options)
  found = found[0] if isinstance(found, tuple | list) else found
  wanted = options['times'].shape[1] if options else task.num_outputs
  if found.ndim != 2 or found.shape[1] != wanted:
    raise ValueError(
      f'the model gives {found.shape[1:]} numbers of a case, the task needs '
      f'{wanted}'
    )
  return found.astype(jnp.float32)


def _hazards(outputs, causes):
  """1 − survival by interval, (b, 1, t)."""
  return 1 - jnp.exp(-jnp.cumsum(jax.nn.softplus(outputs), -1))[:, None]


def _incidences(outputs, causes):
  mass = jax.nn.softmax(outputs, -1)[:, :-1]
  return jnp.cumsum(mass.reshape(mass.shape[0], causes, -1), -1)


def _relative(outputs, causes):
  """Log hazards (b, causes, 1 or t)."""
  return outputs.reshape(outputs.shape[0], causes, -1)


METHODS = {
  'cox': Method(lambda k, t: k, _cox, _relative, relative=True),
  'competing': Method(lambda k, t: k, _cox, _relative, relative=True),
  'coxtime': Method(lambda k, t: t, _cox_time, _relative, relative=True),
  'discrete': Method(lambda k, t: t, _discrete, _hazards, over_batch=False),
  'deephit': Method(lambda k, t: k * t + 1, _deephit, _incidences),
}
# Those that know of one cause only.
SINGLE = ('cox', 'coxtime', 'discrete')


# On the host: from log hazards to incidence.


def baseline(log_hazard, time, event, grid):
  """Hazard of each cause in each interval of the grid, of a log hazard of 0.

  log_hazard: (n, causes, 1 or t) of the training cases. Breslow's, summed up
  over the event times of an interval, at the hazards of its end. Returns
  (causes, t).
  """
  _, causes, width = log_hazard.shape
  found = np.zeros((causes, len(grid)))
  edges = np.concatenate([[0.0], grid])
  for k in range(causes):
    if width == 1:
      curve = cox_lib.baseline(log_hazard[:, k, 0], time, event, cause=k + 1)
      found[k] = np.diff(curve.at(edges))
      continue
    place = np.searchsorted(grid, time, side='left')
    for j in range(len(grid)):
      inside = np.unique(time[(place == j) & (event == k + 1)])
      weight = np.exp(log_hazard[:, k, j])
      for t in inside:
        events = ((time == t) & (event == k + 1)).sum()
        found[k, j] += events / weight[time >= t].sum()
  return found


def incidence(log_hazard, base):
  """(n, causes, 1 or t) and (causes, t) → incidence (n, causes, t).

  Within an interval hazards are even: of who leaves, each cause has its share.
  """
  hazard = np.exp(log_hazard) * base
  total = hazard.sum(1)
  after = np.exp(-np.cumsum(total, -1))
  before = np.concatenate([np.ones((len(after), 1)), after[:, :-1]], 1)
  share = np.divide(
    hazard, total[:, None], out=np.zeros_like(hazard),
    where=total[:, None] > 0,
  )  # fmt: skip
  return np.cumsum(share * (before - after)[:, None], -1)


def marginal(time, event, causes, grid) -> np.ndarray:
  """Incidence (causes, t) of a sample without any covariate."""
  curves: list[Curve] = [
    aalen_johansen(time, event, cause=k + 1) for k in range(causes)
  ]
  return np.stack([curve.at(grid) for curve in curves])
