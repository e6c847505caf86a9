"""What each primitive of a traced function becomes in ONNX."""

import math

import jax
import numpy as np
import scipy.special

from medjax.export.graph import BATCH, Value, constant, sizes

_SKIPPED = (
  'copy', 'copy_p', 'stop_gradient', 'sharding_constraint', 'name',
  'optimization_barrier', 'reduce_precision',
)  # fmt: skip
# Primitive: the operator, and the same of numpy's.
ELEMENTWISE = {
  'add': ('Add', np.add),
  'add_any': ('Add', np.add),
  'sub': ('Sub', np.subtract),
  'mul': ('Mul', np.multiply),
  'div': ('Div', np.divide),
  'max': ('Max', np.maximum),
  'min': ('Min', np.minimum),
  'pow': ('Pow', np.power),
  'neg': ('Neg', np.negative),
  'abs': ('Abs', np.abs),
  'sign': ('Sign', np.sign),
  'exp': ('Exp', np.exp),
  'log': ('Log', np.log),
  'sqrt': ('Sqrt', np.sqrt),
  'tanh': ('Tanh', np.tanh),
  'asinh': ('Asinh', np.arcsinh),
  'sin': ('Sin', np.sin),
  'cos': ('Cos', np.cos),
  'floor': ('Floor', np.floor),
  'ceil': ('Ceil', np.ceil),
  'logistic': ('Sigmoid', scipy.special.expit),
  'erf': ('Erf', scipy.special.erf),
  'ge': ('GreaterOrEqual', np.greater_equal),
  'gt': ('Greater', np.greater),
  'le': ('LessOrEqual', np.less_equal),
  'lt': ('Less', np.less),
  'eq': ('Equal', np.equal),
  'and': ('And', np.logical_and),
  'or': ('Or', np.logical_or),
  'not': ('Not', np.logical_not),
}
TABLE, NAMED = {}, {}  # of a primitive; of a function with a name, `jax.jit`'s


def of(*names, table=TABLE):
  """A function as what converts the primitives, or functions, of names."""
  return lambda function: (
    table.update(dict.fromkeys(names, function)) or (function)
  )


def order_of(values):
  """The order of axes that most of the numbers have already."""
  tensors = [v for v in values if v.const is None and v.shape]
  if not tensors:
    return tuple(range(max(len(v.shape) for v in values)))
  return max(tensors, key=lambda v: math.prod(map(abs, v.dims))).order


def elementwise(g, kind, function, values):
  """An operation voxel by voxel; axes of 1 are repeated."""
  full = max((v.shape for v in values), key=len)
  rank = len(full)
  ranked = [v for v in values if len(v.shape) == rank]
  dims = tuple(
    next((n for n in sizes_ if n != 1), 1)
    for sizes_ in zip(*(v.dims for v in ranked), strict=True)
  )
  if all(v.const is not None for v in values):
    array = function(*(v.const for v in values))
    return Value(full, dims, tuple(range(rank)), const=np.asarray(array))
  order = order_of(ranked)
  names = [g.tensor(v, order if len(v.shape) == rank else None) for v in values]
  return Value(full, dims, order, g.add(kind, *names))


def _apply(g, kind, *values):
  """`elementwise` of an operator of the table, by its primitive's name."""
  return elementwise(g, *ELEMENTWISE[kind], values)


@of(*ELEMENTWISE)
def _elementwise(g, eqn, *values):
  kind = eqn.primitive.name
  known = [v.const for v in values if v.const is not None]
  if len(values) == 2 and len(known) == 1 and known[0].ndim == 0:
    tensor = next(v for v in values if v.const is None)
    if kind == 'max' and known[0] == 0:
      return [Value(**{**vars(tensor), 'name': g.add('Relu', tensor.name)})]
    if kind == 'min' and g.nodes and g.nodes[-1][1] == tensor.name:
      last = g.nodes[-1]  # ReLU6 is a Clip, which is known to quantisers
      if last[0] == 'Relu':
        low, high = g.put(np.float32(0)), g.put(np.float32(known[0]))
        g.nodes[-1] = ('Clip', last[1], [*last[2], low, high], {})
        return [tensor]
  return [_apply(g, kind, *values)]


@of('square', 'integer_pow')
def _power(g, eqn, x):
  y = eqn.params.get('y', 2)
  if y == 2:
    return [_apply(g, 'mul', x, x)]
  return [_apply(g, 'pow', x, constant(np.float32(y)))]


@of('rsqrt')
def _rsqrt(g, eqn, x):
  return [_apply(g, 'div', constant(np.float32(1)), _apply(g, 'sqrt', x))]


@of('erfc')
def _erfc(g, eqn, x):
  return [_apply(g, 'sub', constant(np.float32(1)), _apply(g, 'erf', x))]


@of('expm1')
def _expm1(g, eqn, x):
  return [_apply(g, 'sub', _apply(g, 'exp', x), constant(np.float32(1)))]


@of('log1p')
def _log1p(g, eqn, x):
  return [_apply(g, 'log', _apply(g, 'add', x, constant(np.float32(1))))]


@of('ne')
def _ne(g, eqn, *values):
  return [_apply(g, 'not', _apply(g, 'eq', *values))]


@of('clamp')
def _clamp(g, eqn, low, x, high):
  return [_apply(g, 'min', _apply(g, 'max', x, low), high)]


@of('select_n')
def _select(g, eqn, which, *cases):
  if eqn.invars[0].aval.dtype != bool or len(cases) != 2:
    raise NotImplementedError('a choice of more than two')
  where = lambda which, no, yes: np.where(which, yes, no)
  if all(v.const is not None for v in (which, *cases)):
    return [elementwise(g, 'Where', where, (which, *cases))]
  no, yes = cases
  return [elementwise(g, 'Where', np.where, (which, yes, no))]


@of(*_SKIPPED)
def _same(g, eqn, *values):
  return list(values)


@of('convert_element_type')
def _cast(g, eqn, x):
  old, new = eqn.invars[0].aval.dtype, np.dtype(eqn.params['new_dtype'])
  if new.name in ('bfloat16', 'float16'):
    raise NotImplementedError(
      f'{new.name}, which ONNX Runtime has not on a CPU: train or export with '
      'model.dtype=None'
    )
  if x.const is not None:
    return [Value(x.shape, x.dims, x.order, const=x.const.astype(new))]
  if old == new:
    return [x]
  from onnx import helper

  to = helper.np_dtype_to_tensor_dtype(new)
  return [Value(x.shape, x.dims, x.order, g.add('Cast', x.name, to=to))]


# Axes.


@of('transpose')
def _transpose(g, eqn, x):
  new = eqn.params['permutation']
  pick = lambda values: tuple(values[axis] for axis in new)
  if x.const is not None:
    array = x.const.transpose(new)
    return [
      Value(pick(x.shape), pick(x.dims), tuple(range(len(new))), const=array)
    ]
  order = tuple(new.index(axis) for axis in x.order)
  return [Value(pick(x.shape), pick(x.dims), order, x.name)]


@of('broadcast_in_dim')
def _broadcast(g, eqn, x):
  shape = sizes(eqn.params['shape'])
  places = eqn.params['broadcast_dimensions']
  dims = [1] * len(shape)
  for axis, place in enumerate(places):
    dims[place] = x.dims[axis]
  dims = tuple(dims)
  if x.const is not None:
    return [constant(x.const.reshape(dims), shape)]
  new = [axis for axis in range(len(shape)) if axis not in places]
  name = x.name
  if new:
    name = g.add('Unsqueeze', name, g.numbers(range(len(new))))
  order = (*new, *(places[axis] for axis in x.order))
  return [Value(shape, dims, order, name)]


@of('reshape', 'squeeze', 'expand_dims')
def _reshape(g, eqn, x):
  shape = sizes(eqn.outvars[0].aval.shape)
  if x.const is not None and not x.loose:
    return [constant(x.const.reshape(shape))]
  if x.const is not None and min(x.shape) >= 0:
    return [constant(np.broadcast_to(x.const, x.shape).reshape(shape))]
  there = [axis for axis, n in enumerate(x.shape) if n != 1]
  wanted = [axis for axis, n in enumerate(shape) if n != 1]
  if [x.shape[a] for a in there] != [shape[a] for a in wanted] or x.loose:
    name = g.reshaped(g.tensor(x, whole=True), shape)
    return [g.value(name, eqn.outvars[0].aval.shape)]
  # Only axes of 1 come or go: the order of the others may stay.
  name = x.name
  if gone := [i for i, axis in enumerate(x.order) if axis not in there]:
    name = g.add('Squeeze', name, g.numbers(gone))
  new = [axis for axis, n in enumerate(shape) if n == 1]
  if new:
    name = g.add('Unsqueeze', name, g.numbers(range(len(new))))
  kept = [wanted[there.index(axis)] for axis in x.order if axis in there]
  return [g.value(name, eqn.outvars[0].aval.shape, (*new, *kept))]


@of('slice')
def _slice(g, eqn, x):
  p, rank = eqn.params, len(x.shape)
  old = eqn.invars[0].aval.shape
  steps = p['strides'] or (1,) * rank
  rows = zip(p['start_indices'], p['limit_indices'], steps, strict=True)
  cut = {
    axis: row
    for axis, row in enumerate(rows)
    if row != (0, old[axis], 1) and x.dims[axis] != 1
  }
  shape = sizes(eqn.outvars[0].aval.shape)
  dims = tuple(
    1 if old_ == 1 and n != 1 else n
    for old_, n in zip(x.dims, shape, strict=True)
  )
  if x.const is not None:
    index = tuple(
      slice(*cut[axis]) if axis in cut else slice(None) for axis in range(rank)
    )
    return [constant(x.const[index], shape)]
  if not cut:
    return [Value(shape, dims, x.order, x.name)]
  starts, ends, steps = zip(*cut.values(), strict=True)
  axes = [x.order.index(axis) for axis in cut]
  name = g.add('Slice', x.name, *map(g.numbers, (starts, ends, axes, steps)))
  return [Value(shape, dims, x.order, name)]


@of('rev')
def _rev(g, eqn, x):
  axes = [x.order.index(axis) for axis in eqn.params['dimensions']]
  n, far = len(axes), -(2**62)
  cut = ([-1] * n, [far] * n, axes, [-1] * n)
  name = g.add('Slice', g.tensor(x, x.order), *map(g.numbers, cut))
  return [Value(x.shape, x.dims, x.order, name)]


@of('pad')
def _pad(g, eqn, x, fill):
  config = eqn.params['padding_config']
  if any(inner for _, _, inner in config) or fill.const is None:
    raise NotImplementedError('padding between voxels, or of unknown value')
  ends = [config[axis] for axis in x.order]
  pads = [low for low, _, _ in ends] + [high for _, high, _ in ends]
  name = g.tensor(x, x.order, whole=True)
  name = g.add('Pad', name, g.numbers(pads), g.put(fill.const))
  return [g.value(name, eqn.outvars[0].aval.shape, x.order)]


@of('concatenate')
def _concatenate(g, eqn, *values):
  order = order_of(values)
  axis = order.index(eqn.params['dimension'])
  names = [g.tensor(v, order, whole=True) for v in values]
  return [
    g.value(
      g.add('Concat', *names, axis=axis), eqn.outvars[0].aval.shape, order
    )
  ]


@of('stack')
def _stack(g, eqn, *values):
  axis = eqn.params['axis']
  names = [
    g.add('Unsqueeze', g.tensor(v, whole=True), g.numbers([axis]))
    for v in values
  ]
  return [
    g.value(g.add('Concat', *names, axis=axis), eqn.outvars[0].aval.shape)
  ]


@of('unstack')
def _unstack(g, eqn, x):
  axis = eqn.params['axis']
  place, name = x.order.index(axis), g.tensor(x, x.order, whole=True)
  order = [a - (a > axis) for a in x.order if a != axis]
  return [
    g.value(
      g.add('Gather', name, g.put(np.int64(i)), axis=place),
      out.aval.shape,
      order,
    )
    for i, out in enumerate(eqn.outvars)
  ]


@of('split')
def _split(g, eqn, x):
  place = x.order.index(eqn.params['axis'])
  name, start, found = g.tensor(x, x.order, whole=True), 0, []
  for size, out in zip(eqn.params['sizes'], eqn.outvars, strict=True):
    ends = ([start], [start + size], [place])
    part = g.add('Slice', name, *map(g.numbers, ends))
    found.append(g.value(part, out.aval.shape, x.order))
    start += size
  return found


@of('tile')
def _tile(g, eqn, x):
  times = eqn.params['reps']
  name = g.tensor(x, whole=True)
  return [
    g.value(g.add('Tile', name, g.numbers(times)), eqn.outvars[0].aval.shape)
  ]


@of('gather')
def _gather(g, eqn, x, index):
  """The rows of one axis that constant indices name."""
  numbers, slices = eqn.params['dimension_numbers'], eqn.params['slice_sizes']
  axes = numbers.start_index_map
  old = eqn.invars[0].aval.shape
  one = len(axes) == 1 and numbers.collapsed_slice_dims == axes
  others = [a for a in range(len(old)) if a not in axes]
  offset = tuple(a for a in range(len(old)) if a != (axes or (0,))[0])
  if (
    not one
    or index.const is None
    or index.const.ndim != 2
    or any(slices[a] != old[a] for a in others)
    or numbers.offset_dims != offset
  ):
    raise NotImplementedError('indices that are computed, or of several axes')
  (axis,) = axes
  rows = g.numbers(index.const[:, 0])
  name = g.add(
    'Gather', g.tensor(x, x.order, whole=True), rows, axis=x.order.index(axis)
  )
  return [g.value(name, eqn.outvars[0].aval.shape, x.order)]


@of('cumsum')
def _cumsum(g, eqn, x):
  p = eqn.params
  axis = g.put(np.int64(x.order.index(p['axis'])))
  name = g.tensor(x, x.order, whole=True)
  name = g.add('CumSum', name, axis, reverse=int(p['reverse']))
  return [g.value(name, eqn.outvars[0].aval.shape, x.order)]


def folded(eqn, values):
  """The outputs of a primitive whose inputs are all known, or None.

  What is of the size of the batch is not known.
  """
  out = [v.aval.shape for v in eqn.outvars]
  whole = all(v.const is not None and not v.loose for v in values)
  if not whole or any(n and n % BATCH == 0 for shape in out for n in shape):
    return None
  arrays = [
    np.asarray(v.const, var.aval.dtype)
    for v, var in zip(values, eqn.invars, strict=True)
  ]
  found = eqn.primitive.bind(*map(jax.numpy.asarray, arrays), **eqn.params)
  found = found if eqn.primitive.multiple_results else [found]
  return [constant(np.asarray(array)) for array in found]
