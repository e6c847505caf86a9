"""What a run is worth under corruptions of its test images, by severity."""

import dataclasses
import functools
import pathlib
import sys

import numpy as np

from medjax import experiment as experiment_lib
from medjax import files, progress
from medjax.evaluate import evaluate_cases
from medjax.metrics import paired
from medjax.prediction import novelty, trained
from medjax.prediction.predictor import Predictor
from medjax.run import checkpoint as checkpoint_lib
from medjax.tasks import summary
from medjax.trust import adapt as adapt_lib
from medjax.trust import corrupt, page

# Scores of the page, of those that the task has, beside its monitor.
_SHOWN = ('balanced_accuracy_at_threshold', 'balanced_accuracy', 'ece')
_RESAMPLES = 300


@dataclasses.dataclass(frozen=True)
class Stress:
  """A run, its test cases, and how they are judged.

  cases: raw, with a reference. known: what novelty is told by, or None.
  """

  experiment: object
  variables: tuple
  calibration: object
  cases: tuple
  known: novelty.Novelty | None

  @functools.cached_property
  def _predictor(self):
    """Compiled once, for all corruptions."""
    return Predictor(self.experiment, features=self.known is not None)

  def rows(self, cases, variables):
    """The metrics of cases, in order, by these variables of each member."""
    predictor = self._predictor.with_weights(*variables)
    samples = _InOrder(len(self.cases), map(self.experiment.prepare, cases))
    return evaluate_cases(predictor, self.experiment.task, samples)

  def scores(self, rows):
    """{score: value} of rows: the task's, and what is known of doubt."""
    found = self.experiment.task.summarize(
      rows, calibration=self.calibration, n_resamples=0
    )
    scores = dict(found['scores'])
    tables = [t for t in found.get('sets', ()) if t.get('coverage') is not None]
    if tables:
      scores['set_coverage'] = tables[0]['coverage']
    answering = found.get('risk_coverage') or {}
    for name in ('answered', 'error'):
      if name in answering:
        scores[f'{name}_at_operating_point'] = answering[name]
    if self.known is not None:
      seen = novelty.of_rows(novelty.told(rows))
      p = self.known.p_values(seen.signature, seen.logits)['p']
      scores['flagged_as_new'] = float((p < novelty.DOUBT).mean())
    return scores

  def change(self, before, after):
    """(change of the monitor, 95 % interval) of rows of the same cases, paired.

    None of a task that has no score of weighted cases.
    """
    task = self.experiment.task
    if not hasattr(task, 'monitored'):
      return None
    scores = (
      task.monitored(rows, self.calibration) for rows in (before, after)
    )
    groups = summary.patients(after)
    return paired.score_difference(*scores, groups, n_resamples=_RESAMPLES)


class _InOrder:
  """A sequence of samples that are made when they are asked for, in order."""

  def __init__(self, count, samples):
    self._count, self._samples = count, iter(samples)

  def __len__(self):
    return self._count

  def __getitem__(self, index):
    del index  # the next one: evaluate_cases asks for one after the other
    return next(self._samples)


def load(workdir, *, trust=False, limit=None, checkpoint='best', seed=0):
  """The `Stress` of a run; of its test split `limit` cases, drawn, or all.

  Raises ValueError for a cross-validation, whose folds are runs of their own,
  for a run on tables, and for one whose test cases have no reference.
  """
  made = experiment_lib.restore(workdir, trust=trust)
  if made.task.inputs[0] != 'image':
    raise ValueError(
      f'{workdir} takes {", ".join(made.task.inputs)}: stress corrupts images'
    )
  if made.folds:
    raise ValueError(
      f'{workdir} is a cross-validation: stress a fold, {workdir}/fold0'
    )
  runs = [folder for _, folder in made.runs(workdir)]
  found = [checkpoint_lib.variables(folder, checkpoint) for folder in runs]
  steps, variables = zip(*found, strict=True)
  calibration = trained.load_calibration(workdir, steps)
  cases = _drawn(made.cases('test'), made.task.fields, limit, seed)
  if not cases:
    raise ValueError(f'{workdir}: no test case has a reference')
  known = None
  if (pathlib.Path(workdir) / novelty.FILE).exists():
    try:
      known = novelty.load(workdir, steps)
    except ValueError as e:  # of other weights, or damaged
      print(f'medjax: what is new is not told: {e}', file=sys.stderr)
  return Stress(made, variables, calibration, cases, known)


def _drawn(test, fields, limit, seed):
  """`limit` cases with all fields, or all of them, in the order of the split.

  They are drawn, as a split may lie in the order of its classes.
  """
  found = {}
  for i in np.random.default_rng(seed).permutation(len(test)):
    case = test[int(i)]
    if all(field in case for field in fields):
      found[i] = case
    if limit and len(found) == limit:
      break
  return tuple(found[i] for i in sorted(found))


def measure(stress, kind, *, severities=corrupt.SEVERITIES, way=None, seed=0):
  """[{'corruption', 'severity', scores, 'change', …}] of a suite.

  The first is of the clean images, severity 0. With a `way` of `adapt` each
  also has 'adapted', the monitor after adaptation to those very images,
  'adapted_to', how many of them had the shape of another one, and 'gain' over
  none, paired, with its interval.
  """
  names = list(corrupt.suite(kind))
  corrupt.check(stress.cases, kind)
  clean = stress.rows(stress.cases, stress.variables)
  table = [{'corruption': 'none', 'severity': 0, **stress.scores(clean)}]
  monitor = stress.experiment.task.monitor
  if way:
    table[0] |= _adapted(stress, stress.cases, clean, way, seed)
  total = len(names) * len(severities)
  with progress.bar('corrupting', total) as advance:
    for name in names:
      for severity in severities:
        advance(0, f'{name}, severity {severity}')
        cases = list(
          corrupt.corrupted(stress.cases, kind, name, severity, seed=seed)
        )
        rows = stress.rows(cases, stress.variables)
        row = {'corruption': name, 'severity': severity, **stress.scores(rows)}
        if (change := stress.change(clean, rows)) is not None:
          row['change'], (row['change_low'], row['change_high']) = change
        elif row.get(monitor) is not None:
          row['change'] = row[monitor] - table[0][monitor]
        if way:
          row |= _adapted(stress, cases, rows, way, seed)
        table.append(row)
        advance()
      # A program of each shape of images: those of one corruption are enough.
      corrupt.forget()
  return table


def _adapted(stress, cases, before, way, seed):
  """The monitor after adapting to cases, whose labels are not looked at.

  before: rows of the same cases without.
  """
  made = stress.experiment
  batches = adapt_lib.batches_of(made, map(made.prepare, cases))
  variables = [
    adapt_lib.adapted(made, v, batches, way=way, seed=seed)
    for v in stress.variables
  ]
  rows = stress.rows(cases, variables)
  found = {
    'adapted': stress.scores(rows)[made.task.monitor],
    'adapted_to': sum(len(images) for images, *_ in batches),
  }
  if (gain := stress.change(before, rows)) is not None:
    found['gain'], (found['gain_low'], found['gain_high']) = gain
  return found


def summarize(table, monitor, *, higher=True):
  """Means over severities by corruption, and over corruptions, JSON-able.

  'error' is the balanced error, where there is one, 'relative' that less the
  clean one: MedMNIST-C's BE and rBE before they are divided by AlexNet's.
  """
  clean = table[0]
  key = next((k for k in _SHOWN[:2] if clean.get(k) is not None), None)
  found = {}
  for name in dict.fromkeys(row['corruption'] for row in table[1:]):
    rows = [row for row in table[1:] if row['corruption'] == name]
    mean = lambda k, rows=rows: _mean([row.get(k) for row in rows])
    one = {monitor: mean(monitor), 'change': mean('change')}
    if key:
      one['error'] = 1 - mean(key)
      one['relative'] = clean[key] - mean(key)
    if 'adapted' in clean:
      one['adapted'] = mean('adapted')
      gain = (one['adapted'] - one[monitor]) * (1 if higher else -1)
      one['adaptation'] = 'better than none' if gain > 0 else 'worse than none'
      if abs(gain) < 1e-9:
        one['adaptation'] = 'as good as none'
    found[name] = one
  keys = [k for k, v in next(iter(found.values())).items()
          if not isinstance(v, str)]  # fmt: skip
  mean = {k: _mean([one[k] for one in found.values()]) for k in keys}
  return {'clean': clean, 'corruptions': found, 'mean': mean}


def _mean(values):
  known = [v for v in values if v is not None and np.isfinite(v)]
  return float(np.mean(known)) if known else float('nan')


def run(
  workdir,
  suite,
  *,
  out=None,
  severities=corrupt.SEVERITIES,
  adapt=None,
  limit=None,
  seed=0,
  trust=False,
  checkpoint='best',
):
  """Stresses a run; writes stress.csv, stress.json and stress.html.

  Into `out`, by default WORKDIR/stress/SUITE. Returns the path of the page.
  Raises ValueError of one line for what cannot be.
  """
  corrupt.suite(suite)
  if limit is not None and limit < 1:
    raise ValueError(f'--limit={limit}: at least one case')
  bad = [s for s in severities if s not in corrupt.SEVERITIES]
  if bad or not severities:
    raise ValueError(f'--severity={bad}: severities are 1 to 5')
  stress = load(
    workdir, trust=trust, limit=limit, checkpoint=checkpoint, seed=seed
  )
  if adapt:
    adapt_lib.check(stress.variables[0], stress.experiment.task, adapt)
  table = measure(stress, suite, severities=severities, way=adapt, seed=seed)
  task = stress.experiment.task
  measures = {
    name: {'title': m.title, 'unit': m.unit, 'higher': m.higher}
    for name, m in task.measures.items()
  }
  found = {
    'suite': suite,
    'workdir': str(workdir),
    'cases': len(stress.cases),
    'monitor': task.monitor,
    'adapt': adapt,
    'seed': seed,
    'measures': measures,
    **summarize(
      table, task.monitor, higher=task.measures[task.monitor].higher
    ),
    'table': table,
  }  # fmt: skip
  out = pathlib.Path(out or pathlib.Path(workdir) / 'stress' / suite)
  files.write_csv(out / 'stress.csv', table)
  files.write_json(out / 'stress.json', found, sealed=True)
  case = stress.cases[0]
  looks = _pictures(case, suite, severities)
  return page.write(out, found, looks, case['affine'])


def _pictures(case, suite, severities):
  """[(corruption, [image (*s, C) at 0 and each severity])] of one case."""
  found = []
  for name in corrupt.suite(suite):
    images = [case['image']]
    for severity in severities:
      (one,) = corrupt.corrupted([case], suite, name, severity)
      images.append(one['image'])
    found.append((name, images))
  return found
