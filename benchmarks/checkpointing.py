"""Checkpoints of a training state: medjax (Orbax) against torch.save.

The state is that of the default 3-D U-Net with AdamW: parameters and two
moments, the same arrays for both. 'until training goes on' is how long a save
holds up the loop, for which `torch.save` must be through; 'until whole' ends
when the file would survive a crash, which for `torch.save` takes an fsync and a
rename; 'restore' reads it back, to the device.
"""

import functools
import os
import pathlib
import tempfile
import time

import harness
import numpy as np


@functools.cache
def state():
  """A TrainState of the default U-Net and AdamW."""
  import jax
  import optax

  from medjax import engine, models

  return engine.create_state(
    models.UNet(3),
    optax.adamw(1e-3),
    (jax.ShapeDtypeStruct((1, 32, 32, 32, 1), 'float32'),),
    jax.random.key(0),
    engine.make_mesh(jax.local_devices()[:1]),
  )


def ours(kind):
  """`Checkpointer`, as the training loop uses it."""
  import jax

  from medjax import engine
  from medjax.run.checkpoint import Checkpointer

  mesh = engine.make_mesh(jax.local_devices()[:1])
  metrics = engine.empty_metrics(mesh)
  checkpoints = Checkpointer(tempfile.mkdtemp())
  saved = 0

  def save():
    nonlocal saved
    saved += 1
    now = state().replace(step=jax.numpy.int32(saved))
    jax.block_until_ready(now)
    before = time.perf_counter()
    checkpoints.save(now, metrics, [[saved, 0.5]])
    waited = time.perf_counter() - before
    checkpoints.wait()
    return waited if kind == 'loop' else time.perf_counter() - before

  def restore():
    read, _, _ = checkpoints.restore_newest(state(), metrics)
    jax.block_until_ready(read)

  if kind != 'restore':
    return save
  save()
  return restore


def peer(kind):
  """`torch.save`, and its rename when it is whole."""
  import torch

  gpu = torch.cuda.is_available()
  tree = tensors(torch, 'cuda' if gpu else 'cpu')
  path = pathlib.Path(tempfile.mkdtemp()) / 'state.pt'

  def save():
    temporary = path.with_suffix('.tmp')
    with temporary.open('wb') as file:
      torch.save(tree, file)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)

  def plain():
    torch.save(tree, path)

  def restore():
    torch.load(path, map_location='cuda' if gpu else 'cpu')

  if kind != 'restore':
    return plain if kind == 'loop' else save
  save()
  return restore


def tensors(torch, device):
  """The same arrays by name."""
  import jax

  leaves = jax.tree_util.tree_leaves_with_path(state())
  return {
    jax.tree_util.keystr(path): torch.from_numpy(np.array(x)).to(device)
    for path, x in leaves
  }


def check():
  """Raises unless what is read back is what was saved."""
  import jax

  from medjax import engine
  from medjax.run.checkpoint import Checkpointer

  metrics = engine.empty_metrics(engine.make_mesh(jax.local_devices()[:1]))
  with tempfile.TemporaryDirectory() as folder, Checkpointer(folder) as kept:
    kept.save(state().replace(step=jax.numpy.int32(1)), metrics, [[1, 0.5]])
    kept.wait()
    read = kept.restore_newest(state(), metrics)[0]
  jax.tree.map(np.testing.assert_array_equal, read.params, state().params)


def case(name, kind, aim):
  """One moment of a checkpoint."""
  return harness.Case(
    name,
    {
      harness.OURS: functools.partial(ours, kind),
      'torch': functools.partial(peer, kind),
    },
    aim=aim,
    warm=1,
    check=check,
  )


if __name__ == '__main__':
  harness.main(
    'Checkpoints of the default 3-D U-Net with AdamW',
    [
      case('save, until training goes on', 'loop', None),
      case('save, until whole', 'whole', None),
      case('restore', 'restore', None),
    ],
    rounds=5,
  )
