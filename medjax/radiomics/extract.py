"""Features of regions: one, or many in batches of about the same size."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np

from medjax.radiomics import names, prepare, shape
from medjax.radiomics import settings as settings_lib
from medjax.radiomics.lattice import Box
from medjax.radiomics.measure import Room, measure

# Sizes that programs are compiled for; beyond the last it doubles.
_PLACES = (2048, 8192, 32768)
_LEVELS = (48, 128)
_LONGEST = (64,)
_SLICES = (16, 64)
_VOXELS = 2**19  # of all boxes of a batch


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
  """[{column: value}] of `prepare.Region`s, in batches of like sizes.

  Regions of a size run through one compiled program, shared out over the
  devices that there are.
  """
  settings = settings_lib.find(settings)
  groups = collections.defaultdict(list)
  for place, region in enumerate(regions):
    groups[sizes(region, settings)].append(place)
  found = [None] * len(regions)
  for (room, places, steps), members in sorted(groups.items()):
    most = max(1, _VOXELS // places)
    for start in range(0, len(members), most):
      chosen = members[start : start + most]
      boxes = [boxed(regions[i], places) for i in chosen]
      balls = [_ball(regions[i], settings, steps) for i in chosen]
      values = _run(boxes, balls, settings, room)
      for row, i in enumerate(chosen):
        one = {k: float(v[row]) for k, v in values.items()}
        found[i] = names.columns(one, regions[i], settings)
  return found


def sizes(region, settings):
  """(room, places in the list, steps of the ball) a region needs."""
  dims = np.array(region.values.shape)
  values = region.values[region.mask]
  if settings.bins is not None:
    levels = settings.bins
  else:
    low = settings.limits[0] if settings.limits and settings.standard else None
    low = values.min() - settings.bin_width if low is None else low
    levels = int((values.max() - low) / settings.bin_width) + 2
  by_slice = any(a.startswith('2D') for a in settings.aggregations)
  room = Room(
    levels=_up(levels, _LEVELS),
    longest=_up(dims.max(), _LONGEST),
    slices=_up(dims[2], _SLICES) if by_slice else 1,
  )
  steps = len(shape.ball_steps(region.spacing)) if settings.standard else 0
  return room, _up(dims.prod(), _PLACES), steps


def _up(number, steps):
  """The least of the steps that is large enough, or a doubled last one."""
  for step in steps:
    if number <= step:
      return step
  return step * 2 ** int(np.ceil(np.log2(number / step)))


def boxed(region, places):
  """A `Region` as a `Box` of lists of so many places, numpy arrays."""

  def listed(array):
    return np.pad(array.ravel(), (0, places - array.size))

  return Box(
    *map(listed, (region.values, region.mask, region.shape, region.inside)),
    np.array(region.values.shape, np.int32),
    np.asarray(region.spacing, float),
  )


def _ball(region, settings, steps):
  return shape.ball_steps(region.spacing) if steps else np.zeros((0, 3), np.int32)


def _run(boxes, balls, settings, room):
  """{name: (n,)} of boxes of one size."""
  n, devices = len(boxes), jax.local_device_count()
  # The last of a batch fill it up: as few sizes of it as can be.
  devices = devices if n >= devices else 1
  count = devices * 2 ** int(np.ceil(np.log2(-(-n // devices))))
  chosen = [min(i, n - 1) for i in range(count)]
  stack = lambda *arrays: np.stack([arrays[i] for i in chosen])
  with jax.enable_x64(True):
    box = jax.tree.map(stack, *boxes)
    ball = stack(*balls)
    found = _program(settings, room, devices)(box, ball)
    return {k: np.asarray(v)[:n] for k, v in found.items()}


@functools.cache
def _program(settings, room, devices):
  """Compiled: boxes (n, …) → {name: (n,)}, shared out over devices."""

  def one(arguments):
    return measure(*arguments, settings, room)

  def all_of(box, ball):
    # One after the other on a CPU, whose scatter is slow for several at once.
    size = 1 if jax.default_backend() == 'cpu' else 16
    return jax.lax.map(one, (box, ball), batch_size=None if size == 1 else size)

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
