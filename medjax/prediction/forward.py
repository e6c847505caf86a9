"""Compiled forward passes: what is predicted of a batch of windows."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from medjax.engine import replicated, sharded, split_axis
from medjax.tasks.objective import main_head


def plain(model, task, flips, features=False):
  """(variables, inputs) → {name: array}, the function that is compiled.

  'prediction' is the task's, unless that has names of its own. With `features`
  also 'embedding' (b, d), its 'signature', and 'logits' (b, k) but of maps.
  """

  def mirrored(variables, inputs, axes):
    rank = inputs[0].ndim
    turned = [jnp.flip(x, axes) if x.ndim == rank else x for x in inputs]
    options = {'features': True} if features else {}
    outputs, more = model.apply(variables, *turned, train=False, **options), {}
    if features:
      more = {
        'embedding': outputs['pooled'],
        'signature': signature(outputs),
      }
      outputs = outputs['logits']
      logits = main_head(outputs)
      more |= {'logits': logits} if logits.ndim == 2 else {}
    found = task.predict(outputs)
    found = found if isinstance(found, dict) else {'prediction': found}
    found = {**found, **more}
    # A map, not a vector, is flipped back.
    back = lambda x: jnp.flip(x, axes) if x.ndim == rank else x
    return jax.tree.map(back, found)

  def forward(variables, inputs):
    shape = inputs[0].shape
    spatial = [a for a in range(1, len(shape) - 1) if shape[a] > 1]
    sizes = range(len(spatial) + 1) if flips else (0,)
    every = [c for n in sizes for c in itertools.combinations(spatial, n)]
    passes = [mirrored(variables, inputs, axes) for axes in every]
    return jax.tree.map(lambda *xs: sum(xs) / len(xs), *passes)

  return forward


def signature(features):
  """What an image looks like to the first layers and to the last: (b, d).

  The finest maps averaged on a coarse grid (4 × 4, of volumes 2 × 2 × 2) and
  their spread, beside the embedding: where a head has learnt to see one thing
  only, the last layer alone does not know a blood cell from a chest.
  """
  finest = features['stage_0'].astype(jnp.float32)
  count, *shape, channels = finest.shape
  side = 4 if len(shape) == 2 else 2
  grid = tuple(min(side, n) for n in shape)
  coarse = jax.image.resize(finest, (count, *grid, channels), 'linear')
  spread = finest.std(tuple(range(1, finest.ndim - 1)))
  parts = [coarse.reshape(count, -1), spread, features['pooled']]
  return jnp.concatenate(parts, -1)


def make_forward(model, task, mesh, *, flips=False, features=False):
  """Compiles (variables, inputs, each (b, …)) → {name: (b, …, k)}.

  With `features`, the model's embedding and logits are among the names.

  With `flips`, averages over mirror images along every combination of spatial
  axes (test-time augmentation; 4 passes in 2-D, 8 in 3-D).
  """
  return jax.jit(
    plain(model, task, flips, features),
    in_shardings=(replicated(mesh), sharded(mesh)),
    out_shardings=sharded(mesh),
  )


def make_spatial_forward(model, task, mesh, *, flips=False):
  """(variables, (images (b, *s, C),)) → {name: (b, *s, k)}, as numpy.

  The images, not the batch, are spread over the devices, along their longest
  axis, and XLA exchanges the borders that convolutions see: for images too
  large for one device. Numbers are those of `make_forward` up to rounding.
  Compiled once for every shape. Raises ValueError for what is no map.
  """
  program = _spatial_program(plain(model, task, flips), mesh)

  def forward(variables, inputs):
    (images,) = inputs
    axis = int(np.argmax(images.shape[1:-1])) + 1
    size = images.shape[axis]
    # Devices hold equal shares of what comes and goes.
    filled = np.pad(images, _at_end(images, axis, -size % mesh.size))
    placed = jax.device_put(filled, split_axis(mesh, axis))
    found = program(variables, placed, axis=axis, size=size)
    return jax.tree.map(lambda x: np.asarray(x).take(range(size), axis), found)

  return forward


def _spatial_program(forward, mesh):
  """`forward` with images split along `axis`, of which `size` are the image."""
  # A CPU's faster convolutions take an axis apart, and XLA would gather it.
  on_cpu = mesh.devices.flat[0].platform == 'cpu'
  precision = 'highest' if on_cpu else None

  @functools.partial(jax.jit, static_argnames=('axis', 'size'))
  def program(variables, images, *, axis, size):
    split = split_axis(mesh, axis)
    filled, rank = images.shape[axis], images.ndim
    # The network does not see what fills up the last device.
    images = jax.lax.slice_in_dim(images, 0, size, axis=axis)
    images = jax.lax.with_sharding_constraint(images, split)
    with jax.default_matmul_precision(precision):
      found = forward(variables, (images,))

    def spread(x):
      if x.ndim != rank:
        raise ValueError(
          'inference.shard_space is for models that give a map of the image, '
          f'not {x.shape[1:]} numbers of it'
        )
      x = jax.lax.with_sharding_constraint(x, split)
      x = jnp.pad(x, _at_end(x, axis, filled - size))
      return jax.lax.with_sharding_constraint(x, split)

    return jax.tree.map(spread, found)

  return program


def _at_end(x, axis, count):
  """Padding of `count` behind the end of one axis."""
  return [(0, count if a == axis else 0) for a in range(x.ndim)]
