"""What every model costs: `python -m medjax.models [--input=…] [NAMES…]`.

A table of the registered models, to choose one by: its parameters, the
operations of a forward pass and of a training step, and the memory of a step.
"""

import argparse
import inspect
import textwrap

import jax
import jax.numpy as jnp

from medjax import build, cli, models

_CLASSIFICATION, _SEGMENTATION = (1, 224, 224, 3), (1, 256, 256, 3)
_COLUMNS = ('parameters', 'forward GFLOP', 'step GFLOP', 'step MiB')
_COLUMNS_HELP = f"""\
columns:
  parameters     those that are trained
  forward GFLOP  operations of a forward pass in evaluation mode, in 10⁹; a
                 multiplication and an addition are two. XLA's count of the
                 program before it is compiled; the compiled one's is within a
                 few percent
  step GFLOP     the same of a training step's loss and gradients
  step MiB       memory of these, as the program compiled for this machine
                 reserves it: mostly the activations that the backward pass
                 needs. Not in it: parameters, batch statistics, gradients,
                 images; and the optimizer's state. With Adam and float32 these
                 are 16 bytes per parameter in all. It grows with the batch

Families that are no model by themselves, such as ResNet, are left out. The
input is {_CLASSIFICATION} for classification and {_SEGMENTATION} for
segmentation unless --input says else.
"""


def names():
  """Registered models that need no argument but the number of classes."""
  return [n for n in sorted(vars(models)) if n[0].isupper() and not _lacks(n)]


def _lacks(name):
  """Arguments that must be given to a model, but for num_classes."""
  parameters = inspect.signature(build.lookup(models, name)).parameters
  return [
    p.name
    for p in parameters.values()
    if p.default is p.empty and p.name != 'num_classes'
  ]


def measure(name, shape=None, num_classes=2):
  """The row of a model, as numbers in the order of the columns.

  Args:
    name: of the registered model.
    shape: of the images (b, *spatial, c); None: the task's default.
    num_classes: channels of its logits.

  Raises:
    ValueError: if the model does not exist or takes no such images; with why.
  """
  if lacking := _lacks(name):
    raise ValueError(f'{name} is a family: choose {" and ".join(lacking)}')
  model = build.build(models, dict(name=name, num_classes=num_classes))
  try:
    if shape is None:
      logits, _ = _initialised(model, _CLASSIFICATION)
      shape = _CLASSIFICATION if logits.ndim == 2 else _SEGMENTATION
    _, variables = _initialised(model, shape)
    forward, step = _lowered(model, variables, shape)
  except (TypeError, ValueError, ZeroDivisionError) as e:
    raise ValueError(' '.join(str(e).split())) from None
  # How the machine code is optimised changes no buffer.
  quick = {'xla_backend_optimization_level': 0}
  compiled = step.compile(compiler_options=quick)
  return (
    sum(p.size for p in jax.tree.leaves(variables['params'])),
    forward.cost_analysis()['flops'] / 1e9,
    step.cost_analysis()['flops'] / 1e9,
    compiled.memory_analysis().temp_size_in_bytes / 2**20,
  )


def _initialised(model, shape):
  """Shapes of the logits and the variables."""
  x = jax.ShapeDtypeStruct(shape, jnp.float32)
  return jax.eval_shape(model.init_with_output, _key(), x)


def _key():
  return jax.eval_shape(lambda: jax.random.key(0))


def _lowered(model, variables, shape):
  """The programs of a forward pass and of a step's gradients, not compiled."""

  def loss(params, rest, x, key):
    outputs, updates = model.apply(
      {**rest, 'params': params},
      x,
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': key},
    )
    # As cheap as a loss can be: nothing of it is to be counted.
    return sum(y.sum() for y in jax.tree.leaves(outputs)), updates

  x = jax.ShapeDtypeStruct(shape, jnp.float32)
  rest = {k: v for k, v in variables.items() if k != 'params'}
  forward = jax.jit(model.apply).lower(variables, x)
  gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
  return forward, gradient.lower(variables['params'], rest, x, _key())


def _shape(text):
  try:
    shape = tuple(int(n) for n in text.split(','))
  except ValueError:
    shape = ()
  if len(shape) not in (4, 5) or min(shape) < 1:
    raise argparse.ArgumentTypeError(
      f'{text!r} is no batch,height,width,channels nor, of volumes, '
      'batch,depth,height,width,channels'
    )
  return shape


def main(argv=None):
  """The command line."""
  parser = argparse.ArgumentParser(
    prog='python -m medjax.models',
    description='What the models cost, to choose one by.',
    epilog=_COLUMNS_HELP,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('names', nargs='*', metavar='NAME', help='[all]')
  parser.add_argument(
    '--input',
    type=_shape,
    metavar='BATCH,…,CHANNELS',
    help='shape of the images, as 1,224,224,3, or 1,64,64,64,1 for volumes',
  )
  parser.add_argument('--num_classes', type=int, default=2, help='[2]')
  options = parser.parse_args(argv)
  chosen = options.names or names()
  for name in chosen:
    build.lookup(models, name)  # a misspelt name before any work
  width = max(map(len, chosen))
  print(' ' * width, *(f'{column:>13}' for column in _COLUMNS))
  for name in chosen:
    print(f'{name:{width}}', end=' ', flush=True)
    try:
      parameters, *rest = measure(name, options.input, options.num_classes)
    except ValueError as e:
      print(' ', textwrap.shorten(str(e), 76, placeholder=' …'))
      continue
    cells = [f'{parameters:,}', *(f'{value:,.3f}' for value in rest)]
    print(*(f'{cell:>13}' for cell in cells), flush=True)


if __name__ == '__main__':
  with cli.one_line_errors():
    main()
