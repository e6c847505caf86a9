"""From an image and a mask to a region in its box: checks, grid, choice."""

import dataclasses

import numpy as np
from scipy import ndimage

from medjax.radiomics import peaks

_MARGIN = (
  16  # voxels after which a cubic spline has forgotten what lies outside
)
_NEAR = 5  # voxels that PyRadiomics resamples around a region


@dataclasses.dataclass(frozen=True)
class Region:
  """What is measured: a box cut out of an image, arrays (x, y, z).

  values: intensities. mask: of the voxels that count. shape: of the region
  itself. inside: of the voxels that the image has. spacing: (3,) mm. notes:
  what a reader of its features should know.
  """

  values: np.ndarray
  mask: np.ndarray
  shape: np.ndarray
  inside: np.ndarray
  spacing: np.ndarray
  notes: tuple[str, ...] = ()


def region(image, mask, spacing, settings, *, respond=None, reach=0):
  """The `Region` of an image and a mask (x, y, z), by the settings.

  respond: (image, spacing) → a filter's response, whose values are measured
  where the intensities themselves choose the voxels. reach: how far around a
  voxel it looks, in mm or voxels, what is more; None: at the whole image.

  Raises ValueError for what cannot be measured: arrays of other ranks or
  shapes, no voxel size, intensities that are no numbers, an empty mask.
  """
  image, mask = np.asarray(image), np.asarray(mask)
  spacing = _checked(image, mask, spacing)
  mask = mask.astype(bool)
  notes = []
  ends = [np.flatnonzero(mask.any(tuple({0, 1, 2} - {a}))) for a in range(3)]
  if any(
    e[0] == 0 or e[-1] == n - 1 for e, n in zip(ends, mask.shape, strict=True)
  ):
    notes.append('the region touches the edge of the image')
  if settings.normalise is not None:
    image = image.astype(float)
    spread = image.std(ddof=1)
    if not spread > 0:
      raise ValueError('the image has one intensity, so no spread to normalise')
    image = (image - image.mean()) / spread * settings.normalise
  if settings.resample is not None:
    make = _resampled if settings.standard else _resampled_as_pyradiomics
    wide = np.inf if reach is None else reach
    image, mask, spacing = make(image, mask, spacing, settings, wide)
    if not mask.any():
      raise ValueError('no voxel of the mask is left after resampling')
  region = _cut(image, mask, spacing, settings, notes, respond, reach)
  if not np.isfinite(region.values[region.shape]).all():
    count = int((~np.isfinite(region.values[region.shape])).sum())
    raise ValueError(f'{count} voxels of the mask are NaN or infinite')
  return region


def _checked(image, mask, spacing):
  if image.ndim != 3:
    raise ValueError(
      f'the image has {image.ndim} axes; features need a volume: give a slice '
      'as one of one slice, (x, y, 1)'
    )
  if image.shape != mask.shape:
    raise ValueError(f'the image is {image.shape}, the mask {mask.shape}')
  if spacing is None:
    raise ValueError('no voxel size: give spacing=(x, y, z) in mm')
  spacing = np.asarray(spacing, float)
  if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
    raise ValueError(f'a voxel size of {spacing.tolist()} mm; needs 3 above 0')
  if image.dtype.kind not in 'iufb':
    raise ValueError(f'the image holds {image.dtype}, not numbers')
  if not mask.any():
    raise ValueError('the mask is empty')
  if np.count_nonzero(mask) == 1:
    raise ValueError('the mask is one voxel, which has no shape and no texture')
  return spacing


def _cut(image, mask, spacing, settings, notes, respond, wide):
  """The region with what is around it, and what of it counts."""
  reach = np.ones(3, int)
  if settings.standard:  # peaks look a ball's radius around
    reach += np.floor(peaks.RADIUS / spacing).astype(int)
  ends = [np.flatnonzero(mask.any(tuple({0, 1, 2} - {a}))) for a in range(3)]
  low = np.array([e[0] for e in ends]) - reach
  high = np.array([e[-1] for e in ends]) + 1 + reach
  size = np.array(mask.shape)
  inner = tuple(map(slice, np.maximum(low, 0), np.minimum(high, size)))
  pad = [*zip(np.maximum(-low, 0), np.maximum(high - size, 0), strict=True)]
  values = np.pad(image[inner].astype(float), pad)
  shape_mask = np.pad(mask[inner], pad)
  inside = np.pad(np.ones(mask[inner].shape, bool), pad)
  chosen = shape_mask.copy()
  if settings.limits is not None:
    least, most = settings.limits
    chosen &= (values >= least) & (values <= most)
  if settings.outliers is not None and chosen.any():
    mean, spread = values[chosen].mean(), values[chosen].std()
    chosen &= np.abs(values - mean) <= settings.outliers * spread
  if respond is not None:
    response = _response(image, respond, wide, low, high, spacing)
    values = np.pad(response[inner], pad)
  left = int(chosen.sum())
  if left < 2:
    raise ValueError(
      f'{left} of {int(shape_mask.sum())} voxels are within the limits of '
      'intensity'
    )
  if not np.isfinite(values[inside & ~shape_mask]).all():
    values = np.where(np.isfinite(values) | shape_mask, values, 0)
    notes.append('voxels beside the region are NaN, and taken as 0')
  return Region(values, chosen, shape_mask, inside, spacing, tuple(notes))


def _response(image, respond, wide, low, high, spacing):
  """A filter's response, in an array of the image's size; nothing far away."""
  crop = (slice(None),) * 3
  if wide is not None:
    far = np.ceil(np.maximum(wide, wide / spacing)).astype(int)
    stop = np.minimum(high + far, image.shape)
    crop = tuple(map(slice, np.maximum(low - far, 0), stop))
  found = np.zeros(image.shape)
  found[crop] = respond(image[crop].astype(float), spacing)
  return found


def _spacing_asked(spacing, settings):
  if len(settings.resample) != 3:
    raise ValueError(
      f'resample={settings.resample}: needs a size in mm for each of 3 axes'
    )
  asked = np.array(settings.resample, float)
  return np.where(asked == 0, spacing, asked)


def _resampled(image, mask, spacing, settings, wide):
  """On a grid of other voxels with the same centre (IBSI, 2.4).

  Only a neighbourhood of the mask is made. A voxel is in the mask where the
  interpolated one is at least a half.
  """
  asked = _spacing_asked(spacing, settings)
  size, step = np.array(image.shape), asked / spacing
  count = np.ceil(size / step - 1e-9)
  first = (size - 1 - (count - 1) * step) / 2  # of the new grid, in old voxels
  far = max(peaks.RADIUS, wide, wide * asked.max())
  reach = np.minimum(np.ceil(far / spacing) + 2, size).astype(int)
  ends = [np.flatnonzero(mask.any(tuple({0, 1, 2} - {a}))) for a in range(3)]
  low = np.array([e[0] for e in ends]) - reach
  high = np.array([e[-1] for e in ends]) + reach
  start = np.maximum(np.ceil((low - first) / step), 0)
  stop = np.minimum(np.floor((high - first) / step), count - 1)
  shape_ = (stop - start + 1).astype(int)
  crop_low = np.maximum(low - _MARGIN, 0)
  crop = tuple(map(slice, crop_low, np.minimum(high + _MARGIN + 1, size)))
  options = dict(
    offset=first + start * step - crop_low, output_shape=tuple(shape_),
    mode='nearest',
  )  # fmt: skip
  order = 3 if settings.cubic else 1
  values = ndimage.affine_transform(
    image[crop].astype(float), step, order=order, **options
  )
  if settings.whole:
    values = np.rint(values)
  share = ndimage.affine_transform(
    mask[crop].astype(float), step, order=1, **options
  )
  return values, share >= 0.5 - 1e-9, asked


def _resampled_as_pyradiomics(image, mask, spacing, settings, wide):
  """On the grid that PyRadiomics 3 makes: from the corner of the image on.

  B-splines for the image, cut to whole numbers if it holds those; the nearest
  voxel for the mask. An axis along which the region is one voxel stays.
  """
  asked = _spacing_asked(spacing, settings)
  size = np.array(image.shape)
  ends = [np.flatnonzero(mask.any(tuple({0, 1, 2} - {a}))) for a in range(3)]
  low, high = (np.array([e[i] for e in ends]) for i in (0, -1))
  asked = np.where(low == high, spacing, asked)
  if np.allclose(asked, spacing):
    return image, mask, spacing
  ratio = spacing / asked
  near = np.maximum(_NEAR, np.ceil(np.maximum(wide, wide / asked)))
  start = np.maximum(np.floor((low - 0.5) * ratio - near), 0)
  stop = np.minimum(
    np.ceil((high + 0.5) * ratio + near), np.ceil(size * ratio) - 1
  )
  first = 0.5 * (asked - spacing) / spacing + start / ratio
  shape_ = tuple((stop - start + 1).astype(int))
  far = near / ratio + _MARGIN + 4
  crop_low = np.maximum(np.floor(low - far), 0)
  crop_high = np.minimum(np.ceil(high + far), size - 1)
  crop = tuple(map(slice, crop_low.astype(int), crop_high.astype(int) + 1))
  places = [
    f - c + s * np.arange(n)
    for f, c, s, n in zip(first, crop_low, 1 / ratio, shape_, strict=True)
  ]
  spline = ndimage.spline_filter(image[crop].astype(float), 3, mode='mirror')
  grid = np.meshgrid(*places, indexing='ij')
  values = ndimage.map_coordinates(
    spline, grid, order=3, mode='mirror', prefilter=False
  )
  if image.dtype.kind in 'iu':
    values = np.trunc(values)
  nearest = [np.floor(p + 0.5).astype(int) for p in places]
  last = np.array(mask[crop].shape) - 1
  inside = [
    (p >= -0.5) & (p <= n + 0.5) for p, n in zip(places, last, strict=True)
  ]
  nearest = [np.clip(p, 0, n) for p, n in zip(nearest, last, strict=True)]
  there = inside[0][:, None, None] & inside[1][:, None] & inside[2]
  return np.where(there, values, 0), mask[crop][np.ix_(*nearest)] & there, asked
