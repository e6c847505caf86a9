"""Which unlabelled cases to label next, by what a trained run sees of them."""

import dataclasses
import itertools
import pathlib

import numpy as np

from medjax import files, progress
from medjax.build import closest
from medjax.data import duplicates
from medjax.labels import strategies
from medjax.labels.seen import UNSURE, glanced, seen
from medjax.prediction import files as case_files
from medjax.prediction import trained

# Those to which it matters what is labelled already.
FEATURES = ('coreset', 'typiclust')


@dataclasses.dataclass(frozen=True)
class Pick:
  """A case to label, its score, why, and where in a volume to begin."""

  id: str
  score: float
  why: str
  slice: int | None = None


def look(run, cases):
  """`Seen` of each raw case."""
  exclusive, found = run.task.exclusive, []
  predictions = run.predict_cases(cases, probabilities=True, features=True)
  with progress.bar('looking', len(cases)) as advance:
    for case, prediction in predictions:
      found.append(seen(case, prediction, exclusive=exclusive))
      advance()
  return found


def ranked(pool, n, strategy, *, known=(), rest=(), seed=0):
  """The first n `Pick`s of the cases in a pool, each a `Seen`.

  known: those that are labelled already. rest: what must not be labelled, cases
  of validation and test. What is nearly an image of theirs, or of a picked
  case, is passed over: there may be fewer than n.
  """
  rng = np.random.default_rng(seed)
  every = len(pool) + len(known) + len(rest)
  free = strategies.Pool(every, _twins(pool, known, rest))
  for place in range(len(pool), every):
    free.take(place)  # and with it what is like it
  free.free = free.free[: len(pool)]
  embeddings = np.stack([s.embedding for s in pool])
  before = np.zeros((0, embeddings.shape[1]))
  if known and strategy in FEATURES:
    before = np.stack([s.embedding for s in known])
  if strategy in UNSURE:
    scores = [s.scores[strategy] for s in pool]
    found = strategies.by_score(free, scores, strategy)
  elif strategy == 'coreset':
    found = strategies.coreset(free, embeddings, before)
  elif strategy == 'badge':
    errors = np.stack([s.error for s in pool])
    found = strategies.badge(free, embeddings, errors, rng)
  elif strategy == 'typiclust':
    found = strategies.typiclust(free, embeddings, before, n, rng)
  else:
    found = strategies.at_random(free, rng)
  measure = strategy if strategy in UNSURE else 'entropy'
  picks = []
  for place, score, why in _taken(found, free, n):
    one = pool[place]
    picks.append(Pick(one.id, score, why, one.slices.get(measure)))
  return picks


def _taken(found, free, n):
  """The first n, each taken out of the pool before the next is looked for."""
  for one in itertools.islice(found, n):
    free.take(one[0])
    yield one


def check(strategy, members):
  """Raises ValueError for no strategy, and bald of fewer than two members."""
  if strategy not in strategies.STRATEGIES:
    raise ValueError(
      f'no strategy {strategy!r}{closest(strategy, strategies.STRATEGIES)}'
    )
  if strategy == 'bald' and members < 2:
    raise ValueError(
      'bald is how much members of an ensemble disagree, and this run has one '
      'model: train with --config.members=3, or take entropy'
    )


def _twins(pool, known, rest):
  """Pairs of places in all of them that are nearly one image."""
  every = [*pool, *known, *rest]
  # Groups are compared with each other, and the pool with itself.
  found = duplicates.find_twins(
    [dataclasses.replace(s, split=str(i)) for i, s in enumerate(every)]
  )
  return [
    (int(a), int(b))
    for a, b in [*found.exact, *found.near]
    if min(a, b) < len(pool)
  ]


class _Files:
  """Images that are read one after the other."""

  def __init__(self, paths):
    self._paths = paths

  def __len__(self):
    return len(self._paths)

  def __iter__(self):
    return map(case_files.read_case, self._paths)


def _of_the_run(run, strategy):
  """(labelled cases, those it is judged on) as `Seen`; a line if unread."""
  made = run.experiment
  has = lambda case: all(field in case for field in run.task.fields)
  try:
    labelled = filter(has, made.cases('train'))
    if strategy in FEATURES:
      known = look(run, [*labelled])
    else:
      known = [*map(glanced, labelled)]
    judged = [c for k in ('validation', 'test') for c in made.cases(k)]
  except (OSError, ValueError) as e:
    print(f'note: the data of the run cannot be read, and count for none: {e}')
    return [], []
  return known, [*map(glanced, judged)]


def select(
  workdir, inputs, out, *, n, strategy='entropy', seed=0, trust=False,
  checkpoint='best',
):  # fmt: skip
  """Ranks the images of `inputs`, files and folders, into a CSV; its path.

  Labelled cases of the run's training, and those it is judged on, are looked at
  too where they can be read.

  Raises ValueError for an unknown strategy, more than there is, and for bald
  of a run without members.
  """
  run = trained.load(workdir, trust=trust, checkpoint=checkpoint)
  check(strategy, len(run.variables))
  found = case_files.inputs_of(run, inputs)
  if not 0 < n <= len(found):
    raise ValueError(f'{n} cases of {len(found)}: choose from 1 to all of them')
  pool = look(run, _Files(found))
  known, rest = _of_the_run(run, strategy)
  picks = ranked(pool, n, strategy, known=known, rest=rest, seed=seed)
  if not picks:
    raise ValueError(
      f'all {len(pool)} images are nearly images of the run itself: there is '
      'nothing to label'
    )
  paths = dict(zip((s.id for s in pool), found, strict=True))
  rows = [
    {
      'rank': i,
      'id': p.id,
      'file': str(case_files.paths_of(paths[p.id])[0]),
      'score': p.score,
      **({} if p.slice is None else {'slice': p.slice}),
      'why': p.why,
    }
    for i, p in enumerate(picks, 1)
  ]
  if len(picks) < n:
    print(
      f'{len(picks)} of the {n}: all others are nearly images of these, or of '
      'the run'
    )
  out = pathlib.Path(out)
  out.parent.mkdir(parents=True, exist_ok=True)
  files.write_csv(out, rows)
  return out
