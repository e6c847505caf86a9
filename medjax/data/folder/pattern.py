"""Where files lie, said by a pattern: '{patient}/{study}/{t1,t2}.nii.gz'.

`{name}` is part of a file's or folder's name, or a column of a table; a name
that occurs twice is the same text twice. `{a,b,c}` are three patterns, one for
each channel. `*` is any text. None of them reaches past a '/'.
"""

import pathlib
import re

from medjax.data import formats, walk
from medjax.files import composed

_NAME = re.compile(r'\{([^{},]+)\}')
_CHOICE = re.compile(r'\{([^{}]*,[^{}]*)\}')
_TOKEN = re.compile(r'\{[^{},]+\}|\*')


def expand(pattern):
  """The patterns that {a,b} stands for: ('x_a.png', 'x_b.png')."""
  match = _CHOICE.search(pattern)
  if match is None:
    return (pattern,)
  before, after = pattern[: match.start()], pattern[match.end() :]
  return tuple(
    whole
    for choice in match[1].split(',')
    for whole in expand(before + choice.strip() + after)
  )


def choices(pattern):
  """What each of `expand` chose: ('a', 'b') of 'x_{a,b}.png'."""
  match = _CHOICE.search(pattern)
  if match is None:
    return ('',)
  after = choices(pattern[match.end() :])
  return tuple(
    '_'.join(filter(None, (choice.strip(), rest)))
    for choice in match[1].split(',')
    for rest in after
  )


def names(*patterns):
  """The names in patterns, in order, each once."""
  return tuple(dict.fromkeys(n for p in patterns for n in _NAME.findall(p)))


def fill(pattern, values):
  """The pattern with the names that `values` has replaced."""
  return _NAME.sub(lambda m: values.get(m[1], m[0]), pattern)


def find(root, pattern, values=None, passed=None):
  """[(path, values)] of all that lies at `pattern` below a folder, sorted.

  `values` {name: text} are known before; those found are added, an umlaut in
  them as one letter, however the file is called. An image of
  any format matches a last part without a suffix. `passed` counts what is left
  out (`walk.Passed`).
  """
  found = [(pathlib.Path(root), dict(values or {}))]
  parts = pathlib.PurePath(pattern).parts
  for i, part in enumerate(parts):
    last = i == len(parts) - 1
    found = [
      (child, {**known, **new})
      for place, known in found
      for child, new in _children(place, part, known, last, passed)
    ]
  return found


def _children(place, part, known, last, passed):
  part_names = [n for n in names(part) if n not in known]
  if not part_names and '*' not in part:
    return [(child, {}) for child in _called(place, fill(part, known))]
  if not place.is_dir():
    return []
  regex = _regex(composed(part), known)
  bare = last and part.endswith(('}', '*'))
  matches = []
  folders, files = walk.listed(place, passed)
  found = [(f, True) for f in folders] + [(f, False) for f in files if last]
  for child, is_folder in sorted(found):
    if last and (bare or is_folder) and not formats.is_image(child):
      if passed is not None and not is_folder:
        passed.unread[child.suffix.lower()] += 1
      continue
    stem = bare and not is_folder
    name = formats.stem(child) if stem else child.name
    match = regex.fullmatch(composed(name))
    if match:
      new = dict(zip(part_names, match.groups(), strict=True))
      matches.append((child, new))
  return matches


def _called(place, name):
  """What lies in a folder under a name, however its umlauts are written."""
  child = place / name
  if child.is_dir() or child.is_file():
    return [child]
  if name.isascii() or not place.is_dir():
    return []
  folders, files = walk.listed(place)
  return [c for c in folders + files if composed(c.name) == composed(name)]


def _regex(part, known):
  pieces, groups, end = [], {}, 0
  for token in _TOKEN.finditer(part):
    pieces.append(re.escape(part[end : token.start()]))
    end = token.end()
    name = token[0][1:-1]
    if token[0] == '*':
      pieces.append('.*')
    elif name in known:
      pieces.append(re.escape(composed(known[name])))
    elif name in groups:
      pieces.append(f'(?:\\{groups[name]})')
    else:
      groups[name] = len(groups) + 1
      pieces.append('(.+?)')
  return re.compile(''.join(pieces) + re.escape(part[end:]))
