"""Compiled programs, kept on disk between runs."""

import os
import pathlib

import jax


def keep_programs():
  """Keeps compiled programs between runs."""
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
    return
  try:
    cache = pathlib.Path('~/.cache/medjax/xla').expanduser()
  except RuntimeError:  # nobody's, in a container: compiled anew each time
    return
  jax.config.update('jax_compilation_cache_dir', str(cache))
