"""Features of regions: one, or many in batches of about the same size."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np

from medjax.radiomics import hull, lattice, names, peaks, prepare
from medjax.radiomics import settings as settings_lib
from medjax.radiomics.measure import Room, measure

# Sizes that programs are compiled for; beyond the last they double.
_VOXELS = (2048, 8192, 32768)
_LEVELS = (48, 80, 128)
_LARGE = 8192  # voxels from which a region may well be long
_SLICES = (16, 64)
_TOGETHER, _MOST_VOXELS = 64, 2**18  # boxes of a batch, and their voxels
_MOST_LEVELS = 2048  # a matrix for each direction has their square
_MANY_LEVELS = 1000


def features(image, mask, spacing, settings='pyradiomics'):
  """{column: value} of the voxels of `image` in `mask`.

  image, mask: (x, y, z); slices are along the last axis. spacing: (3,) mm.
  settings: a name of `settings.PRESETS`, or a `Settings`. Values are float64;
  NaN is what a region of one intensity leaves undefined. Raises ValueError
  that says what cannot be measured.
  """
  settings = settings_lib.find(settings)
  region = prepare.region(image, mask, spacing, settings)
  return features_of([region], settings)[0]


def features_of(regions, settings):
  """[{column: value}] of `prepare.Region`s; see `values_of`."""
  settings = settings_lib.find(settings)
  values = values_of(regions, settings)
  return [
    names.columns(one, region, settings)
    for one, region in zip(values, regions, strict=True)
  ]


def values_of(regions, settings):
  """[{key of `measure`: value}] of regions, in batches of like sizes.

  Regions of a size run through one compiled program, shared out over the
  accelerators that there are.
  """
  groups = collections.defaultdict(list)
  for place, region in enumerate(regions):
    groups[sizes(region, settings)].append(place)
  found = [None] * len(regions)
  for (room, voxels), members in sorted(groups.items()):
    devices, most = _devices(), _at_once(voxels, len(members))
    devices = devices if len(members) >= devices else 1
    for start in range(0, len(members), devices * most):
      chosen = members[start : start + devices * most]
      # Filled up: one size of batch is compiled, and no other.
      chosen += [chosen[-1]] * (devices * most - len(chosen))
      boxes = [boxed(regions[i], voxels, settings) for i in chosen]
      values = _run(boxes, settings, room, devices)
      for row, i in enumerate(chosen):
        found[i] = {k: float(v[row]) for k, v in values.items()}
  return found


def _devices():
  """Over how many devices a batch is shared out.

  One on a CPU: its virtual devices have the same cores, and wait for each other
  where those are few.
  """
  cpu = jax.default_backend() == 'cpu'
  return 1 if cpu else jax.local_device_count()


def _at_once(voxels, count):
  """How many boxes of `count` a device measures together.

  One on a CPU, whose scatter is slow for several at once.
  """
  if count == 1 or jax.default_backend() == 'cpu':
    return 1
  return max(1, min(_TOGETHER, _MOST_VOXELS // voxels))


def sizes(region, settings):
  """(room, voxels in the list) a region needs."""
  dims = np.array(region.values.shape)
  levels = count_levels(region, settings)
  if levels > _MOST_LEVELS:
    raise ValueError(
      f'{levels} grey levels; matrices of more than {_MOST_LEVELS} are not '
      'made: give wider bins, or a number of them'
    )
  by_slice = any(a.startswith('2D') for a in settings.aggregations)
  voxels = _up(np.count_nonzero(region.shape), _VOXELS)
  room = Room(
    levels=_up(levels, _LEVELS),
    longest=_up(dims.max(), (64 if voxels < _LARGE else 128,)),
    slices=_up(dims[2], _SLICES) if by_slice else 1,
  )
  return room, voxels


def notes_of(region, settings):
  """What a reader of a region's features should know, as sentences.

  Raises ValueError for more grey levels than can be measured.
  """
  sizes(region, settings)
  levels = count_levels(region, settings)
  found = []
  if levels > _MANY_LEVELS:
    found.append(f'{levels} grey levels, of which texture says little')
  if names.is_flat(region):
    found.append(
      'one intensity, so undefined: ' + ', '.join(names.undefined(settings))
    )
  return found


def count_levels(region, settings):
  """The number of grey levels of a region, or a little above."""
  if settings.bins is not None:
    return settings.bins
  values = region.values[region.mask]
  low = values.min()
  if settings.limits and settings.standard:
    low = settings.limits[0]
  elif not settings.standard:
    low = np.floor(low / settings.bin_width) * settings.bin_width
  return int((values.max() - low) / settings.bin_width) + 1


def level_room(levels):
  """The number of grey levels that a program for so many is compiled for."""
  return _up(int(levels), _LEVELS)


def _up(number, steps):
  """The least of the steps that is large enough, or a doubled last one."""
  for step in steps:
    if number <= step:
      return step
  return step * 2 ** int(np.ceil(np.log2(number / step)))


def boxed(region, size, settings=None):
  """A `Region` as a `lattice.Box` of lists of `size` voxels, numpy arrays.

  With settings whose shapes are the standard's, with what is around it.
  """

  def listed(array):
    found = array[region.shape]
    return np.pad(found, (0, size - found.size))

  around, peak = np.full(hull.COUNT, np.nan), np.full(2, np.nan)
  if settings is not None and settings.standard and settings.shapes:
    around = hull.bodies(region.shape, region.spacing)
    peak = peaks.peaks(region)
  return lattice.Box(
    *map(listed, (region.values, region.shape, region.mask)),
    *lattice.listed(region.shape, size),
    np.asarray(region.spacing, float),
    around,
    peak,
  )


def _run(boxes, settings, room, devices):
  """{name: (n,)} of boxes of one size."""
  with jax.enable_x64(True):
    program = _program(settings, room, devices)
    found = program(jax.tree.map(lambda *arrays: np.stack(arrays), *boxes))
    return jax.device_get(found)


@functools.cache
def _program(settings, room, devices):
  """Compiled: boxes (n, …) → {name: (n,)}, shared out over devices."""

  def one(box):
    return measure(box, settings, room)

  def all_of(box):
    if len(box.values) == 1:
      found = one(jax.tree.map(lambda x: x[0], box))
      return {k: jnp.asarray(v)[None] for k, v in found.items()}
    return jax.vmap(one)(box)

  if devices == 1:
    return jax.jit(all_of)
  mesh = jax.make_mesh(
    (devices,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  spec = jax.sharding.PartitionSpec('data')
  return jax.jit(
    jax.shard_map(
      all_of, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
    )
  )
