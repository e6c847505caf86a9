"""Programs of weights that do not change."""

import jax
from jax.extend import core

from medjax import engine


class Fixed:
  """A forward pass with the variables of each member, compiled by shape.

  What follows from the variables alone is done once, when a shape is first
  seen: a CPU's products of few voxels turn their kernels
  (`ops.cpu.few_voxels`). What came of it are arguments of the program, not
  constants in it: those XLA would fold, which took it a minute for ResNet-18.
  A kernel that is turned is held twice.
  """

  def __init__(self, forward, members, mesh):
    """`forward` is (variables, inputs) → outputs, as of `forward.plain`."""
    self._forward, self._members = forward, members
    self._sharding = engine.replicated(mesh)
    self._made = {}  # shapes of inputs: (program, constants of each member)

  def __call__(self, inputs):
    """The outputs of each member."""
    shapes = tuple((x.shape, x.dtype) for x in inputs)
    if shapes not in self._made:
      self._made[shapes] = self._make(inputs)
    program, constants = self._made[shapes]
    return [program(each, inputs) for each in constants]

  def _make(self, inputs):
    traced = []
    for variables in self._members:
      forward = lambda *xs, v=variables: self._forward(v, xs)
      traced.append(jax.make_jaxpr(forward, return_shape=True)(*inputs))
    # Members differ in their constants only.
    closed, outputs = traced[0]
    tree = jax.tree.structure(outputs)

    def program(constants, inputs):
      run = core.jaxpr_as_fun(core.ClosedJaxpr(closed.jaxpr, constants))
      return jax.tree.unflatten(tree, run(*inputs))

    constants = [
      jax.device_put(each.consts, self._sharding) for each, _ in traced
    ]
    return jax.jit(program), constants
