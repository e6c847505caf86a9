"""Normalised surface Dice below a voxel: shares of surface area, not voxels.

A mask's surface runs between voxels. Each cell of 2 x 2 (x 2) neighbouring
voxels that are not all alike holds a piece of it, whose length or area is that
of marching squares or cubes, at the centre of the cell (Nikolov et al. 2021,
whose program is DeepMind's surface-distance). So a step of one voxel weighs by
its true area at any spacing, and a mask of one voxel has a surface.
"""

import functools
import itertools

import numpy as np
from scipy import spatial

from medjax.metrics import inputs, surface
from medjax.metrics.inputs import Mask

_SLACK = 1e-6  # spacings are float32 in headers


@functools.cache
def _triangles():
  """Of each code of 8 corners, triangles (t, 3, 3) over midpoints of edges."""
  corners = [*itertools.product((0, 1), repeat=3)]
  table = []
  for code in range(256):
    # The surface is one, whichever side is called the inside.
    side = code if code.bit_count() <= 4 else 255 - code
    inside = {c for i, c in enumerate(corners) if side >> i & 1}
    table.append([t for loop in _loops(inside) for t in _fan(loop)])
  return table


def _loops(inside):
  """Closed polygons between the corners inside and those outside."""
  after = {}
  for axis, side in itertools.product(range(3), (0, 1)):
    for a, b in _segments(inside, axis, side):
      after.setdefault(a, []).append(b)
      after.setdefault(b, []).append(a)
  while after:
    start = next(iter(after))
    loop, point, last = [start], after[start][0], start
    while point != start:
      loop.append(point)
      one, other = after[point]
      point, last = (one if other == last else other), point
    for p in loop:
      del after[p]
    yield np.array(loop, float)


def _segments(inside, axis, side):
  """Lines that cut the corners inside off on one face of the cell."""
  u, v = (a for a in range(3) if a != axis)
  around = []
  for x, y in ((0, 0), (0, 1), (1, 1), (1, 0)):
    corner = [side] * 3
    corner[u], corner[v] = x, y
    around.append(tuple(corner))
  held = [c in inside for c in around]
  cuts = [
    tuple((p + q) / 2 for p, q in zip(around[i], around[i - 3], strict=True))
    if held[i] != held[i - 3]
    else None
    for i in range(4)
  ]  # cuts[i] lies between corners i and i + 1
  found = [i for i in range(4) if cuts[i]]
  if len(found) == 4:  # two corners opposite: each is cut off by itself
    return [(cuts[i - 1], cuts[i]) for i in range(4) if held[i]]
  return [(cuts[found[0]], cuts[found[1]])] if found else []


def _fan(loop):
  """Triangles of a polygon, from the corner that makes their area largest."""
  fans = []
  for i in range(len(loop)):
    turned = np.roll(loop, -i, 0)
    fans.append(
      [(turned[0], turned[j], turned[j + 1]) for j in range(1, len(loop) - 1)]
    )
  return max(fans, key=lambda fan: round(sum(map(_area, fan)), 9))


def _area(triangle):
  a, b, c = triangle
  return np.linalg.norm(np.cross(b - a, c - a)) / 2


def _table(spacing):
  """Length or area of the surface in a cell, by the code of its corners."""
  if len(spacing) == 2:
    return _lengths(spacing)
  areas = [
    sum(_area([p * spacing for p in triangle]) for triangle in triangles)
    for triangles in _triangles()
  ]
  return np.array(areas)


def _lengths(spacing):
  """The same of 4 corners, in the order 00, 01, 10, 11."""
  h, w = spacing
  corner = np.hypot(h, w) / 2
  table = np.full(16, corner)
  table[[0, 15]] = 0
  table[[0b0011, 0b1100]] = w
  table[[0b0101, 0b1010]] = h
  table[[0b0110, 0b1001]] = 2 * corner
  return table


def _elements(mask, spacing):
  """Centres (e, n) in mm of the cells that hold surface, and their sizes."""
  mask = np.pad(mask, 1)
  code = np.zeros([s - 1 for s in mask.shape], np.int64)
  for i, corner in enumerate(itertools.product((0, 1), repeat=mask.ndim)):
    part = tuple(
      slice(o, o + s) for o, s in zip(corner, code.shape, strict=True)
    )
    code |= mask[part].astype(np.int64) << i
  at = (code > 0) & (code < 2 ** (2**mask.ndim) - 1)
  return np.argwhere(at) * spacing, _table(spacing)[code[at]]


def nsd(prediction: Mask, reference: Mask, *, spacing, tolerance) -> float:
  """Share of both surfaces, by length or area, within `tolerance` mm.

  2-D or 3-D; spacing (n,) in mm. Agrees with DeepMind's surface-distance and
  MONAI's compute_surface_dice(use_subvoxels=True). NaN when both masks are
  empty, 0 when one is.

  Raises:
    ValueError: for label maps, and shapes or numbers that do not fit.
  """
  prediction, reference = map(np.asarray, inputs.masks(prediction, reference))
  if prediction.ndim not in (2, 3):
    raise ValueError(f'masks have 2 or 3 axes, not {prediction.ndim}')
  spacing = inputs.spacing(spacing, prediction.ndim)
  if not tolerance >= 0:
    raise ValueError(f'tolerance must be 0 mm or more, not {tolerance}')
  box = surface.bounding_box(prediction | reference)
  (a, sizes_a), (b, sizes_b) = (
    _elements(x[box], spacing) for x in (prediction, reference)
  )
  total = sizes_a.sum() + sizes_b.sum()
  if not total:
    return float('nan')
  if not (len(a) and len(b)):
    return 0.0
  reach = tolerance + _SLACK
  within = sizes_a[spatial.KDTree(b).query(a)[0] <= reach].sum()
  within += sizes_b[spatial.KDTree(a).query(b)[0] <= reach].sum()
  return float(within / total)


def size(mask: Mask, *, spacing) -> float:
  """Length (mm) or area (mm²) of a mask's surface."""
  mask = np.asarray(inputs.mask(mask))
  spacing = inputs.spacing(spacing, mask.ndim)
  return float(_elements(mask, spacing)[1].sum())
