"""3-D convolutions in eight bits as 2-D ones, for which ONNX Runtime is fast.

The planes of a volume become a batch, and what the taps along depth see become
channels. The kernel holds the same numbers in another order, and sums of whole
numbers are exact, so that the result is the same to the bit.
"""

import numpy as np

_SWAP = [0, 2, 1, 3, 4]  # channels and planes


def flattened(model):
  """A QDQ model (onnx.ModelProto), changed, without convolutions along depth.

  What is not between a DequantizeLinear and a QuantizeLinear stays as it is.
  """
  from onnx import numpy_helper, shape_inference

  graph = model.graph
  inferred = shape_inference.infer_shapes(model).graph.value_info
  sizes = {
    x.name: [d.dim_value for d in x.type.tensor_type.shape.dim]
    for x in inferred
  }
  arrays = {x.name: numpy_helper.to_array(x) for x in graph.initializer}
  nodes, gone = {}, set()
  for conv, before, kernel, after in _between(graph):
    shape = arrays[kernel].shape
    if len(shape) != 5 or shape[2] == 1 or not _plain(conv):
      continue
    nodes[conv.name] = _by_planes(conv, before, after, shape, sizes, arrays)
    # (o, c, taps, h, w) → (o, taps · c, h, w)
    turned = arrays[kernel].swapaxes(1, 2)
    arrays[kernel] = turned.reshape(shape[0], -1, *shape[3:])
    gone.add(after.name)
  kept = [
    each
    for node in graph.node
    if node.name not in gone
    for each in nodes.get(node.name, [node])
  ]
  tensors = [numpy_helper.from_array(v, k) for k, v in arrays.items()]
  for part, values in ((graph.node, kept), (graph.initializer, tensors)):
    del part[:]
    part.extend(values)
  del graph.value_info[:]
  return model


def _between(graph):
  """Yields (Conv, node before it, name of its kernel, node after it)."""
  made = {name: node for node in graph.node for name in node.output}
  users = {}
  for node in graph.node:
    for name in node.input:
      users.setdefault(name, []).append(node)
  for node in graph.node:
    if node.op_type != 'Conv':
      continue
    around = [made.get(n) for n in node.input[:2]] + users[node.output[0]]
    if [getattr(x, 'op_type', '') for x in around] == [
      'DequantizeLinear', 'DequantizeLinear', 'QuantizeLinear',
    ]:  # fmt: skip
      yield node, around[0], around[1].input[0], around[2]


def _given(node, name, otherwise):
  from onnx import helper

  found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
  return found.get(name, otherwise)


def _plain(conv):
  """Whether its taps along depth are neighbours, and see all channels."""
  return _given(conv, 'group', 1) == _given(conv, 'dilations', [1])[0] == 1


def _by_planes(conv, before, after, shape, sizes, arrays):
  """The nodes in place of a convolution and of the QuantizeLinear after it.

  shape: of its kernel. Adds constants to `arrays`.
  """
  from onnx import helper

  nodes = []
  whole, scale, zero = before.input
  start, end = sizes[before.output[0]], sizes[conv.output[0]]
  (top, *low), (bottom, *high) = np.split(
    np.array(_given(conv, 'pads', [0] * 6)), 2
  )
  step, *strides = _given(conv, 'strides', [1] * 3)
  taps, deep = shape[2], end[2]

  def numbers(*values):
    name = f'{conv.name}/numbers_{len(arrays)}'
    arrays[name] = np.array(values, np.int64)
    return name

  def add(kind, *given, **attributes):
    name = f'{conv.name}/{kind}_{len(nodes)}'
    nodes.append(helper.make_node(kind, given, [name], name=name, **attributes))
    return name

  x = add('Transpose', whole, perm=_SWAP)
  x = add('Pad', x, numbers(0, top, 0, 0, 0, 0, bottom, 0, 0, 0), zero)
  parts = [
    add(
      'Slice', x, numbers(tap), numbers(tap + (deep - 1) * step + 1),
      numbers(1), numbers(step),
    )
    for tap in range(taps)
  ]  # fmt: skip
  x = add('Concat', *parts, axis=2)
  x = add('Reshape', x, numbers(-1, taps * shape[1], *start[3:]))
  x = add('DequantizeLinear', x, scale, zero)
  x = add(
    'Conv', x, *conv.input[1:], kernel_shape=shape[3:], strides=strides,
    pads=[*low, *high], dilations=_given(conv, 'dilations', [1] * 3)[1:],
  )  # fmt: skip
  x = add('QuantizeLinear', x, *after.input[1:])
  x = add('Reshape', x, numbers(-1, deep, end[1], *end[3:]))
  x = add('Transpose', x, perm=_SWAP)
  nodes[-1].output[0] = after.output[0]
  return nodes
