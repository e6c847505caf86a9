"""A Linen module of which a part trains, or to which something is added.

The file of the module knows nothing of it.
"""

import dataclasses
import math
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

FROZEN = 'frozen'
_A, _B, _SCALE = '_lora_a', '_lora_b', '_lora_scale'


def _found(patterns, path):
  return any(re.search(pattern, path) for pattern in patterns)


def _check(name, patterns, paths):
  """Raises ValueError for a pattern that matches none of the paths."""
  for pattern in patterns:
    if not any(re.search(pattern, path) for path in paths):
      tops = dict.fromkeys(path.partition('/')[0] for path in paths)
      raise ValueError(
        f'{name}: {pattern!r} matches nothing; the top-level names are '
        + ', '.join(sorted(tops))
      )


@dataclasses.dataclass(frozen=True)
class Lora:
  """Low-rank updates of the frozen kernels whose path `target` matches."""

  rank: int
  alpha: float
  target: str

  def init(self, key, frozen):
    """(trained, frozen) leaves that are added, as {path: array}."""
    chosen = [
      path
      for path, leaf in sorted(frozen.items())
      if leaf.ndim > 1 and re.search(self.target, path)
    ]
    if not chosen:
      raise ValueError(
        f'adapt.target: {self.target!r} matches no frozen kernel'
      )
    trained, scales = {}, {}
    for path, key_path in zip(
      chosen, jax.random.split(key, len(chosen)), strict=True
    ):
      rows, columns = _matrix(frozen[path].shape)
      rank = min(self.rank, rows, columns)
      normal = nn.initializers.lecun_normal()
      trained[path + _A] = normal(key_path, (rows, rank), jnp.float32)
      trained[path + _B] = jnp.zeros((rank, columns), jnp.float32)
      scales[path + _SCALE] = jnp.full((), self.alpha / self.rank, jnp.float32)
    return trained, scales


def _matrix(shape):
  """The shape as rows × columns, the last axis being the columns.

  But of attention's three axes, (i, heads, o) and (heads, i, o), those two are
  one that need fewer numbers: the heads with their channels.
  """
  cuts = (1, 2) if len(shape) == 3 else (len(shape) - 1,)
  return min(
    ((math.prod(shape[:i]), math.prod(shape[i:])) for i in cuts), key=sum
  )


class Bottleneck(nn.Module):
  """x + up(relu(down(x))) over channels; zero at first (Houlsby 2019)."""

  width: int

  @nn.compact
  def __call__(self, x):
    """(…, c) → (…, c)."""
    down = nn.Dense(self.width, dtype=x.dtype, name='down')
    up = nn.Dense(
      x.shape[-1],
      kernel_init=nn.initializers.zeros,
      dtype=x.dtype,
      name='up',
    )
    return x + up(nn.relu(down(x)))


@dataclasses.dataclass(frozen=True)
class Adapters:
  """A bottleneck behind every module whose path `target` matches."""

  width: int
  target: str

  def check(self, paths):
    """Raises ValueError where no module among the parameters got one."""
    if not any('/adapter/' in path for path in paths):
      raise ValueError(
        f'adapt.target: {self.target!r} matches no module; the parameters are '
        f'{", ".join(paths[:6])}, …'
      )

  def after(self, module, x):
    """The output of a module, adapted if it is one of them."""
    path = '/'.join(module.path)
    chosen = path and re.search(self.target, path)
    inside = 'adapter' in path.split('/')
    if not chosen or inside or not isinstance(x, jax.Array):
      return x
    return Bottleneck(self.width, name='adapter')(x)


@dataclasses.dataclass(frozen=True)
class Adapted:
  """A Linen module of which a part trains; `init` and `apply` are like its own.

  Variables: 'params' holds what trains, 'frozen' what does not; gradient,
  optimizer state and moving average are those of 'params' only. The other
  collections are the module's own. `merge` makes variables of the plain module
  of them.

  A batch norm trains with its batch's statistics, and moves its running ones,
  only while its own scale or bias trains: else it is as in evaluation.

  Attributes:
    model: the Linen module.
    freeze: patterns of paths that do not train.
    train: patterns of the only paths that train; () is all.
    lora: what is added to kernels.
    adapters: what is added behind modules, `Adapters` or `style.Styles`.
  """

  model: Any
  freeze: tuple[str, ...] = ()
  train: tuple[str, ...] = ()
  lora: Lora | None = None
  adapters: Any = None

  def trains(self, path):
    """Whether the parameter at `path` trains."""
    if path.endswith((_A, _B)) or (self.adapters and '/adapter/' in path):
      return True
    chosen = not self.train or _found(self.train, path)
    return bool(chosen and not _found(self.freeze, path))

  def split(self, variables):
    """Variables of the plain module as ours; parts of them may be missing."""
    params = flatten_dict(variables.get('params', {}), sep='/')
    frozen = {k: v for k, v in params.items() if not self.trains(k)}
    trained = {k: v for k, v in params.items() if k not in frozen}
    parts = {'params': trained, FROZEN: frozen}
    return {
      **variables,
      **{k: unflatten_dict(v, sep='/') for k, v in parts.items()},
    }

  def init(self, key, *args, **kwargs):
    """As the module's own.

    Raises ValueError for a pattern that matches nothing.
    """
    with nn.intercept_methods(self._intercept({})):
      variables = self.model.init(key, *args, **kwargs)
    paths = [*flatten_dict(variables['params'], sep='/')]
    _check('optimizer.freeze', self.freeze, paths)
    _check('adapt.train', self.train, paths)
    if self.adapters:
      self.adapters.check(paths)
    variables = self.split(variables)
    if self.lora:
      frozen = flatten_dict(variables[FROZEN], sep='/')
      trained, scales = self.lora.init(jax.random.fold_in(key, 1), frozen)
      for name, new in (('params', trained), (FROZEN, scales)):
        old = flatten_dict(variables[name], sep='/')
        variables[name] = unflatten_dict({**old, **new}, sep='/')
    return variables

  def apply(self, variables, *args, mutable=False, **kwargs):
    """As the module's own; variables may be merged ones too."""
    merged = merge(variables)
    with nn.intercept_methods(self._intercept(merged['params'])):
      if mutable is False:
        return self.model.apply(merged, *args, **kwargs)
      own = [name for name in mutable if name != FROZEN]
      y, changed = self.model.apply(merged, *args, mutable=own, **kwargs)
    same = {k: variables[k] for k in mutable if k == FROZEN}
    return y, {**changed, **same}

  def _intercept(self, params):
    """Returns the interceptor of the methods of the module's parts."""
    paths = [*flatten_dict(params, sep='/')]

    def intercept(method, args, kwargs, context):
      module, path = context.module, '/'.join(context.module.path)
      if context.method_name != '__call__':
        return method(*args, **kwargs)
      if isinstance(module, nn.BatchNorm) and self._is_frozen(path, paths):
        if 'use_running_average' in kwargs:
          kwargs = {**kwargs, 'use_running_average': True}
        else:
          # The layer is of this call only: the model makes it anew for each.
          object.__setattr__(module, 'use_running_average', True)
      y = method(*args, **kwargs)
      return self.adapters.after(module, y) if self.adapters else y

    return intercept

  def _is_frozen(self, module, paths):
    """Whether no parameter of a module trains; if it has none, its parent's."""
    below = [path for path in paths if path.startswith(f'{module}/')]
    if not below and '/' in module:
      return self._is_frozen(module.rpartition('/')[0], paths)
    return bool(below) and not any(map(self.trains, below))


def merge(variables):
  """Variables of the plain module: frozen and trained together, LoRA added.

  Others are returned as they are.
  """
  if FROZEN not in variables:
    return variables
  rest = {k: v for k, v in variables.items() if k != FROZEN}
  leaves = flatten_dict(variables[FROZEN], sep='/')
  leaves |= flatten_dict(variables['params'], sep='/')
  for path in [path for path in leaves if path.endswith(_SCALE)]:
    kernel = path.removesuffix(_SCALE)
    scale, a, b = (leaves.pop(kernel + s) for s in (_SCALE, _A, _B))
    update = jnp.matmul(a, b, precision='highest') * scale
    leaves[kernel] = leaves[kernel] + update.reshape(leaves[kernel].shape)
  return {**rest, 'params': unflatten_dict(leaves, sep='/')}


def outline(model, inputs):
  """{'params/stem/conv/kernel': shape and dtype, …} of the plain module.

  In the order in which it makes them, for these inputs, arrays or their shapes
  and dtypes. Nothing is computed.
  """
  model = model.model if isinstance(model, Adapted) else model
  leaves = {}

  def init(key, *inputs):
    variables = model.init(key, *inputs, train=False)
    leaves.update(flatten_dict(variables, sep='/'))  # jax would sort them
    return 0

  jax.eval_shape(init, jax.random.key(0), *inputs)
  return {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in leaves.items()}


def check(model, inputs):
  """Raises ValueError for a model that cannot be made, or has nothing in it.

  `inputs` are those of the model, as arrays or their shapes.
  """
  plain = model.model if isinstance(model, Adapted) else model
  name = type(plain).__name__
  try:
    leaves = outline(model, inputs)
  except (ArithmeticError, AssertionError, LookupError, TypeError) as e:
    shapes = ', '.join(str(x.shape[1:]) for x in inputs)
    line = ' '.join(str(e).split())[:200]
    raise ValueError(
      f'model {name} of this config cannot be made for inputs of {shapes} '
      f'({type(e).__name__}: {line})'
    ) from e
  for path, leaf in leaves.items():
    if 0 in leaf.shape:
      raise ValueError(
        f'model {name} has nothing in {path}, of shape {leaf.shape}: no number '
        'of features, classes or layers may be 0'
      )
