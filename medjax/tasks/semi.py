"""Semi-supervised tasks: cases without a reference are learnt from too.

Each is a classification or a segmentation whose loss has a second term, over
all cases of the batch. The averaged weights are what is evaluated.
"""

import dataclasses
import functools
import math
import operator
from typing import ClassVar

import jax
import jax.numpy as jnp

from medjax.tasks import consistency as agreement
from medjax.tasks import objective
from medjax.tasks.classification import Classification
from medjax.tasks.segmentation import Segmentation


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Semi:
  """What the methods have in common.

  consistency: weight of what is learnt without references; with 0 the task is
    the supervised one, bit for bit.
  ramp: steps over which that weight rises from almost none.
  """

  unlabelled: ClassVar = True
  over_batch: ClassVar = True
  consistency: float = 1.0
  ramp: int = 0

  def _check_semi(self):
    if not self.consistency >= 0 or not self.ramp >= 0:
      raise ValueError(
        f'consistency={self.consistency} and ramp={self.ramp} must be 0 or more'
      )

  def __post_init__(self, loss):
    super().__post_init__(loss)
    self._check_semi()

  def check(self, case):
    """Raises ValueError for a reference it cannot use; none is fine."""
    if all(name in case for name in self.fields):
      super().check(case)

  def loss(self, forward, batch):
    """Losses (b,) whose mean is that over the labelled, and the agreement's.

    The supervised loss is averaged over the cases that have a reference.
    """
    outputs, term = self._learnt(forward, batch)
    supervised = super().loss
    of = lambda outputs: supervised(lambda *_, **__: outputs, batch)
    own = sum(map(of, outputs))
    known = [batch['valid'][name] for name in self.fields]
    known = functools.reduce(operator.and_, known)
    # 1 where all have a reference; no case is none's loss.
    share = known.mean(dtype=own.dtype)
    least = 1 / len(known)
    losses = jnp.where(known, own, 0) / jnp.maximum(share, least)
    if term is None:
      return losses
    weight = self.consistency * agreement.ramp(batch['index'], self.ramp)
    return losses + weight * term

  def _inputs(self, batch, image='image'):
    """What the model is called with, by default the batch as it is."""
    return batch[image], *(batch[name] for name in self.inputs[1:])

  def _probabilities(self, outputs):
    return self.predict(outputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _MeanTeacher(_Semi):
  def _learnt(self, forward, batch):
    inputs = self._inputs(batch)
    outputs = forward(*inputs)
    if not self.consistency:
      return (outputs,), None
    ours = outputs
    if 'strong' in batch:
      ours = forward(*self._inputs(batch, 'strong'))
    taught = self._probabilities(forward.ema(*inputs))
    return (outputs,), agreement.squared(self._probabilities(ours), taught)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _FixMatch(_Semi):
  """threshold: from which on a prediction is sure enough to teach."""

  threshold: float = 0.95

  def _learnt(self, forward, batch):
    outputs = forward(*self._inputs(batch))
    if not self.consistency or self.threshold > 1:
      return (outputs,), None
    if 'strong' not in batch:
      raise ValueError(
        f'{type(self).__name__} compares an image with a stronger augmentation '
        "of it: end config.augment with dict(name='strong', augment=(…))"
      )
    strong = forward(*self._inputs(batch, 'strong'))
    return (outputs,), agreement.pseudo_labelled(
      objective.main_head(strong),
      self._probabilities(outputs),
      exclusive=self.exclusive,
      threshold=self.threshold,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _CrossPseudo(_Semi):
  def _learnt(self, forward, batch):
    pair = forward(*self._inputs(batch))
    if not (isinstance(pair, dict) and {*pair} == {'first', 'second'}):
      raise ValueError(
        f'{type(self).__name__} trains two networks: set '
        "config.model=dict(name='Pair', network=dict(name=…))"
      )
    outputs = pair['first'], pair['second']
    if not self.consistency:
      return outputs, None
    taught = functools.partial(
      agreement.pseudo_labelled, exclusive=self.exclusive
    )
    a, b = map(objective.main_head, outputs)
    p, q = map(self._probabilities, outputs)
    return outputs, taught(a, q) + taught(b, p)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanTeacherClassification(_MeanTeacher, Classification):
  """`Classification`; the averaged model teaches (Tarvainen & Valpola 2017).

  The squared difference of the probabilities of the trained model, under the
  augmentation `strong` if there is one, from those of the averaged one. Needs
  train.ema_decay. consistency: its weight; ramp: the steps it rises over.
  """


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanTeacherSegmentation(_MeanTeacher, Segmentation):
  """`Segmentation`, taught as `MeanTeacherClassification`, voxel by voxel."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FixMatchClassification(_FixMatch, Classification):
  """`Classification`; what is sure of an image teaches (Sohn et al. 2020).

  Cross-entropy of the image under the augmentation `strong` with the class that
  the plain one is decided for, where its probability reaches the threshold.
  consistency: its weight; ramp: the steps it rises over.
  """


@dataclasses.dataclass(frozen=True, kw_only=True)
class FixMatchSegmentation(_FixMatch, Segmentation):
  """`Segmentation`, taught as `FixMatchClassification`, voxel by voxel."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossPseudoClassification(_CrossPseudo, Classification):
  """`Classification` by two networks that label for each other.

  Cross pseudo supervision (Chen et al. 2021): each learns the other's
  decisions. The model is a `Pair`, of which the first network is evaluated.
  consistency: weight of what the other says; ramp: the steps it rises over.
  """


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossPseudoSegmentation(_CrossPseudo, Segmentation):
  """`Segmentation`, taught as `CrossPseudoClassification`, voxel by voxel."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UncertaintyAwareSegmentation(_Semi, Segmentation):
  """`Segmentation` by a mean teacher, where it is certain (Yu et al. 2019).

  The teacher, the averaged model, sees the image `passes` times under Gaussian
  noise of standard deviation `noise`, in units of the prepared image. Where the
  entropy of the mean is below a threshold, rising over `ramp` from 3/4 of the
  most there can be to all, the student is drawn to it. Unlike UA-MT the
  teacher has no dropout. consistency: its weight.
  """

  passes: int = 4
  noise: float = 0.1

  def __post_init__(self, loss):
    super().__post_init__(loss)
    if self.passes < 1 or not self.noise > 0 or not self.exclusive:
      raise ValueError(
        f'passes={self.passes} must be 1 or more and noise={self.noise} above '
        '0, and regions are not known to it'
      )

  def _learnt(self, forward, batch):
    image, *others = self._inputs(batch)
    outputs = forward(image, *others)
    if not self.consistency:
      return (outputs,), None
    taught = 0.0
    for i in range(self.passes):
      noisy = image + self.noise * _noise(batch['index'], image, i)
      taught += self._probabilities(forward.ema(noisy, *others)) / self.passes
    risen = agreement.ramp(batch['index'], self.ramp)
    most = (0.75 + 0.25 * risen) * math.log(self.num_outputs)
    most = most.reshape(-1, *[1] * (taught.ndim - 2))
    sure = agreement.entropy(taught) < most
    ours = self._probabilities(outputs)
    return (outputs,), agreement.squared(ours, taught, sure)


def _noise(index, image, number):
  """Normal numbers like an image, by the place in the stream; cut at two."""

  def one(place):
    key = jax.random.fold_in(jax.random.key(number), place)
    return jax.random.truncated_normal(key, -2.0, 2.0, image.shape[1:])

  return jax.vmap(one)(index)
