"""What a site does in a round: some steps on its own cases."""

import dataclasses
import hashlib
from typing import Any

import jax

from medjax import engine
from medjax.data import pipeline
from medjax.federated import algorithms, rounds, spending

TrainState = engine.TrainState


@dataclasses.dataclass(frozen=True)
class Memory:
  """What a site keeps from round to round, and never sends.

  optimizer: the state of its optimizer. own: trees of the algorithm. kept:
  {path: array} of the leaves that stay here.
  """

  optimizer: Any
  own: Any
  kept: Any


class Site:
  """The training cases of a site, and the random numbers of its steps.

  With config.privacy.epsilon it has a budget, which `folder` remembers;
  `going` says that it took part before. about: of the federation, JSON-able.

  Attributes: `name`; `n`, how many cases; `inputs`, of the model; `key`;
  `batch_size`; `gradient`, of its steps; `spending`, of a budget, or None.
  """

  def __init__(
    self, experiment, name, cases, mesh, *, folder=None, going=False, about=()
  ):
    self.name, self.n = name, len(cases)
    digest = hashlib.sha256(name.encode('utf-8', 'surrogateescape')).digest()
    own, seed = int.from_bytes(digest[:4], 'big'), experiment.seed
    # Names, not places: neither order nor number of the sites matters.
    experiment = dataclasses.replace(
      experiment,
      seed=(seed + own) % 2**32,
      cases=lambda split: cases,
    )
    held = samples(experiment, cases)
    self.spending, draws = None, None
    self.gradient = jax.tree_util.Partial(engine.whole_batch)
    if experiment.privacy.epsilon:
      self.spending = spending.begin(
        experiment, name, folder, held, mesh, about=dict(about), going=going
      )
      private = self.spending.private
      self.gradient, draws = private.gradient, private.draws
    self._stream = experiment.stream(held, parts=mesh.size, draws=draws)
    self.inputs = self._stream.inputs
    self.batch_size = self._stream.batch_size
    if self.batch_size % mesh.size:
      raise ValueError(
        f'data.batch_size {self.batch_size} is no multiple of {mesh.size} '
        'devices'
      )
    _, key = jax.random.split(jax.random.key(seed))
    key = jax.random.fold_in(key, own)
    if self.spending:
      key = self.spending.private.key
    self.key = engine.replicate(key, mesh)
    self._sharding, self._next, self._batches = engine.sharded(mesh), None, None

  def place(self, server, memory, steps):
    """The step of this site with which a round of the server begins."""
    if self.spending:
      return self.spending.place(server, memory, steps)
    return server.step

  def batch(self, step):
    """The batch of a step, on the devices; quick for one step after another."""
    if self._next != step:
      batches = pipeline.train_batches(
        self._stream, local_batch_size=self.batch_size, start_step=step
      )
      self._batches = pipeline.to_device(batches, self._sharding)
    self._next = step + 1
    return next(self._batches)


def samples(experiment, cases):
  """Prepared training cases, held in memory as far as there is room."""

  def checked(case):
    experiment.task.check(case)
    return experiment.preprocess(case)

  budget = int(experiment.data.cache_gb * 2**30)
  return pipeline.Cached(cases, checked, budget_bytes=budget)


class Training:
  """The compiled local steps of an experiment, under an algorithm.

  together: whether the sites of a process run as one program, vmapped; one by
  one they give the same numbers.
  """

  def __init__(
    self, experiment, algorithm, inputs, mesh, *, steps, together=False
  ):
    self.algorithm, self.steps, self._mesh = algorithm, steps, mesh
    tx, self._learning_rate = experiment.optimizer(inputs)
    optimizer = algorithms.corrected(tx, algorithm)
    step = engine.make_train_step(
      experiment.model, experiment.task, optimizer, experiment.augment, mesh,
      gradient=None,
    )  # fmt: skip
    self._step = engine.over_members(step, together=together)
    init, _ = jax.random.split(jax.random.key(experiment.seed))
    state = engine.create_state(
      experiment.model, tx, inputs, init, mesh,
      pretrained=experiment.pretrained(inputs),
      more=getattr(experiment.task, 'variables', None),
    )  # fmt: skip
    rounds.check_keep(algorithm.keep, state.params, state.variables)
    self.begun = rounds.begun(algorithm, state.params, state.variables)
    self._fresh = rounds.on_host(state.opt_state)

  def fresh(self):
    """The memory of a site before its first round."""
    leaves = rounds.leaves_of(self.begun.params, self.begun.variables)
    keep = self.algorithm.keep
    return Memory(
      optimizer=self._fresh,
      own=self.algorithm.of_site(self.begun.params),
      kept={k: v for k, v in leaves.items() if rounds.matches(keep, k)},
    )

  def rate(self, step):
    """Sum of the learning rates of a round that begins at a step."""
    return float(
      sum(float(self._learning_rate(step + k)) for k in range(self.steps))
    )

  def __call__(self, server, sites, memories):
    """([Reply], [Memory]): a round of some sites, in step with each other."""
    begun = [
      rounds.replaced(server.params, server.variables, memory.kept)
      for memory in memories
    ]
    places = [
      site.place(server, memory, self.steps)
      for site, memory in zip(sites, memories, strict=True)
    ]
    states = [
      self._state(server, *own, memory, place)
      for own, memory, place in zip(begun, memories, places, strict=True)
    ]
    metrics = [engine.empty_metrics(self._mesh) for _ in sites]
    keys, gradients = zip(*((s.key, s.gradient) for s in sites), strict=True)
    for k in range(self.steps):
      batches = [
        site.batch(place + k) for site, place in zip(sites, places, strict=True)
      ]
      states, metrics = self._step(states, metrics, batches, keys, gradients)
    return tuple(
      zip(
        *(
          self._ended(server, *each)
          for each in zip(sites, memories, begun, states, metrics, strict=True)
        ),
        strict=True,
      )
    )

  def _state(self, server, params, variables, memory, place):
    held = self.algorithm.held(params, server.own, memory.own)
    state = TrainState(
      step=jax.numpy.asarray(place, jax.numpy.int32),
      params=params,
      variables=variables,
      opt_state={'inner': memory.optimizer, 'held': held},
    )
    return engine.replicate(state, self._mesh)

  def _ended(self, server, site, memory, begun, state, metrics):
    """(Reply, Memory) of a site after its steps."""
    state = rounds.on_host(state)
    every = rounds.leaves_of(state.params, state.variables)
    kept = {k: v for k, v in every.items() if k in memory.kept}
    loss = float(metrics.compute()['loss'])
    if site.spending and not site.spending.private.log_loss:
      loss = float('nan')
    reply = rounds.Reply(
      site=site.name,
      step=server.step,
      n=site.n,
      leaves={k: v for k, v in every.items() if k not in kept},
      loss=loss,
    )
    own = self.algorithm.remembered(
      memory.own, begun[0], server.own, state.params, self.rate(server.step)
    )
    return reply, Memory(state.opt_state['inner'], own, kept)


def about(algorithm, steps):
  """What the chance of a site depends on besides its config, JSON-able."""
  name, options = type(algorithm).__name__, dataclasses.asdict(algorithm)
  return {'algorithm': name, 'options': options, 'steps': steps}


def check(experiment):
  """Raises ValueError for what a federation of this experiment would ignore."""
  train = experiment.train
  if train.ema_decay:
    raise ValueError(
      'a federation keeps no moving average: set train.ema_decay=0'
    )
  if experiment.members:
    raise ValueError('a federation is one run: set members=1 and folds=0')
  if train.microbatches > 1:
    raise ValueError('set train.microbatches=1: a site takes its batch whole')
