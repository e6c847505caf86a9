"""Would another finding change the answer? The do-operation on concepts.

It answers for the model alone. A concept bottleneck's answer is a function of
its concepts and of nothing else, so that setting one is well defined: the
others stay as they were found.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from medjax.finetune import adapted

ASSUMPTION = (
  'This sets a concept inside the model and leaves the others as the model '
  'found them. It assumes that the answer is read off these concepts alone '
  '(true of this model by its construction) and that setting one changes no '
  'other (untested; in a patient findings go together). It says what the model '
  'would answer, not what a treatment would do.'
)


class Answer(NamedTuple):
  """What the model answers when a concept is set.

  concept: its name. found: its value before. value: what it was set to. before,
  after: the shown score, a probability of a class. needed: to which value it
  would have to be set for the answer to flip, the others as they are; None
  where the concept has no weight, NaN where that lies outside of `span`.
  """

  concept: str
  found: float
  value: float
  before: float
  after: float
  needed: float | None


def check(run):
  """Raises ValueError for a model without concepts to be set."""
  if not getattr(run.task, 'concepts', ()):
    raise ValueError(
      f'--do sets concepts, and {type(run.task).__name__} has none: train a '
      'concept bottleneck, configs/concepts.py'
    )


def intervene(score, images, about, settings, *, names, goal, span):
  """[[`Answer` of each setting] of each image].

  `score` is that of a concept bottleneck whose concepts have these `names`;
  of several members each sets its own. settings: {concept: value}. goal: score
  at which the answer flips. span: (lowest, highest) value of each concept.
  """
  concepts = np.stack([_concepts(one, images, about) for one in score.alone()])
  heads = [_merged(v)['head'] for v in score.members]
  target = score.network.target

  def answer(k=None, values=None):
    """Scores (n,) where concept `k` is set to `values` (n,)."""
    each = []
    for found, head in zip(concepts, heads, strict=True):
      found = found.copy()
      if k is not None:
        found[:, k] = values
      logits = found @ np.asarray(head['kernel']) + np.asarray(head['bias'])
      each.append(target(jnp.asarray(logits), about))
    return np.asarray(target.joined(jnp.stack(each)), float)

  shown = lambda x: np.asarray(target.shown(jnp.asarray(x)))
  before, rows = shown(answer()), [[] for _ in images]
  for concept, value in settings.items():
    k = names.index(concept)
    at = lambda values, k=k: answer(k, values)
    after = shown(at(np.full(len(images), value)))
    needed = _needed(at, len(images), span[k], goal)
    for i, row in enumerate(rows):
      found = concepts[:, i, k].mean()
      numbers = map(float, (found, value, before[i], after[i]))
      row.append(Answer(concept, *numbers, needed[i]))
  return rows


def _merged(variables):
  return adapted.merge(variables)['params']


@jax.jit
def _concepts_of(score, images, about):
  model = score.network.model
  inputs = (images, *about.get('inputs', ()))
  return model.apply(score.members[0], *inputs, train=False)[1]


def _concepts(score, images, about):
  return np.asarray(_concepts_of(score, jnp.asarray(images), about))


def _needed(at, count, span, goal):
  """Value of a concept at which each score is `goal`, by halving.

  A linear head's score is monotone in it. None where the concept changes
  nothing, NaN where the value would lie outside of `span`.
  """
  low, high = (np.full(count, end, float) for end in span)
  first, last = at(low), at(high)
  for _ in range(40):
    middle = (low + high) / 2
    same = (at(middle) - goal) * (first - goal) > 0
    low, high = np.where(same, middle, low), np.where(same, high, middle)
  crosses = (first - goal) * (last - goal) <= 0
  values = np.where(crosses, (low + high) / 2, np.nan)
  return [
    None if a == b else float(v)
    for a, b, v in zip(first, last, values, strict=True)
  ]
