"""Lists the models and what they cost: `python -m medjax.models [NAMES…]`.

A table of the registered models, to choose one by: parameters, operations of a
forward pass, memory for activations. Nothing is compiled or run.
"""

import argparse
import inspect
import textwrap

import jax
import jax.numpy as jnp

from medjax import build, cli, models
from medjax.ops import platform

_CLASSIFICATION, _SEGMENTATION = (1, 224, 224, 3), (1, 256, 256, 3)
_COLUMNS = ('parameters', 'GFLOP', 'activations')
_HELP = f"""\
columns:
  parameters   how many are trained. In float32, with their gradients and Adam,
               they take 16 bytes each
  GFLOP        10⁹ operations of a forward pass in evaluation mode, as XLA
               counts them before it compiles; a multiplication and an addition
               are two. A training step has about three times as many
  activations  MiB that a training step keeps of its forward pass for the
               backward pass; they grow with the batch. XLA computes some of it
               again rather than keep it: compiled for a CPU, programs took 0.7
               to 1.3 of it, scratch included. The gradients of large kernels
               and dense layers, as ResNet18, AlexNet and VGG have, need scratch
               of their own, which does not grow

Families that are no model by themselves, such as ResNet, are left out. The
input is {_CLASSIFICATION} for classification and {_SEGMENTATION} for
segmentation unless --input says else.

examples:
  medjax models
  medjax models UNet ResNet18 --input=1,64,64,64,1
"""


def names():
  """Registered models that need no argument but the number of classes."""
  return [n for n in sorted(vars(models)) if n[0].isupper() and _is_whole(n)]


def _is_whole(name):
  parameters = inspect.signature(getattr(models, name)).parameters.values()
  return [p.name for p in parameters if p.default is p.empty] == ['num_classes']


def measure(name, shape=None, num_classes=2):
  """(parameters, GFLOP, MiB of activations) of a model; see --help.

  Args:
    name: of the registered model.
    shape: of the images (b, *spatial, c); None: the task's default.
    num_classes: channels of its logits.

  Raises:
    ValueError: if there is no such model, or it takes no such images; with why.
  """
  model = build.build(models, dict(name=name, num_classes=num_classes))
  key = jax.eval_shape(lambda: jax.random.key(0))
  image = lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32)
  init = lambda x: jax.eval_shape(model.init_with_output, key, x)
  try:
    if shape is None:
      logits, _ = init(image(_CLASSIFICATION))
      shape = _CLASSIFICATION if logits.ndim == 2 else _SEGMENTATION
    x = image(shape)
    _, variables = init(x)
    # As on an accelerator: for a CPU, `ops` trades products for others, and
    # keeps them.
    with platform.traced_for('cuda'):
      traced = jax.jit(model.apply).trace(variables, x)
      kept = _kept(model, variables, x, key)
    forward = traced.lower(lowering_platforms=('cuda',))
  except (TypeError, ValueError, ZeroDivisionError) as e:
    raise ValueError(' '.join(str(e).split())) from None
  parameters = sum(p.size for p in jax.tree.leaves(variables['params']))
  return parameters, forward.cost_analysis()['flops'] / 1e9, kept / 2**20


def _kept(model, variables, x, key):
  """Bytes that go from the forward to the backward pass of a training step.

  Not those of the parameters and images, which are there anyway.
  """

  def backward(params, rest, x, key):
    apply = lambda params: model.apply(
      {**rest, 'params': params},
      x,
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': key},
    )
    return jax.vjp(apply, params, has_aux=True)[1]

  rest = {k: v for k, v in variables.items() if k != 'params'}
  traced = jax.make_jaxpr(backward)(variables['params'], rest, x, key).jaxpr
  kept = {id(v): v.aval for v in traced.outvars}
  for v in traced.invars:
    kept.pop(id(v), None)
  return sum(a.size * a.dtype.itemsize for a in kept.values())


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
    epilog=_HELP,
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
  if options.num_classes < 1:
    raise ValueError(f'--num_classes={options.num_classes}: needs 1 or more')
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
