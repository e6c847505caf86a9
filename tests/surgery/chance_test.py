"""The odds of a path, against closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

from medjax.surgery import chance, distance, lines

SPACING = (1.0, 1.0, 1.0)


def wall(x):
  """Fields of a wall at x, seen by lines along the third axis."""
  mask = np.zeros((40, 40, 60), bool)
  mask[x] = True
  return lines.Fields(
    distance.field(mask, SPACING),
    jnp.zeros((2, 2, 2)),
    None,
    jnp.ones(3),
  )


def upright(x=20.0):
  return np.stack(
    [[x, 20.0, z] for z in np.linspace(0, 50, 48)]
  )[None]  # fmt: skip


def test_nothing_moves_and_nothing_is_uncertain():
  found = chance.simulate(
    wall(28), lines.Limits(5.0), upright(), shift=None, most=10.0,
    deflection=0.0, draws=40,
  )  # fmt: skip
  assert found.safe[0] == 1
  assert found.clearance_50[0] == pytest.approx(7.5, abs=0.05)
  assert found.miss_95[0] < 1e-5
  assert found.low[0] == pytest.approx(1 / (1 + 1.96**2 / 40), abs=1e-3)


def test_a_needle_that_bends():
  # 7.5 mm to the wall, 6 wanted; the tip moves by d cos φ, d to 3, φ any.
  found = chance.simulate(
    wall(28), lines.Limits(6.0), upright(), shift=None, most=0.0,
    deflection=3.0, draws=4000,
  )  # fmt: skip
  rng = np.random.default_rng(1)
  d, turn = rng.uniform(0, 3, 10**6), rng.uniform(0, 2 * np.pi, 10**6)
  true = (7.5 - d * np.cos(turn) >= 6.0).mean()
  assert found.low[0] - 0.01 < true < found.high[0] + 0.01
  assert found.miss_50[0] == pytest.approx(1.5, abs=0.1)
  assert found.miss_95[0] == pytest.approx(2.85, abs=0.05)


def test_tissue_that_comes_near():
  forms = np.zeros((1, 40, 40, 60, 3), np.float32)
  forms[..., 0] = -1.0  # all of it, towards lower x: the wall comes near
  shift = chance.Shift(jnp.asarray(forms), jnp.ones(3), jnp.zeros(3))
  found = chance.simulate(
    wall(28), lines.Limits(4.5), upright(), shift=shift, most=10.0,
    deflection=0.0, draws=2000,
  )  # fmt: skip
  # 7.5 - s >= 4.5 for s uniform to 10.
  assert found.safe[0] == pytest.approx(0.3, abs=0.035)
  assert found.miss_50[0] == pytest.approx(5.0, abs=0.4)
  away = chance.simulate(
    wall(12), lines.Limits(4.5), upright(), shift=shift, most=10.0,
    deflection=0.0, draws=200,
  )  # fmt: skip
  assert away.safe[0] == 1


def test_sagging_is_down_and_in_the_tissue():
  tissue = np.zeros((30, 30, 30), bool)
  tissue[5:25, 5:25, 5:25] = True
  fixed = np.zeros_like(tissue)
  fixed[5:25, 5:7, 5:25] = True
  down = np.array([0.0, -1.0, 0.0])
  shift = chance.sagging(tissue, fixed, SPACING, down=down)
  forms = np.asarray(shift.forms)
  np.testing.assert_allclose(
    np.linalg.norm(forms, axis=-1).max((1, 2, 3)), 1.0, rtol=1e-4
  )
  assert (forms[..., 1].sum((1, 2, 3)) < 0).all()
  assert forms.shape[0] == 16


def test_samples_are_even():
  line = np.array([[0.0, 0, 0], [3, 0, 0], [3, 9, 0]])
  found = chance.sampled(line, 13)
  np.testing.assert_allclose(
    np.linalg.norm(np.diff(found, axis=0), axis=-1), 1.0
  )
