"""A function of JAX as an ONNX model, by medjax's own conversion.

What is traced are plain operations (`ops.platform.traced_for('onnx')`), with
the weights as constants. Layers keep the name of their module.
"""

import jax
import numpy as np

from medjax.export import primitives, products
from medjax.export.graph import BATCH, OPSET, Graph, constant
from medjax.ops import platform

_INNER = ('jaxpr', 'call_jaxpr', 'fun_jaxpr')
_ALWAYS = ('broadcast_in_dim', 'reshape', 'transpose', 'slice')


def convert(function, inputs, outputs):
  """The ONNX model of function(*arrays) → {name: array}, batches first.

  inputs: {name: (shape without the batch, dtype)}. outputs: names.

  Raises:
    ImportError: without the package onnx.
    NotImplementedError: for an operation that ONNX, or this, has not, with the
      layer that has it.
  """
  from onnx import checker, helper, numpy_helper

  shapes = [
    jax.ShapeDtypeStruct((BATCH, *shape), dtype)
    for shape, dtype in inputs.values()
  ]
  # No operation knows this platform, so that all are written plainly.
  with platform.traced_for('onnx'):
    traced = jax.make_jaxpr(function)(*shapes)
  names = [*inputs]
  graph = Graph(names[0])
  values = [
    graph.value(name, s.shape) for name, s in zip(names, shapes, strict=True)
  ]
  found = _walk(graph, traced.jaxpr, map(constant, traced.consts), values)
  ends = zip(outputs, found, traced.out_avals, strict=True)
  results = []
  for name, value, aval in ends:
    graph.nodes.append(
      ('Identity', name, [graph.tensor(value, whole=True)], {})
    )
    results.append(_info(helper, name, aval.shape, aval.dtype))
  nodes, constants = _cleaned(*_folded(graph.nodes, graph.constants), outputs)
  model = helper.make_model(
    helper.make_graph(
      [
        helper.make_node(kind, given, [name], name=name, **attributes)
        for kind, name, given, attributes in nodes
      ],
      'medjax',
      [
        _info(helper, name, s.shape, s.dtype)
        for name, s in zip(names, shapes, strict=True)
      ],
      results,
      [numpy_helper.from_array(v, k) for k, v in constants.items()],
    ),
    opset_imports=[helper.make_opsetid('', OPSET)],
    ir_version=9,
    producer_name='medjax',
  )
  checker.check_model(model)
  return model


def _info(helper, name, shape, dtype):
  shape = ['batch' if n == BATCH else n for n in shape]
  kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
  return helper.make_tensor_value_info(name, kind, shape)


def _walk(graph, jaxpr, consts, inputs):
  """The Values of what a traced function gives for those of its inputs."""
  known = dict(zip(jaxpr.constvars, consts, strict=True))
  known |= zip(jaxpr.invars, inputs, strict=True)

  def read(var):
    return constant(var.val) if hasattr(var, 'val') else known[var]

  outer = graph.place
  for eqn in jaxpr.eqns:
    graph.place = _place(outer, eqn)
    values = [read(var) for var in eqn.invars]
    known |= zip(eqn.outvars, _converted(graph, eqn, values), strict=True)
  graph.place = outer
  return [read(var) for var in jaxpr.outvars]


def _place(outer, eqn):
  """Where in the network an operation belongs: names of its modules."""
  inner = str(eqn.source_info.name_stack)
  return '/'.join(part for part in (outer, inner) if part)


def _converted(graph, eqn, values):
  kind = eqn.primitive.name
  inner = next((eqn.params[k] for k in _INNER if k in eqn.params), None)
  try:
    if inner is not None:
      special = products.NAMED.get(eqn.params.get('name'))
      if special and any(v.const is None for v in values):
        return special(graph, eqn, *values)
      closed = hasattr(inner, 'jaxpr')
      return _walk(
        graph,
        inner.jaxpr if closed else inner,
        map(constant, inner.consts) if closed else (),
        values,
      )
    if kind not in _ALWAYS and kind not in primitives.ELEMENTWISE:
      known = primitives.folded(eqn, values)
      if known is not None:
        return known
    if kind not in primitives.TABLE:
      raise NotImplementedError('no form in ONNX is known of it')
    return primitives.TABLE[kind](graph, eqn, *values)
  except NotImplementedError as e:
    if str(e).startswith('ONNX: '):
      raise
    where = graph.place or 'the function'
    raise NotImplementedError(f'ONNX: {kind} of {where}: {e}') from None


# What is left to do on the whole graph.


def _folded(nodes, constants):
  """Per channel products and sums after a convolution, put into its weights.

  So a batch norm in evaluation costs nothing, and a quantiser sees none.
  """
  nodes, constants = list(nodes), dict(constants)
  users = {}
  for node in nodes:
    for name in node[2]:
      users.setdefault(name, []).append(node)
  renamed, gone = {}, set()
  made = {node[1]: i for i, node in enumerate(nodes)}
  for i, (kind, name, given, attributes) in enumerate(nodes):
    given = [renamed.get(n, n) for n in given]
    nodes[i] = (kind, name, given, attributes)
    place = next((made[n] for n in given if _is_conv(nodes, made, n)), None)
    numbers = next((constants[n] for n in given if n in constants), None)
    if (
      place is None
      or numbers is None
      or kind not in ('Add', 'Sub', 'Mul', 'Div')
    ):
      continue
    conv = nodes[place]
    first = given[0] in constants
    if len(users[conv[1]]) > 1 or (first and kind in ('Sub', 'Div')):
      continue
    if conv[2][1] not in constants:  # a kernel that is computed
      continue
    rank = constants[conv[2][1]].ndim
    axis = 0 if conv[0] == 'Conv' else 1
    channels = constants[conv[2][1]].shape[axis]
    along = numbers.shape[1] if numbers.ndim == rank else 1
    if numbers.size != along or along not in (1, channels):
      continue
    per_channel = numbers.reshape(-1)
    nodes[place] = _absorbed(conv, kind, per_channel, constants)
    renamed[name] = conv[1]
    users[conv[1]] = users.get(name, [])
    gone.add(i)
  return [n for i, n in enumerate(nodes) if i not in gone], constants


def _is_conv(nodes, made, name):
  return name in made and nodes[made[name]][0] in ('Conv', 'ConvTranspose')


def _absorbed(conv, kind, numbers, constants):
  """The node of a convolution whose output is changed per channel."""
  _, name, given, attributes = conv
  weights = constants[given[1]]
  axis = 0 if conv[0] == 'Conv' else 1
  count = weights.shape[axis]
  bias = constants[given[2]] if len(given) > 2 else np.zeros(count, np.float32)
  numbers = np.broadcast_to(numbers, (count,)).astype(np.float64)
  if kind in ('Add', 'Sub'):
    bias = bias + numbers * (1 if kind == 'Add' else -1)
  else:
    factor = numbers if kind == 'Mul' else 1 / numbers
    shape = [1] * weights.ndim
    shape[axis] = count
    weights, bias = weights * factor.reshape(shape), bias * factor
  names = f'{name}/kernel', f'{name}/bias'
  # float64 meanwhile: factors and offsets of a norm nearly cancel.
  constants[names[0]], constants[names[1]] = weights, bias
  return conv[0], name, [given[0], *names], attributes


def _cleaned(nodes, constants, outputs):
  """Without nodes and constants that nothing uses; constants as float32."""
  needed, kept = set(outputs), []
  for node in reversed(nodes):
    if node[1] in needed:
      kept.append(node)
      needed.update(node[2])
  used = {
    name: array.astype(np.float32) if array.dtype == np.float64 else array
    for name, array in constants.items()
    if name in needed
  }
  return kept[::-1], used
