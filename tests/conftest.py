"""Shared fixtures: eight virtual devices, and where real data lies."""

import os
import pathlib
import resource

# Before jax is imported: tests of the mesh need several devices. Most of the
# suite's time is compiling programs that run a few times: without fusion
# emitters and optimisation it is a quarter. The demo and tests/attack_test.py
# compile as users do. What several tests compile is kept, be it ever so quick.
# A device waits 40 s for the others, then XLA ends the process: that is no sign
# of a fault where other work holds the cores.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '')
  + ' --xla_force_host_platform_device_count=8'
  + ' --xla_backend_optimization_level=0'
  + ' --xla_llvm_disable_expensive_passes=true'
  + ' --xla_cpu_use_fusion_emitters=false'
  + ' --xla_cpu_collective_call_terminate_timeout_seconds=300'
)
os.environ.setdefault(
  'JAX_COMPILATION_CACHE_DIR',
  str(pathlib.Path(__file__).resolve().parents[1] / '.pytest_cache' / 'xla'),
)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')

import jax
import pytest
from absl import flags

if not flags.FLAGS.is_parsed():
  flags.FLAGS.mark_as_parsed()  # Grain asks

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True, scope='module')
def forget_programs():
  """Keeps two workers within a small machine: jax forgets no program itself."""
  yield
  if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 3 * 2**20:  # kB
    jax.clear_caches()


@pytest.fixture(scope='session')
def shared_data():
  """shared_data('msd_hippocampus') → folder of a real data set, or skip.

  Public sets are too large to commit: they are looked for in
  $MEDJAX_TEST_DATA, and in shared/data beside the checkout.
  """
  home = os.environ.get('MEDJAX_TEST_DATA', ROOT.parent / 'shared' / 'data')

  def find(name):
    folder = pathlib.Path(home) / name
    if not folder.is_dir():
      message = f'real data set {name!r} not found in {home}'
      if os.environ.get('CI'):
        pytest.fail(f'{message}: CI must see it')
      pytest.skip(message)
    return folder

  return find
