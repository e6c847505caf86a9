"""Predictions on the rows of a table, which may name images."""

import functools
import hashlib
import pathlib
import sys

import numpy as np

from medjax.data import folder
from medjax.data.folder.tables import SUFFIXES
from medjax.prediction import files

_FIELDS = ('id', 'patient', 'visit')
# What readers of files add to a case, and a column may be called, too.
_ADDED = frozenset(('notes', 'inputs', 'path'))


def takes(run, paths):
  """Whether cases are rows of tables: of a run without images, or of these."""
  kinds = {pathlib.Path(p).suffix.lower() for p in paths}
  return 'image' not in run.task.inputs or (
    bool(kinds) and kinds <= {*SUFFIXES}
  )


def opened(run, path):
  """The rows of a table, all of them, as `FolderCases`: read when asked for.

  With the columns that the run knows. Raises ValueError for a table that lacks
  one, or holds text where the run knows numbers. A kind that the training had
  not is missing.
  """
  data = run.experiment.config['data']
  images = 'image' in run.task.inputs
  wanted = {*_FIELDS, *run.task.inputs, *(('mask',) if images else ())}
  fields = {k: v for k, v in data['fields'].items() if k in wanted and v}
  fields.pop('covariates', None)
  task, ignore = run.experiment.config['task'], data.get('ignore')
  ignore = task.get('ignore') if ignore is None else ignore
  splits = folder.open_splits(
    path,
    patient=data['patient'],
    fields=fields,
    fractions=(0, 0, 1),
    images=images,
    unlabelled=True,
    unread=True,
    ignore=ignore,
    mask_values=data.get('mask_values'),
    covariates=run.experiment.facts.covariate_names,
    landmark=tuple(data.get('landmark') or ()),
  )
  return [*splits.values()]


def cases(run, path):
  """The rows of a table as raw cases."""
  parts = opened(run, path)
  return [_case(part, i) for part in parts for i in range(len(part))]


def _case(part, i):
  return {k: v for k, v in part[i].items() if k not in _ADDED}


def sources(run, paths, out):
  """([`files.Source`] of the rows of tables, the `FolderCases` they are of)."""
  if where := run.experiment.config['data'].get('where'):
    print(f'note: data.where={where!r} was of the training: all rows count')
  found, seen, parts = [], {}, []
  for path in map(pathlib.Path, paths):
    if path.parent.resolve() == pathlib.Path(out).resolve():
      raise ValueError(f'{out} holds an input; results need another folder')
    for part in opened(run, path):
      parts.append(part)
      for i, entry in enumerate(part.entries):
        other = seen.setdefault(entry.id, path)
        if other is not path:
          raise ValueError(
            f'{path}: a row is called {entry.id}, and so is one of {other}: '
            'predict them into two --out folders'
          )
        read = functools.partial(_case, part, i)
        place = [str(path.resolve())]
        others = (entry.others[k] for k in sorted(entry.others))
        stamp = [_digest(entry), *map(files.stamp, (*entry.images, *others))]
        found.append(files.Source(entry.id, entry.id, place, stamp, read))
  return found, parts


def _digest(entry):
  """Sixteen digits of what a row says of its case."""
  with np.printoptions(threshold=sys.maxsize):
    text = repr((entry.images, entry.others, entry.extra))
  return hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()[
    :16
  ]
