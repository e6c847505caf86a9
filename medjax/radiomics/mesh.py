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
_CUT = np.array(_CORNERS, np.int32)[:, ::-1]  # of a cube, as steps (x, y, z)
_FACES = np.concatenate([np.eye(3), -np.eye(3)]).astype(np.int32)
_ROUNDING = 1e-9  # relative, of distances


def surroundings(beside):
  """Which voxels are around each: (P,) int32, and the same mirrored.

  Bit k says that the one at `lattice.STEPS[k]` is there; mirrored, the one
  opposite of it.
  """
  there = (beside < beside.shape[1]).astype(jnp.int32)
  bit = np.arange(27, dtype=np.int32)[:, None]
  return (there << bit).sum(0), (there << (26 - bit)).sum(0)


def cubes(bits):
  """Which corners of the 8 cubes around each voxel are there: (8, P) 0 … 255.

  The voxel is corner k of cube k.
  """
  corner = lattice.index_of(_CUT[:, None] - _CUT)  # (of the cube, the voxel)
  return sum(
    (bits >> corner[k].astype(np.int32)[:, None] & 1) << k for k in range(8)
  )


def volume_and_area(box):
  """Volume in mm³ and area in mm² of the surface at half between voxels.

  Marching cubes as PyRadiomics has them, so that both agree (IBSI reference
  manual, 3.1). Where the mask has holes by a diagonal the surface is not quite
  closed, and the volume is as seen from the corner of the region's box.
  """
  case = jnp.where(box.shape, cubes(surroundings(box.beside)[0]), 0)
  points = jnp.asarray(_POINTS, box.spacing.dtype) * box.spacing
  a, b, c = points[:, :, 0], points[:, :, 1], points[:, :, 2]
  across = jnp.cross(b - a, c - a)
  # Each cube is seen from all of its corners that are there.
  share = 1 / np.maximum([n.bit_count() for n in range(256)], 1)
  area = share * jnp.linalg.norm(across, axis=-1).sum(1) / 2
  # Six times the volume under a triangle, as seen from the origin: of the
  # triangle in its cube, and what its place adds.
  local = share * (jnp.cross(a, b) * c).sum((1, 2))
  across = share[:, None] * across.sum(1) * box.spacing
  first = jnp.where(box.shape, box.place, box.shape.size).min(1) - 1
  far = (box.place - first[:, None]).T - _CUT[:, None]  # (8, P, 3)
  number = jnp.concatenate([jnp.ones_like(far[..., :1]), far], -1)
  number = number.astype(area.dtype)
  number = jnp.zeros((256, 4), area.dtype).at[case].add(number)
  volume = (number * jnp.concatenate([local[:, None], across], 1)).sum()
  return jnp.abs(volume) / 6, number[:, 0] @ area


def diameters(box, longest):
  """Largest distances in mm: (in space, at one z, at one y, at one x).

  Of the points where the surface cuts the edges between voxels. longest: no
  box is longer, in voxels.
  """
  bits, mirrored = surroundings(box.beside)
  place = 2 * box.place[:, None] + _FACES.T[:, :, None]  # doubled: (3, 6, P)
  points = place * (box.spacing / 2)[:, None, None]
  # In space all points are of one plane.
  planes = jnp.stack([jnp.zeros_like(place[0]), *place[::-1]])
  chosen = jnp.stack([_ends(bits, mirrored, axis) for axis in (None, 2, 1, 0)])
  return jax.lax.map(
    lambda of: _longest(points, *of, 2 * longest), (planes, chosen & box.shape)
  )


def _ends(bits, mirrored, axis):
  """Which points at the faces of voxels (6, P) may be ends of a diameter.

  Not those between two others, next to them in opposite directions: in space,
  or in the plane across an axis. What is cut by the surface, or lies inside of
  it, is between others; in a plane between two slices only what is cut.
  """
  found = []
  for step in _FACES:
    side = int(lattice.index_of(step)) - 13  # how far on in the list of steps
    stays = [k for k in range(27) if abs(lattice.STEPS[k] + step).max() < 2]
    inner = sum(1 << k for k in stays)  # steps after which there is one more
    outer = sum(1 << (26 - k) for k in stays)
    beyond = _moved(bits, -side) & inner
    against = _moved(mirrored, side) & outer
    if axis is None or not step[axis]:
      pair = (bits | beyond) & (mirrored | against)
    else:
      pair = (bits ^ beyond) & (mirrored ^ against)
    around = [
      k for k, s in enumerate(lattice.STEPS)
      if s.any() and (axis is None or not s[axis])
    ]  # fmt: skip
    between = pair & sum(1 << k for k in around)
    found.append((bits >> (13 + side) & 1 == 0) & (between == 0))
  return jnp.stack(found)


def _moved(bits, by):
  return bits << by if by > 0 else bits >> -by


def _longest(points, plane, chosen, num_planes):
  """The largest distance of two chosen points (3, 6, P) of one plane (6, P).

  The points of a plane lie in a ball around the middle of their box. Few are
  far enough from it to have another of the ball farther away than any box is
  long, and only those are paired.
  """
  size = chosen.size
  plane = jnp.where(chosen, plane, num_planes)
  number = jnp.arange(size, dtype=jnp.int32).reshape(chosen.shape)
  source, count = pairs.compacted(chosen.any(0))

  def visit(function, state):
    """Calls function(state, points (6, block, 3), planes, numbers) of all."""

    def block(i, state):
      at, valid = pairs.block(source, count, i)
      rows = jnp.moveaxis(points[:, :, at], 0, -1)
      planes = jnp.where(valid, plane[:, at], num_planes)
      return function(state, rows, planes, number[:, at])

    return jax.lax.fori_loop(0, pairs.blocks(count), block, state)

  def widen(state, rows, planes, _):
    low, high = state
    return low.at[planes].min(rows), high.at[planes].max(rows)

  far = jnp.full((num_planes + 1, 3), jnp.inf, points.dtype)
  low, high = visit(widen, (far, -far))
  longest = (high - low)[:num_planes].max(initial=0) * (1 - _ROUNDING)
  middle = (low + high) / 2

  def radius(rows, planes):
    return jnp.linalg.norm(rows - middle[planes], axis=-1)

  def extend(reach, rows, planes, _):
    return reach.at[planes].max(radius(rows, planes))

  reach = visit(extend, jnp.zeros(num_planes + 1, points.dtype))

  def keep(state, rows, planes, number):
    kept, count = state
    near = radius(rows, planes) + reach[planes] >= longest
    near = (near & (planes < num_planes)).ravel()
    place = jnp.where(near, count + jnp.cumsum(near, dtype=jnp.int32) - 1, size)
    kept = kept.at[place].set(number.ravel())
    return kept, count + near.sum(dtype=jnp.int32)

  kept = jnp.zeros(size + pairs.BLOCK, jnp.int32)
  kept, count = visit(keep, (kept, jnp.int32(0)))

  def farthest(a, b, valid):
    square = jnp.square(a[:3] - b[:3]).sum(0)
    return jnp.where(valid & (a[3] == b[3]), square, 0).max()

  columns = jnp.concatenate([points, plane[None]]).reshape(4, -1)
  zero = jnp.zeros((), points.dtype)
  return jnp.sqrt(
    pairs.reduced(columns, kept, count, farthest, jnp.maximum, zero)
  )
