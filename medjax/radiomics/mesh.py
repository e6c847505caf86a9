"""The surface of a mask as triangles: volume, area, diameters."""

import jax
import jax.numpy as jnp
import numpy as np

from medjax.radiomics import lattice, pairs

# Triangles of a cube, three edges each, by which of its corners 0 … 6 are in
# the mask; where corner 7 is, the surface is that of the complement, the other
# way round. Lorensen and Cline 1987, as in Bourke's table (Polygonising a
# scalar field, 1994, public domain), with the order of corners and edges below.
_TRIANGLES = [
  '-',
  '083',
  '190',
  '183198',
  '12a',
  '08312a',
  '92a029',
  '2832a8a98',
  'b23',
  'b2008b',
  '190b23',
  'b2119b98b',
  '3a1ba3',
  'a1008a8ba',
  '9033b9ba9',
  '98aba8',
  '478',
  '043473',
  '190478',
  '194147173',
  '12a478',
  '34730412a',
  '92a902478',
  '2a9297273479',
  '478b23',
  'b47b24204',
  '190478b23',
  '47b94bb29192',
  '3a1ba3478',
  'ba114b10447b',
  '4789033b9ba9',
  '47b4b99ba',
  '954',
  '954083',
  '054015',
  '854835315',
  '12a954',
  '08312a954',
  '2a5542240',
  '2a5325354834',
  '954b23',
  'b2008b954',
  '054015b23',
  '215258b28548',
  '3a1ba3954',
  '549a1008a8ba',
  '54050ba5bb03',
  '548a58ba8',
  '789579',
  '309539357',
  '780017715',
  '157173',
  '78957912a',
  '12a309395357',
  '0288258572a5',
  '2a5253357',
  '579789b23',
  '579972209b27',
  'b23018178157',
  '21b17b157',
  '7895793a1ba3',
  '5705097b0a10ba0',
  'ba003ba50078570',
  'ba557b',
  '65a',
  '08365a',
  '19065a',
  '18319865a',
  '165126',
  '165126083',
  '965906026',
  '598582526832',
  'b2365a',
  'b2008b65a',
  '190b2365a',
  'b2119b98b65a',
  '63b653513',
  '08b0b50515b6',
  '63b036065059',
  '65969bb98',
  '47865a',
  '04347365a',
  '19047865a',
  '19414717365a',
  '478165126',
  '043473165126',
  '478965906026',
  '739479329596269',
  'b2347865a',
  'b47b2420465a',
  '190b2347865a',
  '47b94bb2919265a',
  '47863b653513',
  '51b5b610b47b04b',
  '47863b036065059',
  '65969b4797b9',
  'a4964a',
  'a4964a083',
  '01aa60640',
  '18316886461a',
  '149124264',
  '149124264083',
  '024426',
  '832824426',
  'b23a4964a',
  'b2008ba4964a',
  'b2301aa60640',
  '64161a148b2118b',
  '964369139b63',
  '18b081b61149641',
  '63b036640',
  '86468b',
  '67a78a89a',
  '67a0a709a073',
  '67a1a7178018',
  '67a1a7173',
  '126168189678',
  '269129679309739',
  '078706602',
  '273267',
  'b2367a78a89a',
  '207b2709767a9a7',
  '67a1a7178018b23',
  'b2117ba61167',
  '896678169b63136',
  '09167b',
  '07870603bb60',
  '67b',
]

# Corners of a cube, and the two that each of its 12 edges joins; the axes are
# (z, y, x) of the table.
_CORNERS = (
  (0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0),
  (1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0),
)  # fmt: skip
_EDGES = (
  (0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4),
  (1, 5), (2, 6), (3, 7),
)  # fmt: skip


def _table():
  """Corners of the triangles (256, 5, 3, 3) in voxels (x, y, z); 0 if none."""
  corners = np.array(_CORNERS, float)[:, ::-1]
  middle = np.array([corners[list(e)].mean(0) for e in _EDGES])
  found = np.zeros((256, 5, 3, 3))
  for case, text in enumerate(_TRIANGLES):
    edges = [int(c, 16) for c in text.replace('-', '')]
    triangles = middle[edges].reshape(-1, 3, 3)
    found[case, : len(triangles)] = triangles
    found[255 - case, : len(triangles)] = triangles[:, ::-1]
  return found


_POINTS = _table()


def cubes(mask, dims):
  """Which corners of the cube at each voxel are in the mask: (P,) 0 … 255."""
  steps = jnp.array(_CORNERS, jnp.int32)[:, ::-1]

  def add(bit, found):
    corner = lattice.shifted(mask, lattice.offset(steps[bit], dims))
    return found + (corner.astype(jnp.int32) << bit)

  zero = jnp.zeros(mask.size, jnp.int32)
  return jax.lax.fori_loop(0, len(steps), add, zero)


def volume_and_area(mask, dims, spacing):
  """Volume in mm³ and area in mm² of the surface at half between voxels.

  Marching cubes as PyRadiomics has them, so that both agree (IBSI reference
  manual, 3.1). Where the mask has holes by a diagonal the surface is not quite
  closed, and the volume is as seen from the corner of the region's box.
  """
  case = cubes(mask, dims)
  points = jnp.asarray(_POINTS, spacing.dtype) * spacing
  a, b, c = points[:, :, 0], points[:, :, 1], points[:, :, 2]
  across = jnp.cross(b - a, c - a)
  area = jnp.linalg.norm(across, axis=-1).sum(1) / 2
  # Six times the volume under a triangle, as seen from the origin: of the
  # triangle in its cube, and what its place adds.
  local = (jnp.cross(a, b) * c).sum((1, 2))
  across = across.sum(1)
  volume = local[case].sum()
  for axis, place in enumerate(lattice.coordinates(dims, mask.size)):
    first = jnp.where(mask, place, mask.size).min() - 1
    far = (place - first) * spacing[axis]
    volume += (across[:, axis][case] * far).sum()
  return jnp.abs(volume) / 6, area[case].sum()


def diameters(mask, dims, spacing):
  """Largest distances in mm: (in space, at one z, at one y, at one x).

  Of the points where the surface cuts the edges between voxels. The farthest
  of a set are ends of all lines through them, so few points are paired.
  """
  place = jnp.stack(lattice.coordinates(dims, mask.size))
  units = jnp.eye(3, dtype=jnp.int32)
  cut = jnp.stack(
    [mask != lattice.shifted(mask, lattice.offset(u, dims)) for u in units]
  )
  # Doubled, so that half voxels are whole numbers: (axes, edges, P).
  points = 2 * place[:, None] + units[:, :, None]
  flat = [cut & jax.lax.map(lambda c, k=k: _ends(c, place, dims, k), cut)
          for k in range(3)]  # fmt: skip
  columns, count = pairs.compacted(
    points.reshape(3, -1), (flat[0] & flat[1] & flat[2]).ravel()
  )
  squares = jnp.square(spacing / 2)[:, None, None]
  zero = jnp.zeros((), spacing.dtype)

  def longest(a, b, valid):
    square = (jnp.square(a - b) * squares).sum(0)
    return jnp.where(valid, square, 0).max()

  found = [pairs.reduced(columns, count, longest, jnp.maximum, zero)]
  for axis in (2, 1, 0):

    def across(a, b, valid, axis=axis):
      return longest(a, b, valid & (a[axis] == b[axis]))

    # In the order of the axis, points of a plane follow one another.
    order = _along(dims, mask.size, axis)
    columns, count = pairs.compacted(
      points[:, :, order].swapaxes(1, 2).reshape(3, -1),
      flat[axis][:, order].T.ravel(),
    )
    found.append(
      pairs.reduced(columns, count, across, jnp.maximum, zero, along=axis)
    )
  return jnp.sqrt(jnp.stack(found))


def _along(dims, size, axis):
  """The places of a box (P,) with this axis outermost; what is beyond stays."""
  place = jnp.arange(size, dtype=jnp.int32)
  if axis == 0:
    return place
  sizes = [dims[axis], *(dims[k] for k in range(3) if k != axis)]
  steps = [dims[1] * dims[2], dims[2], 1]
  steps = [steps[axis], *(steps[k] for k in range(3) if k != axis)]
  first, rest = place // (sizes[1] * sizes[2]), place % (sizes[1] * sizes[2])
  found = (
    first * steps[0] + rest // sizes[2] * steps[1] + rest % sizes[2] * steps[2]
  )
  return jnp.where(place < dims.prod(), found, place)


def _ends(cut, place, dims, axis):
  """Which points (P,) are ends of their lines in the plane across an axis.

  Lines along its two axes and its two diagonals.
  """
  size = 2 * cut.size
  a, b = (k for k in range(3) if k != axis)
  x, y, z = place[a], place[b], place[axis]
  found = jnp.ones(cut.shape, bool)
  for along, row in ((y, x), (x, y), (x, x + y), (x, x - y + dims[b])):
    row = row * dims[axis] + z
    last = jnp.full(size, -1, jnp.int32)
    last = last.at[row].max(jnp.where(cut, along, -1))
    first = jnp.full(size, cut.size, jnp.int32)
    first = first.at[row].min(jnp.where(cut, along, cut.size))
    found &= (along == last[row]) | (along == first[row])
  return found
