"""Guided backpropagation, kept as a control: a map that ignores the model."""

import dataclasses
from typing import Any

import jax
from jax.extend import core

_CALLS = ('jit', 'pjit')  # what they call is looked into


@jax.custom_vjp
def _relu(x):
  return jax.nn.relu(x)


def _forward(x):
  return jax.nn.relu(x), x


def _backward(x, slope):
  return (jax.numpy.where((x > 0) & (slope > 0), slope, 0),)


_relu.defvjp(_forward, _backward)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Guided:
  """A score whose ReLUs let only gradients above 0 back.

  Its gradient is guided backpropagation (Springenberg et al. 2015), which is
  known to draw the image's edges whatever the weights are (Adebayo et al.
  2018). Other activations are as they are.
  """

  score: Any

  def __call__(self, images, about):
    """As the score's own."""
    closed = jax.make_jaxpr(self.score)(images, about)
    flat = jax.tree.leaves((images, about))
    return _run(closed.jaxpr, closed.consts, flat)[0]


def has_relu(score, images, about):
  """Whether there is a ReLU in a score, for `Guided` to change."""
  return _has_relu(jax.make_jaxpr(score)(images, about).jaxpr)


def _has_relu(jaxpr):
  return any(
    (name == 'custom_jvp_call' and _is_relu(eqn.params['call_jaxpr']))
    or (name in _CALLS and _has_relu(eqn.params['jaxpr'].jaxpr))
    for eqn in jaxpr.eqns
    for name in [eqn.primitive.name]
  )


def _run(jaxpr, consts, values):
  """Evaluates a program with our ReLU in place of its own."""
  env = dict(zip(jaxpr.constvars, consts, strict=True))
  env |= dict(zip(jaxpr.invars, values, strict=True))
  read = lambda v: v.val if isinstance(v, core.Literal) else env[v]
  for eqn in jaxpr.eqns:
    inputs = [read(v) for v in eqn.invars]
    name = eqn.primitive.name
    if name == 'custom_jvp_call' and _is_relu(eqn.params['call_jaxpr']):
      found = [_relu(*inputs)]
    elif name in _CALLS:
      inner = eqn.params['jaxpr']
      found = _run(inner.jaxpr, inner.consts, inputs)
    else:
      options = eqn.primitive.get_bind_params(eqn.params)
      found = eqn.primitive.bind(*inputs, **options)
      found = found if eqn.primitive.multiple_results else [found]
    env |= dict(zip(eqn.outvars, found, strict=True))
  return [read(v) for v in jaxpr.outvars]


def _is_relu(closed):
  return [e.params.get('name') for e in closed.jaxpr.eqns] == ['relu']
