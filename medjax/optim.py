"""Learning-rate schedule and optax optimizer from plain arguments."""

import inspect
import re
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


def make_schedule(learning_rate, spec, *, steps):
  """Schedule step → learning rate over a run of `steps`.

  `spec` is dict(name='cosine', warmup_steps=100, …): linear warm-up, then one
  of this module's shapes (or 'package.module:function' giving a factor) times
  `learning_rate`.
  """
  spec = dict(spec)
  warmup = spec.pop('warmup_steps', 0)
  function = lookup(sys.modules[__name__], spec['name'])
  extra = {}
  if 'steps' in inspect.signature(function).parameters:
    extra['steps'] = max(steps - warmup, 1)
  shape = build(sys.modules[__name__], spec, **extra)()

  def schedule(count):
    ramp = jax.numpy.minimum(1.0, (count + 1) / (warmup + 1))
    after = jax.numpy.maximum(count - warmup, 0)
    return learning_rate * ramp * shape(after)

  return schedule


def _paths(params):
  """'encoder_0/conv_0/kernel' for every leaf, in the tree's own shape."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: jax.tree_util.keystr(path, simple=True, separator='/'),
    params,
  )


def frozen_labels(params, patterns):
  """'frozen' or 'trained' per leaf; a pattern that matches nothing is refused.

  Patterns are regular expressions searched in the leaf's path.
  """
  paths = _paths(params)
  for pattern in patterns:
    if not any(re.search(pattern, p) for p in jax.tree.leaves(paths)):
      tops = ', '.join(sorted(params))
      raise ValueError(
        f'optimizer.freeze: {pattern!r} matches no parameter; the top-level '
        f'names are {tops}'
      )
  return jax.tree.map(
    lambda p: (
      'frozen'
      if any(re.search(pattern, p) for pattern in patterns)
      else 'trained'
    ),
    paths,
  )


def stop_gradients(params, patterns):
  """`params`, with the gradient stopped at the frozen ones."""
  return jax.tree.map(
    lambda p, label: jax.lax.stop_gradient(p) if label == 'frozen' else p,
    params,
    frozen_labels(params, patterns),
  )


def _decayed(params):
  """Weight decay is for kernels: not for biases and norm scales."""
  return jax.tree.map(lambda p: p.ndim > 1, params)


def make_optimizer(
  name, schedule, *, weight_decay=0.0, clip_norm=0.0, freeze=(), **kwargs
):
  """An optax transform by optax's own name: 'adamw', 'sgd', 'rmsprop', …

  Weight decay acts on kernels only: decoupled where the optimizer has it
  (AdamW, Lion, …), added to the gradient (L2) where it has not (SGD, Adam,
  RMSprop). `clip_norm` > 0 clips the global gradient norm. `freeze` holds
  regular expressions of parameter paths that stay as they are and have no
  optimizer state. Other arguments go to the optimizer.
  """
  optimizer = lookup(optax, name)
  parts = []
  if clip_norm:
    parts.append(optax.clip_by_global_norm(clip_norm))
  if 'weight_decay' in inspect.signature(optimizer).parameters:
    kwargs.update(weight_decay=weight_decay, mask=_decayed)
  elif weight_decay:
    parts.append(optax.add_decayed_weights(weight_decay, mask=_decayed))
  spec = dict(name=name, learning_rate=schedule, **kwargs)
  parts.append(build(optax, spec)())
  tx = optax.chain(*parts)
  if not freeze:
    return tx
  return optax.multi_transform(
    {'trained': tx, 'frozen': optax.set_to_zero()},
    lambda params: frozen_labels(params, freeze),
  )
