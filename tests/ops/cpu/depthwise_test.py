import jax.numpy as jnp
import numpy as np
import pytest

from medjax.ops.convolution import conv


@pytest.mark.parametrize('rank', [2, 3])
def test_depthwise_agrees_with_lax_and_is_no_convolution_on_a_cpu(
  rank, text_for, reference, assert_close, assert_same_map
):
  rng = np.random.default_rng(0)
  size, window = (9, 8, 7)[-rank:], (3, 2, 5)[-rank:]
  x = jnp.asarray(rng.normal(size=(2, *size, 3)), 'f')
  w = jnp.asarray(rng.normal(size=(*window, 1, 3)), 'f')
  strides, dilation = (2, 1, 2)[-rank:], (2, 3, 1)[-rank:]
  padding = ((2, 1), (0, 3), (2, 2))[-rank:]
  options = dict(rhs_dilation=dilation, feature_group_count=3)
  ours = lambda x, w: conv(x, w, strides, padding, **options)
  theirs = lambda x, w: reference(x, w, strides, padding, dilation, 3)
  assert_same_map(ours, theirs, x, w)
  assert 'convolution' not in text_for('cpu', ours, x, w)
  assert 'convolution' in text_for('cuda', ours, x, w)
  half = ours(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16))
  assert half.dtype == jnp.bfloat16
  assert_close(half.astype('f'), theirs(x, w), 2e-2)
