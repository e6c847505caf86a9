"""Size and form of a region, and how intensities lie in it."""

import jax
import jax.numpy as jnp
import numpy as np

from medjax.radiomics import hull, lattice, mesh, pairs

_NO_STEP = 2**20


def sizes(box, *, sample=False):
  """{name: value} that every profile has: mesh, voxels, diameters, axes.

  sample: variances along the axes are over n - 1 voxels, as the standard's
  values have them, and not over n, as PyRadiomics'.
  """
  volume, area = mesh.volume_and_area(box.shape, box.dims, box.spacing)
  space, slice_, column, row = mesh.diameters(box.shape, box.dims, box.spacing)
  count = box.shape.sum()
  eigen, _ = axes(box, sample=sample)
  # Rounding may leave a flat region's least axis below nothing.
  least, minor, major = jnp.sqrt(jnp.maximum(eigen, 0))
  return {
    'volume': volume,
    'vol_approx': count * box.spacing.prod(),
    'area_mesh': area,
    'av': area / volume,
    'sphericity': jnp.cbrt(36 * jnp.pi * volume**2) / area,
    'diam': space,
    'diam_slice': slice_,
    'diam_column': column,
    'diam_row': row,
    'pca_maj_axis': 4 * major,
    'pca_min_axis': 4 * minor,
    'pca_least_axis': 4 * least,
    'pca_elongation': minor / major,
    'pca_flatness': least / major,
  }


def points(box):
  """Centres of the voxels (P, 3) in mm."""
  place = jnp.stack(lattice.coordinates(box.dims, box.mask.size), -1)
  return place * box.spacing


def axes(box, *, sample=False):
  """Variances (3,) mm² along the principal axes, least first; the centre."""
  where = box.shape[:, None]
  at = points(box)
  count = box.shape.sum()
  centre = jnp.where(where, at, 0).sum(0) / count
  apart = jnp.where(where, at - centre, 0)
  return jnp.linalg.eigvalsh(apart.T @ apart / (count - sample)), centre


def morphology(box):
  """{name: value} of the standard's morphological features (IBSI, 3.1)."""
  found = sizes(box, sample=True)
  volume, area = found['volume'], found['area_mesh']
  at = points(box)
  _, centre = axes(box)
  there = box.mask
  values = jnp.where(there, box.values, 0)
  heavy = (values[:, None] * at).sum(0) / values.sum()
  semi = [found[f'pca_{k}_axis'] / 2 for k in ('maj', 'min', 'least')]
  low, high = (jnp.where(box.shape[:, None], at, s * jnp.inf) for s in (1, -1))
  sides = high.max(0) - low.min(0) + box.spacing
  mean = values.sum() / there.sum()
  moran, geary = autocorrelation(box)
  found |= {
    'comp_1': volume / (jnp.sqrt(jnp.pi) * area**1.5),
    'comp_2': 36 * jnp.pi * volume**2 / area**3,
    'sph_dispr': 1 / found['sphericity'],
    'asphericity': 1 / found['sphericity'] - 1,
    'com': jnp.linalg.norm(centre - heavy),
    'vol_dens_aabb': volume / sides.prod(),
    'area_dens_aabb': area / hull.box_area(sides),
    'vol_dens_aee': volume / (4 / 3 * jnp.pi * semi[0] * semi[1] * semi[2]),
    'area_dens_aee': area / hull.ellipsoid_area(*semi),
    'integ_int': mean * volume,
    'moran_i': moran,
    'geary_c': geary,
  }
  around = hull.measured(box.around)
  for kind, (its_volume, its_area) in around.items():
    found[f'vol_dens_{kind}'] = volume / its_volume
    found[f'area_dens_{kind}'] = area / its_area
  return found


def autocorrelation(box):
  """Moran's I and Geary's C, weighted by one over the distance."""
  at = points(box)
  mean = jnp.where(box.mask, box.values, 0).sum() / box.mask.sum()
  centred = box.values - mean
  columns = jnp.concatenate([at.T, centred[None]])
  columns, count = pairs.compacted(columns, box.mask)

  def weighed(a, b, valid):
    square = jnp.square(a[:3] - b[:3]).sum(0)
    weight = jnp.where(valid, jax.lax.rsqrt(jnp.where(valid, square, 1)), 0)
    return jnp.stack(
      [
        weight.sum(),
        (weight * a[3] * b[3]).sum(),
        (weight * jnp.square(a[3] - b[3])).sum(),
      ]
    )

  zero = jnp.zeros(3, at.dtype)
  weight, product, square = pairs.reduced(
    columns, count, weighed, jnp.add, zero
  )
  spread = jnp.where(box.mask, centred**2, 0).sum()
  # Each pair was taken once, and counts in both directions.
  moran = count / weight * product / spread
  geary = (count - 1) / (2 * weight) * square / spread
  return moran, geary


def peaks(box, ball):
  """Local and global intensity peak: means over a ball of 1 cm³ (IBSI, 3.2).

  ball: (K, 3) int32 steps to its voxels; a step out of the way is no voxel.
  """
  inside = box.inside
  values = jnp.where(inside, box.values, 0)

  def add(step, found):
    total, count = found
    # A voxel of the mask has the whole ball around it inside of the box.
    places = (step[0] * box.dims[1] + step[1]) * box.dims[2] + step[2]
    real = step[0] < _NO_STEP
    total += jnp.where(real, lattice.shifted(values, places), 0)
    count += jnp.where(real, lattice.shifted(inside, places), 0)
    return total, count

  zero = jnp.zeros_like(values), jnp.zeros(values.size, jnp.int32)
  total, count = jax.lax.fori_loop(
    0, ball.shape[0], lambda i, found: add(ball[i], found), zero
  )
  mean = jnp.where(box.mask, total / jnp.maximum(count, 1), -jnp.inf)
  highest = jnp.where(box.mask, box.values, -jnp.inf).max()
  local = jnp.where(box.mask & (box.values == highest), mean, -jnp.inf)
  return {'peak_loc': local.max(), 'peak_glob': mean.max()}


def ball_radius():
  """Of a ball of 1 cm³, in mm."""
  return float(np.cbrt(3 / (4 * np.pi)) * 10)


def ball_steps(spacing):
  """Steps (K, 3) int32 to the voxels within a ball of 1 cm³.

  K is of a few sizes only; what fills it up is no step.
  """
  radius = ball_radius()
  reach = [range(-int(radius / s), int(radius / s) + 1) for s in spacing]
  steps = np.stack(np.meshgrid(*reach, indexing='ij'), -1).reshape(-1, 3)
  steps = steps[np.linalg.norm(steps * spacing, axis=1) <= radius]
  room = max(64, 2 ** int(np.ceil(np.log2(len(steps)))))
  found = np.full((room, 3), _NO_STEP, np.int32)
  found[: len(steps)] = steps
  return found
