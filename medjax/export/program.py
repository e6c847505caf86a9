"""A trained run as one function of arrays, traced for each platform."""

import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from medjax.export import preprocessing
from medjax.ops import platform
from medjax.prediction import forward

_PORTABLE = ('cuda', 'tpu')


def make(
  experiment, *, members, inside=(), table=(), temperature=None, baseline=None
):
  """program(weights, inputs) → {output: (b, …)}, both dicts of arrays.

  weights: {'0/params/…': array}, the first part the member. inputs: those of
  the task and, where a step inside is measured, 'statistics' (b, 2, C). With
  the `temperature` of a classifier, or the `baseline` hazard (causes, t) of a
  Cox model, 'calibrated' is an output, beside the task's own.
  """
  task = experiment.task
  plain = forward.plain(experiment.model, task, experiment.inference.flips)

  def program(weights, inputs):
    inputs = dict(inputs)
    if inside:
      inputs['image'] = preprocessing.apply(
        inside, inputs['image'], inputs.get('statistics')
      )
    if table:
      inputs['covariates'] = preprocessing.apply_table(
        table, inputs['covariates']
      )
    arrays = [inputs[name] for name in task.inputs]
    each = [plain(_member(weights, i), arrays) for i in range(members)]
    found = jax.tree.map(lambda *xs: sum(xs) / len(xs), *each)
    if baseline is not None:
      found['calibrated'] = _incidence(found['curves'], baseline)
    if temperature is not None:
      # Of a classifier by concepts these are beside the probabilities.
      name = 'prediction' if 'prediction' in found else 'probability'
      found['calibrated'] = _scaled(found[name], temperature, task.exclusive)
    return found

  return program


def _member(weights, i):
  """The nested variables of a member."""
  tree = {}
  for name, array in weights.items():
    member, *path, last = name.split('/')
    if int(member) == i:
      inner = tree
      for part in path:
        inner = inner.setdefault(part, {})
      inner[last] = array
  return tree


def _scaled(p, temperature, exclusive):
  """Probabilities whose logits are divided by the temperature."""
  tiny = jnp.finfo(jnp.float32).tiny
  if exclusive:
    return jax.nn.softmax(jnp.log(jnp.maximum(p, tiny)) / temperature)
  logits = jnp.log(jnp.maximum(p, tiny)) - jnp.log(jnp.maximum(1 - p, tiny))
  return jax.nn.sigmoid(logits / temperature)


def _incidence(curves, baseline):
  """As `tasks.survival_methods.incidence`; (b, causes · t) of both."""
  base = jnp.array(baseline, jnp.float32)
  hazard = jnp.exp(curves.reshape(curves.shape[0], len(base), -1)) * base
  total = hazard.sum(1)
  after = jnp.exp(-jnp.cumsum(total, -1))
  before = jnp.concatenate([jnp.ones_like(after[:, :1]), after[:, :-1]], -1)
  leave = (before - after) / jnp.where(total > 0, total, 1)
  found = jnp.cumsum(hazard * leave[:, None], -1)
  return found.reshape(curves.shape[0], -1)


def _shapes(shapes, batch):
  return {
    name: jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
    for name, shape in shapes.items()
  }


def for_cpu(program, weights, shapes, batch):
  """(Exported program of a fixed batch for CPUs, which form of the operations).

  Of two forms the one that costs less is taken, medjax's for CPUs or XLA's
  plain one: of tiny images the former may spend more on its transforms than
  they save.
  """
  found = {}
  inputs = {
    name: jnp.zeros(x.shape, x.dtype)
    for name, x in _shapes(shapes, batch).items()
  }
  for form in ('cpu', 'plain'):
    exported = _exported(program, weights, inputs, ['cpu'], form)
    call = jax.jit(lambda x, exported=exported: exported.call(weights, x))
    found[form] = exported, _seconds(call, inputs)
  form = min(found, key=lambda name: found[name][1])
  return found[form][0], form


def _seconds(call, inputs, least=3, most=0.5):
  """CPU seconds of a call, the mean of those in `most` seconds.

  Not the clock's: small operations wait for their threads, and on a busy
  machine that is all that the clock sees.
  """
  jax.block_until_ready(call(inputs))
  count, begun, spent = 0, time.perf_counter(), time.process_time()
  while count < least or time.perf_counter() - begun < most:
    jax.block_until_ready(call(inputs))
    count += 1
  return (time.process_time() - spent) / count


def portable(program, weights, shapes):
  """Exported program of any batch for GPUs and TPUs."""
  (batch,) = export.symbolic_shape('b')
  inputs = _shapes(shapes, batch)
  return _exported(program, weights, inputs, _PORTABLE, 'plain')


def _exported(program, weights, inputs, platforms, form):
  like = lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype)
  with platform.traced_for(form):
    traced = export.export(jax.jit(program), platforms=platforms)
    given = {k: like(v) for k, v in inputs.items()}
    if isinstance(next(iter(inputs.values())), jax.ShapeDtypeStruct):
      given = inputs
    return traced({k: like(v) for k, v in weights.items()}, given)
