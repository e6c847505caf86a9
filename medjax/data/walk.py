"""The one walk over folders: which files there are, each of them once.

Passed over and counted are hidden files, the thumbnails and bins that viewers
and file servers put beside pictures, what is no regular file (a pipe, a
socket, a device: opening it may wait for ever), links that lead back into the
folder, further names of a file already listed, and images of a kind that is a
folder and not read.
"""

import collections
import os
import pathlib
import stat

# Folders of NAS, operating systems and viewers, in small letters.
_THUMBNAILS = frozenset(
  ('@eadir', '.@__thumb', '.thumbs', '.thumb', '.thumbnails', 'thumbs',
   'thumbnails', '__macosx', '.appledouble', '#recycle', '@recycle',
   '$recycle.bin', '.trash', '.trashes', '#snapshot', 'lost+found')
)  # fmt: skip
# Files of operating systems, of which nobody wants to hear.
_SYSTEM = frozenset(('.ds_store', 'thumbs.db', 'desktop.ini', '.localized'))
HIDDEN = 'hidden files or folders'
THUMBNAILS = 'folders of thumbnails or deleted files'
SPECIAL = 'pipes, sockets or devices'
LOOPS = 'links to folders that are listed already'
COPIES = 'further links of a file that is listed already'
BROKEN = 'links to what is not there'
ZARR = 'folders of OME-Zarr, which is not read (save it as OME-TIFF or NIfTI)'


class Passed(collections.Counter):
  """How many of what were passed over; `unread` ones by their suffix."""

  def __init__(self):
    super().__init__()
    self.unread = collections.Counter()

  def add(self, other):
    """Counts what another walk passed over, too."""
    self.update(other)
    self.unread.update(other.unread)

  def lines(self):
    """A line for each kind, as they are shown to the user."""
    found = [f'passed over: {n} {what}' for what, n in sorted(self.items())]
    if self.unread:
      kinds = ', '.join(
        f'{n} {suffix or "without suffix"}'
        for suffix, n in self.unread.most_common(6)
      )
      more = ', …' if len(self.unread) > 6 else ''
      found.append(
        f'not read: {self.unread.total()} files that are no image of a known '
        f'format ({kinds}{more})'
      )
    return tuple(found)

  def unread_kinds(self):
    """What else there was, for the end of a message, or ''."""
    kinds = ', '.join(
      f'{n} {suffix or "without suffix"}'
      for suffix, n in self.unread.most_common(4)
    )
    return f' (not read: {kinds})' if kinds else ''


def check_apart(out, folder):
  """Raises ValueError where results in `out` would be taken for `folder`'s."""
  if pathlib.Path(out).resolve().is_relative_to(pathlib.Path(folder).resolve()):
    raise ValueError(
      f'{out}: lies inside {folder}, whose images are read, and those of the '
      'results would be: take another place'
    )


def listed(folder, passed=None):
  """(folders, files) lying in a folder, each sorted by name.

  Links are followed, so a link to a folder is among the folders. `passed`
  counts what is left out. Raises OSError for a folder that cannot be read.
  """
  passed = Passed() if passed is None else passed
  folders, files = [], []
  try:
    with os.scandir(folder) as entries:
      entries = sorted(entries, key=lambda e: e.name)
  except PermissionError:
    raise PermissionError(
      f'{folder}: this folder may not be read; change its rights, or take it '
      'away'
    ) from None
  for entry in entries:
    kind = _kind(entry)
    if kind in ('folder', 'file'):
      path = pathlib.Path(folder, entry.name)
      (folders if kind == 'folder' else files).append(path)
    elif kind:
      passed[kind] += 1
  return folders, files


def _kind(entry):
  """'folder', 'file', why it is passed over, or '' for what nobody misses."""
  name = entry.name.lower()
  if name in _SYSTEM:
    return ''
  if name in _THUMBNAILS:
    return THUMBNAILS
  if name.startswith('.'):
    return HIDDEN
  try:
    if entry.is_dir():
      return ZARR if name.endswith('.zarr') else 'folder'
    if entry.is_file():
      return 'file'
    mode = entry.stat(follow_symlinks=False).st_mode
  except OSError:  # a link to itself
    return BROKEN
  return BROKEN if stat.S_ISLNK(mode) else SPECIAL


def walk(root, passed=None, *, unreadable=None):
  """(folder, its files) of a folder and all below it, in order of their names.

  A link to a folder is followed where its target lies elsewhere, once; a file
  that has several names comes with the first. `unreadable`: a dict that takes
  {folder: line} of those that cannot be read, which else raise OSError.
  """
  passed = Passed() if passed is None else passed
  root = pathlib.Path(root)
  real = root.resolve()
  seen, inodes = {real}, {}
  stack = [root]
  while stack:
    folder = stack.pop()
    try:
      folders, files = listed(folder, passed)
    except OSError as e:
      if unreadable is None:
        raise
      unreadable[folder] = ' '.join(str(e).split())
      continue
    yield folder, [f for f in files if not again(f, inodes, passed)]
    below = []
    for child in folders:
      if enters(child, real, seen):
        below.append(child)
      else:
        passed[LOOPS] += 1
    stack += reversed(below)


def files_below(root, passed=None, *, unreadable=None):
  """The files of `walk`, one after the other."""
  for _, files in walk(root, passed, unreadable=unreadable):
    yield from files


def enters(folder, root, seen):
  """Whether a walk from `root` goes into a folder, which is noted in `seen`.

  `root` and `seen` are resolved paths. A real folder is entered, a link only
  if it leads neither back into the root nor to a folder around it.
  """
  target = folder.resolve()
  around = target.is_relative_to(root) or root.is_relative_to(target)
  if folder.is_symlink() and around:
    return False
  if target in seen:
    return False
  seen.add(target)
  return True


def again(path, inodes, passed):
  """Whether a file is another name of one in `inodes`, which takes it."""
  status = path.stat()
  key = (status.st_dev, status.st_ino)
  other = inodes.setdefault(key, path)
  if other is path or not status.st_ino:
    return False
  # Some file servers give one number to several files: links alone count.
  linked = status.st_nlink > 1 or path.is_symlink() or other.is_symlink()
  passed[COPIES] += linked
  return linked
