"""Files that are put in place when they are whole, and JSON without NaN."""

import contextlib
import csv
import json
import os
import pathlib

import numpy as np


@contextlib.contextmanager
def replacing(path, mode='w', **options):
  """Opens a file that takes the name `path` only when the body has ended.

  An error in the body leaves what was there before, and nothing beside it.
  Makes the folder. `options` are those of `open`; text is UTF-8.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
  if 'b' not in mode:
    options.setdefault('encoding', 'utf-8')
  try:
    with partial.open(mode, **options) as f:
      yield f
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


def write_text(path, text):
  """Writes a text file whole."""
  with replacing(path) as f:
    f.write(text)


def plain(value):
  """Arrays and numpy scalars as JSON's own types; NaN and infinity as None."""
  if isinstance(value, dict):
    return {str(k): plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [plain(v) for v in value]
  if isinstance(value, np.ndarray | np.generic):
    return plain(value.tolist())
  if isinstance(value, float) and not np.isfinite(value):
    return None
  return value


def write_json(path, tree):
  """Writes JSON whole, with null for NaN and infinity."""
  write_text(path, json.dumps(plain(tree), indent=1) + '\n')


def read_json(path, *, mend):
  """Reads a JSON file; None where there is no file.

  Raises ValueError of one line for one that is damaged; it ends with `mend`,
  how to mend that.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return None
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except ValueError as e:
    raise ValueError(f'{path} is not JSON: {e}; {mend}') from None


def write_csv(path, rows, *, columns=None):
  """Writes dicts as lines of a CSV, whole.

  The columns are those of all rows in the order in which they come, or
  `columns`.
  """
  rows = list(rows)
  if columns is None:
    columns = dict.fromkeys(key for row in rows for key in row)
  with replacing(path, newline='') as f:
    writer = csv.DictWriter(f, list(columns))
    writer.writeheader()
    writer.writerows(rows)
