"""What a training step costs a device, and what it sends: from compiled HLO.

Steps are compiled for eight virtual CPU devices, never run; what follows for
real machines is arithmetic on the assumptions below, and SCALING.md says what
it is worth. With --measure a small step runs in one process on one core and in
two on two.
"""

import argparse
import collections
import dataclasses
import math
import os
import re
import socket
import statistics
import subprocess
import sys
import time

DEVICES = 8
SIZES = {'f32': 4, 'bf16': 2, 's32': 4, 'u32': 4, 'pred': 1, 's8': 1, 'f16': 2}
COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all')


@dataclasses.dataclass(frozen=True)
class Machine:
  """What is assumed of one; SCALING.md has the sources."""

  devices: int
  flops: float  # per second, bfloat16, the data sheet's
  bandwidth: float  # of an all-reduce, bytes per second and device
  latency: float  # of one small collective, seconds
  utilisation: float = 0.3  # of the data sheet's FLOPs, in a step

  def seconds(self, flops, sent):
    """(compute, bandwidth, latency) parts of a step."""
    ring = (self.devices - 1) / self.devices
    wire = sum(
      (2 if kind == 'all-reduce' else 1) * ring * size
      for kind, (_, size) in sent.items()
    )
    count = sum(n for n, _ in sent.values())
    return (
      flops / (self.flops * self.utilisation),
      wire / self.bandwidth,
      count * self.latency,
    )


MACHINES = {
  '8 × H100': Machine(8, 989e12, 0.8 * 450e9, 20e-6),
  'v5e-256': Machine(256, 197e12, 180e9, 32e-6),
}


def cases():
  """{name: (model, task, image shape, batch per device, shard_above)}."""
  from medjax import models, tasks

  unet = lambda *features: models.UNet(3, features=features)
  tissue = tasks.Segmentation(num_classes=3)
  objects = tasks.Classification(num_classes=1000)
  large = (unet(32, 64, 128, 256, 320, 320), tissue, (128, 128, 128, 1), 2)
  return {
    'U-Net 3-D, 40×56×40': (
      unet(32, 64, 128, 256), tissue, (40, 56, 40, 1), 9, 0,
    ),
    'ResNet-50, 224': (
      models.ResNet50(1000), objects, (224, 224, 3), 64, 0,
    ),
    'U-Net 3-D, 128³': (*large, 0),
    'U-Net 3-D, 128³, FSDP': (*large, 2**16),
  }  # fmt: skip


def compiled_step(model, task, shape, batch_size, shard_above):
  """(lowered, compiled, state) for eight devices; nothing is allocated.

  With the convolutions of an accelerator: a CPU's have fewer products, and send
  the gradient of each of their parts.
  """
  import jax
  import jax.numpy as jnp
  import optax

  from medjax import engine
  from medjax.ops import platform

  mesh = engine.make_mesh(jax.devices()[:DEVICES])
  tx = optax.sgd(0.01, momentum=0.99, nesterov=True)  # nnU-Net's

  def init(key):
    variables = dict(model.init(key, jnp.zeros((1, *shape)), train=False))
    params = variables.pop('params')
    step = jnp.zeros((), jnp.int32)
    return engine.TrainState(step, params, variables, tx.init(params))

  def placed(tree, sharding):
    return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      tree, sharding,
    )  # fmt: skip

  state = jax.eval_shape(init, jax.random.key(0))
  sharding = engine.state_sharding(state, mesh, shard_above=shard_above)
  batch = {'image': jnp.float32, task.fields[0]: jnp.int32}
  count = DEVICES * batch_size
  shapes = {
    'image': (count, *shape), 'mask': (count, *shape[:-1]), 'label': (count,),
  }  # fmt: skip
  batch = {
    k: jax.ShapeDtypeStruct(shapes[k], v, sharding=engine.sharded(mesh))
    for k, v in batch.items()
  }
  step = engine.make_train_step(
    model, task, tx, lambda key, batch: batch, mesh, sharding=sharding
  )
  key = engine.replicate(jax.random.key(0), mesh)
  with platform.traced_for('tpu'):
    lowered = step.lower(
      placed(state, sharding), engine.empty_metrics(mesh), batch, key
    )
  # The sizes of what is sent do not depend on how well the rest is compiled.
  options = {'xla_backend_optimization_level': 0}
  return lowered, lowered.compile(compiler_options=options), state


def sent_bytes(text):
  """{kind: (count, bytes)} of the collectives in compiled HLO.

  Bytes are those of the whole array: what an all-reduce gives, an all-gather
  gives, a reduce-scatter takes.
  """
  pattern = rf'= (.+?) ({"|".join(COLLECTIVES)})(?:-start)?\((.*)'
  found = collections.defaultdict(lambda: (0, 0))
  for result, kind, _ in re.findall(pattern, text):
    size = sum(
      SIZES[dtype] * math.prod(map(int, filter(None, dims.split(','))))
      for dtype, dims in re.findall(r'(\w+)\[([\d,]*)\]', result)
    )
    if kind == 'reduce-scatter':
      size *= DEVICES
    count, total = found[kind]
    found[kind] = (count + 1, total + size)
  return dict(found)


def report(name, case):
  """Prints a row: costs of a step, and the efficiency on each machine."""
  import jax

  started = time.time()
  lowered, compiled, state = compiled_step(*case)
  flops = lowered.cost_analysis()['flops'] / DEVICES
  memory = compiled.memory_analysis()
  sent = sent_bytes(compiled.as_text())
  parameters = sum(x.size for x in jax.tree.leaves(state.params))
  row = [
    name,
    str(case[3]),
    f'{parameters / 1e6:.1f} M',
    f'{flops / 1e12:.2f}',
    f'{compiled.cost_analysis()["bytes accessed"] / 2**30:.1f}',
    f'{memory.argument_size_in_bytes / 2**20:.0f}',
    ', '.join(f'{n} {k} {b / 2**20:.1f}' for k, (n, b) in sent.items()),
  ]
  for machine in MACHINES.values():
    compute, wire, latency = machine.seconds(flops, sent)
    alone = compute / (compute + wire + latency)
    hidden = compute / (max(compute, wire) + latency)
    row.append(f'{alone:.0%} to {hidden:.0%}')
  print('| ' + ' | '.join(row) + ' |', flush=True)
  print(f'{name}: {time.time() - started:.0f} s', file=sys.stderr)


def work(index, count, port):
  """One process of the measurement: alone on a core, or two on two.

  Two are not bound to one each: the threads that send would wait their turn.
  """
  if count == 1:
    os.sched_setaffinity(0, {0})
  import jax
  import numpy as np
  import optax

  from medjax import engine, models, tasks

  if count > 1:
    jax.distributed.initialize(f'127.0.0.1:{port}', count, index)
  mesh = engine.make_mesh()
  model = models.UNet(3, features=(8, 16, 32))
  task, tx = tasks.Segmentation(num_classes=3), optax.sgd(0.01)
  shape, key = (32, 32, 32), jax.random.key(0)
  inputs = (jax.ShapeDtypeStruct((1, *shape, 1), 'float32'),)
  state = engine.create_state(model, tx, inputs, key, mesh)
  step = engine.make_train_step(model, task, tx, lambda k, b: b, mesh)
  metrics, key = engine.empty_metrics(mesh), engine.replicate(key, mesh)
  rng = np.random.default_rng(index)
  local = {
    'image': rng.normal(size=(2, *shape, 1)).astype(np.float32),
    'mask': rng.integers(0, 3, (2, *shape)).astype(np.int32),
  }
  batch = {
    k: jax.make_array_from_process_local_data(engine.sharded(mesh), v)
    for k, v in local.items()
  }
  wall, cpu = [], []
  for _ in range(14):
    before = time.perf_counter(), time.process_time()
    state, _ = step(state, metrics, batch, key)
    jax.block_until_ready(state)
    wall.append(time.perf_counter() - before[0])
    cpu.append(time.process_time() - before[1])
  if index == 0:
    print(statistics.median(wall[4:]), statistics.median(cpu[4:]))


def measure():
  """Prints medians of a step in one and two processes, in turn."""
  rows = collections.defaultdict(list)
  for count in (1, 2) * 3:
    with socket.create_server(('', 0)) as server:
      port = server.getsockname()[1]
    processes = [
      subprocess.Popen(
        [sys.executable, __file__, '--work', *map(str, (i, count, port))],
        stdout=subprocess.PIPE, text=True,
      )
      for i in range(count)
    ]  # fmt: skip
    texts = [p.communicate()[0] for p in processes]
    rows[count].append([float(x) for x in texts[0].split()[-2:]])
  for name, column in (('wall', 0), ('CPU', 1)):
    one, two = ([r[column] for r in rows[count]] for count in (1, 2))
    ratio = statistics.median(one) / statistics.median(two)
    print(f'{name} s/step: one {one}, two {two}; efficiency {ratio:.0%}')


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('names', nargs='*', help='cases [all]')
  parser.add_argument('--measure', action='store_true')
  parser.add_argument('--work', nargs=3, type=int, help=argparse.SUPPRESS)
  args = parser.parse_args()
  flags = f' --xla_force_host_platform_device_count={DEVICES}'
  if args.work or args.measure:
    flags = ' --xla_cpu_multi_thread_eigen=false'
  os.environ['JAX_PLATFORMS'] = 'cpu'
  os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + flags
  if args.work:
    work(*args.work)
  elif args.measure:
    measure()
  else:
    for name, case in cases().items():
      if not args.names or name in args.names:
        report(name, case)


if __name__ == '__main__':
  main()
