"""Shared fixtures of the operations."""

import jax
import pytest

from medjax.ops import platform


@pytest.fixture(scope='session')
def text_for():
  """text_for('cuda', f, *args) → the program of f(*args) for that platform."""

  def text(name, f, *args):
    with platform.traced_for(name):
      traced = jax.jit(f).trace(*args)
    return traced.lower(lowering_platforms=(name,)).as_text()

  return text
