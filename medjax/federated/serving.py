"""The server: it asks its sites round by round, and never waits for ever."""

import contextlib
import dataclasses
import json
import math
import pathlib
import secrets
import time

import jax
import numpy as np

from medjax import config as config_lib
from medjax import engine, files
from medjax import experiment as experiment_lib
from medjax.data.facts import DataFacts
from medjax.federated import (
  local,
  masked,
  protocol,
  rounds,
  settings,
  simulate,
  spending,
  state,
)  # fmt: skip
from medjax.run.checkpoint import best_variables
from medjax.run.lock import locked
from medjax.run.stop import Stopped, StopSignal
from medjax.run.writer import Writer

_LOOK = 0.2  # seconds between looks at who is there
_SITES = 'sites.json'


class Sites:
  """The sites of a federation: who they are, and where they are connected.

  names: {site: its training cases}; a site of another name is turned away.
  """

  def __init__(self, link, config, timeout, names=()):
    self._link, self._timeout = link, timeout
    self._common = protocol.common(config)
    self.nodes, self.about, self._away = {}, {}, set()
    self.names = set(names)

  def meet(self):
    """Says hello to who is new; returns the sites that are connected."""
    here = self._link.nodes()
    self.nodes = {k: v for k, v in self.nodes.items() if v in here}
    new = [n for n in here if n not in {*self.nodes.values(), *self._away}]
    if new:
      answers = self._link.ask(
        {node: ({'ask': 'hello'}, {}) for node in new}, timeout=self._timeout
      )
      for node in sorted(answers, key=lambda n: str(answers[n])):
        self._met(node, answers[node])
    return sorted(self.nodes)

  def _met(self, node, answer):
    reason = answer if isinstance(answer, str) else self._odd(answer[0])
    if not reason:
      about = answer[0]
      self.nodes[about['site']], self.about[about['site']] = node, about
      print(f'{about["site"]} is here, {about["n"]} cases', flush=True)
      return
    print(f'turned away: a site that {reason}', flush=True)
    self._away.add(node)
    self.ask({node: ({'ask': 'end', 'reason': reason}, {})})

  def _odd(self, about):
    """Why a site cannot take part, or ''."""
    name, n = about.get('site'), about.get('n')
    if 'error' in about:
      return f'failed ({about["error"]})'
    if not isinstance(name, str) or not isinstance(n, int) or n < 1:
      return 'does not say its name and how many cases it has'
    if name in self.nodes:
      return f'is called {name}, and so is another'
    if self.names and name not in self.names:
      return f'is called {name}, and the sites are {", ".join(self.names)}'
    return protocol.differs(self._common, about.get('config') or {})

  def ask(self, questions):
    """Answers by node: (fields, arrays), or an error as text."""
    found = self._link.ask(questions, timeout=self._timeout)
    for node, answer in found.items():
      if not isinstance(answer, str) and 'error' in answer[0]:
        found[node] = f'failed ({answer[0]["error"]})'
    return found

  def masked(self, questions, declared, *, number):
    """`masked.mean_of` of a round."""
    return masked.mean_of(
      self._link, questions, declared, number=number, timeout=self._timeout
    )

  def wait(self, count, least):
    """Returns when `count` sites are here, or `least` after the time-out.

    Raises ValueError where there are fewer.
    """
    until = time.monotonic() + self._timeout
    while time.monotonic() < until:
      if len(self.meet()) >= count:
        return
      time.sleep(_LOOK)
    if len(self.nodes) < least:
      raise ValueError(
        f'{len(self.nodes)} of at least {least} sites were here after '
        f'{self._timeout:g} s: start them, and the same command goes on, or '
        'give a larger --timeout'
      )


@dataclasses.dataclass(frozen=True)
class Job:
  """What a server does: an algorithm, its options as JSON has them, a plan."""

  algorithm: str
  options: dict
  plan: simulate.Plan


def serve(link, config, job, workdir, *, sites, timeout):
  """Trains with sites that are elsewhere, from the newest checkpoint if any.

  config: of the run; it needs no data. sites: how many are waited for; after
  `timeout` seconds plan.min_sites are enough. Returns {site: score on test}.
  """
  workdir = pathlib.Path(workdir)
  with locked(workdir):
    return _serve(link, config, job, workdir, sites, timeout)


def _serve(link, config, job, workdir, count, timeout):
  plan = job.plan
  known = files.read_json(workdir / _SITES, mend='take a new --workdir') or {}
  met = Sites(link, config_lib.complete(config), timeout, known.get('n', ()))
  try:
    met.wait(count, plan.min_sites)
    if not known:
      facts = {site: about['facts'] for site, about in met.about.items()}
      ns = {site: about['n'] for site, about in met.about.items()}
      known = {
        'id': secrets.token_hex(8),
        'n': ns,
        'facts': protocol.agreed(facts),
      }
      steps = {step['name'] for step in config['data']['preprocess']}
      for line in protocol.doubts(facts, steps):
        print(f'note: {line}', flush=True)
      files.write_json(workdir / _SITES, known, sealed=True)
    met.names = set(known['n'])
    facts = DataFacts.read(json.loads(json.dumps(known['facts'])))
    made = state.planned(
      experiment_lib.make(config, facts=facts), plan.rounds, plan.steps
    )
    local.check(made)
    run = _Run(met, made, job, workdir, known)
    return run()
  except Exception as e:
    reason = ' '.join(str(e).split())[:200] or type(e).__name__
    with contextlib.suppress(Exception):
      met.ask(
        {n: ({'ask': 'end', 'reason': reason}, {}) for n in met.nodes.values()}
      )
    raise


class _Run:
  """The rounds of a server."""

  def __init__(self, met, made, job, workdir, known):
    self._met, self._made, self._plan = met, made, job.plan
    self._workdir, self._known = workdir, known
    self._about = {
      'ask': 'prepare',
      'id': known['id'],
      'facts': known['facts'],
      'algorithm': job.algorithm,
      'options': job.options,
      'rounds': job.plan.rounds,
      'steps': job.plan.steps,
      'range': job.plan.declared and dataclasses.asdict(job.plan.declared),
    }
    self._algorithm = settings.algorithm(made, job.algorithm, job.options)
    self._ready = {}  # {site: the node that was prepared}
    self._inputs, self._declared = None, job.plan.declared
    self._total = sum(known['n'].values())

  def __call__(self):
    made, plan, workdir = self._made, self._plan, self._workdir
    self._prepare()
    mesh = engine.make_mesh()
    training = local.Training(
      made, self._algorithm, self._inputs, mesh, steps=plan.steps
    )
    state.settled(
      made, workdir,
      {'algorithm': type(self._algorithm).__name__,
       **dataclasses.asdict(self._algorithm),
       **plan.lasting,
       'sites': self._known['n']},
    )  # fmt: skip
    names = sorted(self._known['n'])
    with (
      state.Saved(workdir, mesh, names) as saved,
      StopSignal() as stop,
    ):
      server, _, history = saved.newest(training.begun)
      with Writer(
        workdir, made.train.steps, step=server.step, monitor=made.task.monitor
      ) as writer:
        while server.step < made.train.steps:
          server = self._round(server, training, history, writer)
          saved.save(server, [], history)
          if code := stop.exit_code(server.step):
            saved.wait()
            raise Stopped(code, 'the round is saved; the same command goes on')
      saved.wait()
    return self._end(server)

  def _prepare(self):
    """Prepares who is here and not yet ready; returns who is ready."""
    here = self._met.meet()
    nodes = self._met.nodes
    self._ready = {s: n for s, n in self._ready.items() if nodes.get(s) == n}
    new = {nodes[s]: s for s in here if s not in self._ready}
    for node, answer in self._met.ask(
      {node: (self._about, {}) for node in new}
    ).items():
      if isinstance(answer, str):
        simulate.say({new[node]: answer})
        continue
      self._ready[new[node]] = node
      self._inputs = self._inputs or tuple(
        jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
        for shape, dtype in answer[0]['inputs']
      )
    if not self._ready:
      raise ValueError('no site is ready: see what they say')
    return self._ready

  def _round(self, server, training, history, writer):
    plan, ready = self._plan, self._prepare()
    out = dict.fromkeys({*self._known['n']} - {*ready}, 'is not here')
    how = {
      'steps': plan.steps,
      'rate': training.rate(server.step),
    }
    step = self._masked if self._declared else self._plain
    after, counted, more = step(server, ready, how)
    out |= more
    simulate.say(out)
    rounds.check_enough(counted, out, plan.min_sites)
    logged = simulate.traffic(
      self._algorithm, after, counted, len(self._known['n'])
    )
    if self._declared:  # integers of 64 bits for what has 32 otherwise
      logged['federated/bytes_up'] *= 2
    number = after.step // plan.steps
    if number % plan.every == 0 or number == plan.rounds:
      there = {r.site: ready[r.site] for r in counted}
      scores = {
        site: (_float(answer[0].get('score')), int(answer[0].get('n', 0)))
        for site, answer in self._asked('score', after, there).items()
        if not isinstance(answer, str)
      }
      history.append([after.step, simulate.mean_score(scores)])
      logged[f'validation/{self._made.task.monitor}'] = history[-1][1]
    writer.scalars(after.step, logged)
    writer.progress(
      after.step, loss=logged.get('train/loss'),
      score=history[-1][1] if history else None,
    )  # fmt: skip
    return after

  def _plain(self, server, ready, how):
    """(server, replies that count, {site: why not}) of a round."""
    replies, out = [], {}
    for site, answer in self._asked('round', server, ready).items():
      if isinstance(answer, str):
        out[site] = answer
        continue
      fields, leaves = answer
      n = self._known['n'][site]
      if fields.get('n') != n:
        out[site] = f'says it has {fields.get("n")} cases, and {n} before'
        continue
      replies.append(_reply(site, fields, leaves))
    after, refused = rounds.merged(
      self._algorithm, server, replies, total=self._total, **how
    )
    out |= refused
    return after, [reply for reply in replies if reply.site not in out], out

  def _masked(self, server, ready, how):
    """As `_plain`, under secure aggregation: of the sites only their mean."""
    names = {node: site for site, node in ready.items()}
    mean, found, out = self._met.masked(
      self._questions('round', server, ready), self._declared,
      number=server.step // self._plan.steps + 1,
    )  # fmt: skip
    sent = rounds.leaves_of(
      server.params, server.variables, self._algorithm.keep
    )
    mean = {k: (sent[k] + mean[k]).astype(sent[k].dtype) for k in sent}
    replies = [
      _reply(names[node], about, mean) for node, about in found.items()
    ]
    for reply in replies:  # a sum cannot be taken apart again
      if reason := rounds.refused(reply, server, sent):
        raise ValueError(f'secure aggregation: {reply.site} {reason}')
    replies.sort(key=lambda reply: reply.site)
    after = rounds.updated(
      self._algorithm, server, mean, [reply.site for reply in replies],
      share=sum(reply.n for reply in replies) / self._total, **how,
    )  # fmt: skip
    return after, replies, {names[node]: why for node, why in out.items()}

  def _questions(self, ask, server, ready):
    """{node: (fields, arrays)} that come with the model."""
    arrays = protocol.to_site(self._algorithm, server)
    about = lambda site: {
      'ask': ask,
      'step': server.step,
      'counted': server.counted.get(site, 0),
    }
    return {node: (about(site), arrays) for site, node in ready.items()}

  def _asked(self, ask, server, ready):
    """{site: answer} of a question that comes with the model."""
    answers = self._met.ask(self._questions(ask, server, ready))
    return {site: answers[node] for site, node in ready.items()}

  def _end(self, server):
    """Sends the best model; returns {site: score on its test cases}."""
    if not self._algorithm.keep:
      step, best = best_variables(self._workdir)
      params = best.pop('params')
      server = dataclasses.replace(
        server, step=step, params=params, variables=best
      )
    ready = self._prepare()
    answers = self._asked('end', server, ready)
    self._met.ask({node: ({'ask': 'bye'}, {}) for node in ready.values()})
    scores = {
      site: answer if isinstance(answer, str) else answer[0]
      for site, answer in answers.items()
    }
    files.write_json(self._workdir / 'test.json', scores)
    private = {
      site: score['spent']
      for site, score in scores.items()
      if not isinstance(score, str) and 'spent' in score
    }
    if private:
      spending.write(self._workdir, private)
    return scores


def _reply(site, fields, leaves):
  return rounds.Reply(
    site=site,
    step=fields.get('step'),
    n=fields.get('n'),
    leaves=leaves,
    loss=_float(fields.get('loss')),
  )


def _float(value):
  return float(value) if isinstance(value, int | float) else math.nan
