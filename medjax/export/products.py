"""Sums, products and layers of a traced function in ONNX."""

import math

import numpy as np

from medjax.export.graph import Value, sizes
from medjax.export.primitives import NAMED, of

_REDUCTIONS = {
  'reduce_sum': 'ReduceSum',
  'reduce_max': 'ReduceMax',
  'reduce_min': 'ReduceMin',
}


@of(*_REDUCTIONS)
def _reduce(g, eqn, x):
  axes = eqn.params['axes']
  name = g.tensor(x, x.order, whole=any(x.dims[a] != x.shape[a] for a in axes))
  if x.loose and name == x.name:
    name = g.tensor(x, x.order, whole=True)
  places = g.numbers([x.order.index(axis) for axis in axes])
  name = g.add(_REDUCTIONS[eqn.primitive.name], name, places, keepdims=0)
  left = [axis for axis in range(len(x.shape)) if axis not in axes]
  order = [left.index(axis) for axis in x.order if axis in left]
  return [g.value(name, eqn.outvars[0].aval.shape, order)]


@of('conv_general_dilated')
def _conv(g, eqn, x, kernel):
  p = eqn.params
  numbers = p['dimension_numbers']
  if max(p['lhs_dilation']) > 1 or p['batch_group_count'] > 1:
    raise NotImplementedError('a dilated input, or groups of the batch')
  low, high = zip(*p['padding'], strict=True)
  name = g.add(
    'Conv',
    g.tensor(x, numbers.lhs_spec, whole=True),
    g.tensor(kernel, numbers.rhs_spec, whole=True),
    strides=list(p['window_strides']),
    pads=[*low, *high],
    dilations=list(p['rhs_dilation']),
    group=p['feature_group_count'],
    kernel_shape=[kernel.shape[axis] for axis in numbers.rhs_spec[2:]],
  )
  return [g.value(name, eqn.outvars[0].aval.shape, numbers.out_spec)]


@of('reduce_window_max')
def _max_pool(g, eqn, x):
  p, rank = eqn.params, len(x.shape)
  window, strides, pads = (
    p[k][1:-1] for k in ('window_dimensions', 'window_strides', 'padding')
  )
  if max(*p['base_dilation'], *p['window_dilation']) > 1:
    raise NotImplementedError('a dilated window')
  order = (0, rank - 1, *range(1, rank - 1))
  low, high = zip(*pads, strict=True)
  name = g.add(
    'MaxPool',
    g.tensor(x, order, whole=True),
    kernel_shape=list(window),
    strides=list(strides),
    pads=[*low, *high],
  )
  return [g.value(name, eqn.outvars[0].aval.shape, order)]


@of('dot_general')
def _dot(g, eqn, a, b):
  (contract_a, contract_b), (batch_a, batch_b) = eqn.params['dimension_numbers']
  free = lambda v, *used: [
    i for i in range(len(v.shape)) if i not in {*used[0], *used[1]}
  ]
  free_a, free_b = free(a, contract_a, batch_a), free(b, contract_b, batch_b)
  shape = eqn.outvars[0].aval.shape
  rank = len(a.shape)
  if (
    a.const is None and b.const is not None and len(b.shape) == 2
    and not batch_a and tuple(contract_a) == (rank - 1,) and 3 < rank < 6
  ):  # fmt: skip
    return [_pointwise(g, a, b, contract_b[0], shape)]
  fold = lambda v, axes: math.prod(v.shape[i] for i in axes)

  def matrix(v, groups):
    order = [axis for group in groups for axis in group]
    name = g.tensor(v, order, whole=True)
    batch = [v.shape[i] for i in batch_a] if v is a else [
      v.shape[i] for i in batch_b
    ]  # fmt: skip
    wanted = [*batch, *(fold(v, group) for group in groups[-2:])]
    if wanted != [v.shape[i] for i in order]:
      name = g.reshaped(name, wanted)
    return name

  left = matrix(a, (batch_a, free_a, contract_a))
  right = matrix(b, (batch_b, contract_b, free_b))
  name = g.add('MatMul', left, right)
  made = [*(a.shape[i] for i in batch_a), fold(a, free_a), fold(b, free_b)]
  if made != [*sizes(shape)]:
    name = g.reshaped(name, sizes(shape))
  return [g.value(name, shape)]


def _pointwise(g, x, matrix, contracted, shape):
  """A dense layer over the channels of a map: a convolution of one voxel."""
  rank = len(x.shape)
  order = (0, rank - 1, *range(1, rank - 1))
  ones = (1,) * (rank - 2)
  kernel = matrix.const if contracted == 1 else matrix.const.T
  kernel = g.put(kernel.reshape(*kernel.shape, *ones), 'kernel')
  name = g.add(
    'Conv', g.tensor(x, order, whole=True), kernel, kernel_shape=list(ones)
  )
  return g.value(name, shape, order)


# Functions with a name.


@of('relu', table=NAMED)
def _relu(g, eqn, x):
  return [Value(x.shape, x.dims, x.order, g.add('Relu', g.tensor(x, x.order)))]


@of('leaky_relu', table=NAMED)
def _leaky_relu(g, eqn, x, slope):
  alpha = float(slope.const)
  name = g.add('LeakyRelu', g.tensor(x, x.order), alpha=alpha)
  return [Value(x.shape, x.dims, x.order, name)]


@of('instance_norm', table=NAMED)
def _instance_norm(g, eqn, x, scale, bias, epsilon):
  """Not as InstanceNormalization.

  ONNX Runtime sums all voxels into one float there, and of an image that is
  mostly background the variance loses four digits. There is no Add, which
  `medjax.compress` would put into eight bits.
  """
  rank = len(x.shape)
  order = (0, rank - 1, *range(1, rank - 1))
  along = lambda array: g.put(array.reshape(1, -1, *(1,) * (rank - 2)))
  x_name = g.tensor(x, order, whole=True)
  centred = g.add('Sub', x_name, _mean(g, x_name, rank))
  variance = _mean(g, g.add('Mul', centred, centred), rank)
  above = g.add('Sub', variance, g.put(np.float32(-epsilon.const)))
  factor = g.add('Div', along(scale.const), g.add('Sqrt', above))
  name = g.add('Mul', centred, factor)
  name = g.add('Sub', name, along(-bias.const))
  return [g.value(name, eqn.outvars[0].aval.shape, order)]


def _mean(g, name, rank):
  """Over the voxels of each channel, rows first: long sums lose digits."""
  name = g.add('ReduceMean', name, g.numbers([rank - 1]), keepdims=1)
  if rank == 3:
    return name
  return g.add('ReduceMean', name, g.numbers(range(2, rank - 1)), keepdims=1)


@of('transposed_conv', table=NAMED)
def _transposed_conv(g, eqn, x, kernel):
  rank = len(x.shape)
  order = (0, rank - 1, *range(1, rank - 1))
  window = list(kernel.shape[: rank - 2])
  name = g.add(
    'ConvTranspose',
    g.tensor(x, order, whole=True),
    g.tensor(kernel, (rank - 2, rank - 1, *range(rank - 2)), whole=True),
    strides=window,
    kernel_shape=window,
  )
  return [g.value(name, eqn.outvars[0].aval.shape, order)]
