"""The processes of one run: how they find each other, and how they end.

All of it is jax.distributed. What is added is one line instead of many when the
processes do not meet, or when one of them is lost on the way.
"""

import contextlib
import os
import pathlib
import sys
import warnings

import jax
from jax._src import clusters  # no public name

MEET_SECONDS = 300  # machines of a cluster start at different times
LOST_SECONDS = 20  # without a sign of life, and JAX ends the others


@contextlib.contextmanager
def joined(coordinator, num_processes, process_id, *, workdir):
  """Makes this process one of several for the body; alone without coordinator.

  coordinator: host:port of process 0, or 'auto': the cluster is asked for all
  three. An error in the body ends the process with one line. Where another
  process was lost JAX says so first, and may be the one that ends it: within
  LOST_SECONDS, or at once where a connection breaks. Raises ValueError for
  flags that do not say enough, ConnectionError where processes do not meet.
  """
  if not coordinator:
    yield
    return
  address, count, index, devices = _place(
    coordinator, num_processes, process_id
  )
  try:
    jax.distributed.initialize(
      address,
      count,
      index,
      local_device_ids=devices,
      initialization_timeout=MEET_SECONDS,
      heartbeat_timeout_seconds=LOST_SECONDS,
    )
  except RuntimeError as e:
    raise ConnectionError(
      f'process {index} of {count} did not meet the others at {address} '
      f'({str(e).splitlines()[0][:120]}): do all run, with the same number of '
      'processes, and is the port free and open?'
    ) from None
  try:
    yield
  except Exception as e:
    if '--debug' in sys.argv:
      raise
    line = f'process {index} of {count}: {type(e).__name__}: {e}'
    if isinstance(e, jax.errors.JaxRuntimeError) or 'Gloo' in str(e):
      line = (
        f'process {index} of {count} lost touch with another '
        f'({str(e).splitlines()[0][:120]}); {saved(pathlib.Path(workdir))}'
      )
    print(f'medjax: {" ".join(line.split())}', file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)  # JAX's farewell would wait for the others; they notice


def saved(workdir):
  """Says from which step the run can go on."""
  steps = [
    int(path.name)
    for path in (workdir / 'checkpoints').glob('*')
    if path.name.isdigit()
  ]
  if not steps:
    return 'nothing is saved yet; the same command begins again'
  return (
    f'step {max(steps)} is whole in {workdir / "checkpoints"}; the same '
    'command goes on from there, with any number of processes'
  )


def _place(coordinator, num_processes, process_id):
  """(address of process 0, number of processes, own number, own devices)."""
  if coordinator != 'auto':
    host, _, port = coordinator.rpartition(':')
    if not (host and port.isdigit()):
      raise ValueError(f'--coordinator={coordinator} is not HOST:PORT or auto')
    if num_processes is None or process_id is None:
      raise ValueError(
        '--coordinator=HOST:PORT wants --num_processes and --process_id; '
        '--coordinator=auto asks the cluster for them'
      )
    if not 0 <= process_id < num_processes:
      raise ValueError(
        f'--process_id={process_id} is not one of 0 to {num_processes - 1}, '
        f'--num_processes={num_processes}'
      )
    return coordinator, num_processes, process_id, None
  with warnings.catch_warnings(action='ignore'):  # of several lines
    try:
      found = clusters.ClusterEnv.auto_detect_unset_distributed_params(
        None, num_processes, process_id, None, None, MEET_SECONDS
      )
    except Exception as e:  # of any library that knows a cluster
      raise ValueError(f'--coordinator=auto: {e}') from e
  if None in found[:3]:
    raise ValueError(
      '--coordinator=auto finds no cluster here (it knows srun of Slurm, '
      'mpirun of Open MPI, TPU pods and, with the package kubernetes, Jobs and '
      'JobSets): give --coordinator=HOST:PORT, --num_processes, --process_id'
    )
  return found
