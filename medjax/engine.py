"""The compiled core: train state, device mesh, train step.

It is handed a model, a task, an optimizer, an augmentation: none by name.
"""

import dataclasses
import functools
from typing import Any

import clu.metrics
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


@flax.struct.dataclass
class TrainState:
  """All that a step changes; a checkpoint is this and nothing else."""

  step: jax.Array
  params: Any
  variables: Any  # collections besides params: batch statistics, the frozen
  opt_state: Any
  ema: Any = None  # moving average of params, when asked for

  @property
  def eval_variables(self):
    """Variables of a forward pass: averaged parameters where there are any."""
    params = self.params if self.ema is None else self.ema
    return {'params': params, **self.variables}


@flax.struct.dataclass
class FirstBadStep(clu.metrics.Metric):
  """First step whose loss or gradient was not finite, or the largest int."""

  step: jax.Array

  @classmethod
  def empty(cls):
    """Nothing bad yet."""
    return cls(step=jnp.array(jnp.iinfo(jnp.int32).max, jnp.int32))

  @classmethod
  def from_model_output(cls, *, step, finite, **_):
    """This step counts unless all was finite."""
    return cls(step=jnp.where(finite, cls.empty().step, step))

  def merge(self, other):
    """The earlier of the two."""
    return FirstBadStep(step=jnp.minimum(self.step, other.step))

  def compute(self):
    """The step as it is."""
    return self.step


TrainMetrics = clu.metrics.Collection.create(
  loss=clu.metrics.Average.from_output('loss'),
  grad_norm=clu.metrics.Average.from_output('grad_norm'),
  bad_step=FirstBadStep,
)


def make_mesh(devices=None):
  """A one-dimensional ('data',) mesh over `devices`, by default all."""
  devices = jax.devices() if devices is None else devices
  # Linen's Dropout fails on jax.make_mesh's default, Explicit axes.
  return jax.make_mesh(
    (len(devices),), ('data',), axis_types=(AxisType.Auto,), devices=devices
  )


def replicated(mesh: Mesh):
  """Sharding of what every device holds whole: keys, metrics, small leaves."""
  return NamedSharding(mesh, P())


def sharded(mesh: Mesh):
  """Sharding of a batch: examples are spread over the devices."""
  return NamedSharding(mesh, P('data'))


def split_axis(mesh, axis):
  """Sharding that spreads one axis of an array over the devices."""
  return NamedSharding(mesh, P(*[None] * axis, 'data'))


def replicate(tree, mesh: Mesh):
  """Puts what every process holds alike whole on all devices of the mesh."""
  # device_put refuses random keys on a mesh with devices of other processes.
  return jax.jit(lambda x: x, out_shardings=replicated(mesh))(tree)


def state_sharding(state, mesh: Mesh, *, shard_above=0):
  """Sharding of each leaf of a TrainState, or of its shapes.

  A leaf of at least `shard_above` elements is split along its largest axis
  that the mesh divides; others, and all with 0, are whole on every device.
  """

  def place(leaf):
    axes = [i for i, n in enumerate(leaf.shape) if n % mesh.size == 0]
    if not (axes and 0 < shard_above <= leaf.size):
      return replicated(mesh)
    axis = max(axes, key=lambda i: leaf.shape[i])
    return split_axis(mesh, axis)

  return jax.tree.map(place, state)


def _replaced(tree, part):
  """`tree`, with those leaves that `part` has too taken from there."""
  if not isinstance(part, dict):
    return part
  return {k: _replaced(v, part[k]) if k in part else v for k, v in tree.items()}


def initial_state(model, tx, inputs, key, pretrained=None, *, ema, more=None):
  """A fresh TrainState, where it is traced; arguments as `create_state`."""
  zeros = [jnp.zeros(x.shape, x.dtype) for x in inputs]
  variables = dict(model.init(key, *zeros, train=False))
  variables = {**_replaced(variables, pretrained or {}), **(more or {})}
  params = variables.pop('params')
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    variables=variables,
    opt_state=tx.init(params),
    # A copy: the step donates its buffers, which must not be shared.
    ema=jax.tree.map(jnp.copy, params) if ema else None,
  )


def create_state(
  model,
  tx,
  inputs,
  key,
  mesh,
  *,
  ema=False, pretrained=None, shard_above=0, more=None,
):  # fmt: skip
  """A fresh TrainState, initialised on the mesh inside one compiled call.

  `inputs` are what the model is called with, as arrays or as their shapes and
  dtypes. `pretrained` are variables, or a part of them, that replace those just
  initialised. `more` are a task's own collections. `shard_above` is
  `state_sharding`'s: no device ever holds all of a leaf that is split.
  """
  more = {'ema': ema, 'more': more}
  begin = functools.partial(initial_state, model, tx, inputs, **more)
  shapes = jax.eval_shape(begin, key, pretrained)
  sharding = state_sharding(shapes, mesh, shard_above=shard_above)
  # Runs once: compiling it well would take longer than it saves.
  options = {'xla_backend_optimization_level': 0}
  compiled = jax.jit(begin, out_shardings=sharding, compiler_options=options)
  return compiled(key, pretrained)


def empty_metrics(mesh):
  """Train metrics with nothing in them yet, on the mesh."""
  return replicate(TrainMetrics.empty(), mesh)


class Forward:
  """The model as a task's loss sees it: forward(*inputs, **options) → outputs.

  What a call changes, statistics of the batch, carries over to the next one,
  and each has a dropout key of its own.
  """

  def __init__(self, model, params, variables, key, ema=None):
    self._model, self._params, self._ema = model, params, ema
    self._key, self._calls = key, 0
    self.variables = variables  # as the calls so far left them

  def __call__(self, *inputs, train=True, **options):
    """Outputs of the model in training, with gradient."""
    # The first call's key is the step's own.
    key = self._key
    if self._calls:
      key = jax.random.fold_in(key, self._calls)
    self._calls += 1
    outputs, self.variables = self._model.apply(
      {'params': self._params, **self.variables},
      *inputs,
      train=train,
      rngs={'dropout': key},
      mutable=list(self.variables),
      **options,
    )
    return outputs

  def ema(self, *inputs, **options):
    """Outputs of the averaged model, as in evaluation, without gradient."""
    if self._ema is None:
      raise ValueError(
        'the loss asks for the averaged model: set train.ema_decay above 0'
      )
    outputs = self._model.apply(
      {'params': self._ema, **self.variables}, *inputs, train=False, **options
    )
    return jax.lax.stop_gradient(outputs)


def whole_batch(loss, params, variables, batch, key):
  """Gradient of the mean loss of a batch, at once.

  As any `gradient=` of `make_train_step`: loss(params, variables, batch, key) →
  (mean, (losses (b,), variables)); returns losses, variables and gradient. One
  that takes the batch apart has an attribute `splits` that is true.
  """
  grad = jax.value_and_grad(loss, has_aux=True)
  (_, (losses, variables)), grads = grad(params, variables, batch, key)
  return losses, variables, grads


@dataclasses.dataclass(frozen=True)
class Microbatches:
  """Mean gradient over `count` parts of a batch, one after the other.

  The same gradient in less memory, but for statistics of the batch.
  """

  count: int
  splits = True

  def __call__(self, loss, params, variables, batch, key):
    """As `whole_batch`."""

    # Every device keeps a share of each part: (n·m, …) → (m, n, …).
    def split(x):
      return x.reshape(-1, self.count, *x.shape[1:]).swapaxes(0, 1)

    def body(carry, xs):
      variables, total = carry
      losses, variables, grads = whole_batch(loss, params, variables, *xs)
      return (variables, jax.tree.map(jnp.add, total, grads)), losses

    (variables, total), losses = jax.lax.scan(
      body,
      (variables, jax.tree.map(jnp.zeros_like, params)),
      (jax.tree.map(split, batch), jax.random.split(key, self.count)),
    )
    grads = jax.tree.map(lambda g: g / self.count, total)
    return losses.reshape(-1), variables, grads


def _measured(step, losses, grads):
  """Train metrics of one step."""
  grad_norm = optax.global_norm(grads)
  return TrainMetrics.single_from_model_output(
    loss=losses,
    grad_norm=grad_norm,
    step=step,
    finite=jnp.isfinite(losses.sum()) & jnp.isfinite(grad_norm),
  )


def _updated(state, variables, grads, tx, ema_decay):
  """The state after a step."""
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  ema = state.ema
  if ema is not None:
    # Else it would be of the random weights for the first thousands of steps.
    warm_up = (1 + state.step) / (10 + state.step)
    decay = jnp.minimum(ema_decay, warm_up).astype(jnp.float32)
    ema = optax.incremental_update(params, ema, 1 - decay)
  return TrainState(
    step=state.step + 1,
    params=params,
    variables=variables,
    opt_state=opt_state,
    ema=ema,
  )


def _check_whole(task, gradient):
  """Raises ValueError where a gradient splits what a loss needs whole."""
  if task.over_batch and getattr(gradient, 'splits', False):
    raise ValueError(
      f'the loss of {type(task).__name__} is one over the whole batch, which '
      'cannot be split: set train.microbatches=1'
    )


def make_train_step(
  model,
  task,
  tx,
  augment,
  mesh,
  *,
  ema_decay=0.0,
  gradient=whole_batch,
  sharding=None,
):
  """Compiles (state, metrics, batch, key) → (state, metrics).

  The state is donated. `gradient` is how that of a batch is found, by default
  `whole_batch`; with None the step takes it too, a pytree, after the key: one
  program then serves gradients of several numbers. The moving average of the
  parameters forgets with `ema_decay`, at first faster: min(ema_decay, (1 + t) /
  (10 + t)). `sharding` is that of the state, by default whole on every device;
  where it splits leaves, parameters are gathered for the step, and each device
  updates its part of them (ZeRO, Rajbhandari et al. 2020; FSDP). Raises
  ValueError where the gradient splits a batch over which the loss is one.
  """
  everywhere = replicated(mesh)
  sharding = sharding or everywhere
  given = [everywhere] if gradient is None else []
  _check_whole(task, gradient)

  def train_step(state, metrics, batch, key, *own):
    # Augmentation folds in each example's place in the stream, dropout the
    # step: neither depends on the number of devices or processes.
    key_augment, key_dropout = jax.random.split(key)
    key_dropout = jax.random.fold_in(key_dropout, state.step)
    batch = augment(key_augment, batch)
    # Left to itself, XLA may rather move the activations to the parameters.
    params, variables, ema = jax.lax.with_sharding_constraint(
      (state.params, state.variables, state.ema), everywhere
    )

    def loss(params, variables, batch, key):
      forward = Forward(model, params, variables, key, ema)
      losses = task.loss(forward, batch)
      return losses.mean(), (losses, forward.variables)

    parts = loss, params, variables, batch, key_dropout
    losses, variables, grads = (own[0] if own else gradient)(*parts)
    if sharding is not everywhere:
      grads = jax.lax.with_sharding_constraint(grads, sharding.params)
    metrics = metrics.merge(_measured(state.step, losses, grads))
    return _updated(state, variables, grads, tx, ema_decay), metrics

  return jax.jit(
    train_step,
    donate_argnums=0,
    in_shardings=(sharding, everywhere, sharded(mesh), everywhere, *given),
    out_shardings=(sharding, everywhere),
  )


def over_members(train_step, *, together):
  """A train step over lists: each member's state, metrics, batch and key.

  (states, metrics, batches, keys) → (states, metrics); the states are donated.
  A fifth list is that of gradients, where the step takes them.
  A member's numbers are those of `train_step` alone. `together` runs all as
  one program, vmapped, if the devices have room for it; else one follows the
  other. The new axis lives in the program only.
  """

  def one_by_one(*lists):
    return zip(*map(train_step, *lists), strict=True)

  def stacked(*lists):
    stack = functools.partial(jax.tree.map, lambda *leaves: jnp.stack(leaves))
    done = jax.vmap(train_step)(*(stack(*trees) for trees in lists))
    pick = lambda i: jax.tree.map(lambda x: x[i], done)
    return tuple(zip(*map(pick, range(len(lists[0]))), strict=True))

  def program(lists):
    if not together or len(lists[0]) == 1:
      return one_by_one
    shardings = jax.tree.map(lambda x: x.sharding, lists[:2])
    step = jax.jit(stacked, donate_argnums=0, out_shardings=shardings)
    compiled = step.lower(*lists).compile()
    return compiled if _has_room(compiled) else one_by_one

  programs = {}  # by the number of members

  def step(*lists):
    lists = tuple(map(tuple, lists))
    count = len(lists[0])
    if count not in programs:
      programs[count] = program(lists)
    return programs[count](*lists)

  return step


def _has_room(compiled):
  """Whether a program's peak is within the memory of a device, if known."""
  limits = [
    (d.memory_stats() or {}).get('bytes_limit') for d in jax.local_devices()
  ]
  use = compiled.memory_analysis()
  if use is None or None in limits:
    return True
  peak = use.argument_size_in_bytes + use.output_size_in_bytes
  peak += use.temp_size_in_bytes - use.alias_size_in_bytes
  return peak < 0.95 * min(limits)
