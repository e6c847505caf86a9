"""Files that are put in place when they are whole, JSON without NaN, CSV."""

import contextlib
import csv
import hashlib
import json
import os
import pathlib
import unicodedata

import numpy as np

MOST = 128 * 2**20  # bytes of a file of text; an honest one has far fewer
_LONGEST = 2**20  # characters of a line of a table
_LEAST_SECRET = 16  # bytes; fewer can be guessed

_SEAL = 'sha256'  # field of a JSON file, of all the others
_FORMULA = ('=', '+', '-', '@', '\t', '\r')


def check_kind(path):
  """Raises ValueError for what is there, but is neither a file nor a folder.

  Opened, a FIFO or a device could be waited for without an end.
  """
  path = pathlib.Path(path)
  if path.exists() and not (path.is_file() or path.is_dir()):
    raise ValueError(
      f'{path} is neither a file nor a folder (a pipe, socket or device?): '
      'copy what it gives into a file'
    )


def check_text(path):
  """Raises ValueError for what is no file of text, or too large to be one."""
  path = pathlib.Path(path)
  check_kind(path)
  size = path.stat().st_size
  if size > MOST:
    raise ValueError(
      f'{path} has {size / 2**20:.0f} MiB; medjax reads text of up to '
      f'{MOST / 2**20:.0f}'
    )


@contextlib.contextmanager
def replacing(path, mode='w', **options):
  """Opens a file that takes the name `path` only when the body has ended.

  An error in the body leaves what was there before, and nothing beside it.
  Makes the folder. `options` are those of `open`; text is UTF-8, in which a
  byte of a file name that is none is \\udc….
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
  if 'b' not in mode:
    options.setdefault('encoding', 'utf-8')
    options.setdefault('errors', 'backslashreplace')
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


def write_json(path, tree, *, sealed=False):
  """Writes JSON whole, with null for NaN and infinity.

  `sealed` adds a digest to a dict, by which `read_json` knows whether it is as
  it was written.
  """
  tree = plain(tree)
  if sealed:
    tree = {**tree, _SEAL: _digest(tree)}
  write_text(path, json.dumps(tree, indent=1) + '\n')


def _digest(tree):
  text = json.dumps(tree, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def digest_of(path):
  """SHA-256 of a file's bytes; None where there is no file."""
  path = pathlib.Path(path)
  if not path.is_file():
    return None
  with path.open('rb') as f:
    return hashlib.file_digest(f, 'sha256').hexdigest()


def composed(text):
  """Text in which an umlaut is one letter, not u and ¨ as macOS writes it."""
  return unicodedata.normalize('NFC', text)


def as_utf8(text):
  """Text in which a byte of a file name that is no UTF-8 is \\udc…."""
  return text.encode('utf-8', 'backslashreplace').decode()


def read_json(path, *, mend):
  """Reads a JSON file; None where there is no file.

  Raises ValueError of one line for one that is damaged, or was changed after it
  was sealed; it ends with `mend`, how to mend that.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return None
  check_text(path)
  try:
    tree = json.loads(path.read_text(encoding='utf-8-sig'))
  except (ValueError, RecursionError) as e:
    raise ValueError(f'{path} is not JSON: {e}; {mend}') from None
  seal = tree.pop(_SEAL, None) if isinstance(tree, dict) else None
  if seal is not None and seal != _digest(tree):
    raise ValueError(
      f'{path} is damaged: it is not as it was written, by its {_SEAL}; {mend}'
    )
  return tree


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
    writer.writerows({k: _cell(v) for k, v in row.items()} for row in rows)


def read_csv(path, *, mend):
  """(rows as dicts of text, column names) of a CSV with a header.

  Raises ValueError of one line for a file that is none; it ends with `mend`,
  how to mend that.
  """
  path = pathlib.Path(path)
  check_text(path)
  with path.open(encoding='utf-8-sig', newline='') as f:
    try:
      reader = csv.DictReader(_short(f), restkey='', strict=True)
      rows = list(reader)
    except (csv.Error, UnicodeDecodeError) as e:
      raise ValueError(
        f'{path} is damaged, no table in CSV: {e}; {mend}'
      ) from None
  for line, row in enumerate(rows, 2):
    if '' in row or None in row.values():
      raise ValueError(
        f'{path} is damaged: line {line} has more or fewer fields than the '
        f'header; {mend}'
      )
  plain_rows = [{k: unquoted(v) for k, v in row.items()} for row in rows]
  return plain_rows, list(reader.fieldnames or ())


def _short(lines):
  """Yields the lines of an open file, none of which may be endless."""
  while line := lines.readline(_LONGEST):
    if len(line) == _LONGEST:
      raise csv.Error(f'a line has {_LONGEST} characters or more')
    yield line


def _cell(value):
  """A text that a spreadsheet would take for a formula gets a quote."""
  text = isinstance(value, str | pathlib.PurePath)
  if not text or str(value)[:1] not in _FORMULA:
    return value
  try:
    float(value)
  except (TypeError, ValueError):
    return f"'{value}"
  return value  # '-0.5' is a number, whatever holds it


def unquoted(cell):
  """A cell of a CSV as it was given to `write_csv`."""
  formula = cell[:1] == "'" and cell[1:2] in _FORMULA and cell[1:]
  return cell[1:] if formula else cell


def read_secret(path, *, called, lacking, kind):
  """The bytes of a file that holds a secret, without white space around them.

  called: the file as messages have it; lacking: what to do where there is none;
  kind: what the secret is. Raises FileNotFoundError, and ValueError for one
  that can be guessed.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{called}: no such file; {lacking}')
  secret = path.read_bytes()[:4096].strip()
  if len(secret) < _LEAST_SECRET:
    raise ValueError(
      f'{called}: has {len(secret)} bytes, which can be guessed; a {kind} has '
      f'{_LEAST_SECRET} or more'
    )
  return secret
