"""Files that the cells of a table mean, however they are written there."""

import collections
import pathlib

from medjax.data import formats, walk
from medjax.data.folder import pattern
from medjax.data.folder.listing import images_below
from medjax.files import composed


class Places:
  """The files below a folder, found by path, name or stem.

  A cell may be a path below the folder with slashes or backslashes, with `*`,
  a longer path that ends in one below the folder (as it was elsewhere), or the
  mere name of a file anywhere below it; with or without the suffix. An umlaut
  is one, be it a letter or, as macOS may write it, u and ¨.
  """

  def __init__(self, root):
    self.root = pathlib.Path(root)
    self._by_name = None
    self._files = None

  def find(self, text, where):
    """The file, or DICOM folder, that a text means.

    Raises FileNotFoundError if there is none, ValueError if several.
    """
    found = self.every(text, where)
    if len(found) > 1:
      raise ValueError(
        f'{where}: {text} may be {found[0]} or {found[1]}; say more of its '
        'path, in the table or in data.fields'
      )
    return found[0]

  def every(self, text, where):
    """All of them, at least one."""
    for candidate in dict.fromkeys((text, text.replace('\\', '/'))):
      path = self.root / candidate
      if path.exists():
        return [path]
      if '*' in candidate or not candidate.isascii():
        found = [p for p, _ in pattern.find(self.root, candidate)]
        if found:
          return found
    cell = composed(text.replace('\\', '/').strip('/'))
    name = pathlib.PurePosixPath(cell).name
    found = self._names().get(name) or self._drawn(name)
    if '/' in cell:  # then its folders must be those of the file
      found = [p for p in found if f'/{cell}'.endswith(self._tails(p))]
    if not found:
      raise FileNotFoundError(f'{where}: no file {self.root / text}')
    return found

  def _tails(self, path):
    below = path.relative_to(self.root)
    bare = below.with_name(formats.stem(path))
    return tuple(f'/{composed(p.as_posix())}' for p in (below, bare))

  def _names(self):
    """{name and stem: files} of all images below the folder."""
    if self._by_name is None:
      self._by_name = _by_name(images_below(self.root, masks=True))
    return self._by_name

  def _drawn(self, name):
    """The DICOM SEG and RTSTRUCT of a name or stem, which are no images."""
    if self._files is None:
      self._files = _by_name(walk.files_below(self.root))
    return [p for p in self._files.get(name, ()) if formats.is_segmentation(p)]


def _by_name(paths):
  """{name and stem: paths}."""
  found = collections.defaultdict(list)
  for path in paths:
    for name in dict.fromkeys((path.name, formats.stem(path))):
      found[composed(name)].append(path)
  return found
