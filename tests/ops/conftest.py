"""Shared fixtures of the operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from medjax.ops import platform
from medjax.ops.cpu import convolution

LAYOUTS = {2: ('NHWC', 'HWIO', 'NHWC'), 3: ('NDHWC', 'DHWIO', 'NDHWC')}


@pytest.fixture(autouse=True)
def no_size_is_small(monkeypatch, request):
  """Forms for large images serve small ones too, but where sizes are tested."""
  if 'sizes_matter' not in request.fixturenames:
    monkeypatch.setattr(convolution, '_is_small', lambda *_, **__: False)
    monkeypatch.setattr(convolution, '_VOXELS', {2: 0, 3: 0})


@pytest.fixture
def sizes_matter():
  """For a test of the choice by size."""


@pytest.fixture(scope='session')
def text_for():
  """text_for('cuda', f, *args) → the program of f(*args) for that platform."""

  def text(name, f, *args):
    with platform.traced_for(name):
      traced = jax.jit(f).trace(*args)
    return traced.lower(lowering_platforms=(name,)).as_text()

  return text


@pytest.fixture(scope='session')
def reference():
  """reference(x, w, strides, padding, dilation, groups): as lax has it."""

  def reference(x, w, strides, padding, dilation, groups):
    return lax.conv_general_dilated(
      x,
      w,
      strides,
      padding,
      rhs_dilation=dilation,
      dimension_numbers=LAYOUTS[x.ndim - 2],
      feature_group_count=groups,
    )

  return reference


@pytest.fixture(scope='session')
def assert_close():
  """assert_close(actual, desired, rtol): to the largest of each leaf."""

  def assert_close(actual, desired, rtol=1e-5):
    for a, d in zip(
      jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True
    ):
      scale = max(float(jnp.abs(d).max()), 1e-6)
      np.testing.assert_allclose(a, d, rtol=0, atol=rtol * scale)

  return assert_close


@pytest.fixture(scope='session')
def assert_same_map(assert_close):
  """The functions of x and w agree: values, gradients, forward mode, and over
  several kernels."""

  def assert_same_map(ours, theirs, x, w, derive=jax.value_and_grad):
    weighted = lambda f: lambda x, w: jnp.sin(f(x, w)).sum()
    gradient = lambda f: jax.jit(derive(weighted(f), (0, 1)))(x, w)
    assert_close(gradient(ours), gradient(theirs))
    tangent = lambda f: jax.jit(lambda: jax.jvp(f, (x, w), (x + 1, w - 1)))()
    assert_close(tangent(ours), tangent(theirs))
    members = jax.jit(jax.vmap(ours, (None, 0)))(x, jnp.stack([w, -w]))
    assert_close(members[1], -theirs(x, w))

  return assert_same_map
