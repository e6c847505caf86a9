"""An ONNX graph while it is built: tensors, their order of axes, constants.

A traced function has channels last, ONNX has them first. A transposition of
axes is therefore only noted of a tensor (`Value.order`), and carried out where
an operation asks for an order, which along a network is hardly ever.
"""

import dataclasses

import numpy as np

# The batch while tracing: a prime that no other size is a multiple of. A size
# of k · BATCH is written −k.
BATCH = 10007
OPSET = 18


def sizes(shape):
  """A traced shape with the batch's multiples as negative numbers."""
  return tuple(-(n // BATCH) if n and n % BATCH == 0 else n for n in shape)


@dataclasses.dataclass(frozen=True)
class Value:
  """What stands for an array of the traced function.

  shape: as traced, of `sizes`.
  dims: the same, but 1 where it is still to be repeated.
  order: the axis of the array that each axis of the tensor is.
  name: of the tensor; or const, the array (dims) itself.
  """

  shape: tuple[int, ...]
  dims: tuple[int, ...]
  order: tuple[int, ...]
  name: str | None = None
  const: np.ndarray | None = None

  @property
  def loose(self):
    """Whether it is still to be repeated along an axis."""
    return self.dims != self.shape


def constant(array, shape=None):
  """A Value of numbers; `shape` if they are still to be repeated."""
  array = np.asarray(array)
  shape = array.shape if shape is None else shape
  return Value(shape, array.shape, tuple(range(array.ndim)), const=array)


class Graph:
  """Nodes and constants so far. `place` is where in the network they belong."""

  def __init__(self, batch_of):
    self.nodes, self.constants, self.place = [], {}, ''
    self._batch_of, self._batch, self._count = batch_of, None, 0

  def _fresh(self, kind):
    self._count += 1
    return f'{self.place}/{kind}_{self._count}'.lstrip('/')

  def put(self, array, kind='const'):
    """The name of a constant tensor; equal small ones are one."""
    array = np.asarray(array)
    if array.dtype == np.float64:
      array = array.astype(np.float32)
    if array.size <= 16:
      for name, other in self.constants.items():
        if other.dtype == array.dtype and np.array_equal(other, array):
          return name
    name = self._fresh(kind)
    self.constants[name] = np.ascontiguousarray(array).reshape(array.shape)
    return name

  def add(self, kind, *inputs, **attributes):
    """Adds a node of one output, whose name it returns."""
    name = self._fresh(kind)
    self.nodes.append((kind, name, list(inputs), attributes))
    return name

  def value(self, name, shape, order=None, dims=None):
    """The Value of a tensor with the traced shape `shape`."""
    shape = sizes(shape)
    order = tuple(range(len(shape))) if order is None else tuple(order)
    return Value(shape, shape if dims is None else dims, order, name)

  def tensor(self, value, order=None, *, whole=False):
    """The name of a Value's tensor with its axes in `order`, by default 0, 1 …

    `whole`: repeated to its full shape.
    """
    order = tuple(range(len(value.shape))) if order is None else tuple(order)
    if value.const is not None:
      name = self.put(value.const.transpose(order))
    elif order == value.order:
      name = value.name
    else:
      perm = [value.order.index(axis) for axis in order]
      name = self.add('Transpose', value.name, perm=perm)
    if whole and value.loose:
      full = self.shape([value.shape[axis] for axis in order])
      name = self.add('Expand', name, full)
    return name

  def shape(self, wanted):
    """The name of a tensor that holds a shape; sizes may be the batch's."""
    if min(wanted, default=1) >= 0:
      return self.put(np.array(wanted, np.int64))
    if self._batch is None:
      whole = self.add('Shape', self._batch_of)
      self._batch = self.add('Slice', whole, *map(self.numbers, ([0], [1])))
    parts = []
    for n in wanted:
      if n >= 0:
        parts.append(self.numbers([n]))
      elif n == -1:
        parts.append(self._batch)
      else:
        parts.append(self.add('Mul', self._batch, self.numbers([-n])))
    return self.add('Concat', *parts, axis=0)

  def numbers(self, values):
    """The name of a constant of whole numbers."""
    return self.put(np.array(values, np.int64))

  def reshaped(self, name, wanted):
    """The name of a tensor of another shape; one size may be the batch's."""
    if sum(n < 0 for n in wanted) > 1:
      raise NotImplementedError(f'a shape {wanted} of two unknown sizes')
    return self.add('Reshape', name, self.numbers([max(n, -1) for n in wanted]))
