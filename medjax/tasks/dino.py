"""DINO: a student says of each view what the averaged model says of others."""

import dataclasses
import itertools

import jax
import numpy as np

from medjax.losses.views import distillation
from medjax.tasks import views
from medjax.tasks.self_supervised import SelfSupervised

_STATE = 'dino'  # the collection of variables that holds the centre
_GLOBAL = 2  # views that the teacher sees
_MOST = 12  # views at all: more are an image without the axis of views


@dataclasses.dataclass(frozen=True, kw_only=True)
class DINO(SelfSupervised):
  """Self-distillation without labels (Caron et al. 2021).

  The teacher, the averaged model (`train.ema_decay`) as in evaluation, sees the
  first two views, the student all; every pair of different views counts. All
  views have one size. For a model `Projected` with prototypes=True.

  dim: prototypes. student_temperature, teacher_temperature: of their
  distributions; the teacher's is sharper. centre_decay: of the running mean of
  the teacher's logits, which is taken from them, so that no prototype wins
  always. Others as of `SelfSupervised`.
  """

  dim: int = 256
  student_temperature: float = 0.1
  teacher_temperature: float = 0.04
  centre_decay: float = 0.9

  def __post_init__(self):
    super().__post_init__()
    if not 0 < self.teacher_temperature <= self.student_temperature:
      raise ValueError(
        f'task.teacher_temperature={self.teacher_temperature} is not above 0 '
        f'and at most student_temperature={self.student_temperature}'
      )
    if not 0 <= self.centre_decay <= 1:
      raise ValueError(f'task.centre_decay={self.centre_decay} not in 0 to 1')

  @property
  def num_outputs(self):
    """The number of prototypes."""
    return self.dim

  @property
  def variables(self):
    """What a step changes besides the model's: the teacher's mean logits."""
    return {_STATE: {'centre': np.zeros(self.dim, np.float32)}}

  def loss(self, forward, batch):
    """The mean over pairs of different views: (b,)."""
    count = views.check(batch, most=_MOST)
    # First, or its running statistics would know of this batch.
    teacher = views.together(forward.ema, batch, _GLOBAL).projection
    student = views.together(forward, batch, count).projection
    centre = forward.variables[_STATE]['centre']
    pairs = itertools.product(range(_GLOBAL), range(count))
    losses = [
      distillation(
        student[:, j],
        teacher[:, i],
        centre,
        student_temperature=self.student_temperature,
        teacher_temperature=self.teacher_temperature,
      )
      for i, j in pairs
      if i != j
    ]
    mean = jax.lax.stop_gradient(teacher.mean((0, 1)))
    moved = self.centre_decay * centre + (1 - self.centre_decay) * mean
    forward.variables = {**forward.variables, _STATE: {'centre': moved}}
    return sum(losses) / len(losses)
