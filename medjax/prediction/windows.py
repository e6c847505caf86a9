"""From samples to predictions on whole cases: windows, stitching, grids."""

import collections
import itertools

import jax
import numpy as np

from medjax import engine


def window_starts(size, patch, overlap):
  """Starts of windows that cover an axis of `size` ≥ `patch` voxels.

  Evenly spread, so that neighbours share at least `overlap` of a patch
  (nnU-Net's tiling).
  """
  if size <= patch:
    return [0]
  step = max(patch * (1 - overlap), 1)
  count = int(np.ceil((size - patch) / step)) + 1
  return [round(i * (size - patch) / (count - 1)) for i in range(count)]


def gaussian_weights(patch_size):
  """Weight of each voxel of a window, sigma = patch / 8, maximum 1.

  The middle of a patch is predicted better than its rim (Isensee et al. 2021).
  The smallest weight is kept above zero.
  """
  weights = np.ones((), np.float32)
  for size in patch_size:
    place = np.arange(size) - (size - 1) / 2
    axis = np.exp(-0.5 * (place / (size / 8)) ** 2)
    weights = weights[..., None] * axis
  weights = weights / weights.max()
  return np.maximum(weights, 1e-4).astype(np.float32)


class Rows:
  """Puts rows, each passed through `function` as they come, together."""

  def __init__(self, function=lambda rows: rows):
    self._function, self._blocks = function, []

  def add(self, rows):
    """The next rows (k, …) along the first axis."""
    self._blocks.append(self._function(rows))

  def result(self):
    """All rows so far, as one array."""
    return np.concatenate(self._blocks)


class _Stitcher:
  """Averages the windows of one case, slab by slab along the first axis.

  Only the rows that later windows still touch are kept as floats; finished
  rows go to `sink` (which takes the argmax, say) at once, so memory is bounded
  by one patch depth of the volume whatever its length.
  """

  def __init__(self, shape, patch_size, weights, sink):
    self._shape, self._sink, self._weights = shape, sink, weights
    self._padded = [max(s, p) for s, p in zip(shape, patch_size, strict=True)]
    self._row = 0
    self._total = self._norm = None

  def _begin(self, block):
    size = (len(block), *self._padded[1:])
    self._total = np.zeros((*size, block.shape[-1]), np.float32)
    self._norm = np.zeros(size, np.float32)
    # numpy repeats a last axis of a few classes slowly: once does.
    self._of_classes = np.repeat(self._weights[..., None], block.shape[-1], -1)
    self._weighted = np.empty_like(self._of_classes)

  def add(self, start, block):
    if self._total is None:
      self._begin(block)
    if start[0] > self._row:
      self._flush(start[0] - self._row)
    ends = zip(start[1:], block.shape[1:-1], strict=True)
    place = (slice(None), *(slice(s, s + n) for s, n in ends))
    np.multiply(block, self._of_classes, out=self._weighted)
    self._total[place] += self._weighted
    self._norm[place] += self._weights

  def _flush(self, rows):
    mean = self._total[:rows].copy()  # the sink may keep it
    norm = np.maximum(self._norm[:rows], 1e-8)
    for k in range(mean.shape[-1]):
      mean[..., k] /= norm
    crop = tuple(slice(0, n) for n in self._shape[1:])
    keep = min(rows, self._shape[0] - self._row)
    if keep > 0:
      self._sink.add(mean[(slice(0, keep), *crop)])
    for buffer in (self._total, self._norm):
      buffer[:-rows] = buffer[rows:].copy() if rows < len(buffer) else 0
      buffer[-rows:] = 0
    self._row += rows

  def result(self):
    self._flush(len(self._total))
    return self._sink.result()


def _windows(samples, patch_size, overlap):
  """Yields (sample, is the last of it, start, window) over all samples."""
  for sample in samples:
    image = sample['image']
    if not patch_size:
      yield sample, True, None, image
      continue
    pad = [
      (0, max(p - s, 0))
      for s, p in zip(image.shape[:-1], patch_size, strict=True)
    ]
    image = np.pad(image, [*pad, (0, 0)])
    starts = list(
      itertools.product(
        *(
          window_starts(s, p, overlap)
          for s, p in zip(image.shape[:-1], patch_size, strict=True)
        )
      )
    )
    for i, start in enumerate(starts):
      place = tuple(
        slice(s, s + p) for s, p in zip(start, patch_size, strict=True)
      )
      yield sample, i == len(starts) - 1, start, image[place]


def _batches(items, size):
  """Runs of up to `size` items whose windows have one shape."""
  batch = []
  for item in items:
    if batch and (len(batch) == size or item[-1].shape != batch[0][-1].shape):
      yield batch
      batch = []
    batch.append(item)
  if batch:
    yield batch


def predict_samples(
  forward,
  variables,
  samples,
  *,
  mesh,
  batch_size,
  patch_size=(),
  overlap=0.5,
  sink=lambda sample: Rows(),
):
  """Yields (sample, prediction) for each sample, in order.

  `forward` is `engine.make_forward`'s; it sees one shape for all volumes of a
  patch size: windows of several cases share a batch, and the last batch is
  filled up with zeros. `sink(sample)` gives what takes the mean probabilities,
  slab by slab, with `add(rows (k, …, K))`, and gives the wanted output, a label
  map, say, with `result()`. With no `patch_size` an image is one window, and
  its output, a map or a vector, one slab.
  """
  batch_size = -(-batch_size // mesh.size) * mesh.size
  weights = gaussian_weights(patch_size) if patch_size else None
  sharding = engine.sharded(mesh)
  stitcher = None

  def collect(batch, probabilities):
    nonlocal stitcher
    probabilities = np.asarray(probabilities)
    for (sample, last, start, _), block in zip(batch, probabilities):  # noqa: B905 - the last batch is padded
      if start is None:
        into = sink(sample)
        into.add(block)
        yield sample, into.result()
        continue
      if stitcher is None:
        shape = sample['image'].shape[:-1]
        stitcher = _Stitcher(shape, patch_size, weights, sink(sample))
      stitcher.add(start, block)
      if last:
        yield sample, stitcher.result()
        stitcher = None

  # One batch is computed while the one before it is stitched.
  flight = collections.deque()
  for batch in _batches(_windows(samples, patch_size, overlap), batch_size):
    images = np.zeros((batch_size, *batch[0][-1].shape), np.float32)
    for i, item in enumerate(batch):
      images[i] = item[-1]
    flight.append((batch, forward(variables, jax.device_put(images, sharding))))
    if len(flight) > 1:
      yield from collect(*flight.popleft())
  while flight:
    yield from collect(*flight.popleft())
