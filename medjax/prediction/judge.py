"""Whether a prediction may be relied on: its set, its novelty, and a reason."""

import dataclasses
import pathlib

import numpy as np

from medjax import files
from medjax.metrics.conformal import METHODS, check_level
from medjax.prediction import novelty
from medjax.run import per_case


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
      if self.method not in METHODS:
        raise ValueError(
          f'--sets={self.method} is none of {", ".join(METHODS)}'
        )
      flat = np.full(self.task.num_outputs, 1 / self.task.num_outputs)
      self.task.answer(flat, self.calibration, **self._how)
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
    classes = table.get('classes') or {}
    each = ', '.join(f'{k} {c["coverage"]:.3f}' for k, c in classes.items())
    by_class = ', by class' if self.by_class else ''
    way = 'found by the masks' if self.maps else 'in the sets'
    lines = [
      f'at {self.level:g} ({"masks" if self.maps else self.method}{by_class}), '
      f'of {table["n"]} test cases: {table["coverage"]:.3f} of the truth was '
      f'{way}{f" ({each})" if each else ""}'
    ]
    if table['warning']:
      lines.append(f'warning: {table["warning"]}')
    return lines

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


def _stored(workdir):
  """What metrics.json says of the test split; {} without it."""
  path = workdir / 'metrics.json'
  return (files.read_json(path, mend='evaluate again') or {}).get('test') or {}


def _rows(workdir, task):
  """The rows of test cases of a classification in per_case.csv; [] of none."""
  try:
    table = per_case.read(str(workdir))
  except (OSError, ValueError):
    return []
  names, rows = task.names, []
  for row in table.values():
    label = row.get('label')
    if label is None:
      label = np.array([int(float(row[f'label/{k}'])) for k in names])
    else:
      label = np.int32(float(label))
    p = np.array([float(row[f'probability/{k}']) for k in names])
    rows.append({'probability': p, 'label': label})
  return rows


def load(workdir, run, *, level=None, method='lac', by_class=False, ood=False):
  """The `Judge` of a run, checked; None where nothing is asked of it.

  Raises ValueError, FileNotFoundError for what the run cannot give.
  """
  if level is None and not ood:
    return None
  known = novelty.load(workdir) if ood else None
  judge = Judge(run.task, run.calibration, level, method, by_class, known)
  judge.check()
  return judge
