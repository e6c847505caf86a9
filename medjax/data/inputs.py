"""Of which files a set is made: digests, by which two makings are compared.

Shards of a run that was killed are of use to one of the same `digest`. A
finished set keeps a `note` of the folder it was made from, which is looked at
each time that the set is opened, and so must be quick.
"""

import dataclasses
import hashlib
import os
import pathlib
import stat

import numpy as np

from medjax.data import walk

_LOOKED_INTO = 64  # files of a folder
_PIECE = 4096  # bytes of a file, at its start, middle and end


def digest(manual_dir, splits):
  """A digest of all that the items are read from.

  Files go in by name, size and time of change, folders with all that lies
  below, arrays by their values.
  """
  found, seen = hashlib.sha256(), set()
  hand = [] if manual_dir is None else [pathlib.Path(manual_dir)]
  for leaf in _leaves([hand, _told(splits)]):
    if isinstance(leaf, np.ndarray):
      found.update(np.ascontiguousarray(leaf))
    elif isinstance(leaf, str | bytes | int | float | None | np.generic):
      found.update(repr(leaf).encode('utf-8', 'surrogateescape'))
    path = _path(leaf)
    for each in sorted([path, *path.rglob('*')]) if path else ():
      if each not in seen:
        seen.add(each)
        found.update(_identity(each).encode('utf-8', 'surrogateescape'))
  return found.hexdigest()


def note(manual_dir, splits, data_dir):
  """What a finished set keeps of its `manual_dir`, JSON-able, or None.

  Where the items name a single file in it, of that file: others may come to lie
  beside it. Else of all that is in the folder, without the sets that are
  prepared into a `data_dir` in it. None: without a folder, or where both are
  one, which no two makings leave as it was.
  """
  if manual_dir is None:
    return None
  home = pathlib.Path(manual_dir)
  paths = {p for p in map(_path, _leaves(_told(splits))) if p}
  named = sorted(p for p in paths if p.is_relative_to(home))
  file = ''
  if len(named) == 1 and named[0].is_file():
    file = str(named[0].relative_to(home))
  elif home.resolve() == pathlib.Path(data_dir).resolve():
    return None
  return {'file': file, 'digest': _contents(home, file, data_dir)}


def same(kept, manual_dir, data_dir):
  """Whether a folder holds what a `note` was made of, wherever it lies now."""
  home, file = pathlib.Path(manual_dir), kept['file']
  return _contents(home, file, data_dir) == kept['digest']


def _contents(home, file, data_dir):
  """A digest of names and sizes, and of pieces of a few files."""
  if file:
    paths = [p for p in (home / file,) if p.is_file()]
  else:
    paths = _below(home, pathlib.Path(data_dir).resolve())
  found = hashlib.sha256()
  for path in paths:
    line = f'{path.relative_to(home).as_posix()} {path.stat().st_size}\n'
    found.update(line.encode('utf-8', 'surrogateescape'))
  # Exports of two scanners may have the same names and sizes.
  few = min(len(paths), _LOOKED_INTO)
  for k in range(few):
    found.update(_pieces(paths[len(paths) * k // few]))
  return found.hexdigest()


def _below(home, data_dir):
  """The files below a folder, but for those in a `data_dir` further down."""
  paths = list(walk.files_below(home, unreadable={}))
  real = home.resolve()
  if real in data_dir.parents:
    apart = home / data_dir.relative_to(real)
    paths = [p for p in paths if not p.is_relative_to(apart)]
  return paths


def _pieces(path):
  size, found = path.stat().st_size, b''
  with open(path, 'rb') as f:
    for start in (0, size // 2, max(0, size - _PIECE)):
      f.seek(start)
      found += f.read(_PIECE)
  return found


def _told(splits):
  return [
    [name, list(split.items), list(split.arguments)]
    for name, split in splits.items()
  ]


def _leaves(value):
  """All that items consist of, in order, and how many a list has."""
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    fields = dataclasses.fields(value)
    value = {f.name: getattr(value, f.name) for f in fields}
  if isinstance(value, dict):
    value = list(value.items())
  if isinstance(value, set | frozenset):
    value = sorted(value, key=repr)
  if isinstance(value, list | tuple):
    yield len(value)
    for each in value:
      yield from _leaves(each)
  else:
    yield value


def _path(leaf):
  """The path that a leaf is, or None."""
  if isinstance(leaf, str) and os.path.isabs(leaf):
    return pathlib.Path(leaf)
  return leaf if isinstance(leaf, pathlib.Path) else None


def _identity(path):
  """A file's name, size and time of change; of all else the name."""
  try:
    about = path.stat()
  except OSError:  # a link to nowhere, or a text that is no path
    return f'{path}\n'
  if not stat.S_ISREG(about.st_mode):
    return f'{path}\n'
  return f'{path} {about.st_size} {about.st_mtime_ns}\n'
