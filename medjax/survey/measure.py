"""What a data set is like: every case is read once, facts are kept.

`survey` measures the cases of all splits, a few at a time, and keeps a few
hundred numbers of each. `fingerprint` sums them up, `findings` judges them.
"""

import collections
import concurrent.futures
import dataclasses

import numpy as np

from medjax import progress
from medjax.data import duplicates
from medjax.data.formats.volume import orientation_of
from medjax.survey.source import Source

# Values kept of the foreground of all cases together, an equal share of each.
_VALUES = 2_000_000
_LEVELS = np.linspace(0, 1, 33)  # quantiles kept of every whole image
_SORTED = 1_000_000  # voxels of one case that are sorted for quantiles


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """The facts of one case; arrays are per axis (n,) or per channel (C,).

  label: class index or tuple of indices (multi-label), or None.
  cropped: shape of the bounding box of the voxels above 0.
  low, high, mean, deviation: of the whole image (C,).
  levels: quantiles `_LEVELS` of the whole image (C, 33).
  colour: how far three channels differ, as a share of their range.
  foreground: evenly spaced quantiles (C, m) of the labelled voxels, of all
    voxels where there is no mask, and (C, 0) where nothing is labelled.
  moments: mean and mean square of the same voxels (2, C).
  voxels: of each label of the mask (K,) but the one to ignore, or None.
  problem: why it cannot be read, else ''; then the rest is empty.
  """

  split: str
  index: int
  id: str = ''
  patient: str = ''
  label: object = None
  shape: tuple[int, ...] = ()
  channels: int = 0
  spacing: tuple[float, ...] = ()
  orientation: str = ''
  modality: str = ''
  cropped: tuple[int, ...] = ()
  low: np.ndarray | None = None
  high: np.ndarray | None = None
  mean: np.ndarray | None = None
  deviation: np.ndarray | None = None
  levels: np.ndarray | None = None
  colour: float = 0.0
  foreground: np.ndarray | None = None
  moments: np.ndarray | None = None
  voxels: np.ndarray | None = None
  digest: bytes = b''
  mask_digest: bytes = b''
  thumbnail: np.ndarray | None = None
  problem: str = ''


@dataclasses.dataclass(frozen=True)
class Survey:
  """A source and the facts of its cases, in order."""

  source: Source
  cases: list[Case]

  @property
  def read(self):
    """The cases that could be read."""
    return [case for case in self.cases if not case.problem]

  @property
  def masks(self):
    """Whether the cases have masks."""
    return any(case.voxels is not None for case in self.cases)

  @property
  def labelled(self):
    """Whether the cases have labels; then the class names are theirs."""
    return any(case.label is not None for case in self.cases)

  @property
  def label_names(self):
    """Names of the classes of images; () where they have no label."""
    if not self.labelled:
      return ()
    labels = [np.atleast_1d(c.label) for c in self.read if c.label is not None]
    count = 1 + max((int(k) for label in labels for k in label), default=-1)
    return _filled(self.source.class_names, count, 'class')

  @property
  def mask_names(self):
    """Names of what masks show, background first; () without masks."""
    if not self.masks:
      return ()
    count = max(len(c.voxels) for c in self.read if c.voxels is not None)
    names = self.source.class_names
    if self.labelled or not names:
      names = ('background',)
    return _filled(names, count, 'label')


def _filled(names, count, kind):
  return (*names, *(f'{kind} {k}' for k in range(len(names), count)))


# Reading.


def survey(source, *, workers=4):
  """Reads every case of all splits once, in threads; shows its progress."""
  total = sum(map(len, source.splits.values()))
  keep = int(np.clip(_VALUES // total, 50, 10_000))
  cases = []
  with (
    progress.bar(f'reading {source.name}', total) as advance,
    concurrent.futures.ThreadPoolExecutor(workers) as pool,
  ):
    waiting = collections.deque()
    for split, sequence in source.splits.items():
      for index in range(len(sequence)):
        # Few at a time: what waits holds its image.
        if len(waiting) > 4 * workers:
          cases.append(waiting.popleft().result())
          advance()
        waiting.append(pool.submit(measure, sequence, split, index, keep))
    for future in waiting:
      cases.append(future.result())
      advance()
  found = Survey(source, cases)
  if not found.read:
    raise ValueError(
      f'{source.name}: none of {total} cases can be read; the first: '
      f'{cases[0].problem}'
    )
  return found


def measure(cases, split, index, keep=1000):
  """The `Case` of cases[index]; a case that cannot be read has a problem."""
  try:
    case = cases[index]
  except (ValueError, OSError) as e:
    return Case(
      split=split, index=index, problem=' '.join(str(e).split())[:500]
    )
  image, mask = case['image'], case.get('mask')
  # A channel's values side by side: sums and sorts along them are fast.
  channels = np.ascontiguousarray(np.moveaxis(image, -1, 0))
  channels = channels.reshape(len(channels), -1)
  inside, voxels = channels, None
  if mask is not None:
    labels, ignore = mask.reshape(-1), getattr(cases, 'ignore', None)
    counts = labels if ignore is None else labels[labels != ignore]
    voxels = np.bincount(counts)
    # What is ignored is no class: it counts for nothing in training.
    inside = channels[:, (labels > 0) & (labels != ignore)]
  foreground = np.zeros((len(channels), 0), np.float32)
  moments = np.zeros((2, len(channels)))
  if inside.shape[1]:
    foreground = _quantiles(inside, (np.arange(keep) + 0.5) / keep)
    moments = _moments(inside)
  mean, square = moments if mask is None else _moments(channels)
  return Case(
    split=split,
    index=index,
    id=case['id'],
    patient=case['patient'],
    label=_label(case.get('label')),
    shape=image.shape[:-1],
    channels=len(channels),
    spacing=tuple(map(float, case['spacing'])),
    orientation=orientation_of(case['affine']) if image.ndim == 4 else '',
    modality=case.get('modality', ''),
    cropped=_box(image),
    low=channels.min(1),
    high=channels.max(1),
    mean=mean,
    deviation=np.sqrt(np.maximum(square - mean**2, 0)),
    levels=_quantiles(channels, _LEVELS),
    colour=_colour(channels),
    foreground=foreground,
    moments=moments,
    voxels=voxels,
    digest=duplicates.digest(image),
    mask_digest=b'' if mask is None else duplicates.digest(mask),
    thumbnail=duplicates.thumbnail(image).astype(np.float16),
  )


def _label(label):
  """A class index, or the indices of the classes that a vector holds."""
  if label is None:
    return None
  if np.ndim(label) == 0:
    return int(label)
  return tuple(map(int, np.flatnonzero(np.asarray(label) > 0)))


def _moments(channels):
  """Mean and mean square (2, C) of values (C, n)."""
  # In float64: sums of a float32 image of 10^8 voxels would lose digits.
  mean = channels.mean(1, dtype=np.float64)
  return np.stack([mean, [_mean_square(values) for values in channels]])


def _mean_square(values):
  """In pieces: a float64 copy of a whole volume would be the largest array."""
  total = 0.0
  for start in range(0, len(values), 2**16):
    part = values[start : start + 2**16].astype(np.float64)
    # Not `part @ part`: BLAS would take all cores for each of our threads.
    total += np.square(part, out=part).sum()
  return total / len(values)


def _quantiles(channels, levels):
  """Quantiles (C, m) of values (C, n), of every k-th if there are many."""
  step = -(-channels.shape[1] // _SORTED)
  # Stable: of small whole numbers that is a radix sort.
  some = np.sort(channels[:, ::step], axis=1, kind='stable')
  place = np.clip(np.rint(levels * (some.shape[1] - 1)), 0, some.shape[1] - 1)
  return some[:, place.astype(int)].astype(np.float32)


def _colour(channels):
  """How far three channels differ, as a share of the image's range; else 0."""
  if len(channels) != 3:
    return 0.0
  width = float(channels.max()) - float(channels.min())
  apart = (channels.max(0) - channels.min(0)).mean(dtype=np.float64)
  return float(apart) / width if width else 0.0


def _box(image):
  """Shape of the bounding box of image > 0, as `crop_foreground` cuts it."""
  inside = (image > 0).any(-1)
  shape = []
  for axis in range(inside.ndim):
    others = tuple(a for a in range(inside.ndim) if a != axis)
    (found,) = np.nonzero(inside.any(others))
    shape.append(int(found[-1] - found[0] + 1) if len(found) else 0)
  return tuple(shape) if all(shape) else inside.shape
