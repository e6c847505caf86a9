"""From samples to predictions on whole cases: windows, put together again."""

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
    self._before = _before(shape, patch_size)
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
    first, *others = self._before
    crop = tuple(
      slice(a, a + n) for a, n in zip(others, self._shape[1:], strict=True)
    )
    begin = max(first - self._row, 0)
    end = min(first + self._shape[0] - self._row, rows)
    if end > begin:
      self._sink.add(mean[(slice(begin, end), *crop)])
    for buffer in (self._total, self._norm):
      buffer[:-rows] = buffer[rows:].copy() if rows < len(buffer) else 0
      buffer[-rows:] = 0
    self._row += rows

  def result(self):
    self._flush(len(self._total))
    return self._sink.result()


class _Mean:
  """Averages the vectors of the windows of a case."""

  def __init__(self):
    self._total, self._count = 0.0, 0

  def add(self, start, row):
    self._total, self._count = self._total + row, self._count + 1

  def result(self):
    return self._total / self._count


class _Whole:
  """A map of a whole image, which was one window."""

  def __init__(self, sink):
    self._sink = sink

  def add(self, start, block):
    self._sink.add(block)

  def result(self):
    return self._sink.result()


class _Case:
  """Puts together what the windows of one sample gave, each name by itself.

  What has the window's grid is a map and is stitched, anything else is a vector
  of the window and is averaged.
  """

  def __init__(self, sample, patch_size, weights, sink):
    self._sample, self._patch_size = sample, patch_size
    self._weights, self._sink = weights, sink
    self._parts, self._finite = {}, True

  def _part(self, name, block):
    if 'image' not in self._sample:  # a row of a table has no map
      return _Mean()
    shape = self._sample['image'].shape[:-1]
    if block.shape[:-1] != (self._patch_size or shape):
      return _Mean()
    sink = self._sink(self._sample, name)
    if not self._patch_size:
      return _Whole(sink)
    return _Stitcher(shape, self._patch_size, self._weights, sink)

  def add(self, start, found, finite):
    # Argmax takes NaN for background, and does not complain.
    self._finite &= finite
    if not self._finite:
      return
    for name, block in found.items():
      if name not in self._parts:
        self._parts[name] = self._part(name, block)
      self._parts[name].add(start, block)

  def result(self):
    """{name: prediction}; None where the model gave NaN or infinity."""
    if not self._finite:
      return None
    return {name: part.result() for name, part in self._parts.items()}


def _before(shape, patch_size):
  """Voxels before an image that is smaller than the patch, by axis.

  It lies in the middle, as in training (`transforms.patch`).
  """
  sizes = zip(shape, patch_size, strict=True)
  return [max(p - s, 0) // 2 for s, p in sizes]


def _cut(image, patch_size, overlap):
  """Yields (start, window) of an image (*s, C)."""
  if not patch_size:
    yield None, image
    return
  shape = image.shape[:-1]
  pad = [
    (before, max(p - s, 0) - before)
    for before, s, p in zip(
      _before(shape, patch_size), shape, patch_size, strict=True
    )
  ]
  image = np.pad(image, [*pad, (0, 0)])
  sizes = zip(image.shape[:-1], patch_size, strict=True)
  starts = [window_starts(s, p, overlap) for s, p in sizes]
  for start in itertools.product(*starts):
    place = zip(start, patch_size, strict=True)
    yield start, image[tuple(slice(s, s + p) for s, p in place)]


def _windows(samples, names, patch_size, overlap, watch):
  """Yields (sample, is the last of it, start, inputs) over all samples."""
  for sample in samples:
    image, *rest = (np.asarray(sample[name]) for name in names)
    cut = list(_cut(image, patch_size, overlap))
    for i, (start, window) in enumerate(cut):
      watch(sample, i + 1, len(cut))
      yield sample, i == len(cut) - 1, start, [window, *rest]


def _batches(items, size):
  """Runs of up to `size` items whose windows have the same shapes."""
  shapes = lambda item: [x.shape for x in item[-1]]
  batch = []
  for item in items:
    if batch and (len(batch) == size or shapes(item) != shapes(batch[0])):
      yield batch
      batch = []
    batch.append(item)
  if batch:
    yield batch


def stacked(windows, size):
  """Each input of the windows as one array (size, …), filled up with zeros."""
  stacked = []
  for place, parts in enumerate(zip(*windows, strict=True)):
    # Of an image only the values matter; numbers of words stay whole numbers.
    dtype = parts[0].dtype
    dtype = np.float32 if place == 0 or dtype.kind == 'f' else dtype
    array = np.zeros((size, *parts[0].shape), dtype)
    for i, part in enumerate(parts):
      array[i] = part
    stacked.append(array)
  return stacked


def _places(count, devices):
  """How many windows a batch of `count` is filled up to: a power of two."""
  power = 1 << (count - 1).bit_length()
  return -(-power // devices) * devices


def predict_samples(
  forward,
  samples,
  *,
  mesh,
  batch_size,
  inputs=('image',),
  patch_size=(),
  overlap=0.5,
  sink=lambda sample, name: Rows(),
  watch=lambda sample, window, count: None,
):
  """Yields (sample, {name: prediction}) for each sample, in order.

  Of a sample of which `forward` gives NaN or infinity it is (sample, None).

  `forward` gives, for a list of the inputs (b, …), {name: (b, …)}; it sees one
  shape for all volumes of a patch size: windows of several cases share a batch,
  and the last batch is filled up with zeros. Samples that do not fill even one
  are filled up to a power of two: one image is not computed as sixty-four.
  `inputs` are the fields of a sample that it is called with, the image first.

  What has the grid of the windows is stitched: `sink(sample, name)` takes the
  mean, slab by slab, with `add(rows (k, …, K))`, and gives the wanted output, a
  label map, say, with `result()`. Vectors are averaged over the windows. With
  no `patch_size` an image is one window, and its map one slab. `watch` is told
  of each window as it is handed on, from 1 to the `count` of its sample.
  """
  batch_size = -(-batch_size // mesh.size) * mesh.size
  weights = gaussian_weights(patch_size) if patch_size else None
  sharding = engine.sharded(mesh)
  case = None

  def collect(batch, found):
    nonlocal case
    arrays = {id(x): np.asarray(x) for x in found.values()}  # some twice
    found = {name: arrays[id(x)] for name, x in found.items()}
    for i, (sample, last, start, _) in enumerate(batch):
      case = case or _Case(sample, patch_size, weights, sink)
      finite = all(np.isfinite(x[i]).all() for x in arrays.values())
      case.add(start, {name: x[i] for name, x in found.items()}, finite)
      if last:
        yield sample, case.result()
        case = None

  # One batch is computed while the one before it is stitched.
  flight = collections.deque()
  items = _windows(samples, inputs, tuple(patch_size), overlap, watch)
  full = False
  for batch in _batches(items, batch_size):
    full = full or len(batch) == batch_size
    size = batch_size if full else _places(len(batch), mesh.size)
    arrays = stacked([window for *_, window in batch], min(size, batch_size))
    flight.append((batch, forward(jax.device_put(arrays, sharding))))
    if len(flight) > 1:
      yield from collect(*flight.popleft())
  while flight:
    yield from collect(*flight.popleft())
