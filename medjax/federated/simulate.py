"""All sites in one program: rounds, validation, and where a kill left off."""

import contextlib
import dataclasses
import math
import pathlib

import jax
import numpy as np

from medjax import engine
from medjax.evaluate import evaluate_cases
from medjax.federated import local, rounds, secure, spending, state
from medjax.prediction.predictor import Predictor
from medjax.prediction.samples import samples
from medjax.run.checkpoint import best_variables
from medjax.run.lock import locked
from medjax.run.stop import Stopped, StopSignal
from medjax.run.writer import Writer


@dataclasses.dataclass(frozen=True)
class Plan:
  """How long a federation goes on.

  rounds of `steps` steps a site; the model is scored after every `every`
  rounds. min_sites: fewer of them in a round end it. declared: of
  masked rounds.
  """

  rounds: int
  steps: int
  every: int = 1
  min_sites: int = 1
  declared: secure.Range | None = None

  def __post_init__(self):
    for name in ('rounds', 'steps', 'every', 'min_sites'):
      if (value := getattr(self, name)) < 1:
        raise ValueError(f'--{name}={value}: give 1 or more')

  @property
  def lasting(self):
    """What may not change when it goes on, JSON-able."""
    about = dataclasses.asdict(self)
    del about['min_sites']
    return about


def round(training, server, sites, memories, total, mean=rounds.mean_of):
  """A round: (server, memories, replies, {site: why it was left out}).

  A pure function of what the server and the sites hold. A site that is left out
  keeps its memory. total: cases of all sites. mean: how that of replies is
  found.
  """
  replies, learnt = training(server, sites, memories)
  after, out = rounds.merged(
    training.algorithm, server, replies,
    steps=training.steps, rate=training.rate(server.step), total=total,
    mean=mean,
  )  # fmt: skip
  memories = [
    old if site.name in out else new
    for site, old, new in zip(sites, memories, learnt, strict=True)
  ]
  return after, memories, replies, out


def federate(experiment, workdir, algorithm, cases, validation, plan):
  """Trains a model of several sites in `workdir`; goes on from a checkpoint.

  cases, validation: {site: its cases}. Returns {site: variables of its best
  model}, one model for all unless leaves stay at their sites.

  Raises Stopped when told to stop, after the round is saved; ValueError where
  too few sites take part.
  """
  workdir = pathlib.Path(workdir)
  experiment = state.planned(experiment, plan.rounds, plan.steps)
  local.check(experiment)
  names = sorted(cases)
  about = {
    'algorithm': type(algorithm).__name__,
    **dataclasses.asdict(algorithm),
    **plan.lasting,
    'sites': {name: len(cases[name]) for name in names},
  }
  with locked(workdir):
    state.settled(experiment, workdir, about)
    mesh, going = engine.make_mesh(), (workdir / 'checkpoints').exists()
    sites = [
      local.Site(
        experiment, n, cases[n], mesh, folder=workdir / 'privacy' / n,
        going=going, about=local.about(algorithm, plan.steps),
      )
      for n in names
    ]  # fmt: skip
    alike = len({site.batch_size for site in sites}) == 1
    together = alike and jax.default_backend() != 'cpu'
    training = local.Training(
      experiment, algorithm, sites[0].inputs, mesh,
      steps=plan.steps, together=together,
    )  # fmt: skip
    try:
      _rounds(experiment, workdir, training, sites, validation, plan, mesh)
    finally:
      _spent(workdir, [site for site in sites if site.spending])
  if not algorithm.keep:
    _, variables = best_variables(workdir)
    return dict.fromkeys(names, variables)
  return {n: best_variables(workdir / 'sites' / n)[1] for n in names}


def _rounds(experiment, workdir, training, sites, validation, plan, mesh):
  names, total = [s.name for s in sites], sum(s.n for s in sites)
  score = Validation(experiment, validation)
  with (
    state.Saved(workdir, mesh, names, training.fresh()) as saved,
    contextlib.ExitStack() as held,
    StopSignal() as stop,
  ):
    server, memories, history = saved.newest(training.begun)
    models = {}
    if training.algorithm.keep:
      for name in names:
        own = state.Models(experiment, workdir / 'sites' / name, mesh)
        models[name] = own
        held.callback(own.close)
    writer = held.enter_context(
      Writer(
        workdir, experiment.train.steps,
        step=server.step, monitor=experiment.task.monitor,
      )
    )  # fmt: skip
    while server.step < experiment.train.steps:
      server, memories, replies, out = round(
        training, server, sites, memories, total,
        _mean(experiment, training.algorithm, server, plan.declared),
      )  # fmt: skip
      say(out)
      counted = [r for r in replies if r.site not in out]
      rounds.check_enough(counted, out, plan.min_sites)
      logged = traffic(training.algorithm, server, counted, len(sites))
      number = server.step // plan.steps
      if number % plan.every == 0 or number == plan.rounds:
        each = _scores(score, server, sites, memories)
        history.append([server.step, mean_score(each)])
        logged[f'validation/{experiment.task.monitor}'] = history[-1][1]
        for name, own in models.items():
          (memory,) = (
            m for n, m in zip(names, memories, strict=True) if n == name
          )
          made = rounds.replaced(server.params, server.variables, memory.kept)
          own.save(server.step, *made, each[name][0])
        saved.save(server, memories, history)
      writer.scalars(server.step, logged)
      writer.progress(
        server.step,
        loss=logged.get('train/loss'),
        score=history[-1][1] if history else None,
      )
      if code := stop.exit_code(server.step):
        saved.save(server, memories, history)
        saved.wait()
        raise Stopped(
          code, f'round {number} is saved; the same command goes on'
        )


def _spent(workdir, sites):
  """Writes what private sites have spent."""
  for site in sites:
    site.spending.write()
  if sites:
    spending.write(workdir, {s.name: s.spending.told for s in sites})


def _mean(experiment, algorithm, server, declared):
  """How the mean of replies is found, masked rounds without their masks."""
  if not declared:
    return rounds.mean_of
  sent = rounds.leaves_of(server.params, server.variables, algorithm.keep)
  return secure.means(declared, sent, seed=(experiment.seed, server.step))


def _scores(score, server, sites, memories):
  """{site: (score of its model on its own validation cases, how many)}."""
  return {
    site.name: score(
      site.name,
      rounds.replaced(server.params, server.variables, memory.kept),
    )
    for site, memory in zip(sites, memories, strict=True)
  }


class Validation:
  """Scores models on the validation cases of a site."""

  def __init__(self, experiment, validation):
    self._task, self._predictor = experiment.task, Predictor(experiment)
    self._samples = {
      name: samples(
        dataclasses.replace(experiment, cases=lambda split, c=cases: c),
        'validation',
        budget_bytes=int(experiment.data.cache_gb * 2**30),
      )
      for name, cases in validation.items()
      if len(cases)
    }

  def __call__(self, name, model):
    """(score, n) of the model (params, variables); NaN where undefined."""
    if name not in self._samples:
      return math.nan, 0
    params, variables = model
    predictor = self._predictor.with_weights({'params': params, **variables})
    rows = evaluate_cases(predictor, self._task, self._samples[name])
    found = self._task.summarize(rows, n_resamples=0)['scores']
    value = found[self._task.monitor]
    return (math.nan if value is None else float(value)), len(rows)


def mean_score(scores):
  """The mean of the scores of sites by cases, of those that have one."""
  known = [(s, n) for s, n in scores.values() if not math.isnan(s)]
  if not known:
    return math.nan
  values, ns = zip(*known, strict=True)
  return float(np.average(values, weights=ns))


def traffic(algorithm, server, replies, sites):
  """What is logged of a round: loss, sites, and bytes to and from each site."""
  sent = rounds.leaves_of(server.params, server.variables, algorithm.keep)
  down = rounds.size(sent)
  if 'control' in server.own:
    down += rounds.size(server.own['control'])
  weights = [reply.n for reply in replies]
  loss = np.average([reply.loss for reply in replies], weights=weights)
  return {
    **({} if math.isnan(loss) else {'train/loss': float(loss)}),
    'federated/sites': len(replies),
    'federated/left_out': sites - len(replies),
    'federated/bytes_down': down,
    'federated/bytes_up': rounds.size(dict(replies[0].leaves)),
  }


def say(out):
  """Prints who was left out of a round, and why."""
  for site, reason in sorted(out.items()):
    print(f'left out of this round: {site} {reason}', flush=True)
