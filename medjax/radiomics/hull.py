"""Bodies around a region: convex hull, least box, least ellipsoid.

They are found on the host, by Qhull, before a compiled program measures the
rest: a program that called back for them could wait for ever on few cores.
"""

import jax.numpy as jnp
import numpy as np
import scipy.spatial

COUNT = 8  # numbers of `bodies`
_ROUNDS, _CLOSE = 2000, 1e-7  # of the ellipsoid's steps
_DEGREE = 20  # of the series for an ellipsoid's area, as the standard says


def measured(around):
  """{kind: (volume mm³, area mm²)} of what `bodies` has found (8,)."""
  box, semi = around[:3], around[3:6]
  return {
    'ombb': (box.prod(), box_area(box)),
    'mvee': (4 / 3 * jnp.pi * semi.prod(), ellipsoid_area(*semi)),
    'conv_hull': (around[6], around[7]),
  }


def bodies(mask, spacing):
  """Around a mask (x, y, z), on the host: (8,).

  Sides of the box, semi-axes of the ellipsoid, volume and area of the hull, in
  mm; NaN where there is no body.
  """
  points = surface(mask, spacing)
  try:
    body = scipy.spatial.ConvexHull(points)
  except (scipy.spatial.QhullError, ValueError):
    return np.full(COUNT, np.nan)
  corners = points[body.vertices]
  box = least_box(corners, body.equations[:, :3])
  semi = least_ellipsoid(corners)
  return np.array([*box, *semi, body.volume, body.area])


def box_area(sides):
  """Area of a box with these three sides."""
  a, b, c = sides
  return 2 * (a * b + a * c + b * c)


def ellipsoid_area(a, b, c):
  """Area of an ellipsoid with semi-axes a ≥ b ≥ c, as a Legendre series."""
  alpha = jnp.sqrt(jnp.maximum(1 - (b / a) ** 2, 0))
  beta = jnp.sqrt(jnp.maximum(1 - (c / a) ** 2, 0))
  product = alpha * beta
  safe = jnp.where(product > 0, product, 1)
  x = jnp.where(product > 0, (alpha**2 + beta**2) / (2 * safe), 1)
  before, legendre, total = jnp.zeros_like(x), jnp.ones_like(x), 0.0
  for k in range(_DEGREE + 1):
    total += product**k / (1 - 4 * k**2) * legendre
    after = ((2 * k + 1) * x * legendre - k * before) / (k + 1)
    before, legendre = legendre, after
  return 4 * jnp.pi * a * b * total


def surface(mask, spacing):
  """Points (n, 3) in mm where the surface cuts the edges between voxels."""
  found = []
  for axis in range(3):
    at = np.argwhere(np.diff(mask.astype(np.int8), axis=axis)).astype(float)
    at[:, axis] += 0.5
    found.append(at)
  return np.concatenate(found) * spacing


def least_box(corners, normals):
  """Sides (3,) of the least box with one side in a face of the hull.

  corners: (n, 3). normals: (m, 3) of the hull's faces. The least box of all may
  touch by edges only (O'Rourke 1985), and is then a little smaller.
  """
  normals = normals * np.where(normals[:, :1] < 0, -1, 1)
  best = np.full(3, np.inf)
  for normal in np.unique(np.round(normals, 9), axis=0):
    u = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    u /= np.linalg.norm(u)
    flat = corners @ np.stack([u, np.cross(normal, u)], 1)
    ring = flat[scipy.spatial.ConvexHull(flat).vertices]
    x, y = (np.roll(ring, -1, 0) - ring).T
    length = np.hypot(x, y)
    wide = np.ptp(ring @ (np.stack([x, y]) / length), axis=0)
    deep = np.ptp(ring @ (np.stack([-y, x]) / length), axis=0)
    at = (wide * deep).argmin()
    sides = np.array([wide[at], deep[at], np.ptp(corners @ normal)])
    if sides.prod() < best.prod():
      best = sides
  return best


def least_ellipsoid(points):
  """Semi-axes (3,), longest first, of the least ellipsoid around points (n, 3).

  Khachiyan's algorithm with steps away (Todd and Yildirim 2007).
  """
  n, d = points.shape
  lifted = np.concatenate([points, np.ones((n, 1))], 1).T
  weight = np.full(n, 1 / n)
  for _ in range(_ROUNDS):
    inverse = np.linalg.inv((lifted * weight) @ lifted.T)
    far = np.einsum('in,ij,jn->n', lifted, inverse, lifted)
    up = far.argmax()
    down = np.where(weight > 1e-12, far, np.inf).argmin()
    rise, fall = far[up] - d - 1, d + 1 - far[down]
    if max(rise, fall) < _CLOSE * (d + 1):
      break
    if rise >= fall:
      at, step = up, rise / ((d + 1) * (far[up] - 1))
    else:
      at = down
      step = max(
        -fall / ((d + 1) * (far[down] - 1)), -weight[at] / (1 - weight[at])
      )
    weight *= 1 - step
    weight[at] += step
  centre = points.T @ weight
  spread = (points.T * weight) @ points - np.outer(centre, centre)
  # Made to hold all points: the steps end a little short.
  apart = points - centre
  reach = np.einsum('ni,ij,nj->n', apart, np.linalg.inv(spread), apart).max()
  return np.sqrt(np.maximum(np.linalg.eigvalsh(spread * reach), 0))[::-1]
