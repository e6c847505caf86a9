"""Elasticity against closed forms, and what its operator must keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.surgery import elastic


def bar(cells, spacing, poisson, *, held_sides):
  """A bar along the third axis, held at its top, under its own weight."""
  solid = np.zeros([n + 4 for n in cells], bool)
  solid[2:-2, 2:-2, 2:-2] = True
  lam, mu = (jnp.where(solid, v, 0.0) for v in elastic.lame(1.0, poisson))
  weight = elastic.to_faces(jnp.asarray(solid, jnp.float32))
  unit = 1e-2 * float(np.prod(spacing))
  force = [jnp.zeros_like(weight[0]), jnp.zeros_like(weight[1])]
  force.append(weight[2] * unit)
  free = [jnp.ones_like(w) for w in weight]
  free[2] = free[2].at[:, :, 2].set(0)
  if held_sides:
    free[:2] = [jnp.zeros_like(f) for f in free[:2]]
  u = elastic.solve(lam, mu, force, free, spacing=spacing)
  return u, lam, mu, force


@pytest.mark.parametrize(
  ('poisson', 'held_sides', 'limit'),
  [(0.0, False, 1e-4), (0.3, False, 5e-3), (0.45, True, 1e-4)],
)
def test_a_bar_under_its_own_weight(poisson, held_sides, limit):
  spacing, cells = (1.0, 1.5, 2.0), (4, 4, 16)
  u, lam, mu, force = bar(cells, spacing, poisson, held_sides=held_sides)
  length = cells[2] * spacing[2]
  z = np.arange(cells[2] + 1) * spacing[2]
  # u'' = -ρg / E; sides that are held make it stiffer.
  modulus = float(lam.max() + 2 * mu.max()) if held_sides else 1.0
  true = 1e-2 / modulus * (length * z - z**2 / 2)
  found = np.asarray(u[2])[4, 4, 2:-2]
  np.testing.assert_allclose(found, true, atol=limit * true[-1])
  # What the weight has done is twice what the bar holds.
  work = sum(float((a * b).sum()) for a, b in zip(u, force, strict=True))
  held = float(energy(u, lam, mu, spacing=spacing))
  assert work == pytest.approx(2 * held, rel=1e-4)
  assert held > 0


def test_it_narrows_where_it_stretches():
  u, *_ = bar((4, 4, 16), (1.0, 1.0, 1.0), 0.3, held_sides=False)
  wide = np.asarray(u[0])[-3, 3, 2:-2] - np.asarray(u[0])[2, 3, 2:-2]
  along = np.diff(np.asarray(u[2])[3, 3, 2:-2])
  # ε across = -ν ε along, away from the ends.
  np.testing.assert_allclose(wide[4:12] / 4, -0.3 * along[4:12], rtol=0.05)


energy = jax.jit(elastic.energy, static_argnames='spacing')
diagonal_of = jax.jit(elastic._diagonal, static_argnames='spacing')


def random_faces(seed, shape):
  rng, add = np.random.default_rng(seed), np.eye(3, dtype=int)
  return [
    jnp.asarray(rng.normal(size=np.array(shape) + a), jnp.float32) for a in add
  ]


def product(a, b):
  return sum(float((x * y).sum()) for x, y in zip(a, b, strict=True))


def test_the_operator_is_symmetric_and_its_diagonal_is_its_own():
  rng = np.random.default_rng(0)
  shape, spacing = (7, 6, 8), (1.0, 1.3, 0.7)
  solid = np.pad(rng.random((5, 4, 6)) < 0.7, 1)
  lam, mu = (
    jnp.asarray(solid * rng.uniform(0.5, 2, shape), jnp.float32)
    for _ in range(2)
  )
  apply = jax.jit(elastic.operator(lam, mu, spacing))
  a, b = random_faces(1, shape), random_faces(2, shape)
  assert product(apply(a), b) == pytest.approx(product(a, apply(b)), rel=1e-4)
  assert product(apply(a), a) > 0
  diagonal = diagonal_of(lam, mu, spacing=spacing)
  for axis in range(3):
    for at in ((2, 3, 4), (3, 2, 2), (1, 1, 1)):
      unit = [jnp.zeros_like(x) for x in a]
      unit[axis] = unit[axis].at[at].set(1.0)
      assert float(apply(unit)[axis][at]) == pytest.approx(
        float(diagonal[axis][at]), abs=1e-5
      )


def test_moving_as_a_whole_and_turning_cost_nothing():
  shape, spacing = (8, 8, 8), (1.0, 1.2, 0.8)
  solid = np.pad(np.ones((4, 4, 4)), 2)
  lam, mu = jnp.asarray(solid * 2.0), jnp.asarray(solid)
  still = [
    jnp.full_like(x, k + 1.0) for k, x in enumerate(random_faces(0, shape))
  ]
  assert float(energy(still, lam, mu, spacing=spacing)) == pytest.approx(0)
  # u = ω × x on the faces of the third axis' rotation.
  x = (np.arange(8) + 0.5) * spacing[0]
  y = (np.arange(8) + 0.5) * spacing[1]
  turned = [
    jnp.asarray(np.broadcast_to(-y[None, :, None], (9, 8, 8))),
    jnp.asarray(np.broadcast_to(x[:, None, None], (8, 9, 8))),
    jnp.zeros((8, 8, 9)),
  ]
  assert float(energy(turned, lam, mu, spacing=spacing)) < 1e-8


def test_soft_tissue_keeps_its_volume_and_mirrors_what_is_mirrored():
  tissue = np.zeros((18, 14, 12), bool)
  tissue[3:15, 2:12, 2:10] = True
  fixed = np.zeros_like(tissue)
  down = np.array([0.0, -1.0, 0.0])
  u = elastic.sag(tissue, fixed, (3.0, 3.0, 3.0), down=down)
  sunk = np.tensordot(down, u, 1)
  assert np.linalg.norm(sunk, axis=-1).max() == pytest.approx(1.0)
  assert (sunk[..., 1][tissue] < 1e-6).all()  # down, all of it
  assert not sunk[~tissue].any()
  np.testing.assert_allclose(sunk[..., 1], sunk[::-1, ..., 1], atol=2e-3)
  np.testing.assert_allclose(sunk[..., 0], -sunk[::-1, ..., 0], atol=2e-3)
  # Sides bulge by what the top sinks: little is lost.
  slopes = [np.gradient(sunk[..., a], 3.0, axis=a) for a in range(3)]
  inner = (slice(5, 13), slice(4, 10), slice(4, 8))
  assert (
    abs(sum(s[inner].mean() for s in slopes)) < abs(slopes[1][inner].mean()) / 3
  )


def test_what_nothing_holds_is_left_and_said():
  tissue = np.zeros((12, 12, 12), bool)
  tissue[3:9, 3:9, 3] = True
  with pytest.raises(ValueError, match='nothing of the moving tissue can move'):
    elastic.sag(
      tissue, tissue & False, (1.0, 1, 1), down=np.array([0, 0, -1.0])
    )
