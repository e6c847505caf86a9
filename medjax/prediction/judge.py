"""Whether a prediction may be relied on: its set, its novelty, and a reason."""

import dataclasses
import pathlib

import numpy as np

from medjax import files
from medjax.metrics.conformal import check_level
from medjax.prediction import novelty


@dataclasses.dataclass(frozen=True)
class Judge:
  """Tells a prediction what validation decided about doubt.

  task, calibration: of the run. level: of conformal sets or masks, None is
  none; method, by_class: how they are made. known: what novelty is told by.
  """

  task: object
  calibration: object
  level: float | None = None
  method: str = 'lac'
  by_class: bool = False
  known: novelty.Novelty | None = None

  @property
  def maps(self):
    """Whether masks of a bounded risk are asked for, from probabilities."""
    return self.level is not None and hasattr(self.task, 'within')

  @property
  def _how(self):
    return {
      'level': self.level, 'method': self.method, 'by_class': self.by_class
    }  # fmt: skip

  def check(self):
    """Raises ValueError for what the run cannot give; to be called once."""
    if self.level is None:
      return
    check_level(self.level)
    if self.maps:
      shape = (*(1,) * 2, self.task.num_outputs)
      self.task.within(np.zeros(shape), self.calibration, level=self.level)
    elif hasattr(self.task, 'answer'):
      if self.method not in self.task.ways:
        raise ValueError(
          f'--sets={self.method} is none of {", ".join(self.task.ways)}'
        )
      self.task.answerable(self.calibration, **self._how)
    else:
      raise ValueError(
        f'{type(self.task).__name__} has no conformal sets: leave --conformal'
      )

  def __call__(self, prediction):
    """The `Prediction` with its judgement: columns, 'abstain' and 'reason'."""
    columns, reasons = {}, []
    if self.level is not None and not self.maps:
      columns, reasons = self.task.answer(
        prediction.probabilities, self.calibration, **self._how
      )
    if self.known is not None:
      found, more = self.known.judge(prediction)
      columns, reasons = {**columns, **found}, [*reasons, *more]
    if hasattr(self.task, 'unsure'):
      reasons += self.task.unsure(prediction.probabilities, self.calibration)
    judgement = {
      **columns, 'abstain': int(bool(reasons)), 'reason': '; '.join(reasons)
    }  # fmt: skip
    return dataclasses.replace(prediction, judgement=judgement)

  def within(self, prediction):
    """{class: mask} that find the level of each class in a prediction."""
    return self.task.within(
      prediction.probabilities, self.calibration, level=self.level
    )

  def said(self, workdir):
    """Lines on what sets, and answers, were worth on the test split."""
    stored = _stored(pathlib.Path(workdir))
    lines = [] if self.level is None else self._said_of_sets(workdir, stored)
    warning = (stored.get('risk_coverage') or {}).get('warning')
    return [*lines, f'warning: {warning}'] if warning else lines

  def _said_of_sets(self, workdir, stored):
    table = self._measured(workdir, stored)
    if 'coverage' not in table:
      return [f'coverage at {self.level:g} was not measured: {table["note"]}']
    if 'bound' in table:
      return [_said_of_bounds(table, self.task.time_unit), *_warned(table)]
    classes = table.get('classes') or {}
    each = ', '.join(f'{k} {c["coverage"]:.3f}' for k, c in classes.items())
    by_class = ', by class' if self.by_class else ''
    way = 'found by the masks' if self.maps else 'in the sets'
    line = (
      f'at {self.level:g} ({"masks" if self.maps else self.method}{by_class}), '
      f'of {table["n"]} test patients: {table["coverage"]:.3f} of the truth '
      f'was {way}{f" ({each})" if each else ""}'
    )
    return [line, *_warned(table)]

  def _measured(self, workdir, stored):
    """The table of this level: of masks what is stored, else measured now."""
    if self.maps:
      found = [t for t in stored.get('sets') or [] if t['level'] == self.level]
      note = (
        'the evaluation was at another level: evaluate again, with '
        f'--config.task.level={self.level:g}'
      )
      return found[0] if found else {'note': note}
    rows = _rows(workdir, self.task)
    if not rows:
      return {'note': 'the run has no table of test cases'}
    return self.task.measured(rows, self.calibration, **self._how)


def _warned(table):
  return [f'warning: {table["warning"]}'] if table['warning'] else []


def _said_of_bounds(table, unit):
  return (
    f'at {table["level"]:g} ({table["method"]} censoring), of {table["n"]} '
    f'test patients: {table["coverage"]:.3f} outlived their lower bound '
    f'({table["unknown"]:.3f} were censored before it and are stood for by '
    f'others), which is {table["bound"]:.4g}{f" {unit}" if unit else ""} in '
    'the median'
  )


def _stored(workdir):
  """What metrics.json says of the test split; {} without it."""
  path = workdir / 'metrics.json'
  return (files.read_json(path, mend='evaluate again') or {}).get('test') or {}


def _rows(workdir, task):
  """The rows of test cases in per_case.csv, as the task takes them, or [].

  There are none of a test split that has no references.
  """
  path = workdir / 'per_case.csv'
  if not path.exists():
    return []
  table, header = files.read_csv(path, mend='evaluate again')
  if not {'split', 'id', 'patient'} <= {*header}:
    raise ValueError(
      f'{path} is damaged: it has no split, id and patient; evaluate again'
    )
  return [
    {'id': row['id'], 'patient': row['patient'], **task.recalled(row)}
    for row in table
    if row['split'] == 'test'
  ]


def load(workdir, run, *, level=None, method=None, by_class=False, ood=False):
  """The `Judge` of a run, checked; None where nothing is asked of it.

  method: how sets are made, by default the first of the task's `ways`.
  Raises ValueError, FileNotFoundError for what the run cannot give.
  """
  if level is None and not ood:
    return None
  known = novelty.load(workdir, run.provenance.steps) if ood else None
  method = method or getattr(run.task, 'ways', ('',))[0]
  judge = Judge(run.task, run.calibration, level, method, by_class, known)
  judge.check()
  return judge
