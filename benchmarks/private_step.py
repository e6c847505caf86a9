"""What privacy costs a training step: python benchmarks/private_step.py.

The step of `configs/resnet.py:pneumoniamnist,private` at a batch of 256, with
clipping and noise, over the same step without, in turn and in one process. The
private batch has 256 patients, as many as are expected. For ResNet-18 of width
16: --stages 2 2 2 2 --stem small.
"""

import argparse
import statistics
import time

import jax
import numpy as np

from medjax import engine, models, optim, tasks
from medjax.dp.gradient import PrivateGradient

SHAPE, CLASSES = (28, 28, 1), ('normal', 'pneumonia')


def batch_of(size):
  """Images of noise, and labels."""
  rng = np.random.default_rng(0)
  return {
    'image': rng.normal(size=(size, *SHAPE)).astype(np.float32),
    'label': rng.integers(0, 2, size).astype(np.int32),
    'index': np.arange(size, dtype=np.uint32),
    'padding': np.zeros(size, bool),
  }


def stepper(gradient, model, size):
  """A function that takes a step, and waits for it."""
  mesh = engine.make_mesh(jax.devices()[:1])
  task = tasks.Classification(num_classes=2, class_names=CLASSES)
  tx = optim.make_optimizer('adamw', lambda step: 1e-3)
  inputs = [jax.ShapeDtypeStruct((1, *SHAPE), np.float32)]
  state = engine.create_state(model, tx, inputs, jax.random.key(0), mesh)
  step = engine.make_train_step(
    model, task, tx, lambda key, batch: batch, mesh, gradient=gradient
  )
  batch = jax.device_put(batch_of(size), engine.sharded(mesh))
  key = jax.device_put(jax.random.key(1), engine.replicated(mesh))
  empty = engine.empty_metrics(mesh)

  def work():
    nonlocal state
    state, _ = jax.block_until_ready(step(state, empty, batch, key))

  return work


def main():
  """Prints seconds of a step, and the ratio to the plain one, for each way."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--batch', type=int, default=256)
  parser.add_argument('--width', type=int, default=16)
  parser.add_argument('--stages', type=int, nargs='*', default=[1, 1])
  parser.add_argument('--stem', default='imagenet')
  parser.add_argument('--repeats', type=int, default=7)
  parser.add_argument('--microbatch', type=int, nargs='*', default=[1, 8, 64])
  args = parser.parse_args()
  model = models.ResNet(
    2, args.stages, width=args.width, stem=args.stem, norm='group'
  )
  ways = {'plain': engine.whole_batch} | {
    f'microbatch {lanes}': PrivateGradient(1.0, 1.0, args.batch, lanes)
    for lanes in args.microbatch
  }
  works = {k: stepper(way, model, args.batch) for k, way in ways.items()}
  for work in works.values():
    work()
  seconds = {k: [] for k in works}
  for _ in range(args.repeats):
    for name, work in works.items():
      begun = time.perf_counter()
      work()
      seconds[name].append(time.perf_counter() - begun)
  ratios = {
    k: statistics.median(
      a / b for a, b in zip(v, seconds['plain'], strict=True)
    )
    for k, v in seconds.items()
  }
  for name, ratio in ratios.items():
    middle = statistics.median(seconds[name])
    print(f'{name:15} {middle:.3f} s  {ratio:.2f} × the plain step')


if __name__ == '__main__':
  main()
