"""Size and form of a region, and how intensities lie in it."""

import jax
import jax.numpy as jnp

from medjax.radiomics import hull, mesh, pairs


def sizes(box, longest, *, sample=False):
  """{name: value} that every profile has: mesh, voxels, diameters, axes.

  longest: no box is longer, in voxels. sample: variances along the axes are
  over n - 1 voxels, as the standard's values have them, and not over n, as
  PyRadiomics'.
  """
  volume, area = mesh.volume_and_area(box)
  space, slice_, column, row = mesh.diameters(box, longest)
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
  return box.place.T * box.spacing


def axes(box, *, sample=False):
  """Variances (3,) mm² along the principal axes, least first; the centre."""
  where = box.shape[:, None]
  at = points(box)
  count = box.shape.sum()
  centre = jnp.where(where, at, 0).sum(0) / count
  apart = jnp.where(where, at - centre, 0)
  return jnp.linalg.eigvalsh(apart.T @ apart / (count - sample)), centre


def morphology(box, longest):
  """{name: value} of the standard's morphological features (IBSI, 3.1)."""
  found = sizes(box, longest, sample=True)
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
  source, count = pairs.compacted(box.mask)

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
    columns, source, count, weighed, jnp.add, zero
  )
  spread = jnp.where(box.mask, centred**2, 0).sum()
  # Each pair was taken once, and counts in both directions.
  moran = count / weight * product / spread
  geary = (count - 1) / (2 * weight) * square / spread
  return moran, geary
