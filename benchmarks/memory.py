"""What patch of the default 3-D U-Net trains in how much memory.

    python benchmarks/memory.py [--out=benchmarks/results] [--all]

The step is that of training: batch 2, AdamW, Dice and cross-entropy. Two
columns, for a cube of voxels a side:

- 'kept': bytes that the backward pass needs of the forward pass, as traced for
  an accelerator; XLA may keep less, by fusing.
- 'compiled': what XLA sets aside on this device beside the state.

Plain, with `config.model.remat=True` and with `config.train.microbatches=2`.
Memory grows with the number of voxels, so that two sizes give the others; the
largest one is what fits beside the state. One prediction is put to the test: a
process of its own trains two steps, and its peak is measured.
"""

import argparse
import functools
import json
import pathlib
import re
import subprocess
import sys

import harness

BATCH = 2
GB = (1, 2, 4, 8, 16, 24, 40, 80)
SIDES = (32, 64)  # the two that all others follow from
MULTIPLE = 16  # sides that three strides of 2 divide, twice over
WAYS = {
  'plain': dict(),
  'remat': dict(remat=True),
  'microbatches=2': dict(microbatches=2),
  'both': dict(remat=True, microbatches=2),
}


def prepare(remat=False, microbatches=1):
  """(model, task, compiled train step, function that gives the state)."""
  import jax
  import optax

  from medjax import engine, models, tasks

  model = models.UNet(3, remat=remat)
  task = tasks.Segmentation(num_classes=3)
  mesh = engine.make_mesh(jax.local_devices()[:1])
  tx, gradient = optax.adamw(1e-3), engine.whole_batch
  if microbatches > 1:
    gradient = engine.Microbatches(microbatches)
  step = engine.make_train_step(
    model, task, tx, lambda key, batch: batch, mesh, gradient=gradient
  )
  create = lambda: engine.create_state(
    model, tx, (batch_shapes(16, 1)['image'],), jax.random.key(0), mesh
  )
  return model, task, step, create


@functools.cache
def state_shapes():
  """The state of training, as shapes; remat has the same."""
  import jax

  state = prepare()[-1]()
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)


def batch_shapes(side, count=BATCH):
  """A batch of cubes, as shapes."""
  import jax

  shape = (count, side, side, side)
  return {
    'image': jax.ShapeDtypeStruct((*shape, 1), 'float32'),
    'mask': jax.ShapeDtypeStruct(shape, 'int32'),
  }


def size(tree):
  """Bytes of arrays or of their shapes."""
  import jax

  sizes = (x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
  return sum(sizes)


def kept(side, *, remat=False, microbatches=1):
  """Bytes of the residuals of the backward pass, without the parameters."""
  import jax

  from medjax import engine
  from medjax.ops import platform

  model, task, _, _ = prepare(remat)
  params = state_shapes().params

  def backward(params, batch):
    def loss(params):
      forward = engine.Forward(model, params, {}, jax.random.key(0))
      return task.loss(forward, batch).mean()

    return jax.vjp(loss, params)[1]

  batch = batch_shapes(side, BATCH // microbatches)
  with platform.traced_for('cuda'):
    return size(jax.eval_shape(backward, params, batch)) - size(params)


def compiled(side, **way):
  """Bytes that the compiled step sets aside."""
  import jax

  from medjax import engine

  _, _, step, _ = prepare(**way)
  rest = jax.eval_shape(engine.TrainMetrics.empty), batch_shapes(side)
  key = jax.eval_shape(lambda: jax.random.key(0))
  lowered = step.lower(state_shapes(), *rest, key)
  return lowered.compile().memory_analysis().temp_size_in_bytes


def line(values):
  """(constant, slope per voxel) through the values at SIDES."""
  (low, high), (a, b) = SIDES, values
  slope = (b - a) / (high**3 - low**3)
  return a - slope * low**3, slope


def largest(fit, budget):
  """The largest side, a multiple of MULTIPLE, that fits; 0 if none does."""
  constant, slope = fit
  side = 0
  while constant + slope * (side + MULTIPLE) ** 3 <= budget:
    side += MULTIPLE
  return side


def train(side):
  """Two steps on zeros."""
  import jax
  import jax.numpy as jnp

  from medjax import engine

  _, _, step, create = prepare()
  state, metrics = create(), engine.TrainMetrics.empty()
  zeros = lambda x: jnp.zeros(x.shape, x.dtype)
  batch = jax.tree.map(zeros, batch_shapes(side))
  for _ in range(2):
    state, metrics = step(state, metrics, batch, jax.random.key(0))
  jax.block_until_ready(state)


def measured(side):
  """MB that two steps take beyond those on the smallest cube."""

  def peak(side):
    done = subprocess.run(
      [sys.executable, __file__, f'--train={side}'],
      capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout.split()[-1])

  return peak(side) - peak(MULTIPLE)


def main():
  """Prints the table; keeps JSON."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    '--out', default=pathlib.Path(__file__).parent / 'results'
  )
  parser.add_argument(
    '--all', action='store_true', help='compile every way, not only plain'
  )
  parser.add_argument('--train', type=int, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.train is not None:
    train(args.train)
    status = pathlib.Path('/proc/self/status').read_text()
    print(int(re.search(r'VmHWM:\s+(\d+)', status)[1]) / 1024)
    return
  title = 'Largest cube of a default 3-D U-Net, batch 2, that trains'
  print(f'{title}\n{harness.describe()}\n')
  heads = ''.join(f'{f"{gb} GB":>8}' for gb in GB)
  print(f'{"":<26}{"MB at 64³":>10}{heads}')
  rows, state = [], size(state_shapes())
  for name, way in WAYS.items():
    fits = {'kept': [kept(side, **way) for side in SIDES]}
    if args.all or not way:
      fits['compiled'] = [compiled(side, **way) for side in SIDES]
      plain = fits['compiled'] if not way else plain
    for what, values in fits.items():
      # The gradients are kept beside the state, as large as its parameters.
      budget = lambda gb: gb * 2**30 - state * 4 / 3
      sides = {gb: largest(line(values), budget(gb)) for gb in GB}
      rows.append(
        {'way': name, 'what': what, 'mb_at_64': values[1] / 2**20,
         'sides': sides}
      )  # fmt: skip
      cells = ''.join(f'{side or "–":>8}' for side in sides.values())
      print(f'{name + ", " + what:<26}{values[1] / 2**20:10.0f}{cells}')
  print(f'state (parameters and AdamW): {state / 2**20:.0f} MB')
  check = {}
  if pathlib.Path('/proc/self/status').exists():
    slope = line(plain)[1]
    predicted = slope * (SIDES[1] ** 3 - MULTIPLE**3) / 2**20
    check = {'predicted_mb': predicted, 'measured_mb': measured(SIDES[1])}
    print(
      f'{SIDES[1]}³ beyond {MULTIPLE}³: compiled {predicted:.0f} MB, resident '
      f'{check["measured_mb"]:.0f} MB'
    )
  out = pathlib.Path(args.out)
  out.mkdir(parents=True, exist_ok=True)
  document = {
    'title': title, 'machine': harness.machine(), 'rows': rows,
    'state_mb': state / 2**20, 'check': check,
  }  # fmt: skip
  path = out / 'memory.json'
  path.write_text(json.dumps(document, indent=1) + '\n')
  print(f'\nkept in {path}')


if __name__ == '__main__':
  main()
