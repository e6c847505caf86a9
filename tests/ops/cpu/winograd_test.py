import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from medjax.ops.convolution import conv
from medjax.ops.cpu import convolution


@pytest.mark.parametrize(
  ('rank', 'size'), [(3, 1), (3, 2), (3, 4), (3, 5), (3, 11), (2, 7), (2, 8)]
)
def test_three_taps_by_winograd(
  rank, size, monkeypatch, reference, assert_close, assert_same_map
):
  monkeypatch.setattr(convolution, '_MANY', 4)
  rng = np.random.default_rng(size)
  x = jnp.asarray(rng.normal(size=(2, size, *(6, 5)[: rank - 1], 7)), 'f')
  w = jnp.asarray(rng.normal(size=(3,) * rank + (7, 4)), 'f')
  ones, padding = (1,) * rank, ((1, 1), (0, 1), (1, 0))[:rank]
  ours = lambda x, w, **kw: conv(x, w, ones, padding, **kw)
  theirs = lambda x, w: reference(x, w, ones, padding, ones, 1)
  # Voxel by voxel: where terms of a sum cancel, it shows the lost digit.
  assert_close(ours(x, w), theirs(x, w))
  assert_same_map(ours, theirs, x, w, jax.grad)
  count = lambda **kw: jax.make_jaxpr(lambda x, w: ours(x, w, **kw))
  convolutions = lambda **kw: str(count(**kw)(x, w)).count('conv_general')
  assert convolutions() == 6
  assert convolutions(precision=lax.Precision.HIGHEST) == 1
  with jax.default_matmul_precision('highest'):
    assert convolutions() == 1


def test_winograd_loses_a_digit_and_no_more(reference, assert_close):
  rng = np.random.default_rng(0)
  x, w = rng.normal(size=(1, 12, 8, 8, 64)), rng.normal(size=(3, 3, 3, 64, 32))
  with jax.enable_x64(True):
    exact = reference(
      jnp.asarray(x), jnp.asarray(w), (1, 1, 1), 'SAME', (1, 1, 1), 1
    )
  found = conv(jnp.asarray(x, 'f'), jnp.asarray(w, 'f'), (1, 1, 1), 'SAME')
  assert_close(found, np.asarray(exact), 5e-6)
