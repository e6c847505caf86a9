"""Predictions back on the grid of the raw case, slab by slab."""

import numpy as np

from medjax.data.transforms import along_axis, to_grid


class NativeMap:
  """A map on the raw case's grid, of probabilities on the sample's.

  The rows (k, …, K) of the sample's grid come one slab after the other along
  its first axis; each is brought to the voxels of the raw grid that lie in it
  and decoded there. So no more than a slab is ever held as floats, whatever
  the size of the volume. Grids that are rotated against each other, which no
  transform of ours makes, are an exception: there the rows are kept.
  """

  def __init__(self, sample, raw, decode):
    """`sample` and `raw` give shape and affine; `decode` is of (…, K)."""
    self._source, self._rows = sample['affine'], sample['image'].shape[0]
    self._target, self._shape = raw['affine'], raw['image'].shape[:-1]
    self._decode = decode
    self._line = along_axis(self._source, self._target, self._shape)
    self._held = None  # rows that voxels still to come lie between
    self._first = 0  # row of the sample's grid that held starts with
    self._done = -np.inf  # position of the last voxel written
    self._labels = None

  def add(self, rows):
    """The next rows of the sample's grid."""
    kept = [] if self._held is None else [self._held]
    self._held = np.concatenate([*kept, rows])
    if self._line is not None:
      self._write()

  def result(self):
    """The whole map."""
    if self._line is None:
      whole = to_grid(self._held, self._source, self._target, self._shape)
      return self._decode(whole)
    return self._labels

  def _write(self):
    axis, start, step = self._line
    last = self._first + len(self._held) - 1
    position = start + step * np.arange(self._shape[axis])
    # What lies beyond the outermost rows is up to to_grid.
    reached = np.inf if last == self._rows - 1 else last
    inside = (position > self._done) & (position <= reached)
    self._done = reached
    index = np.flatnonzero(inside)
    if index.size:
      self._fill(axis, index[0], index[-1] + 1)
    self._first, self._held = last, self._held[-1:]

  def _fill(self, axis, low, high):
    """Voxels low … high of the raw grid's axis."""
    shape = list(self._shape)
    shape[axis] = high - low
    labels = self._decode(
      to_grid(
        self._held,
        _shifted(self._source, 0, self._first),
        _shifted(self._target, axis, low),
        shape,
      )
    )
    if self._labels is None:
      shape = (*self._shape, *labels.shape[len(self._shape) :])
      self._labels = np.zeros(shape, labels.dtype)
    self._labels[(slice(None),) * axis + (slice(low, high),)] = labels


def _shifted(affine, axis, voxels):
  """The affine of a grid that starts `voxels` later along an axis."""
  affine = affine.copy()
  affine[:-1, -1] += affine[:-1, axis] * voxels
  return affine
