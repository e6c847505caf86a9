"""Programs of these tests run a few times: making them fast is not worth it."""

import jax
import pytest


@pytest.fixture(autouse=True)
def quick_compilation():
  flag = 'jax_disable_most_optimizations'
  before = jax.config.read(flag)
  jax.config.update(flag, True)
  yield
  jax.config.update(flag, before)
