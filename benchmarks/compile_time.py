"""What a training step of each model costs to compile, beside plain lax.

    python benchmarks/compile_time.py [--rank=3] [--side=32] [NAMES…]

Lines of the program before XLA, and seconds that XLA takes for it on this
machine's CPU, without a compilation cache: with `medjax.ops` as it is written
for CPUs, and with lax alone.

Of a training step on two volumes of 32³, CPU seconds of XLA on one machine: the
lines more are what makes the step faster there (Winograd's method is six
convolutions).

| model       | ops | lax |
|-------------|-----|-----|
| DenseNet121 | 41  | 35  |
| ResEncUNet  | 26  | 10  |
| ConvNeXtT   | 17  | 7   |
| SegResNet   | 17  | 4.5 |
| UNet2018    | 15  | 6   |
| UNet        | 14  | 2.8 |

Two ideas that did not halve the U-Net's: one convolution in a loop over
Winograd's six compiles in 12.6 s, but a step takes .66 → 4.5 s, for XLA's
convolutions in a loop are slow; Winograd's method for the largest images only
(more than 16,384 voxels of a batch, not 4,096) compiles in 9.3 for 12.2 s, but
a step is 5 to 16 % slower. Without it, 7.2 s and 1.5 times the step.
"""

import argparse
import time

import jax
import jax.numpy as jnp

from medjax import models
from medjax.models.__main__ import names
from medjax.ops import platform


def step(model):
  """Gradient of a loss of the logits, in training mode."""

  def loss(params, rest, x, key):
    y, updates = model.apply(
      {**rest, 'params': params},
      x,
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': key},
    )
    return sum(jnp.sin(z).mean() for z in jax.tree.leaves(y)), updates

  return jax.grad(loss, has_aux=True)


def measure(name, shape):
  """(lines, seconds) of ops for a CPU, and of lax.

  Raises:
    ValueError: if the model takes no such images.
  """
  model = getattr(models, name)(num_classes=2)
  x = jax.ShapeDtypeStruct(shape, jnp.float32)
  key = jax.eval_shape(lambda: jax.random.key(0))
  variables = jax.eval_shape(model.init, key, x)
  rest = {k: v for k, v in variables.items() if k != 'params'}
  found = []
  for target in ('cpu', 'cuda'):
    with platform.traced_for(target):
      traced = jax.jit(step(model)).trace(variables['params'], rest, x, key)
    lowered = traced.lower(lowering_platforms=('cpu',))
    begin = time.perf_counter()
    lowered.compile()
    seconds = time.perf_counter() - begin
    found += [lowered.as_text().count('\n'), seconds]
  return found


def main():
  """Prints a line per model."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('names', nargs='*', metavar='NAME', help='[all]')
  parser.add_argument('--rank', type=int, default=3, help='[3]')
  parser.add_argument('--side', type=int, default=32, help='voxels [32]')
  parser.add_argument('--batch', type=int, default=2, help='[2]')
  args = parser.parse_args()
  jax.config.update('jax_enable_compilation_cache', False)
  print(f'{"":18}{"lines":>8}{"s":>7}{"lax":>9}{"s":>7}{"ratio":>7}')
  shape = (args.batch, *(args.side,) * args.rank, 1)
  for name in args.names or names():
    try:
      ours, seconds, lax, least = measure(name, shape)
    except ValueError as e:
      print(f'{name:18}{e}')
      continue
    print(
      f'{name:18}{ours:>8,}{seconds:>7.1f}{lax:>9,}{least:>7.1f}'
      f'{seconds / least:>7.1f}',
      flush=True,
    )


if __name__ == '__main__':
  main()
