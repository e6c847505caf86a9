"""Steps of k members: one program for all, or one after another.

'together' is one vmapped program, 'scan' one program that takes the members in
turn, 'in turn' the step of one member called for each: what medjax does on a
CPU. Seconds are those of a member's step, the ways alternating in each round;
with them the CPU seconds, which other work on the machine hardly changes, and
how long the first step took, which is mostly compiling. float32, AdamW, some
augmentation.

2 cores (AVX-512, jax 0.10.2), busy with other work, three members; ms of a
member's step and of CPU, of which a step on its own took 67 and 29, and 753 and
229:

    network, batch      in turn         scan           together
    ResNet-18, 8        62, CPU 23      762, CPU 292   184, CPU 61
    3-D U-Net, 1        698, CPU 200    -              3052, CPU 746

A convolution whose kernels are vmapped becomes a grouped one. XLA is slow at
these on a CPU, and at convolutions inside of a loop.
"""

import argparse
import functools
import statistics
import time

import harness

RESNET, UNET = 'resnet', 'unet'
WAYS = ('in turn', 'scan', 'together')


def _network(name, size):
  """(model, task, batch) of one member: ResNet-18 or the narrow 3-D U-Net."""
  import numpy as np

  from medjax import models, tasks

  rng = np.random.default_rng(0)
  if name == RESNET:
    shape, label = (size, 28, 28, 1), ('label', (size,))
    model = models.ResNet18(2, width=16, stem='small')
    task = tasks.Classification(num_classes=2)
  else:
    shape, label = (size, 32, 48, 32, 1), ('mask', (size, 32, 48, 32))
    model = models.UNet(2, features=(12, 24, 48, 96))
    task = tasks.Segmentation(num_classes=2)
  batch = {
    'image': rng.normal(size=shape).astype(np.float32),
    label[0]: rng.integers(0, 2, label[1]).astype(np.int32),
    'index': np.arange(shape[0], dtype=np.uint32),
  }
  return model, task, batch


def _augment():
  from medjax import augment
  from medjax.augment.compose import compose

  return compose(
    [
      functools.partial(augment.affine, p=0.3, rotate=20.0),
      functools.partial(augment.gaussian_noise, p=0.1),
      functools.partial(augment.flip, p=0.5),
    ]
  )


def _scanned(step):
  """All members by one program that takes them in turn."""
  import jax
  import jax.numpy as jnp

  def scanned(*lists):
    stack = lambda *leaves: jnp.stack(leaves)
    stacked = tuple(jax.tree.map(stack, *trees) for trees in lists)
    done = jax.lax.map(lambda args: step(*args), stacked)
    pick = lambda i: jax.tree.map(lambda x: x[i], done)
    return tuple(zip(*map(pick, range(len(lists[0]))), strict=True))

  program = jax.jit(scanned, donate_argnums=0)
  return lambda *lists: program(*map(tuple, lists))


def prepare(name, size, count, way):
  """The work of one step of each of `count` members."""
  import jax
  import optax

  from medjax import engine

  model, task, batch = _network(name, size)
  mesh, tx = engine.make_mesh(), optax.adamw(1e-3)
  inputs = (batch['image'][:1],)
  keys = [engine.replicate(jax.random.key(i), mesh) for i in range(count)]
  states = [engine.create_state(model, tx, inputs, key, mesh) for key in keys]
  batches = [jax.device_put(batch, engine.sharded(mesh))] * count
  metrics = [engine.empty_metrics(mesh)] * count
  step = engine.make_train_step(model, task, tx, _augment(), mesh)
  if way == 'scan':
    step = _scanned(step)
  else:
    step = engine.over_members(step, together=way == 'together')

  def work():
    nonlocal states
    states, done = step(states, metrics, batches, keys)
    jax.block_until_ready((states, done))

  return work


def timed(work):
  """(seconds, CPU seconds) of doing it once."""
  cpu, begin = time.process_time(), time.perf_counter()
  work()
  return time.perf_counter() - begin, time.process_time() - cpu


def main():
  """Prints a table of the network."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('network', choices=(RESNET, UNET))
  parser.add_argument('--members', type=int, default=3)
  parser.add_argument('--batch', type=int, default=8, help='of one member')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--ways', nargs='*', choices=WAYS, default=WAYS)
  args = parser.parse_args()
  print(f'{harness.describe()}; {args.network}, batches of {args.batch}')
  works, first, times = {}, {}, {}
  ways = [(1, 'in turn'), *((args.members, way) for way in args.ways)]
  for key in ways:
    works[key] = prepare(args.network, args.batch, *key)
    first[key], times[key] = timed(works[key]), []
    print(
      f'{key[0]} × {key[1]}: {first[key][0]:.1f} s for the first', flush=True
    )
  for _ in range(args.rounds):
    for key, work in works.items():
      times[key].append([t / key[0] for t in timed(work)])
  print(f'{"":<16}{"step":>12}{"CPU":>12}{"first":>10}{"its CPU":>10}')
  for count, way in ways:
    wall, cpu = map(statistics.median, zip(*times[count, way], strict=True))
    begin = '{:>9.1f}s{:>9.1f}s'.format(*first[count, way])
    print(
      f'{count} × {way:<12}{1e3 * wall:>9.1f} ms{1e3 * cpu:>9.1f} ms{begin}',
      flush=True,
    )


if __name__ == '__main__':
  main()
