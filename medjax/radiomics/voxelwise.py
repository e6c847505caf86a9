"""Texture around each voxel: `maps(…)`, an image of a feature.

Features that are means over pairs of neighbours come from sums over boxes, all
voxels at once; others from a matrix for each voxel, which takes minutes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from medjax.build import closest
from medjax.data import formats
from medjax.radiomics import extract, lattice, measure, names, prepare
from medjax.radiomics import settings as settings_lib
from medjax.radiomics.averages import planar

_BATCH = 2048  # voxels whose matrices are made between two looks at the clock


def maps(image, mask, spacing, feature, *, radius=2, settings='pyradiomics'):
  """The feature around each voxel of a mask: (x, y, z), NaN outside of it.

  image, mask: (x, y, z). feature: of texture, as in columns: 'glcm_Contrast'.
  radius: of the cube around a voxel, of which the mask is taken. Grey levels
  are those of the whole region. As PyRadiomics' voxel-based extraction.
  Raises ValueError for another feature, or settings that resample.
  """
  settings = settings_lib.find(settings)
  if settings.resample is not None:
    raise ValueError('maps are on the grid of the image: do not resample')
  key = find_key(feature, settings)
  region = prepare.region(image, mask, spacing, settings)
  with jax.enable_x64(True):
    box = extract.boxed(region, np.count_nonzero(region.shape))
    levels = np.zeros(region.shape.shape, np.int32)
    levels[region.shape] = _levels(settings)(box)
    base, aggregation = names.split(key)
    direct = base.removeprefix('cm_') in MEANS and aggregation.endswith('_avg')
    if direct and not aggregation.startswith('2D'):
      found = _of_pairs(levels, base, radius, planar(aggregation))
    else:
      found = _of_matrices(levels, key, radius, settings)
  # The region's box goes as far beyond the mask at both ends.
  at = np.argwhere(mask)
  low, size = at.min(0), np.ptp(at, axis=0) + 1
  beyond = (np.array(found.shape) - size) // 2
  out = np.full(np.shape(mask), np.nan)
  cut = [slice(b, b + n) for b, n in zip(beyond, size, strict=True)]
  out[tuple(map(slice, low, low + size))] = found[tuple(cut)]
  return out


def write(path, found, mask, feature, job):
  """Writes the map of a case as read, on the grid of its image.

  It is 0 where there is none: readers of images refuse NaN.
  """
  array = maps(
    found.image, mask, found.spacing, feature, radius=job.radius,
    settings=job.settings,
  )  # fmt: skip
  array = np.nan_to_num(array).astype(np.float32)
  formats.write(path, array, found.affine)


def find_key(feature, settings):
  """The key of `measure` of a texture feature, 'glcm_Contrast'."""
  known = {}
  for key in names.keys(settings):
    base, aggregation = names.split(key)
    if aggregation:
      about = names.feature_of(base, settings)
      known.setdefault(f'{about.family}_{about.name}', key)
  if feature not in known:
    raise ValueError(f'--maps: no texture {feature!r}{closest(feature, known)}')
  return known[feature]


@functools.cache
def _levels(settings):
  return jax.jit(lambda box: measure.grey_levels(box, settings))


def _of_pairs(levels, base, radius, flat):
  """A mean over pairs (x, y, z), averaged over directions."""
  name, most = base.removeprefix('cm_'), int(levels.max())
  program = _pair_program(name, radius, flat)
  found = np.asarray(program(jnp.asarray(levels), most))
  return np.where(levels > 0, found, np.nan)


# From the means over pairs of levels i and j, of s = i + j, d = |i - j| and
# their like, to a feature; what is asked for of a pair, and what is made of it.
def _moments(m):
  mu = m['s'] / 2
  return mu, m['both'] - mu**2


MEANS = {
  'joint_avg': lambda m: m['s'] / 2,
  'sum_avg': lambda m: m['s'],
  'joint_var': lambda m: _moments(m)[1],
  'auto_corr': lambda m: m['ij'],
  'contrast': lambda m: m['d2'],
  'diff_avg': lambda m: m['d'],
  'dissimilarity': lambda m: m['d'],
  'diff_var': lambda m: m['d2'] - m['d'] ** 2,
  'inv_diff': lambda m: m['id'],
  'inv_diff_norm': lambda m: m['idn'],
  'inv_diff_mom': lambda m: m['idm'],
  'inv_diff_mom_norm': lambda m: m['idmn'],
  'inv_var': lambda m: m['inv'],
  'clust_tend': lambda m: m['s2'] - m['s'] ** 2,
  'sum_var': lambda m: m['s2'] - m['s'] ** 2,
  'clust_shade': lambda m: m['s3'] - 3 * m['s'] * m['s2'] + 2 * m['s'] ** 3,
  'clust_prom': lambda m: (
    m['s4'] - 4 * m['s'] * m['s3'] + 6 * m['s'] ** 2 * m['s2'] - 3 * m['s'] ** 4
  ),
  'corr': lambda m: jnp.where(
    _moments(m)[1] > 1e-9,
    (m['ij'] - _moments(m)[0] ** 2) / jnp.maximum(_moments(m)[1], 1e-9),
    1.0,
  ),
}
_OF_PAIRS = {
  's': lambda i, j, most: i + j,
  's2': lambda i, j, most: (i + j) ** 2,
  's3': lambda i, j, most: (i + j) ** 3,
  's4': lambda i, j, most: (i + j) ** 4,
  'both': lambda i, j, most: (i**2 + j**2) / 2,
  'ij': lambda i, j, most: i * j,
  'd': lambda i, j, most: jnp.abs(i - j),
  'd2': lambda i, j, most: (i - j) ** 2,
  'id': lambda i, j, most: 1 / (1 + jnp.abs(i - j)),
  'idn': lambda i, j, most: 1 / (1 + jnp.abs(i - j) / most),
  'idm': lambda i, j, most: 1 / (1 + (i - j) ** 2),
  'idmn': lambda i, j, most: 1 / (1 + (i - j) ** 2 / most**2),
  'inv': lambda i, j, most: jnp.where(
    i == j, 0, 1 / jnp.where(i == j, 1, (i - j) ** 2)
  ),
}


@functools.cache
def _pair_program(name, radius, flat):
  ways = lattice.DIRECTIONS[:4] if flat else lattice.DIRECTIONS

  class Means(dict):
    """Means over pairs, each made when it is asked for."""

    def __init__(self, i, j, both, count, way, most):
      super().__init__()
      self.parts = i, j, both, count, way, most

    def __missing__(self, key):
      i, j, both, count, way, most = self.parts
      total = _windowed(
        jnp.where(both, _OF_PAIRS[key](i, j, most), 0), way, radius, flat
      )
      self[key] = total / jnp.maximum(count, 1)
      return self[key]

  def program(levels, most):
    total = known = 0
    for way in ways:
      other = jnp.roll(levels, [-d for d in way], (0, 1, 2))
      both = (levels > 0) & (other > 0)
      count = _windowed(both.astype(float), way, radius, flat)
      i, j = (x.astype(float) for x in (levels, other))
      value = MEANS[name](Means(i, j, both, count, way, most))
      there = count > 0.5
      total += jnp.where(there, value, 0)
      known += there
    return jnp.where(known > 0, total / jnp.maximum(known, 1), jnp.nan)

  return jax.jit(program)


def _windowed(values, way, radius, flat):
  """Sums over the pairs of a way that lie in the cube around each voxel."""
  for axis, step in enumerate(way):
    reach = 0 if flat and axis == 2 else radius
    low, high = -reach + max(0, -step), reach - max(0, step)
    wide = [(0, 0)] * 3
    wide[axis] = (-low, high) if low <= 0 <= high else (reach, reach)
    padded = jnp.pad(values, wide)
    start = wide[axis][0] + low
    size = values.shape[axis]
    values = sum(
      jax.lax.slice_in_dim(padded, start + k, start + k + size, axis=axis)
      for k in range(high - low + 1)
    )
  return values


def _of_matrices(levels, key, radius, settings):
  """Any texture feature (x, y, z), by the matrices around each voxel."""
  at = np.argwhere(levels > 0)
  wide = np.pad(levels, radius + 1)
  program = _matrix_program(
    key, radius, settings, extract.level_room(levels.max())
  )
  found = np.full(levels.shape, np.nan)
  for start in range(0, len(at), _BATCH):
    some = at[start : start + _BATCH]
    filled = np.concatenate([some, np.repeat(some[-1:], _BATCH - len(some), 0)])
    values = np.asarray(program(wide, filled, levels.max()))
    found[tuple(some.T)] = values[: len(some)]
  return found


@functools.cache
def _matrix_program(key, radius, settings, levels):
  side = 2 * radius + 3
  room = measure.Room(levels=levels, longest=side, slices=side)
  cube = np.pad(np.ones((side - 2,) * 3, bool), 1)
  place, beside = lattice.listed(cube, cube.sum())
  cube = np.flatnonzero(cube)

  def one(wide, start, most):
    box = jax.lax.dynamic_slice(wide, start, (side,) * 3).ravel()[cube]
    return measure.texture(box, place, beside, most, settings, room)[key]

  def program(wide, places, most):
    return jax.lax.map(lambda start: one(wide, start, most), places)

  return jax.jit(program)
