"""Losses of views and of hidden blocks, against loops, on any devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.losses import views

A, B, QUEUE = (
  np.random.default_rng(i).normal(size=(n, 5)).astype(np.float32)
  for i, n in enumerate((8, 8, 6))
)
CENTRE = np.linspace(-1, 1, 5).astype(np.float32)
HIDDEN = np.random.default_rng(3).random((8, 4)) < 0.5


def cosine(x, y):
  return x @ y / np.linalg.norm(x) / np.linalg.norm(y)


def contrast(query, keys, others, queue=(), temperature=0.2):
  found = []
  for i, q in enumerate(query):
    candidates = [*keys, *(k for j, k in enumerate(others) if j != i), *queue]
    e = [np.exp(cosine(q, c) / temperature) for c in candidates]
    found.append(-np.log(e[i] / sum(e)))
  return np.array(found)


def nt_xent(a, b):
  """As in the paper: all 2n views in one list, every pair that is not one."""
  z, n = [*a, *b], len(a)
  each = []
  for i in range(2 * n):
    j = (i + n) % (2 * n)
    total = sum(
      np.exp(cosine(z[i], z[k]) / 0.5) for k in range(2 * n) if k != i
    )
    each.append(-np.log(np.exp(cosine(z[i], z[j]) / 0.5) / total))
  return (np.array(each[:n]) + each[n:]) / 2


def vicreg(a, b):
  n, d = a.shape
  distance = np.array(
    [sum((x - y) ** 2 for x, y in zip(*p, strict=True)) / d
     for p in zip(a, b, strict=True)]
  )  # fmt: skip
  spread = alike = 0.0
  for z in (a.astype(float), b.astype(float)):
    for j in range(d):
      s = np.sqrt(sum((z[:, j] - z[:, j].mean()) ** 2) / (n - 1) + 1e-4)
      spread += max(0, 1 - s) / d / 2
      for k in range(d):
        if k != j:
          x, y = z[:, j] - z[:, j].mean(), z[:, k] - z[:, k].mean()
          alike += (sum(x * y) / (n - 1)) ** 2 / d
  return 25 * distance + 25 * spread + alike


def barlow(a, b):
  total = 0.0
  for j in range(a.shape[1]):
    for k in range(a.shape[1]):
      c = np.corrcoef(a[:, j], b[:, k])[0, 1]
      total += (1 - c) ** 2 if j == k else 5e-3 * c**2
  return np.full(len(a), total)


def dino(student, teacher):
  found = []
  for s, t in zip(student, teacher, strict=True):
    p = np.exp((t - CENTRE) / 0.04)
    q = np.exp(s / 0.1)
    found.append(-sum(p / p.sum() * np.log(q / q.sum())))
  return np.array(found)


def blocks(predicted, target):
  found = []
  for y, t, h in zip(predicted, target, HIDDEN, strict=True):
    errors = [
      np.mean((y[i] - (t[i] - t[i].mean()) / np.sqrt(t[i].var() + 1e-6)) ** 2)
      for i in range(len(h))
      if h[i]
    ]
    found.append(np.mean(errors) if errors else 0.0)
  return np.array(found)


def of_blocks(a, b):
  grid = lambda x: jnp.stack([x, 2 * x, x**2, -x], 1)
  return views.hidden_blocks(grid(a), grid(b), HIDDEN)


def of_queue(a, b):
  return views.contrast(a, b, a, queue=QUEUE, filled=4)


LOSSES = {
  'nt_xent': (functools.partial(views.nt_xent, temperature=0.5), nt_xent),
  'contrast': (of_queue, lambda a, b: contrast(a, b, a, QUEUE[:4])),
  'cosine': (
    views.cosine_distance,
    lambda a, b: [2 - 2 * cosine(*p) for p in zip(a, b, strict=True)],
  ),
  'vicreg': (views.vicreg, vicreg),
  'barlow_twins': (views.barlow_twins, barlow),
  'distillation': (
    lambda a, b: views.distillation(a, b, CENTRE),
    dino,
  ),
  'hidden_blocks': (
    of_blocks,
    lambda a, b: blocks(*(
      np.stack([x, 2 * x, x**2, -x], 1) for x in (a, b)
    )),
  ),
}  # fmt: skip
each = pytest.mark.parametrize('name', LOSSES)


@each
def test_against_a_loop(name):
  loss, loop = LOSSES[name]
  a, b = A.astype(float), B.astype(float)
  np.testing.assert_allclose(jax.jit(loss)(A, B), loop(a, b), rtol=2e-5)


@each
def test_jit_vmap_and_a_finite_gradient(name):
  loss, loop = LOSSES[name]
  a, b = A.astype(float), B.astype(float)
  twice = jax.jit(jax.vmap(loss))(jnp.stack([A, B]), jnp.stack([B, A]))
  np.testing.assert_allclose(twice[0], loop(a, b), rtol=2e-5)
  np.testing.assert_allclose(twice[1], loop(b, a), rtol=2e-5)
  # Rows of zeros, rows that are alike: what collapses must not be NaN.
  slope_of = jax.jit(jax.grad(lambda a, b: loss(a, b).mean(), (0, 1)))
  for rows in (A, np.zeros_like(A), np.ones_like(A)):
    slope = slope_of(rows, rows)
    assert all(np.isfinite(s).all() for s in slope)


@each
def test_a_global_batch_on_one_device_and_on_eight(name):
  loss, _ = LOSSES[name]
  mesh = jax.make_mesh((8,), ('data',), axis_types=(
    jax.sharding.AxisType.Auto,))  # fmt: skip
  split = jax.NamedSharding(mesh, jax.P('data'))
  mean = lambda a, b: loss(a, b).mean()
  one = jax.jit(jax.value_and_grad(mean))(A, B)
  eight = jax.jit(jax.value_and_grad(mean))(
    *(jax.device_put(x, split) for x in (A, B))
  )
  assert len(eight[1].sharding.device_set) == 8
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6),
    one,
    eight,
  )


def test_an_empty_queue_is_none():
  none = views.contrast(A, B, A)
  empty = views.contrast(A, B, A, queue=QUEUE, filled=0)
  np.testing.assert_array_equal(none, empty)
  assert (views.contrast(A, B, A, queue=QUEUE) > none).all()


def test_half_precision_is_summed_in_full():
  half = views.nt_xent(A.astype(jnp.bfloat16), B.astype(jnp.bfloat16))
  assert half.dtype == jnp.float32
