"""One case before its files are read, and the names that files go by."""

import dataclasses
import os
import pathlib
import re

from medjax.data import formats

# Parts of a case that a path or a table may tell.
FIELDS = (
  'image', 'mask', 'label', 'patient', 'id', 'split', 'time', 'event', 'text',
  'covariates', 'visit',
)  # fmt: skip
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
# Names of folders, in small letters; of several masks the first is taken.
IMAGE_FOLDERS = (
  'images', 'image', 'imagestr', 'imgs', 'img', 'inputs', 'input', 'scans',
)  # fmt: skip
MASK_FOLDERS = (
  '1st_manual', 'manual1', 'manual', 'masks', 'labels', 'labelstr', 'mask',
  'label', 'gt', 'gts', 'groundtruth', 'ground_truth', 'ground-truth',
  'annotations', 'annotation', 'segmentations', 'segmentation', 'segs', 'seg',
  'targets', 'target',
)  # fmt: skip
# The end of a mask's name: x_mask, x-seg, x_mask_1, mask.
_WORDS = 'mask|msk|seg|dseg|label|segmentation|annotation|anno|gt|lesion_mask'
_MASK_STEM = re.compile(rf'^(.+?)([_\- .](?:{_WORDS})s?)([_\- ]?\d+)?$', re.I)
_MASK_ONLY = re.compile(rf'^(?:{_WORDS})s?([_\- ]?\d+)?$', re.I)


@dataclasses.dataclass(frozen=True)
class Entry:
  """One case before its files are read.

  images: a file, or a folder holding a DICOM series, for each channel.
  masks: files that together are one label map: of one class, or with
    `structures` (their names) of a class each; `runs` are run lengths instead.
  label: a class, or a tuple of 0 and 1 for several labels (-1: ignored).
  patient, split: '' until assigned. where: of the table, for messages.
  others: {field: file} of further images. extra: further fields as they are.
  """

  id: str
  images: tuple[pathlib.Path, ...]
  patient: str = ''
  masks: tuple[pathlib.Path, ...] = ()
  structures: tuple[str, ...] = ()
  runs: tuple[str, ...] | None = None
  label: str | tuple[int, ...] | None = None
  split: str = ''
  where: str = ''
  others: dict = dataclasses.field(default_factory=dict)
  extra: dict = dataclasses.field(default_factory=dict)

  @property
  def image(self):
    """The first image."""
    return self.images[0]

  @property
  def mask(self):
    """The first mask, or None."""
    return self.masks[0] if self.masks else None

  @property
  def dense(self):
    """Whether it has a reference for every voxel."""
    return bool(self.masks) or self.runs is not None


def name_of(path, root):
  """A file's path below the root, without its format's suffix."""
  whole, start = str(path), f'{root}{os.sep}'
  below = whole.removeprefix(start)
  if below == whole:  # not below it, as tables may have it
    below = os.path.relpath(path, root)
  return below[: len(below) - len(formats.suffix(below))].replace(os.sep, '/')


def split_name(text):
  """'val' → 'validation': one name for what is called by many, or ''."""
  return _SPLIT_NAMES.get(text.lower(), '')


def masked(path):
  """(stem of the image, the word) of a mask by its name; None for others.

  x_mask and x_mask_1 are ('x', '_mask'), mask is ('', 'mask').
  """
  stem = formats.stem(path)
  match = _MASK_STEM.match(stem)
  if match:
    return match[1], match[2].lower()
  match = _MASK_ONLY.match(stem)
  return ('', formats.stem(path).lower()) if match else None
