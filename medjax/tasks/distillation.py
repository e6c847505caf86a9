"""Distillation: a student learns from the references and from a teacher."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from medjax.tasks import objective
from medjax.tasks.classification import Classification
from medjax.tasks.segmentation import Segmentation


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Taught:
  """What a taught task has beside those of its kind.

  teacher: the workdir of a trained run with the same preparation of images.
  softness: the temperature of both distributions.
  weight: of the teacher, 0 to 1; the references have the rest.
  teach: inputs → the teacher's logits; set by `experiment`, of `teacher`.
  """

  teacher: str
  softness: float = 2.0
  weight: float = 0.5
  teach: Any = dataclasses.field(default=None, compare=False, repr=False)

  def _check_taught(self):
    if not 0 <= self.weight <= 1 or not self.softness > 0:
      raise ValueError(
        f'weight={self.weight} is not in 0 to 1, or softness={self.softness} '
        'not above 0'
      )

  def _taught(self, hard: Callable, forward, batch):
    """Weighted sum of `hard(forward, batch)` and the teacher's loss: (b,)."""
    if self.teach is None:
      raise ValueError('nobody teaches: make the task by a config')
    inputs = [batch[name] for name in self.inputs]
    outputs = forward(*inputs)
    theirs = jax.lax.stop_gradient(objective.main_head(self.teach(*inputs)))
    ours = objective.main_head(outputs)
    if ours.shape != theirs.shape:
      raise ValueError(
        f'the teacher {self.teacher} gives {theirs.shape[1:]}, the student '
        f'{ours.shape[1:]}: they need one task'
      )
    soft = divergence(
      ours, theirs, softness=self.softness, exclusive=self.exclusive
    )
    losses = hard(lambda *_: outputs, batch)
    return (1 - self.weight) * losses + self.weight * soft


def divergence(ours, theirs, *, softness, exclusive):
  """KL(theirs ‖ ours) of logits (b, …, k) over softness, times softness²: (b,).

  The square keeps the size of the gradient (Hinton et al. 2015, section 2). The
  mean over voxels; with exclusive=False of sigmoids, the mean over labels.
  """
  ours, theirs = ours / softness, theirs / softness
  if exclusive:
    logs = [jax.nn.log_softmax(x) for x in (theirs, ours)]
    each = (jnp.exp(logs[0]) * (logs[0] - logs[1])).sum(-1)
  else:
    p = jax.nn.sigmoid(theirs)
    yes = jax.nn.log_sigmoid(theirs) - jax.nn.log_sigmoid(ours)
    no = jax.nn.log_sigmoid(-theirs) - jax.nn.log_sigmoid(-ours)
    each = (p * yes + (1 - p) * no).mean(-1)
  return softness**2 * each.mean(tuple(range(1, each.ndim)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistilledClassification(_Taught, Classification):
  """`Classification`, taught by the run of `teacher` too.

  softness: the temperature of both distributions; weight: the teacher's.
  """

  def __post_init__(self, loss):
    super().__post_init__(loss)
    self._check_taught()

  def loss(self, forward, batch):
    """As the task's own, and the divergence from the teacher: (b,)."""
    hard = lambda *args: Classification.loss(self, *args)
    return self._taught(hard, forward, batch)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistilledSegmentation(_Taught, Segmentation):
  """`Segmentation`, taught by the run of `teacher` too.

  softness: the temperature of both distributions; weight: the teacher's.
  """

  def __post_init__(self, loss):
    super().__post_init__(loss)
    self._check_taught()

  def loss(self, forward, batch):
    """As the task's own, and the divergence from the teacher: (b,)."""
    hard = lambda *args: Segmentation.loss(self, *args)
    return self._taught(hard, forward, batch)
