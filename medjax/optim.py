"""Learning-rate schedule and optax optimizer from plain arguments."""

import inspect
import sys

import jax
import optax

from medjax.build import build, lookup


def constant():
  """Factor 1 at every step."""
  return lambda step: 1.0


def cosine(*, steps, final=0.0):
  """Half a cosine from 1 down to `final` (Loshchilov & Hutter 2017, eq. 5)."""
  return optax.cosine_decay_schedule(1.0, steps, alpha=final)


def poly(*, steps, power=0.9):
  """(1 - step / steps)^power, as nnU-Net decays."""
  return optax.polynomial_schedule(1.0, 0.0, power, steps)


def step(*, steps, at=(0.5, 0.75), factor=0.1):
  """Times `factor` at each fraction `at` of the run, as MedMNIST trains."""
  return optax.piecewise_constant_schedule(
    1.0, {round(fraction * steps): factor for fraction in at}
  )


def knows_the_end(spec):
  """Whether a schedule depends on how many steps the run has."""
  function = lookup(sys.modules[__name__], spec['name'])
  return 'steps' in inspect.signature(function).parameters


def make_schedule(learning_rate, spec, *, steps):
  """Schedule step → learning rate over a run of `steps`.

  `spec` is dict(name='cosine', warmup_steps=100, …): linear warm-up, then one
  of this module's shapes (or 'package.module:function' giving a factor) times
  `learning_rate`.
  """
  spec = dict(spec)
  warmup = spec.pop('warmup_steps', 0)
  extra = {}
  if knows_the_end(spec):
    extra['steps'] = max(steps - warmup, 1)
  shape = build(sys.modules[__name__], spec, **extra)()

  def schedule(count):
    ramp = jax.numpy.minimum(1.0, (count + 1) / (warmup + 1))
    after = jax.numpy.maximum(count - warmup, 0)
    return learning_rate * ramp * shape(after)

  return schedule


def _layer(path):
  """The top-level module of a parameter, one of 'backbone' if that is one."""
  parts = path.split('/')
  return '/'.join(parts[: 2 if parts[0] == 'backbone' else 1])


def layer_factors(order, decay):
  """Factors of the learning rate by layer: decay ** (layers above it).

  `order` holds the model's variables in its order, 'params/stem/conv/kernel',
  …; a layer is a top-level module. A parameter outside of any, as a class
  token, belongs to the layer before it. The last, the head, has factor 1
  (Clark et al. 2020).
  """
  depth, layers = {}, 0
  for key in order:
    collection, path = key.split('/', 1)
    layer = _layer(path)
    if collection == 'params' and layer not in depth:
      layers += layer != path
      depth[layer] = max(layers - 1, 0)
  return {layer: decay ** (layers - 1 - i) for layer, i in depth.items()}


def _paths(params):
  """'encoder_0/conv_0/kernel' for every leaf, in the tree's own shape."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: jax.tree_util.keystr(path, simple=True, separator='/'),
    params,
  )


def _decayed(params):
  """Weight decay is for kernels: not for biases and norm scales."""
  return jax.tree.map(lambda p: p.ndim > 1, params)


def _scale_layers(factors):
  """Multiplies each update by its layer's factor."""
  return optax.stateless(
    lambda updates, params: jax.tree.map(
      lambda u, path: u * factors[_layer(path)], updates, _paths(updates)
    )
  )


def make_optimizer(
  name,
  schedule,
  *,
  weight_decay=0.0,
  clip_norm=0.0,
  layer_factors=None,
  **kwargs,
):
  """An optax transform by optax's own name: 'adamw', 'sgd', 'rmsprop', …

  Weight decay acts on kernels only: decoupled where the optimizer has it for a
  part of the parameters (AdamW, Lion, LARS, …), added to the gradient (L2)
  where it has not (SGD, Adam, RMSprop, NovoGrad). `clip_norm` > 0 clips the
  global gradient norm. `layer_factors` of the learning rate are those of the
  function of that name. Other arguments go to the optimizer.
  """
  optimizer = lookup(optax, name)
  taken = inspect.signature(optimizer).parameters
  masks = [m for m in ('mask', 'weight_decay_mask') if m in taken]
  decoupled = 'weight_decay' in taken and bool(masks)
  if decoupled:
    kwargs.update({'weight_decay': weight_decay, masks[0]: _decayed})

  parts = []
  if clip_norm:
    parts.append(optax.clip_by_global_norm(clip_norm))
  if weight_decay and not decoupled:
    parts.append(optax.add_decayed_weights(weight_decay, mask=_decayed))
  parts.append(
    build(optax, dict(name=name, learning_rate=schedule, **kwargs))()
  )
  if layer_factors:
    parts.append(_scale_layers(layer_factors))
  return optax.chain(*parts)
