"""The samples of a split, and those of training they are compared with."""

import functools

import numpy as np

from medjax.data import pipeline


class Samples(pipeline.Cached):
  """The samples of a split, decoded and prepared once if there is room.

  references: those of training that a task compares each case with, or None.
  """

  references = None


def samples(experiment, split, *, budget_bytes=0):
  """The `Samples` of a split."""
  found = Samples(
    experiment.cases(split), experiment.prepare, budget_bytes=budget_bytes
  )
  if (count := getattr(experiment.task, 'references', 0)) and split != 'train':
    found.references = _references(experiment, count)
  return found


def _references(experiment, count):
  """At most `count` training cases, drawn once, of a folder labelled ones."""
  cases = experiment.cases('train')
  labels = [e.label for e in getattr(cases, 'entries', ())]
  places = [i for i, label in enumerate(labels) if label is not None]
  rng = np.random.default_rng(experiment.seed)
  places = rng.permutation(places or len(cases))[:count]
  chosen = [
    functools.partial(cases.__getitem__, int(i)) for i in sorted(places)
  ]
  # Read at every evaluation: a quarter of what the training may hold.
  budget = int(experiment.data.cache_gb * 2**30 / 4)
  prepare = lambda read: experiment.prepare(read())
  return Samples(chosen, prepare, budget_bytes=budget)
