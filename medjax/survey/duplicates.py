"""Images that occur more than once, exactly or nearly.

Of every image only a digest and a thumbnail are kept: 100 000 of them are 50 MB
and are all compared with each other in well under a minute.
"""

import dataclasses
import functools
import hashlib

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
  small = np.asarray(image, np.float32)
  rank = small.ndim - 1
  for axis in range(rank):
    weights = _cells(small.shape[axis], SIDE[rank])
    small = np.moveaxis(np.tensordot(weights, small, (1, axis)), 0, axis)
  small = small.mean(-1)
  small = small - small.mean()
  deviation = small.std()
  return small / deviation if deviation > 1e-6 else np.zeros_like(small)


@functools.lru_cache(maxsize=256)
def _cells(size, cells):
  """Weights (cells, size) of the mean over equal parts of an axis."""
  edges = np.linspace(0, size, cells + 1)
  voxel = np.arange(size)
  low = np.maximum(edges[:-1, None], voxel)
  high = np.minimum(edges[1:, None], voxel + 1)
  weights = np.clip(high - low, 0, None)
  return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


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
