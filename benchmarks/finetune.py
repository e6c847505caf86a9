"""What training a part of a network saves: memory and time of a step.

    python benchmarks/finetune.py [--rounds=7] [--batch=64]

Every way takes turns in each round; a time is the median over rounds. The
optimizer is AdamW, its state two numbers per parameter that trains. 'work' is
the memory that XLA sets aside for the step beside its arguments.
"""

import argparse
import statistics
import time

import harness

SHAPE = (28, 28, 1)
WAYS = {
  'full': dict(name='full'),
  'freeze stem, 3 stages': dict(name='full'),
  'linear probe': dict(name='linear_probe'),
  'BitFit': dict(name='bitfit'),
  'LoRA, rank 4': dict(name='lora', rank=4),
  'adapters, width 8': dict(name='bottleneck', width=8),
}


def networks():
  """{name: (Linen module, patterns of what 'freeze' freezes)}."""
  from medjax import models

  small = dict(width=16, stem='small')
  vit = dict(width=192, depth=6, heads=3, patch_size=4, image_size=28)
  return {
    'ResNet-18, width 16': (
      models.ResNet18(2, **small), ('^stem', '^stage_[012]')
    ),
    'ViT, width 192, depth 6': (
      models.ViT(2, **vit), ('^(class|pos|patch)', '^block_[01234]')
    ),
  }  # fmt: skip


def prepare(model, spec, freeze, batch_size):
  """(the work of one step, facts about it)."""
  import jax
  import numpy as np

  from medjax import engine, finetune, optim, tasks
  from medjax.build import build

  model = build(finetune, spec)(model, freeze=freeze)
  tx = optim.make_optimizer('adamw', lambda step: 1e-3, weight_decay=1e-2)
  task = tasks.Classification(num_classes=2)
  mesh = engine.make_mesh()
  rng = np.random.default_rng(0)
  batch = {
    'image': rng.normal(size=(batch_size, *SHAPE)).astype('f'),
    'label': rng.integers(0, 2, batch_size).astype(np.int32),
  }
  batch = jax.device_put(batch, engine.sharded(mesh))
  key = engine.replicate(jax.random.key(0), mesh)
  inputs = (batch['image'][:1],)
  state = engine.create_state(model, tx, inputs, key, mesh)
  step = engine.make_train_step(model, task, tx, lambda key, batch: batch, mesh)
  empty = engine.empty_metrics(mesh)
  compiled = step.lower(state, empty, batch, key).compile()
  total = lambda tree: sum(x.nbytes for x in jax.tree.leaves(tree))
  facts = {
    'trained': sum(x.size for x in jax.tree.leaves(state.params)),
    'optimizer': total(state.opt_state),
    'work': compiled.memory_analysis().temp_size_in_bytes,
  }
  held = [state]

  def work():
    held[0], metrics = compiled(held[0], empty, batch, key)
    return jax.block_until_ready(metrics)

  return work, facts


def main():
  """Prints a table per network."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--batch', type=int, default=64)
  args = parser.parse_args()
  print(f'{harness.describe()}; batch of {args.batch}, {SHAPE}')
  for name, (model, frozen) in networks().items():
    works, rows = {}, {}
    for way, spec in WAYS.items():
      freeze = frozen if way.startswith('freeze') else ()
      works[way], rows[way] = prepare(model, spec, freeze, args.batch)
    seconds = {way: [] for way in WAYS}
    for _ in range(args.rounds + 1):
      for way, work in works.items():
        begin = time.perf_counter()
        work()
        seconds[way].append(time.perf_counter() - begin)
    median = {way: statistics.median(t[1:]) for way, t in seconds.items()}
    print(
      f'\n{name}\n{"":<24}{"trained":>12}{"optimizer":>12}{"work":>10}'
      f'{"step":>10}{"/ full":>8}'
    )
    for way, row in rows.items():
      print(
        f'{way:<24}{row["trained"]:>12,}{row["optimizer"] / 2**20:>9.2f} MB'
        f'{row["work"] / 2**20:>7.1f} MB{1e3 * median[way]:>7.1f} ms'
        f'{median[way] / median["full"]:>8.2f}',
        flush=True,
      )


if __name__ == '__main__':
  main()
