"""One case before its files are read."""

import dataclasses
import os
import pathlib
import re

from medjax.data import formats

# Parts of a case that a path or a table may tell.
FIELDS = (
  'image', 'mask', 'label', 'patient', 'id', 'split', 'time', 'event',
)  # fmt: skip
MASK_STEM = re.compile(r'^(.+)_(mask|seg|label)$')
SPLITS = ('train', 'validation', 'test')
_SPLIT_NAMES = {
  'train': 'train',
  'training': 'train',
  'validation': 'validation',
  'valid': 'validation',
  'val': 'validation',
  'dev': 'validation',
  'test': 'test',
  'testing': 'test',
}


@dataclasses.dataclass(frozen=True)
class Entry:
  """One case before its files are read.

  images: a file, or a folder holding a DICOM series, for each channel.
  label: a class, or a tuple of 0 and 1 for several labels.
  patient, split: '' until assigned. where: of the table, for messages.
  extra: further fields of the case, as they are.
  """

  id: str
  images: tuple[pathlib.Path, ...]
  patient: str = ''
  mask: pathlib.Path | None = None
  label: str | tuple[int, ...] | None = None
  split: str = ''
  where: str = ''
  extra: dict = dataclasses.field(default_factory=dict)

  @property
  def image(self):
    """The first image."""
    return self.images[0]


def name_of(path, root):
  """A file's path below the root, without its format's suffix."""
  parent = pathlib.PurePath(os.path.relpath(path, root)).parent
  return (parent / formats.stem(path)).as_posix()


def split_name(text):
  """'val' → 'validation': one name for what is called by many, or ''."""
  return _SPLIT_NAMES.get(text.lower(), '')


def images_in(folder):
  """The images lying directly in a folder, sorted; series are folders."""
  return sorted(
    p
    for p in folder.iterdir()
    if not p.name.startswith('.') and formats.is_image(p)
  )


def images_below(folder):
  """The images at any depth below a folder, sorted.

  A folder that holds DICOM files is one image. Left out are DICOM that is no
  image (a structure set, a report), and x_mask, x_seg, x_label beside x.
  """
  found = []
  for path in folder.iterdir():
    if path.name.startswith('.'):
      continue
    if formats.is_image(path):
      if not path.is_dir() or formats.holds_image(path):
        found.append(path)
    elif path.is_dir():
      found += images_below(path)
  stems = {(p.parent, formats.stem(p)) for p in found}
  return sorted(p for p in found if (p.parent, _masked(p)) not in stems)


def _masked(path):
  """The stem of the image whose mask this is by its name, or None."""
  match = MASK_STEM.match(formats.stem(path))
  return match[1] if match else None


def folders_in(folder):
  """The folders in a folder, sorted."""
  return sorted(
    p for p in folder.iterdir() if p.is_dir() and not p.name.startswith('.')
  )
