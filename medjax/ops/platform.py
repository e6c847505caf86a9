"""The platform that operations are traced for."""

import jax

# JAX's caches look at it: what was traced for one platform is traced again.
_platform = jax.make_user_context(None)


def traced_for(platform):
  """In this context `ops` are traced for `platform`: 'cpu', 'cuda', 'tpu'.

  For a program that is looked at here and runs elsewhere; lower it with
  `lowering_platforms=(platform,)`. Without it the platform is JAX's default.
  """
  return _platform(platform)


def is_for(platform):
  """Whether operations are traced for a platform that was named."""
  return _platform.value == platform


def is_cpu():
  """Whether operations are traced for a CPU."""
  return (_platform.value or jax.default_backend()) == 'cpu'
