"""per_case.csv: writing it, reading it back, matching the cases of two runs.

The layout is that of a workdir, and any table in it may be read: a header,
one line per case, a column `id`, numbers in columns METRIC/CLASS ('dice/left')
or, of a classification, `probability/CLASS` with `label` (a class's name or
index) or with `label/CLASS` (0 or 1), and `decided`, likewise a class, where it
need not be the likeliest. `split` and `patient` may be left out.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from medjax import files

# Ids that a message names before it says how many more there are.
_NAMED = 3


def write(path, rows, names):
  """Writes a line per row; of a vector a column per name: 'dice/white'."""
  lines = []
  for row in rows:
    line = {}
    for key, value in row.items():
      if np.ndim(value) == 0:
        line[key] = value
      else:
        pairs = zip(names, value, strict=True)
        line |= {f'{key}/{name}': v for name, v in pairs}
    lines.append(line)
  files.write_csv(path, lines)


def class_of(text, names):
  """The index of the class that `label` or `decided` of a line of ours says.

  A number is an index, as we write it, and only else a name. In the table of
  others, whose classes may be called '1' and '2', the whole column tells what
  is meant: `medjax.reports.rows.class_numbers`. Raises ValueError for what is
  neither.
  """
  try:
    at = float(text)
  except ValueError:
    at = -1
  if at in range(len(names)):
    return int(at)
  return list(names).index(str(text))


def _names(ids):
  ids = sorted(ids)
  more = f' and {len(ids) - _NAMED} more' if len(ids) > _NAMED else ''
  return ', '.join(ids[:_NAMED]) + more


def _renamed(row, columns):
  old = {theirs: ours for ours, theirs in columns.items()}
  return {old.get(key, key): value for key, value in row.items()}


def _read_file(path, split, columns):
  if path.is_dir():
    path = path / 'per_case.csv'
  if not path.exists():
    raise FileNotFoundError(
      f'{path} does not exist: give the workdir of an evaluated run, or a CSV'
    )
  rows, header = files.read_csv(path, mend='give another table')
  # A mapping is for the file that has its columns; ours need none.
  rows = [_renamed(row, columns) for row in rows]
  header = [*_renamed(dict.fromkeys(header), columns)]
  if 'id' not in header:
    raise ValueError(
      f'{path} has no column id, only {", ".join(header) or "nothing"}: '
      'say which it is with --columns=id=NAME'
    )
  if 'split' in header:
    splits = {row['split'] for row in rows}
    rows = [row for row in rows if row['split'] == split]
    if not rows:
      raise ValueError(
        f'{path} has no case of the split {split!r}, only of '
        f'{", ".join(sorted(map(str, splits))) or "none"}: give --split'
      )
  if not rows:
    raise ValueError(f'{path} holds no cases')
  return path, rows


def read(
  run: str, *, split: str = 'test', columns: Mapping[str, str] | None = None
) -> dict[str, dict[str, str]]:
  """{id: row} of a workdir or CSV file, or of several joined by commas.

  Several are the folds of one cross-validation: their cases are pooled.
  `columns` names what another's table calls otherwise: {'id': 'case'}. Where
  there is a column `split`, rows of another split are left out.
  """
  paths = [run] if pathlib.Path(run).exists() else run.split(',')
  cases = {}
  for path in paths:
    path, rows = _read_file(pathlib.Path(path), split, columns or {})
    for row in rows:
      name = row['id']
      if not name:
        raise ValueError(f'{path} has a line without an id')
      if name in cases:
        raise ValueError(
          f'{path} has case {name} twice, or another fold has it too: '
          'a case may be compared only once'
        )
      cases[name] = row
  return cases


def match(
  a: Mapping, b: Mapping, *, common: bool = False, names: Sequence[str] = 'AB'
) -> list[str]:
  """Ids of both runs, in the order of the first.

  Raises ValueError when one has cases that the other lacks, unless `common`.
  """
  shared = [name for name in a if name in b]
  if not shared:
    raise ValueError(
      f'no case of {names[0]} ({_names(a)}) is in {names[1]} ({_names(b)})'
    )
  extra = []
  for own, other, name, lacking in ((a, b, *names), (b, a, *names[::-1])):
    alone = set(own) - set(other)
    if alone:
      extra.append(
        f'{name} has {len(alone)} that {lacking} lacks ({_names(alone)})'
      )
  if extra and not common:
    raise ValueError(
      f'the cases differ: {"; ".join(extra)}: compare the {len(shared)} that '
      'both have with --common'
    )
  return shared
