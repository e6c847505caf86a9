"""All features of one region, as a pure function: `measure(box, …)`."""

from typing import NamedTuple

import jax.numpy as jnp

from medjax.radiomics import (
  averages,
  cooccurrence,
  emphasis,
  intensity,
  lattice,
  neighbours,
  runs,
  shape,
  zones,
)


class Room(NamedTuple):
  """How much of each there may be in a box; what a program is compiled for.

  levels: grey levels. longest: voxels along an axis. slices: of the last axis,
  1 where features are not by slice.
  """

  levels: int
  longest: int
  slices: int


def measure(box, settings, room):
  """{name: value} of a `lattice.Box`; pure, for jit, vmap and grad.

  Names are 'family_feature' in the standard's short form, with '_' and the
  aggregation where there is one. What a `Settings` says is done, but for its
  resampling and choice of voxels.
  """
  found = _shapes(box, settings, room) if settings.shapes else {}
  levels = grey_levels(box, settings)
  index = jnp.where(box.mask, levels - 1, -1)
  histogram = lattice.counts(index, room.levels)
  most = levels.max()
  stats = intensity.statistics(box.values, box.mask)
  found |= {f'stat_{k}': v for k, v in stats.items()}
  p = histogram / histogram.sum()
  if settings.standard:
    bins = settings.bins or most
    about = intensity.histogram_features(levels, box.mask, histogram, bins)
    found |= {f'ih_{k}': v for k, v in about.items()}
    volumes = intensity.volume_histogram(
      box.values,
      box.mask,
      width=settings.volume_width,
      limits=settings.finite_limits,
      bins=settings.volume_bins,
    )
    found |= {f'ivh_{k}': v for k, v in volumes.items()}
  else:
    shifted = jnp.where(box.mask, (box.values + settings.shift) ** 2, 0).sum()
    found |= {
      'stat_kurt': found['stat_kurt'] + 3,
      'stat_energy': shifted,
      'stat_rms': jnp.sqrt(shifted / box.mask.sum()),
      'stat_total_energy': shifted * box.spacing.prod(),
      'ih_entropy': averages.entropy(histogram, 0),
      'ih_uniformity': (p**2).sum(),
    }
  return found | texture(levels, box.place, box.beside, most, settings, room)


def grey_levels(box, settings):
  """Grey levels (P,) int32 of a box: 1 and up in its mask, else 0."""
  if settings.bins is not None:
    return intensity.levels(
      box.values, box.mask, bins=settings.bins, edges=not settings.standard
    )
  if settings.limits and settings.standard:
    low = settings.limits[0]
  elif settings.standard:
    low = None
  else:  # bins lie as from 0 on
    least = jnp.where(box.mask, box.values, jnp.inf).min()
    low = jnp.floor(least / settings.bin_width) * settings.bin_width
  return intensity.levels(
    box.values, box.mask, width=settings.bin_width, low=low
  )


def _shapes(box, settings, room):
  if settings.standard:
    found = shape.morphology(box, room.longest)
  else:
    found = shape.sizes(box, room.longest)
  found = {f'morph_{k}': v for k, v in found.items()}
  if settings.standard:
    found['loc_peak_loc'], found['loc_peak_glob'] = box.peaks
  return found


def texture(levels, place, beside, most, settings, room):
  """{name: value} of all matrices of grey levels (P,), 0 for what is not in.

  place, beside: of `lattice.listed`. most: the region's highest level.
  """
  found = {}
  for planar in sorted(settings.ranges):
    names = [a for a in settings.aggregations if a.startswith('2') == planar]
    by_slice = any(a.startswith('2D') for a in names)
    z, slices = (place[2], room.slices) if by_slice else (0, 1)
    options = dict(num_levels=room.levels, planar=planar, slices=slices)
    found |= _directed(levels, beside, z, most, names, room, options, settings)
    ranges = list(dict.fromkeys(a.partition('_')[0] for a in names))
    found |= _undirected(levels, beside, z, ranges, room, options, settings)
  return found


def _directed(levels, beside, z, most, names, room, options, settings):
  """Features of the matrices that are made by direction."""
  found = {}
  pairs = cooccurrence.counts(levels, beside, z, **options)
  for name in names:
    chosen = averages.merged(pairs, name)
    features = cooccurrence.features(
      chosen, most, correlation=not settings.standard
    )
    means = averages.mean(features, chosen)
    found |= {f'cm_{k}_{name}': v for k, v in means.items()}
  lines = runs.counts(levels, beside, z, longest=room.longest, **options)
  length = jnp.arange(1, room.longest + 1)
  for name in names:
    chosen = averages.merged(lines, name)
    voxels = (chosen * length).sum((1, 2))
    features = emphasis.features(chosen, length, voxels)
    means = averages.mean(features, chosen)
    found |= {f'rlm_{k}_{name}': v for k, v in means.items()}
  return found


def _undirected(levels, beside, z, ranges, room, options, settings):
  """Features of zones and of neighbourhoods."""
  planar, slices = options['planar'], options['slices']
  label = zones.labelled(levels, beside, planar=planar)
  distance = None
  if settings.standard:
    distance = zones.distances(levels > 0, beside, planar=planar)
  sized, size, distant = zones.counts(
    label, levels, z, distance,
    num_levels=room.levels, longest=room.longest, slices=slices,
  )  # fmt: skip
  n, s, dependence = neighbours.counts(
    levels, beside, z, lonely=not settings.standard, **options
  )
  kinds = {
    'szm': (sized, size),
    'ngl': (dependence, jnp.arange(1, 28)),
  }
  if settings.standard:
    kinds['dzm'] = distant, jnp.arange(1, room.longest + 1)
  found = {}
  for name in ranges:
    voxels = averages.merged(dependence, name).sum((1, 2))
    for kind, (counts, width) in kinds.items():
      chosen = averages.merged(counts, name)
      features = emphasis.features(chosen, width, voxels)
      means = averages.mean(features, chosen)
      found |= {f'{kind}_{k}_{name}': v for k, v in means.items()}
    number = averages.merged(n, name)
    features = neighbours.tone_features(number, averages.merged(s, name))
    means = averages.mean(features, number)
    found |= {f'ngt_{k}_{name}': v for k, v in means.items()}
  return found
