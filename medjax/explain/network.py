"""The layers of a model, tapped while it is applied: Grad-CAM, rollout."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp


def apply(model, variables, inputs, change=lambda path, y: y):
  """Outputs of a model, whose layers' outputs pass through `change`."""

  def intercept(method, args, kwargs, context):
    y = method(*args, **kwargs)
    if context.method_name != '__call__':
      return y
    return change('/'.join(context.module.path), y)

  with nn.intercept_methods(intercept):
    return model.apply(variables, *inputs, train=False)


def layers(model, variables, inputs):
  """{path: shape} of what each layer gives for `inputs`, in its order."""
  found = {}

  def look(path, y):
    if isinstance(y, jax.Array):
      found.setdefault(path, y.shape)
    return y

  def look_at_all(variables, inputs):
    apply(model, variables, inputs, look)
    return 0

  jax.eval_shape(look_at_all, variables, inputs)
  return found


def maps(shapes, rank):
  """{path: grid} of the layers that give a map, or tokens of one's voxels."""
  found, grids = {}, {}
  for path, shape in shapes.items():
    if len(shape) == rank + 2 and math.prod(shape[1:-1]) > 1:
      found[path] = shape[1:-1]
      grids[math.prod(shape[1:-1])] = shape[1:-1]
    elif len(shape) == 3:  # tokens, of which the first may be a class's
      grid = grids.get(shape[1]) or grids.get(shape[1] - 1)
      if grid and len(grid) == rank:
        found[path] = grid
  return found


def candidates(found):
  """Layers to look at where none is named, the likeliest first.

  Of those that are in no other, the coarsest maps, the last of them first.
  """
  found = {p: grid for p, grid in found.items() if p}  # '' is the model
  outer = [p for p in found if p.rpartition('/')[0] not in found]
  return sorted(outer[::-1], key=lambda p: math.prod(found[p]))


@functools.partial(jax.jit, static_argnames=('layer', 'grid', 'signed'))
def gradcam(score, images, about, *, layer, grid, signed=False):
  """Grad-CAM of a layer (n, *grid) (Selvaraju et al. 2017).

  A channel weighs what the gradient of the score is in the mean over its map.
  `signed` keeps what speaks against; else that is 0. `score` is a
  `target.Score` of one member; `grid` is what `maps` says of the layer.
  """
  _, activation = score.tapped(layer, images, about, 0.0)

  def total(change):
    return score.tapped(layer, images, about, change)[0].sum()

  slopes = jax.grad(total)(jnp.zeros_like(activation))
  slopes, activation = (as_map(x, grid) for x in (slopes, activation))
  axes = tuple(range(1, 1 + len(grid)))
  weights = slopes.mean(axes, keepdims=True)
  cam = (weights * activation).sum(-1)
  return cam if signed else jax.nn.relu(cam)


def as_map(x, grid):
  """(n, *grid, c) of a map, or of tokens, which may begin with a class's."""
  if x.ndim == len(grid) + 2:
    return x
  return x[:, -math.prod(grid) :].reshape(len(x), *grid, x.shape[-1])


def enlarged(cam, shape):
  """A coarse map (n, *grid) on the grid of the image (n, *shape), linearly."""
  return jax.image.resize(cam, (len(cam), *shape), 'linear')


@jax.jit
def rollout(score, images, about):
  """Attention rollout of a ViT (n, tokens) (Abnar & Zuidema 2020).

  How much of the class token comes from each token of a patch: the product over
  the blocks of their attention, the mean of its heads, half of it passed by.
  `score` is a `target.Score` of one member.
  """
  weights, heads = [], {}

  def look(path, y):
    if path.endswith('attention/qkv'):
      weights.append(_attention(y, heads[path.removesuffix('/qkv')]))
    return y

  inputs = (images, *about.get('inputs', ()))
  with nn.intercept_methods(_heads_into(heads)):
    apply(score.network.model, score.members[0], inputs, look)
  total = jnp.eye(weights[0].shape[-1])
  for attention in weights:
    total = (attention + jnp.eye(total.shape[-1])) / 2 @ total
  return total[:, 0, 1:]


def _heads_into(found):
  """Keeps how many heads each attention has, by its path."""

  def intercept(method, args, kwargs, context):
    if isinstance(getattr(context.module, 'heads', None), int):
      found['/'.join(context.module.path)] = context.module.heads
    return method(*args, **kwargs)

  return intercept


def _attention(qkv, heads):
  """(n, tokens, 3 c) → (n, tokens, tokens), the mean of the heads."""
  *shape, channels = qkv.shape
  parts = qkv.reshape(*shape, 3, heads, channels // 3 // heads)
  query, key, _ = jnp.unstack(parts.astype(jnp.float32), axis=-3)
  products = jnp.einsum('nthc,nshc->nhts', query, key)
  weights = jax.nn.softmax(products / math.sqrt(query.shape[-1]), -1)
  return weights.mean(1)
