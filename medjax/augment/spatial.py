"""Where things are: flips, turns, affine and elastic maps."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

from medjax.augment.chance import chance

# Coordinates need all their bits: a GPU or TPU multiplies matrices with fewer.
_matmul = functools.partial(jnp.matmul, precision='highest')
_tensordot = functools.partial(jnp.tensordot, precision='highest')


def spatial_axes(axes, rank):
  """All spatial axes for None; refuses those that are not spatial."""
  axes = tuple(range(rank)) if axes is None else tuple(axes)
  # A negative axis would mean the channels of the image.
  if not set(axes) <= set(range(rank)) or len(set(axes)) < len(axes):
    raise ValueError(f'axes must differ and lie in 0..{rank - 1}, got {axes}')
  return axes


def _per_axis(name, value, count):
  """One number for all, or one for each, as an array (count,)."""
  value = np.asarray(value, np.float32)
  if value.shape not in ((), (count,)):
    raise ValueError(f'{name} takes one number or {count}, got {value}')
  return np.broadcast_to(value, (count,))


def _read(example, sources):
  """Gathers image and mask from integer coordinates, one array per axis.

  Flips and transposes under `where` would do, but XLA may compute what comes
  before them anew for every combination; a gather computes it once.
  """
  names = [name for name in ('image', 'mask') if name in example]
  return {**example, **{name: example[name][sources] for name in names}}


def flip(
  key: PRNGKeyArray, example: dict[str, Array], *, p=0.5, axes=None
) -> dict[str, Array]:
  """Mirrors each axis with its own draw.

  Args:
    key: random key of this example.
    example: image (*s, C), optional mask (*s).
    p: probability of each axis, drawn independently.
    axes: spatial axes that may be mirrored; all by default.
  """
  shape = example['image'].shape[:-1]
  axes = spatial_axes(axes, len(shape))
  sources = list(jnp.indices(shape, sparse=True))
  for axis, chosen in zip(axes, chance(key, p, (len(axes),)), strict=True):
    mirrored = shape[axis] - 1 - sources[axis]
    sources[axis] = jnp.where(chosen, mirrored, sources[axis])
  return _read(example, tuple(sources))


def rot90(
  key: PRNGKeyArray, example: dict[str, Array], *, p=0.5, planes=None
) -> dict[str, Array]:
  """Turns one plane by 90°, 180° or 270°, in the sense of `np.rot90`.

  A plane with unequal sides is turned by 180°, which keeps its shape.

  Args:
    key: random key of this example.
    example: image (*s, C), optional mask (*s).
    p: probability that the example is turned.
    planes: pairs of spatial axes, one of which is drawn; all by default.
  """
  shape = example['image'].shape[:-1]
  planes = planes or tuple(itertools.combinations(range(len(shape)), 2))
  planes = tuple(spatial_axes(plane, len(shape)) for plane in planes)
  key_chosen, key_plane, key_quarters = jax.random.split(key, 3)
  chosen = chance(key_chosen, p)
  drawn = jax.random.randint(key_plane, (), 0, len(planes))
  quarters = jax.random.randint(key_quarters, (), 1, 4)
  sources = list(jnp.indices(shape))
  for i, (a, b) in enumerate(planes):
    square = shape[a] == shape[b]
    k = jnp.where(chosen & (drawn == i), quarters if square else 2, 0)
    x, y = sources[a], sources[b]
    if square:
      x, y = jnp.where(k % 2, y, x), jnp.where(k % 2, x, y)
    sources[a] = jnp.where((k == 2) | (k == 3), shape[a] - 1 - x, x)
    sources[b] = jnp.where((k == 1) | (k == 2), shape[b] - 1 - y, y)
  return _read(example, tuple(sources))


# What the border of an image is to `affine`, and to the resampling.
_MODES = {'constant': 'constant', 'edge': 'nearest'}


def affine(
  key: PRNGKeyArray,
  example: dict[str, Array],
  *,
  p=0.5,
  rotate=0.0,
  scale=(1.0, 1.0),
  shear=0.0,
  translate=0.0,
  elastic=0.0,
  elastic_grid=4,
  axes=None,
  mode='constant',
) -> dict[str, Array]:
  """Rotates, scales, shears, shifts and deforms in ONE resampling.

  The image is interpolated linearly; the mask takes its nearest voxel. Geometry
  is that of the voxel grid, about the centre of the image: with unequal spacing
  a rotation is not rigid in millimetres, so keep it in the plane (`axes`).
  `affine(elastic=5.0)` alone is an elastic deformation.

  Args:
    key: random key of this example.
    example: image (*s, C), optional mask (*s).
    p: probability of each of rotation, scale, shear, translation and elastic
      deformation, drawn independently; an example with none stays as it was.
    rotate: largest angle in degrees, either way: one number, or in 3-D one
      for the rotation about each axis.
    scale: range of the magnification, the same on all axes, its reciprocal
      uniform: nnU-Net's (0.7, 1.4) is (1/1.4, 1/0.7) here.
    shear: largest shear angle in degrees, either way.
    translate: largest shift in voxels, either way: one number or one per axis.
    elastic: largest displacement in voxels: one number or one per axis. Nothing
      folds below 0.4 of a control interval (Choi & Lee, Graph. Models 2000).
    elastic_grid: control intervals of each axis; displacements are uniform, a
      cubic B-spline between (Rueckert et al., IEEE TMI 1999).
    axes: spatial axes in which all this happens; all by default. (1, 2) moves
      the slices of an anisotropic volume alike, in two dimensions.
    mode: image and mask outside their border: 'constant' (0), or 'edge', where
      what is shown goes on, and so does what it is.

  Raises ValueError: unknown mode, an axis that is not spatial, or a list of
  numbers that does not fit the axes.
  """
  axes = spatial_axes(axes, example['image'].ndim - 1)
  if mode not in _MODES:
    raise ValueError(f"mode is 'constant' or 'edge', not {mode!r}")
  shape = tuple(example['image'].shape[a] for a in axes)
  moved, coordinates = _drawn_coordinates(
    key, shape, p, rotate, scale, shear, translate, elastic, elastic_grid
  )
  out = {**example}
  for name, order in (('image', 1), ('mask', 0)):
    if name in example:
      x = example[name]
      warped = _resample(
        x, coordinates, axes=axes, order=order, mode=_MODES[mode]
      )
      out[name] = jnp.where(moved, warped, x)
  return out


def _drawn_coordinates(
  key, shape, p, rotate, scale, shear, translate, elastic, elastic_grid
):
  """(whether anything was drawn, where each voxel is read); see `affine`."""
  n = len(shape)
  rotate = np.deg2rad(_per_axis('rotate', rotate, n * (n - 1) // 2))
  tangent = np.tan(np.deg2rad(shear))
  translate = _per_axis('translate', translate, n)
  elastic = _per_axis('elastic', elastic, n)
  key_drawn, key_values, key_elastic = jax.random.split(key, 3)
  given = (rotate.any(), tuple(scale) != (1, 1), shear != 0)
  given = np.array((*given, translate.any(), elastic.any()))
  drawn = chance(key_drawn, p, (5,)) & given
  limits = rotate, scale, tangent, translate
  matrix, shift = _drawn_matrix(key_values, n, drawn, limits)
  coordinates = _coordinates(shape, matrix, shift)
  if elastic.any():
    largest = drawn[4] * elastic
    field = _displacement(key_elastic, shape, matrix, largest, elastic_grid)
    coordinates = [x + d for x, d in zip(coordinates, field, strict=True)]
  return drawn.any(), coordinates


def _drawn_matrix(key: PRNGKeyArray, n, drawn: Bool[Array, '5'], limits):
  """(matrix, shift) from a voxel of the result to where it is read from."""
  rotate, scale, tangent, translate = limits
  pairs = n * (n - 1) // 2
  # One call for all numbers: each call adds its own to the compile time.
  values = jax.random.uniform(key, (2 * pairs + n + 1,), minval=-1.0)
  turns, shears, shifts, (zoom,) = jnp.split(
    values, [pairs, 2 * pairs, 2 * pairs + n]
  )
  matrix = _matmul(
    _rotation(n, drawn[0] * rotate * turns),
    _shear(n, drawn[2] * tangent * shears),
  ) * jnp.where(drawn[1], _step(zoom, scale), 1.0)
  return matrix, drawn[3] * translate * shifts


def _rotation(n, angles: Float[Array, 'm']) -> Float[Array, 'n n']:
  """Rotations one after the other; in 3-D about axis 0, then 1, then 2."""
  matrix = jnp.eye(n)
  planes = reversed(tuple(itertools.combinations(range(n), 2)))
  for angle, (a, b) in zip(angles, planes, strict=True):
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.eye(n).at[[a, b], [a, b]].set(cos)
    matrix = _matmul(turn.at[a, b].set(-sin).at[b, a].set(sin), matrix)
  return matrix


def _shear(n, tangents: Float[Array, 'm']) -> Float[Array, 'n n']:
  """Unit upper triangular, so that it keeps volume and has an inverse."""
  return jnp.eye(n).at[np.triu_indices(n, 1)].set(tangents)


def _step(draw, scale):
  """Distance between samples: `draw` from -1 to 1, uniform over 1 / scale."""
  low, high = scale
  return ((1 + draw) / low + (1 - draw) / high) / 2


def _coordinates(shape, matrix: Float[Array, 'n n'], shift: Float[Array, 'n']):
  """Where each voxel is read: centre + matrix (voxel − centre − shift)."""
  centre = [(size - 1) / 2 for size in shape]
  grid = jnp.indices(shape, sparse=True)
  at = [x - c - t for x, c, t in zip(grid, centre, shift, strict=True)]
  # Not a matrix product: unlike that, sums are fused into the gather.
  return [
    sum(a * x for a, x in zip(row, at, strict=True)) + c
    for row, c in zip(matrix, centre, strict=True)
  ]


def _displacement(
  key, shape, matrix: Float[Array, 'n n'], largest: Float[Array, 'n'], intervals
) -> Float[Array, 'n *_']:
  """`matrix` times a cubic B-spline over random control points ≤ `largest`.

  Both act on the control points, so that the field is the plain result of a
  matrix product, which XLA does not compute anew for every corner of a voxel.
  """
  n = len(shape)
  side = intervals + 3
  # A flat draw: XLA compiles one of several axes much more slowly.
  controls = jax.random.uniform(key, (n * side**n,), minval=-1.0)
  controls = controls.reshape(n, *[side] * n)
  field = _tensordot(matrix * largest, controls, 1)
  for axis, size in enumerate(shape, start=1):
    weights = jnp.asarray(_spline(size, intervals))
    field = jnp.moveaxis(_tensordot(weights, field, (1, axis)), 0, axis)
  return field


def _spline(size, intervals):
  """Weights (size, intervals + 3) of the control points in each voxel."""
  at = np.linspace(0, intervals, size)[:, None]
  x = np.abs(at - np.arange(-1, intervals + 2))
  near, far = 2 / 3 - x**2 + x**3 / 2, np.maximum(2 - x, 0) ** 3 / 6
  return np.where(x < 1, near, far).astype(np.float32)


def _resample(
  x: Shaped[Array, '*_'], coordinates, *, axes, order, mode
) -> Shaped[Array, '*_']:
  """Reads `x` at the coordinates of `axes`, alike along its other axes."""
  front = tuple(range(len(axes)))
  moved = jnp.moveaxis(x, axes, front)
  flat = moved.reshape(*moved.shape[: len(axes)], -1)
  read = lambda y: map_coordinates(y, coordinates, order, mode)
  out = jax.vmap(read, in_axes=-1, out_axes=-1)(flat)
  return jnp.moveaxis(out.reshape(moved.shape), front, axes)
