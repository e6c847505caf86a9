import jax

from medjax.ops import platform
from medjax.ops.convolution import conv


def test_the_default_is_the_platform_that_runs():
  assert platform.is_cpu()  # conftest.py asks for it
  with platform.traced_for('tpu'):
    assert not platform.is_cpu()
    with platform.traced_for('cpu'):
      assert platform.is_cpu()
    assert not platform.is_cpu()
  assert platform.is_cpu()


def test_what_is_compiled_already_is_traced_again_for_another():
  x, w = jax.numpy.ones((2, 5, 5, 3)), jax.numpy.ones((1, 1, 3, 4))
  inner = jax.jit(lambda x, w: conv(x, w, (1, 1), 'SAME'))
  outer = jax.jit(lambda x, w: inner(x, w) + 1)
  text = lambda: str(outer.trace(x, w).jaxpr)
  for _ in range(2):
    assert 'conv_general_dilated' not in text()
    with platform.traced_for('cuda'):
      assert 'conv_general_dilated' in text()
  outer(x, w)
  with platform.traced_for('cuda'):
    outer(x, w)
  assert outer._cache_size() == 2
