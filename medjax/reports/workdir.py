"""The files of a run's workdir, read for its report."""

import dataclasses
import functools
import json
import pathlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from medjax import files
from medjax.reports import rows as rows_lib
from medjax.reports.form import ANY, conform, counts, curve, interval, number
from medjax.reports.gallery import load_cases
from medjax.reports.measures import Measures
from medjax.reports.text import changed, shorten

_SCORES = {ANY: number}
_SUMMARY = {
  'n': number,
  'patients': number,
  'scores': _SCORES,
  'intervals': {ANY: interval},
  'classes': {ANY: {ANY: {'interval': interval, ANY: number}}},
  'support': _SCORES,
  'confusion': counts,
  'confusion_at_threshold': counts,
  'curves': {ANY: {ANY: curve}},
  'applied_thresholds': [number],
  'applied_temperature': number,
  'uncertainty': _SCORES,
  'modalities': {
    'score': str,
    'lines': [
      {
        'way': str,
        'input': str,
        'score': {'value': number, 'interval': interval},
        'difference': {'value': number, 'interval': interval},
      }
    ],
  },
}
_METRICS = {
  'run': {'seconds': number, 'command': str, 'monitor': str, 'changed': {}},
  'measures': {ANY: {'title': str, 'unit': str, 'higher': bool}},
  'unit_of_length': str,
  'calibration': {'thresholds': [number], 'temperature': number},
  'test': _SUMMARY,
  'validation': _SUMMARY,
  'members': {
    ANY: {'best_step': number, 'test': _SCORES, 'validation': _SCORES}
  },
}
_CONFIG = {'task': {'monitor': str}, 'model': {}, 'data': {}}
_FACTS = {'notes': [str]}
_AGAIN = 'evaluate again'


@dataclasses.dataclass(frozen=True)
class Run:
  """What a workdir holds of a run; what is missing is empty, and noted."""

  folder: pathlib.Path
  config: Mapping
  metrics: Mapping
  log: Sequence[Mapping]
  rows: Sequence[Mapping]  # of per_case.csv, of `split` only
  cases: Sequence[Mapping]
  notes: Sequence[str]

  @functools.cached_property
  def summaries(self):
    """{split: summary}, that of the test split first."""
    return {
      split: self.metrics[split]
      for split in ('test', 'validation')
      if self.metrics.get(split)
    }

  @property
  def split(self):
    """The split that is shown first, '' before there are results."""
    return next(iter(self.summaries), '')

  @property
  def summary(self):
    """The summary of that split."""
    return self.summaries.get(self.split, {})

  @property
  def facts(self):
    """What metrics.json says of the run itself."""
    return self.metrics.get('run', {})

  @property
  def monitor(self):
    """The score that chose the checkpoint, None when it is not known."""
    task = self.config.get('task', {})
    return self.facts.get('monitor') or task.get('monitor')

  @functools.cached_property
  def measures(self):
    """Titles, units and directions of the scores."""
    return Measures.of(self.metrics)

  @functools.cached_property
  def by_case(self):
    """The measures of each case, the most wanted first; () without any."""
    known = [m for m in rows_lib.measured(self.rows) if m in self.measures]
    return tuple(self.measures.ordered(known, first=self.monitor))

  def column(self, measure, rows=None):
    """{class: (n,)} of a measure of each case."""
    rows = self.rows if rows is None else rows
    return rows_lib.by_class(rows, measure, where=self.folder / 'per_case.csv')

  @property
  def label_names(self):
    """{label of a mask: its class's name}, {} where there is no such name."""
    if self.config.get('task', {}).get('regions'):
      return {}
    return dict(enumerate(self.summary.get('classes', {}), start=1))


def read(workdir) -> Run:
  """Reads config.json, metrics.json(l), per_case.csv and figures/cases.npz.

  Raises FileNotFoundError when the folder holds nothing of a run, ValueError of
  one line for a file that is damaged.
  """
  folder = pathlib.Path(workdir)
  path = folder / 'config.json'
  config = conform(_json(path, 'train again'), _CONFIG, str(path))
  metrics = read_metrics(folder)
  log, damaged = _read_log(folder / 'metrics.jsonl')
  _check_table(folder / 'per_case.csv', metrics)
  rows = rows_lib.read(folder / 'per_case.csv')
  cases = _read_cases(folder / 'figures/cases.npz')
  if config is None and metrics is None and not log:
    raise FileNotFoundError(
      f'{folder} holds no config.json, metrics.jsonl or metrics.json: '
      'give the workdir of a run'
    )
  pictures = (folder / 'figures/cases.npz').exists()
  notes = _missing(config, log, metrics, rows, pictures)
  notes += _of_the_data(folder, metrics)
  if settings := changed((metrics or {}).get('run') or {}):
    notes.append(f'These results were {settings}.')
  if damaged:
    notes.append(f'Damaged lines of metrics.jsonl, left out: {damaged}.')
  run = Run(folder, config or {}, metrics or {}, log, rows, cases, notes)
  split = run.split  # before there are results, the rows of all splits
  mine = [row for row in rows if not split or row.get('split', split) == split]
  return dataclasses.replace(run, rows=mine)


def _check_table(path, metrics):
  """Raises ValueError for a table that is not that of metrics.json."""
  written = (metrics or {}).get('per_case_sha256')
  if written and files.digest_of(path) not in (written, None):
    raise ValueError(
      f'{path} is damaged: it is not as it was written; {_AGAIN}'
    )


def read_metrics(workdir) -> dict | None:
  """metrics.json of a workdir, None where there is none.

  Raises ValueError for one that is damaged.
  """
  path = pathlib.Path(workdir) / 'metrics.json'
  return conform(_json(path, _AGAIN), _METRICS, f'{path} is damaged')


def read_measures(run: str) -> Measures:
  """Those of a workdir, or of a per_case.csv in one; without any, none.

  Of several joined by commas (folds) those of the first.
  """
  path = pathlib.Path(run)
  path = path if path.exists() else pathlib.Path(run.split(',')[0])
  folder = path.parent if path.name == 'per_case.csv' else path
  metrics = (read_metrics(folder) if folder.is_dir() else None) or {}
  _check_table(folder / 'per_case.csv', metrics)
  return Measures.of(metrics)


def _json(path, mend):
  return files.read_json(path, mend=mend)


def _read_log(path):
  """Entries of metrics.jsonl, and how many lines are no entry.

  A last line that has no end is being written, or was when the run was killed.
  """
  if not path.exists():
    return [], 0
  files.check_text(path)
  text = path.read_text(encoding='utf-8', errors='replace')
  log, damaged = [], 0
  for line in text.splitlines(keepends=True):
    entry = _entry(line)
    if entry is not None:
      log.append(entry)
    elif line.endswith('\n'):
      damaged += 1
  return log, damaged


def _entry(line):
  """{'step': …, …} with its numbers, None for a damaged line."""
  try:
    entry = json.loads(line)
    number(entry['step'], 'step')
  except (ValueError, KeyError, TypeError):
    return None
  plain = (int, float, type(None))
  return {k: v for k, v in entry.items() if isinstance(v, plain)}


def _read_cases(path):
  """The cases to show, [] without the file."""
  if not path.exists():
    return []
  files.check_kind(path)
  try:
    cases = load_cases(path)
    for case in cases:
      _check_case(case)
  except PermissionError:
    raise
  except (
    OSError,  # a place in the archive that there is not
    ValueError,
    KeyError,
    EOFError,
    NotImplementedError,  # a way of compression that there is not
    RuntimeError,  # encrypted
    zipfile.BadZipFile,
    zlib.error,
  ) as e:
    text = shorten(' '.join(str(e).split()), 80)
    raise ValueError(f'{path} is damaged: {text}; {_AGAIN}') from None
  return cases


def _check_case(case):
  shape = np.shape(case.get('image'))
  text = all(isinstance(case.get(k, ''), str) for k in ('id', 'caption'))
  if not text or 'id' not in case or len(shape) not in (2, 3) or 0 in shape:
    raise ValueError('a case without an id or an image')
  for name in ('mask', 'prediction'):
    if name in case and case[name].shape != shape[:2]:
      raise ValueError(f'a {name} of another shape than its image')
  spacing = case.get('spacing', np.ones(2))
  if spacing.shape != (2,) or not (spacing > 0).all():
    raise ValueError('a spacing that is not two lengths')


def _of_the_data(folder, metrics):
  """What was assumed of the training's data, from facts.json."""
  if 'workdir' in ((metrics or {}).get('run') or {}):  # evaluated on others
    return []
  path = folder / 'facts.json'
  facts = conform(_json(path, 'train again'), _FACTS, str(path)) or {}
  return [f'Data: {note}.' for note in facts.get('notes', [])]


def _missing(config, log, metrics, rows, pictures):
  """What is not there, in words."""
  notes = []
  if config is None:
    notes.append('config.json is missing: the configuration is not known.')
  if metrics and metrics.get('members'):
    return ['Learning curves, and more, are in the reports of the members.']
  elsewhere = 'workdir' in ((metrics or {}).get('run') or {})  # other data
  if not log and not elsewhere:
    notes.append('metrics.jsonl is missing or empty: no learning curves.')
  if metrics is None:
    notes.append('metrics.json is missing: the run is not evaluated yet.')
  else:
    for split in () if elsewhere else ('test', 'validation'):
      if not metrics.get(split):
        notes.append(f'There are no {split} results.')
    if not metrics.get('measures'):
      notes.append(
        'metrics.json does not say what its scores are called and which way '
        'is better: they are shown by name, and cases are not ranked.'
      )
  if not rows:
    notes.append('per_case.csv is missing or empty: no results by case.')
  if not pictures:  # A task may have none to show: then the file is empty.
    notes.append('figures/cases.npz is missing: no pictures of cases.')
  return notes
