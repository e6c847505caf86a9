"""Adapting a model to what it meets, without labels: at the time of the test.

Both may make it worse: what they change is measured beside the model as it was.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from medjax import optim
from medjax.finetune.style import Styles

WAYS = ('bn', 'tent')
_RATE = 1e-3  # of TENT, Adam's, as in the paper


def adapted(experiment, variables, batches, *, way, seed=0):
  """Variables of a model that has seen unlabelled batches.

  'bn': the statistics of its batch norms become those of these batches, their
  mean (Nado et al. 2020; Schneider et al. 2020, without a prior). 'tent': first
  the scales and biases of those norms take a step down the entropy of each
  batch's predictions (Wang et al. 2021).

  batches: those of `batches_of`. Raises ValueError for what `check` refuses.
  """
  check(variables, experiment.task, way)
  if way == 'tent':
    variables = _tent(experiment, variables, batches, seed)
  return _statistics(experiment, variables, batches, seed)


def check(variables, task, way):
  """Raises ValueError for no such way, and for a model that cannot go it.

  Without batch norms none can; without classes there is no entropy.
  """
  if way not in WAYS:
    raise ValueError(f'--adapt={way}: known are {", ".join(WAYS)}')
  if not jax.tree.leaves(variables.get('batch_stats', {})):
    raise ValueError(
      f'--adapt={way} adapts batch norms, and this model has none'
    )
  if way == 'tent' and not {'label', 'mask'} & {*task.fields}:
    raise ValueError(
      f'--adapt=tent lowers the entropy of classes, and {type(task).__name__} '
      'has none: --adapt=bn'
    )


def _apply(model, task, variables, inputs, key):
  """(Prediction of a batch in training mode, batch statistics after it)."""
  outputs, changed = model.apply(
    variables,
    *inputs,
    train=True,
    rngs={'dropout': key},
    mutable=['batch_stats'],
  )
  return task.predict(outputs), changed['batch_stats']


def _parts(experiment):
  """(model without what mixes styles in training, if it does; task)."""
  model, task = experiment.model, experiment.task
  if isinstance(getattr(model, 'adapters', None), Styles):
    model = dataclasses.replace(model, adapters=None)
  return model, task


# Compiled once for a model, not for each corruption that it adapts to.
_jit = functools.partial(jax.jit, static_argnames=('model', 'task'))


@_jit
def _of_batch(model, task, variables, inputs, key):
  """The statistics of a batch.

  A step makes m · old + (1 − m) · of the batch, and what the batch gives does
  not depend on the old: from 0 and from 1 the momentum m shows itself.
  """

  def after(start):
    old = jax.tree.map(
      lambda x: jnp.full_like(x, start), variables['batch_stats']
    )
    return _apply(model, task, {**variables, 'batch_stats': old}, inputs, key)

  (_, zero), (_, one) = after(0.0), after(1.0)
  return jax.tree.map(lambda a, b: a / (1 - (b - a)), zero, one)


def _statistics(experiment, variables, batches, seed):
  """Variables whose batch statistics are the mean of those of the batches.

  A batch counts as it is long.
  """
  found = [
    _of_batch(*_parts(experiment), variables, inputs, _key(seed, i))
    for i, inputs in enumerate(batches)
  ]
  sizes = np.array([len(inputs[0]) for inputs in batches], np.float32)
  mean = jax.tree.map(lambda *xs: jnp.average(jnp.stack(xs), 0, sizes), *found)
  return {**variables, 'batch_stats': mean}


@functools.cache
def _optimizer():
  return optim.make_optimizer(name='adam', schedule=lambda step: _RATE)


@_jit
def _down(model, task, variables, state, chosen, inputs, key):
  """(variables, state) after a step of what is chosen down the entropy."""

  def entropy(params):
    known = {**variables, 'params': params}
    found, _ = _apply(model, task, known, inputs, key)
    p = jnp.clip(found, 1e-7, 1)
    each = -(p * jnp.log(p)).sum(-1)
    if not task.exclusive:
      q = jnp.clip(1 - found, 1e-7, 1)
      each = each - (q * jnp.log(q)).sum(-1)
    return each.mean()

  params = variables['params']
  grads = jax.tree.map(lambda g, on: g * on, jax.grad(entropy)(params), chosen)
  updates, state = _optimizer().update(grads, state, params)
  params = jax.tree.map(jnp.add, params, updates)
  return {**variables, 'params': params}, state


def _tent(experiment, variables, batches, seed):
  chosen = _affine(variables)
  if not any(jax.tree.leaves(chosen)):
    raise ValueError('--adapt=tent: the batch norms have no scale and no bias')
  state = _optimizer().init(variables['params'])
  for i, inputs in enumerate(batches):
    variables, state = _down(
      *_parts(experiment), variables, state, chosen, inputs, _key(seed, i)
    )
  return variables


def _affine(variables):
  """1.0 for the parameters of modules that have batch statistics, else 0.0."""

  def mark(params, stats):
    if not isinstance(params, dict):
      return 0.0
    if not isinstance(stats, dict):
      return jax.tree.map(lambda _: 0.0, params)
    own = any(not isinstance(v, dict) for v in stats.values())
    return {
      k: 1.0
      if own and not isinstance(v, dict)
      else mark(v, stats.get(k) if isinstance(v, dict) else None)
      for k, v in params.items()
    }

  return mark(variables['params'], variables['batch_stats'])


def _key(seed, i):
  return jax.random.fold_in(jax.random.key(seed), i)


def batches_of(experiment, samples):
  """Batches of the inputs of a model, lists of (b, …), without labels.

  Of a run on patches one patch of each sample, from its middle. A batch is of
  one shape; a sample whose shape no other one has is in none, as one alone has
  no statistics. Raises ValueError where there is no batch.
  """
  patch, alike = tuple(experiment.data.patch_size), {}
  for sample in samples:
    image = _middle(np.asarray(sample['image'], np.float32), patch)
    rest = [np.asarray(sample[k]) for k in experiment.task.inputs[1:]]
    inputs = [image, *rest]
    alike.setdefault(tuple(x.shape for x in inputs), []).append(inputs)
  size, batches = max(2, experiment.inference.batch_size), []
  for group in alike.values():
    # The last batch takes one that would be alone.
    starts = [*range(0, len(group) - 1, size), len(group)]
    for start, end in itertools.pairwise(starts):
      parts = zip(*group[start:end], strict=True)
      batches.append([np.stack(part) for part in parts])
  if not batches:
    raise ValueError(
      '--adapt asks for two images of one shape, and each of these has another '
      'one: bring them to one by data.preprocess, or train on patches'
    )
  return batches


def _middle(image, patch):
  if not patch:
    return image
  missing = [max(p - n, 0) for p, n in zip(patch, image.shape, strict=False)]
  image = np.pad(image, [*((0, m) for m in missing), (0, 0)])
  starts = [(n - p) // 2 for p, n in zip(patch, image.shape, strict=False)]
  place = zip(starts, patch, strict=True)
  return image[tuple(slice(s, s + p) for s, p in place)]
