"""Distillation: a student learns from the references and from a teacher."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from medjax.tasks import objective
from medjax.tasks.classification import Classification
from medjax.tasks.segmentation import Segmentation


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Taught:
  """What a taught task has beside those of its kind, which is a base after it.

  teacher: the workdir of a trained run with the same preparation of images.
  softness: the temperature of both distributions.
  weight: of the teacher, 0 to 1; the references have the rest.
  features: weight of what embeddings the teacher has: the student's are to be
    as like each other, of whatever size they are (`likeness`).
  teach: inputs → the teacher's logits, with features=True all its features;
    set by `experiment`, of `teacher`.
  """

  teacher: str
  softness: float = 2.0
  weight: float = 0.5
  features: float = 0.0
  teach: Any = dataclasses.field(default=None, compare=False, repr=False)

  def __post_init__(self, *args):
    super().__post_init__(*args)
    if not 0 <= self.weight <= 1 or not self.softness > 0:
      raise ValueError(
        f'weight={self.weight} is not in 0 to 1, or softness={self.softness} '
        'not above 0'
      )
    if not self.features >= 0:
      raise ValueError(f'features={self.features} must be 0 or more')

  @property
  def over_batch(self):
    """Whether cases are held against each other, as where features count."""
    return super().over_batch or self.features > 0

  def loss(self, forward, batch):
    """The weighted sum of the task's own loss and the teacher's: (b,)."""
    if self.teach is None:
      raise ValueError('nobody teaches: make the task by a config')
    inputs = [batch[name] for name in self.inputs]
    options = {'features': True} if self.features else {}
    outputs = forward(*inputs, **options)
    theirs = jax.lax.stop_gradient(self.teach(*inputs, **options))
    drawn = 0.0
    if self.features:
      drawn = likeness(outputs['pooled'], theirs['pooled'])
      outputs, theirs = outputs['logits'], theirs['logits']
    ours, theirs = map(objective.main_head, (outputs, theirs))
    if ours.shape != theirs.shape:
      raise ValueError(
        f'the teacher {self.teacher} gives {theirs.shape[1:]}, the student '
        f'{ours.shape[1:]}: they need one task'
      )
    soft = divergence(
      ours, theirs, softness=self.softness, exclusive=self.exclusive
    )
    losses = super().loss(lambda *_: outputs, batch)
    losses = (1 - self.weight) * losses + self.weight * soft
    return losses + self.features * drawn


def likeness(ours, theirs):
  """How differently two embeddings (b, d), (b, e) see a batch as alike: (b,).

  The mean squared difference of the rows of both matrices of inner products,
  each of length 1: similarity-preserving distillation (Tung & Mori 2019).
  """

  def rows(x):
    products = x.astype(jnp.float32) @ x.astype(jnp.float32).T
    # Squared, so that an embedding of zeros has a gradient.
    length = jnp.sqrt((products**2).sum(-1, keepdims=True) + 1e-12)
    return products / length

  return ((rows(ours) - rows(theirs)) ** 2).mean(-1)


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

  softness: the temperature of both distributions; weight: the teacher's;
    features: of the likeness of embeddings.
  """


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistilledSegmentation(_Taught, Segmentation):
  """`Segmentation`, taught by the run of `teacher` too.

  softness: the temperature of both distributions; weight: the teacher's;
    features: of the likeness of embeddings.
  """
