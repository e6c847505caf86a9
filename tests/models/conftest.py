import functools

import jax
import pytest


@pytest.fixture
def quick():
  """jax.jit for a program that runs once: XLA's effort is wasted on it."""
  options = {'xla_backend_optimization_level': 0}
  return functools.partial(jax.jit, compiler_options=options)
