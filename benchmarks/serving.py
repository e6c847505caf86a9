"""Serving: an exported run against ONNX Runtime, and PyTorch, on one network.

Ours is the StableHLO program of `medjax.export` with its weights, ONNX Runtime
runs the model.onnx of the same folder on as many threads, PyTorch (of U-Nets)
the same network eagerly. From the array of a window to its probabilities;
weights are loaded and programs compiled before. `first` in the last rows is the
whole start of a process, from import to its first answer, with the persistent
compilation cache filled.

    python benchmarks/serving.py
    python benchmarks/serving.py 'U-Net 3-D, batch 1' --rounds=15
"""

import dataclasses
import functools
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import harness
import latency
import numpy as np
import train_step

RESULTS = pathlib.Path(__file__).parent / 'results' / 'serving'
_UNET = (32, 64, 128, 256)
_NARROW = (12, 24, 48, 96)
NETWORKS = {
  'ResNet-18, 28': (latency.CASES['ResNet-18, 28'], 3.0),
  'ResNet-18 for 224, 28': (latency.CASES['ResNet-18 for 224, 28'], 3.0),
  'U-Net 2-D, 128': (
    train_step.Network(
      train_step.unet(_UNET),
      train_step.dynunet(_UNET, 2),
      shape=(1, 128, 128, 1),
      dense=True,
    ),
    1.0,
  ),
  'U-Net 3-D, 40 x 56 x 40': (
    train_step.Network(
      train_step.unet(_NARROW),
      train_step.dynunet(_NARROW, 3),
      shape=(1, 40, 56, 40, 1),
      dense=True,
    ),
    1.0,
  ),
}
BATCHES = (1, 8)
_START = """
import time; begun = time.perf_counter()
import os, sys
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == 'jax':
  import jax
  jax.config.update('jax_compilation_cache_dir', sys.argv[3])
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
import numpy as np, programs
model = programs.Model(sys.argv[1], sys.argv[2])
model({k: np.zeros((1, *v), 'f4') for k, v in model.info['inputs'].items()})
print(time.perf_counter() - begun)
"""


def exported(name):
  """The folder that a network is exported to, once."""
  from medjax import config
  from medjax.export import artefact

  folder = RESULTS / ''.join(c if c.isalnum() else '-' for c in name)
  if (folder / artefact.MODEL).exists():
    return folder
  network, _ = NETWORKS[name]
  run = latency.trained(network)
  # What a run says of itself, of which this one has only the network.
  whole = config.default_config().to_dict()
  whole['model'] = {'name': name}
  made = dataclasses.replace(
    run.experiment,
    config=whole,
    facts=dataclasses.replace(run.experiment.facts, shape=network.shape[1:-1]),
    inference=run.experiment.inference._replace(batch_size=max(BATCHES)),
  )
  run.experiment = made
  artefact.write(run, folder, onnx=True)
  return folder


def _inputs(name, batch):
  network, _ = NETWORKS[name]
  image = latency.image_of(network)
  return {'image': np.repeat(image[None], batch, 0).astype(np.float32)}


def by(backend, name, batch):
  """What calls the model of a folder."""
  from medjax.export import golden

  model = golden.script().programs.Model(exported(name), backend)
  inputs = _inputs(name, batch)
  return lambda: model(inputs)


def torch(name, batch):
  """PyTorch, eager, of a batch."""
  import torch

  network, _ = NETWORKS[name]
  net = latency.peer_of(network)
  image = np.moveaxis(_inputs(name, batch)['image'], -1, 1).copy()
  image = torch.from_numpy(image)

  def work():
    with torch.inference_mode():
      return net(image).softmax(1).numpy()

  return work


def check(name, batch):
  """Raises unless all give the same probabilities."""
  ours, theirs = (by(b, name, batch)()['prediction'] for b in ('jax', 'onnx'))
  error = np.abs(ours - theirs).max()
  if not error < 1e-4:
    raise ValueError(f'probabilities differ by {error:.1e}')


def case(name, batch):
  """One network at one batch size."""
  network, aim = NETWORKS[name]
  contenders = {
    harness.OURS: functools.partial(by, 'jax', name, batch),
    'ONNX Runtime': functools.partial(by, 'onnx', name, batch),
  }
  if network.dense:
    contenders['torch'] = functools.partial(torch, name, batch)
  return harness.Case(
    f'{name}, batch {batch}',
    contenders,
    aim=aim if batch == 1 or network.dense else None,
    samples=batch,
    check=functools.partial(check, name, batch),
  )


def first(backend, name):
  """A process that loads and answers once; its compilation is cached."""
  folder, cache = exported(name), tempfile.mkdtemp(prefix='serving')

  def work():
    begun = time.perf_counter()
    subprocess.run(
      [sys.executable, '-c', _START, str(folder), backend, cache],
      check=True,
      capture_output=True,
      env={**os.environ, 'PYTHONPATH': ''},
    )
    return time.perf_counter() - begun

  return work


def start(name):
  """The first answer after a start."""
  return harness.Case(
    f'{name}, first answer',
    {
      harness.OURS: functools.partial(first, 'jax', name),
      'ONNX Runtime': functools.partial(first, 'onnx', name),
    },
    rounds=3,
    warm=1,
  )


if __name__ == '__main__':
  harness.main(
    'An exported run, from the array to its probabilities',
    [case(name, batch) for name in NETWORKS for batch in BATCHES]
    + [start(name) for name in ('ResNet-18, 28', 'U-Net 3-D, 40 x 56 x 40')],
    rounds=15,
  )
