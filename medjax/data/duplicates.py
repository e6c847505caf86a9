"""Images that occur more than once, exactly or nearly; groups of them.

Of every image only a digest and a thumbnail are kept: 100 000 of them are 50 MB
and are all compared with each other in well under a minute.
"""

import collections
import dataclasses
import hashlib
import itertools
import math

import numpy as np
from scipy import fft

# Voxels of a thumbnail along an axis, by rank: 256 and 512 in all.
SIDE = {2: 16, 3: 8}
# Coefficients of the cosine transform that give the 64 bits of the hash.
_LOW = {2: 8, 3: 4}
# Where thumbnails correlate this much, two images are called near duplicates.
# Different chests in PneumoniaMNIST (28 pixels) reach .951, and 99 % of copies
# saved as JPEG of quality 50 reach .967. Different nodules in LIDC-IDRI (blobs
# on 44 x 44 x 6 voxels) reach .978.
CORRELATION = {2: 0.96, 3: 0.98}
# Without the others' mean to subtract (few images), all of them look alike.
CORRELATION_OF_FEW = 0.99
FEW = 32
# Bits in which the hashes of near duplicates may differ: 6 is to be expected
# at that correlation, and .1 % of them differ in more than 14.
_BITS = 14
_MOST = 200_000  # pairs kept
_CHUNK = 2**18  # pairs of hashes compared at once: they stay in the cache


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Index pairs (m, 2), first < second, and their correlations (m,).

  `complete` is False if there were more pairs than are kept.
  """

  indices: np.ndarray
  correlation: np.ndarray
  complete: bool


@dataclasses.dataclass(frozen=True)
class Twins:
  """Pairs of indices into the cases that show the same image.

  exact: the same values; near: alike (`near`).
  """

  exact: np.ndarray
  near: np.ndarray
  correlation: np.ndarray
  complete: bool


def digest(array):
  """16 bytes that only equal arrays (values, shape, dtype) share."""
  array = np.ascontiguousarray(array)
  header = f'{array.dtype.str}{array.shape}'.encode()
  return hashlib.blake2b(array, digest_size=16, key=header[:64]).digest()


def thumbnail(image):
  """Means over a grid of 16 x 16 or 8 x 8 x 8 cells, all channels averaged.

  image (*spatial, C) of any size → (*cells,) float32 of mean 0 and standard
  deviation 1; zeros for an image without contrast.
  """
  image = np.asarray(image)
  small = image[..., 0].astype(np.float32)
  for channel in range(1, image.shape[-1]):
    small += image[..., channel]
  small /= image.shape[-1]
  for axis in range(small.ndim):
    small = _cells(small, axis, SIDE[image.ndim - 1])
  small = small - small.mean()
  deviation = small.std()
  return small / deviation if deviation > 1e-6 else np.zeros_like(small)


def _cells(values, axis, count):
  """Means over `count` equal parts of an axis; a voxel may lie in two."""
  edges = np.linspace(0, values.shape[axis], count + 1)
  values = np.moveaxis(values, axis, 0)
  means = []
  # Part by part: as one product it is 16 times the work, which BLAS would give
  # to all cores for each of our threads.
  for low, high in itertools.pairwise(edges):
    first, last = int(low), min(math.ceil(high), len(values))
    voxel = np.arange(first, last)
    weights = np.minimum(high, voxel + 1) - np.maximum(low, voxel)
    weights = (weights / weights.sum()).astype(np.float32)
    means.append(np.einsum('i,i...->...', weights, values[first:last]))
  return np.moveaxis(np.stack(means), 0, axis)


def exact(digests):
  """Lists of indices with one digest, in the order of the first."""
  groups = {}
  for i, value in enumerate(digests):
    groups.setdefault(value, []).append(i)
  return [group for group in groups.values() if len(group) > 1]


def near(thumbnails):
  """`Pairs` of images (n, *cells) that look alike, most alike first.

  Two must agree in themselves and in what is particular to them: chest X-rays
  are all alike until what they share, their mean and how much each cell varies,
  is taken out. A perceptual hash, the signs of the low frequencies of what is
  then left, finds candidates; the lower of the two correlations decides. Images
  without contrast have no near duplicates. Mirrored and turned copies are not
  found.
  """
  thumbnails = np.asarray(thumbnails, np.float32)
  n = len(thumbnails)
  flat = thumbnails.reshape(n, -1)
  usable = np.flatnonzero(np.abs(flat).sum(1) > 0)
  few = len(usable) < FEW
  whole = particular = _unit(flat[usable])
  if not few:
    particular = flat[usable] - flat[usable].mean(0)
    particular = _unit(particular / (particular.std(0) + 1e-3))
  limit = threshold(len(usable), thumbnails.ndim - 1)
  hashes = _hashes(particular.reshape(-1, *thumbnails.shape[1:]))
  kept, values, count = [], [], 0
  for i, j in _candidates(hashes):
    value = np.minimum(
      np.einsum('nf,nf->n', particular[i], particular[j]),
      np.einsum('nf,nf->n', whole[i], whole[j]),
    )
    alike = value >= limit
    kept.append(np.stack([usable[i[alike]], usable[j[alike]]], 1))
    values.append(value[alike])
    count += int(alike.sum())
    if count > _MOST:
      break
  if not kept:
    return Pairs(np.zeros((0, 2), int), np.zeros(0), True)
  indices, values = np.concatenate(kept), np.concatenate(values)
  order = np.argsort(-values, kind='stable')[:_MOST]
  return Pairs(indices[order], values[order], count <= _MOST)


def threshold(n, rank):
  """The correlation from which on two of n images are near duplicates."""
  return CORRELATION_OF_FEW if n < FEW else CORRELATION[rank]


def _unit(rows):
  return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def _hashes(thumbnails):
  """64 bits (n,) uint64: the signs of the lowest frequencies."""
  rank = thumbnails.ndim - 1
  axes = tuple(range(1, rank + 1))
  low = (slice(None), *(slice(_LOW[rank]) for _ in axes))
  bits = fft.dctn(thumbnails, axes=axes, norm='ortho')[low] > 0
  return np.packbits(bits.reshape(len(bits), 64), axis=1).view(np.uint64)[:, 0]


def _candidates(hashes):
  """Yields (i, j), index arrays with i < j, of hashes a few bits apart."""
  n = len(hashes)
  rows = max(1, _CHUNK // max(n, 1))
  for start in range(0, n, rows):
    block = hashes[start : start + rows]
    others = hashes[start:]
    distance = np.bitwise_count(block[:, None] ^ others[None])
    i, j = np.nonzero(distance <= _BITS)
    above = j > i
    i, j = i[above] + start, j[above] + start
    for part in range(0, len(i), _CHUNK // 64):
      cut = slice(part, part + _CHUNK // 64)
      yield i[cut], j[cut]


def find_twins(cases):
  """Exact and near duplicates among the facts of cases.

  An image is paired with the first of its exact copies in each split; of near
  duplicates all pairs are kept.
  """
  same = []
  for group in exact([c.digest for c in cases]):
    if not cases[group[0]].thumbnail.any():
      continue  # constant images are reported as such
    first = {}
    for j in group:
      same += [(i, j) for i in first.values()]
      first.setdefault(cases[j].split, j)
  shapes = collections.Counter(c.thumbnail.shape for c in cases)
  common = shapes.most_common(1)[0][0]
  places = [i for i, c in enumerate(cases) if c.thumbnail.shape == common]
  found = near(np.stack([cases[i].thumbnail for i in places]))
  pairs = np.array(places)[found.indices].reshape(-1, 2)
  again = np.array([cases[i].digest == cases[j].digest for i, j in pairs], bool)
  return Twins(
    np.array(same, int).reshape(-1, 2),
    pairs[~again],
    found.correlation[~again],
    found.complete,
  )


def groups(images, patients):
  """For each image the name of its group: copies and patients that belong.

  Images (*spatial, C) that are exact or near duplicates are in one group, and
  so are all images of a patient and of all whose images are duplicates of
  theirs. A group is called like the first of its patients by the alphabet, so
  that splitting by these names instead of by `patients` keeps duplicates
  together and leaves everyone else where they were.
  """
  seen = [Seen.of(image) for image in images]
  twins = find_twins(seen)
  return joined(patients, [*twins.exact, *twins.near])


def joined(patients, pairs):
  """The same from pairs of indices of images that belong together."""
  parent = {patient: patient for patient in patients}

  def root(name):
    while parent[name] != name:
      parent[name] = parent[parent[name]]
      name = parent[name]
    return name

  for i, j in pairs:
    first, second = sorted((root(patients[i]), root(patients[j])))
    parent[second] = first
  return [root(patient) for patient in patients]


@dataclasses.dataclass(frozen=True)
class Seen:
  """What `find_twins` needs of an image."""

  digest: bytes
  thumbnail: np.ndarray
  split: str = ''

  @classmethod
  def of(cls, image, split=''):
    """Of an image (*spatial, C)."""
    return cls(digest(image), thumbnail(image), split)
