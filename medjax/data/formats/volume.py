"""What every format reads into: an array with its place in space."""

import dataclasses

import nibabel.orientations
import numpy as np

from medjax.data.formats.silence import unwarned


def spacing_of(affine):
  """Voxel size in mm, (n,): column norms of an (n+1, n+1) affine."""
  n = affine.shape[0] - 1
  axes = affine[:n, :n]
  return np.sqrt((axes * axes).sum(0))


def is_invertible(affine):
  """Whether voxels have a size, and their axes are not all but parallel.

  Whatever the unit: a microscope's voxels are nanometres.
  """
  if (affine == np.eye(len(affine))).all():  # of every picture: no LAPACK
    return True
  with np.errstate(all='ignore'):
    directions = affine[:-1, :-1] / spacing_of(affine)
    whole = np.isfinite(affine).all() and np.isfinite(directions).all()
    return bool(whole and abs(np.linalg.det(directions)) > 1e-6)


def check_finite(name, array):
  """Raises ValueError for NaN or infinity: a network answers of them, too."""
  if array.dtype.kind != 'f':
    return
  bad = array.size - int(np.count_nonzero(np.isfinite(array)))
  if bad:
    raise ValueError(
      f'{name}: {bad} of {array.size} voxels are NaN or infinite; replace '
      'them first (numpy.nan_to_num)'
    )


def orientation_of(affine):
  """Where the axes of a volume run to: 'RAS', 'LPS', …; '?' if nowhere."""
  with unwarned():
    codes = nibabel.orientations.aff2axcodes(affine)
  return ''.join(code or '?' for code in codes)


@dataclasses.dataclass(frozen=True)
class Volume:
  """An image or label map as read from a file.

  array: (*spatial, C), channels last, any real dtype; spatial axes in the
  file's order (NIfTI i, j, k; PNG row, column; see `x_first`).
  affine: (n+1, n+1) float64, voxel index → mm (RAS for 3-D). Pictures carry no
  reliable size, so theirs is the identity and their unit the pixel.
  modality: as far as the file tells, else ''.
  meta: format-specific facts, such as `format` and `unit`.
  """

  array: np.ndarray
  affine: np.ndarray
  modality: str = ''
  meta: dict = dataclasses.field(default_factory=dict)

  @property
  def spacing(self):
    """Voxel size in mm, (n,) float64."""
    return spacing_of(self.affine)

  @property
  def x_first(self):
    """Whether it has two axes, x and y, as ITK writes them.

    Its reader says so in `meta['axes']`; pictures are (row, column).
    """
    return self.meta.get('axes') == 'xy'

  def swapped(self):
    """The same of two axes with these in the other order."""
    meta = {**self.meta, 'axes': 'yx' if self.x_first else 'xy'}
    if meta.get('affine') is not None:
      meta['affine'] = meta['affine'][:, [1, 0, 2, 3]]
    affine = self.affine[[1, 0, 2]][:, [1, 0, 2]]
    array = np.ascontiguousarray(self.array.swapaxes(0, 1))
    return Volume(array, affine, self.modality, meta)
