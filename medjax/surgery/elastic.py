"""How tissue sags under its weight: linear elasticity on a grid of cells.

Displacements lie on the faces of the cells, each along the face's normal
(a staggered grid), so that neither hourglasses nor checkerboards are free of
energy. The operator is the gradient of the elastic energy

  ∫ ½ λ (div u)² + μ ε : ε

in finite differences, hence symmetric, and solved by conjugate gradients. A
surface that nothing holds is free of traction by itself: cells without tissue
have no energy.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse import linalg
from scipy import ndimage

POISSON = 0.45  # soft tissue, nearly incompressible
_PAIRS = ((0, 1), (0, 2), (1, 2))


def lame(young, poisson):
  """Lamé's λ and μ of Young's modulus and Poisson's ratio."""
  both = young / (1 + poisson)
  return both * poisson / (1 - 2 * poisson), both / 2


def energy(u, lam, mu, spacing):
  """The elastic energy of displacements u.

  Args:
    u: three arrays, of faces: u[a] has one more entry along axis a than cells.
    lam, mu: of the cells (x, y, z), 0 where there is no tissue; none may touch
      the border of the grid.
    spacing: of the cells, three numbers.
  """
  strains = [jnp.diff(u[a], axis=a) / spacing[a] for a in range(3)]
  total = (0.5 * lam * sum(strains) ** 2).sum()
  total += sum((mu * s**2).sum() for s in strains)
  for a, b in _PAIRS:
    # At the edges that four cells share, which lie within the grid.
    shear = _inner(jnp.diff(u[a], axis=b), a) / spacing[b]
    shear += _inner(jnp.diff(u[b], axis=a), b) / spacing[a]
    total += (0.5 * _edges(mu, a, b) * shear**2).sum()
  return total * float(np.prod(spacing))


def _inner(x, axis):
  return jax.lax.slice_in_dim(x, 1, x.shape[axis] - 1, axis=axis)


def _edges(mu, a, b):
  """The mean of the four cells at each inner edge across axes a and b."""
  for axis in (a, b):
    n = mu.shape[axis]
    mu = 0.5 * (
      jax.lax.slice_in_dim(mu, 0, n - 1, axis=axis)
      + jax.lax.slice_in_dim(mu, 1, n, axis=axis)
    )
  return mu


def operator(lam, mu, spacing):
  """u → the forces that hold it: the gradient of its energy."""
  return jax.grad(functools.partial(energy, lam=lam, mu=mu, spacing=spacing))


def to_faces(cells):
  """Cells (x, y, z) → of the faces across each axis the mean of both sides."""
  found = []
  for axis in range(3):
    pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
    x = jnp.pad(cells, pad)
    n = x.shape[axis]
    below = jax.lax.slice_in_dim(x, 0, n - 1, axis=axis)
    above = jax.lax.slice_in_dim(x, 1, n, axis=axis)
    found.append(0.5 * (below + above))
  return found


def _diagonal(lam, mu, spacing):
  """The operator's diagonal, the preconditioner of conjugate gradients."""
  volume = float(np.prod(spacing))
  found = [
    2 * x / spacing[a] ** 2 for a, x in enumerate(to_faces(lam + 2 * mu))
  ]
  for a in range(3):
    for b in range(3):
      if a == b:
        continue
      # The two edges of a face across b; the border's have no tissue.
      edges = _edges(mu, *sorted((a, b)))
      pad = [(1, 1) if axis in (a, b) else (0, 0) for axis in range(3)]
      edges = jnp.pad(edges, pad)
      n = edges.shape[b]
      below = jax.lax.slice_in_dim(edges, 0, n - 1, axis=b)
      above = jax.lax.slice_in_dim(edges, 1, n, axis=b)
      found[a] += (below + above) / spacing[b] ** 2
  return [x * volume for x in found]


@functools.partial(jax.jit, static_argnames=('spacing', 'tolerance', 'most'))
def solve(lam, mu, force, free, *, spacing, tolerance=1e-5, most=2000):
  """Displacements (three arrays of faces) under forces on the faces.

  Args:
    lam, mu: of the cells, as of `energy`.
    force: three arrays of faces.
    free: three arrays of faces, 1 where they may move, 0 where they are held.
    spacing: a tuple; tolerance: of the residual's norm to the force's; most:
      iterations.
  """
  apply = operator(lam, mu, spacing)
  diagonal = _diagonal(lam, mu, spacing)
  # Faces far from tissue have neither energy nor force: they stay.
  free = [f * (d > 0) for f, d in zip(free, diagonal, strict=True)]
  held = lambda u: [x * f for x, f in zip(u, free, strict=True)]
  inverse = [
    f / jnp.maximum(d, 1e-30) for f, d in zip(free, diagonal, strict=True)
  ]
  found, _ = linalg.cg(
    lambda u: held(apply(held(u))),
    held(force),
    tol=tolerance,
    maxiter=most,
    M=lambda u: [x * m for x, m in zip(u, inverse, strict=True)],
  )
  return held(found)


def to_cells(u):
  """Displacements of the faces → of the cells (x, y, z, 3)."""
  return jnp.stack(
    [
      0.5
      * (
        jax.lax.slice_in_dim(x, 0, x.shape[a] - 1, axis=a)
        + jax.lax.slice_in_dim(x, 1, x.shape[a], axis=a)
      )
      for a, x in enumerate(u)
    ],
    -1,
  )


def sag(tissue, fixed, spacing, *, down, poisson=POISSON):
  """Displacements (3, x, y, z, 3) of tissue under gravity along each axis.

  Any direction is a sum of the three. In units of the largest under gravity
  along `down`: a weight without a stiffness gives the form, not the size.

  Args:
    tissue, fixed: cells (x, y, z) bool; fixed ones stay.
    spacing: mm.
    down: unit vector (3,) along the axes of the grid. Tissue rests where it
      ends downwards; what nothing holds stays.

  Raises:
    ValueError: if nothing of the tissue can move.
  """
  tissue = np.pad(tissue & ~fixed, 2)
  fixed = np.pad(fixed, 2) | _rests(tissue, down)
  fixed &= ndimage.binary_dilation(tissue, np.ones((3, 3, 3)))
  solid = _held(tissue | fixed, fixed)
  moving = solid & ~fixed
  if not moving.any():
    raise ValueError(
      'nothing of the moving tissue can move: it is all held or rests'
    )
  lam, mu = (jnp.where(solid, x, 0.0) for x in lame(1.0, poisson))
  stays = to_faces(jnp.asarray(fixed, jnp.float32))
  free = [jnp.where(x > 0, 0.0, 1.0) for x in stays]
  weight = to_faces(jnp.asarray(moving, jnp.float32))
  size = tuple(float(s) for s in spacing)
  # Of order 1, for the sake of float32.
  unit = float(np.prod(size)) / float(np.max(np.multiply(size, solid.shape)))
  found = []
  for axis in range(3):
    force = [
      w * unit if a == axis else jnp.zeros_like(w) for a, w in enumerate(weight)
    ]
    u = to_cells(solve(lam, mu, force, free, spacing=size))
    found.append(np.asarray(u) * moving[..., None])
  found = np.stack(found)
  most = np.linalg.norm(np.tensordot(down, found, 1), axis=-1).max()
  return found[:, 2:-2, 2:-2, 2:-2] / most


def _rests(tissue, down):
  """Cells of the tissue below which, along the nearest axis, there is none."""
  axis = int(np.abs(down).argmax())
  below = np.roll(tissue, -int(np.sign(down[axis])), axis)
  return tissue & ~below


def _held(solid, fixed):
  """The pieces of tissue that something holds."""
  pieces, _ = ndimage.label(solid)
  kept = np.unique(pieces[fixed & solid])
  return np.isin(pieces, kept[kept > 0])


def coarse(mask, factor):
  """The share of a mask in blocks of `factor` voxels along each axis."""
  pad = [(0, -n % f) for n, f in zip(mask.shape, factor, strict=True)]
  x = np.pad(mask.astype(np.float32), pad)
  shape = [k for n, f in zip(x.shape, factor, strict=True) for k in (n // f, f)]
  return x.reshape(shape).mean((1, 3, 5))
