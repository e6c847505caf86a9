"""Shadow runs: the run that is attacked, on random halves of its cases.

All of them are one compiled program. Each is as the run was, by its model,
loss, augmentation, optimizer and number of steps; a batch is as large a part of
its cases as the run's was, so that epochs, and with a budget noise and epsilon,
are those of the run.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from medjax import engine, progress
from medjax.data import pipeline
from medjax.data.poisson import Draws, PoissonStream
from medjax.dp.gradient import PrivateGradient

_AT_ONCE = 16  # runs of a program; between two the bar moves
_EVALUATED = 256  # cases whose loss is found at once


class Data(NamedTuple):
  """Cases to train on, one of each patient.

  ids: theirs; batch: of all of them, (n, …); stream: they, as training sees
  them; of: how many patients the run has.
  """

  ids: tuple[str, ...]
  batch: Any
  stream: PoissonStream
  of: int


class Way(NamedTuple):
  """How shadows are trained.

  batch: cases of a step, on average with `private`, a PrivateGradient.
  room: places of a private batch.
  """

  batch: int
  steps: int
  private: PrivateGradient | None = None
  room: int = 0


def data_of(experiment, count, seed):
  """The Data of `count` patients of training, drawn; one case of each.

  Raises ValueError for tasks whose loss is not one of each whole case.
  """
  task = experiment.task
  if task.over_batch:
    raise ValueError(
      f'the loss of {type(task).__name__} is one over the whole batch: no case '
      'has one of its own that could tell'
    )
  if any(experiment.data.patch_size):
    raise ValueError(
      'the run trains on patches, and each step sees another one: an attack '
      'needs whole cases, data.patch_size=()'
    )

  def checked(case):
    task.check(case)
    return experiment.preprocess(case)

  cases = experiment.cases('train')
  held = int(experiment.data.cache_gb * 2**30)
  samples = pipeline.Cached(cases, checked, budget_bytes=held)
  first = {}  # the first case of each patient
  for i in range(len(samples)):
    first.setdefault(samples[i].get('patient') or samples[i]['id'], i)
  places = np.array([*first.values()])
  if 0 < count < len(places):
    rng = np.random.default_rng(seed)
    places = np.sort(rng.choice(places, count, replace=False))
  chosen = [samples[int(i)] for i in places]
  ids = tuple(str(sample['id']) for sample in chosen)
  everyone = Draws(patients=ids, rate=1.0, room=len(ids), secret=bytes(32))
  stream = experiment.stream(chosen, draws=everyone)
  examples = [stream[i] for i in range(len(ids))]
  batch = jax.tree.map(lambda *x: np.stack(x), *examples)
  if not all(np.all(known) for known in batch['valid'].values()):
    raise ValueError('a case of training has no reference: none can be told of')
  return Data(ids, batch, stream, len(first))


def halves(count, runs, seed):
  """(runs, count): which cases a run has; the next has those that it lacks.

  Without such a pair as many runs are left that have a case as lack it.
  """
  rng = np.random.default_rng((seed, 1))
  half = rng.random((runs // 2, count)).argsort(1).argsort(1) < count // 2
  return np.stack([half, ~half], 1).reshape(runs, count)


def losses(experiment, data, inside, way, *, seed=0, title='shadow runs'):
  """Loss of each case after each run, (runs, n) float64, in evaluation.

  inside: (runs, n), of `halves`.
  """
  runs = len(inside)
  together = jax.default_backend() != 'cpu'
  at_once = math.gcd(runs, _AT_ONCE)
  program = jax.jit(_every(_run(experiment, data, way), together=together))
  keys = jax.random.split(jax.random.key(seed), runs)
  found = []
  with progress.bar(title, runs) as advance:
    for k in range(0, runs, at_once):
      part = slice(k, k + at_once)
      lost = program(keys[part], inside[part], data.batch)
      found.append(np.asarray(lost, np.float64))
      advance(at_once)
  return np.concatenate(found)


def _every(run, *, together):
  """All runs of a program: side by side, or on a CPU one after the other."""
  if together:
    return jax.vmap(run, in_axes=(0, 0, None))
  return lambda keys, inside, batch: jax.lax.map(
    lambda each: run(*each, batch), (keys, inside)
  )


def _run(experiment, data, way):
  """A traceable (key, inside (n,), batch of all) → losses (n,) of a run."""
  train, task, model = experiment.train, experiment.task, experiment.model
  inputs, count = data.stream.inputs, len(data.ids)
  tx, _ = experiment.optimizer(inputs)
  begun = experiment.pretrained(inputs)
  mesh = engine.make_mesh(jax.devices()[:1])
  step = engine.make_train_step(
    model, task, tx, experiment.augment, mesh, ema_decay=train.ema_decay,
    gradient=way.private or engine.whole_batch,
  )  # fmt: skip
  empty, drawn = engine.empty_metrics(mesh), _private if way.private else _plain

  def run(key, inside, every):
    key_init, key_draws, key_steps = jax.random.split(key, 3)
    state = engine.initial_state(
      model, tx, inputs, key_init, begun,
      ema=train.ema_decay > 0, more=getattr(task, 'variables', None),
    )  # fmt: skip

    def body(t, state):
      order, padding = drawn(jax.random.fold_in(key_draws, t), inside, way)
      batch = jax.tree.map(lambda x: x[order], every)
      index = (t * count + order).astype(jnp.uint32)
      return step(
        state, empty, batch | {'index': index, 'padding': padding}, key_steps
      )[0]

    state = jax.lax.fori_loop(0, way.steps, body, state)
    return _evaluated(model, task, state.eval_variables, every)

  return run


def _plain(key, inside, way):
  """(places, none of them padding): cases of the run, no case twice."""
  chance = jnp.where(inside, jax.random.uniform(key, inside.shape), 2.0)
  order = jnp.argsort(chance)[: way.batch]
  return order, jnp.zeros(order.shape, bool)


def _private(key, inside, way):
  """(places, padding): each case of the run by a coin of its own."""
  key_coin, key_order = jax.random.split(key)
  n = inside.shape
  coin = jax.random.uniform(key_coin, n) < way.private.expected / (n[0] / 2)
  chosen = coin & inside
  chance = jnp.where(chosen, jax.random.uniform(key_order, n), 2.0)
  order = jnp.argsort(chance)[: way.room]
  # The first places of each lane are filled first.
  order = order.reshape(-1, way.private.lanes).T.reshape(-1)
  return order, ~chosen[order]


def _evaluated(model, task, variables, batch):
  def forward(*inputs, **options):
    return model.apply(variables, *inputs, train=False, **options)

  def loss(example):
    return task.loss(forward, jax.tree.map(lambda x: x[None], example))[0]

  return jax.lax.map(loss, batch, batch_size=_EVALUATED)
