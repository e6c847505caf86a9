"""A site: it answers the server, and its cases stay where they are."""

import dataclasses
import json
import math
import pathlib
import sys

from medjax import engine, files
from medjax import experiment as experiment_lib
from medjax.data.facts import DataFacts
from medjax.evaluate import evaluate
from medjax.federated import (
  link,
  local,
  masked,
  protocol,
  rounds,
  secure,
  settings,
  simulate,
  spending,
  state,
)  # fmt: skip
from medjax.reports import text


class Hospital:
  """What a site knows and answers, question by question.

  A round that the server did not count is as if it had not been: memories are
  kept by the step of the server, and a round begins with that of the last one
  that counted. With `masked`, rounds are answered under secure aggregation
  only. `declared` is its range, if there is one.
  """

  def __init__(self, name, config, fields, workdir, *, masked=False):
    self.name, self.workdir = name, pathlib.Path(workdir)
    self._config = settings.config(config, fields)
    self._experiment = experiment_lib.make(self._config)
    local.check(self._experiment)
    self._cases = self._experiment.cases
    self._memories, self.results = None, None
    self._masked, self.declared = masked, None

  def __call__(self, fields, arrays):
    """(fields, arrays, whether it was the last question)."""
    ask = fields.get('ask')
    if ask == 'hello':
      return self._hello(), {}, False
    if ask == 'prepare':
      return self._prepare(fields), {}, False
    if ask == 'round':
      if self.declared or self._masked:
        raise link.ToldError('this round is not masked, as it was to be')
      return *self.round(fields, arrays), False
    if ask == 'score':
      return self._score(fields, arrays), {}, False
    if ask == 'end':
      return self._end(fields, arrays), {}, False
    if ask == 'bye':  # the answer before it has arrived
      return {}, {}, True
    raise link.ToldError(
      f'the server asks {ask!r}, which this medjax does not know'
    )

  def _hello(self):
    # Notes may name the folders of patients.
    facts = dataclasses.replace(self._experiment.facts, notes=())
    return {
      'site': self.name,
      'n': len(self._cases('train')),
      'facts': files.plain(dataclasses.asdict(facts)),
      'config': protocol.common(self._experiment.config),
    }

  def _prepare(self, fields):
    """Makes the experiment that all sites have alike, and compiles nothing."""
    self._join(fields['id'])
    declared = fields.get('range')
    if self._masked and not declared:
      raise link.ToldError('the server asks for no masks, which --masked wants')
    self.declared = declared and secure.Range(**declared)
    facts = DataFacts.read(json.loads(json.dumps(fields['facts'])))
    made = experiment_lib.make(self._config, facts=facts)
    self._experiment = state.planned(made, fields['rounds'], fields['steps'])
    algorithm = settings.algorithm(made, fields['algorithm'], fields['options'])
    mesh = engine.make_mesh()
    self._site = local.Site(
      self._experiment, self.name, self._cases('train'), mesh,
      folder=self.workdir, going=(self.workdir / 'memory').exists(),
      about=local.about(algorithm, fields['steps']),
    )  # fmt: skip
    self._training = local.Training(
      self._experiment, algorithm, self._site.inputs, mesh,
      steps=fields['steps'],
    )  # fmt: skip
    self._validation = simulate.Validation(
      self._experiment, {self.name: self._cases('validation')}
    )
    fresh = self._training.fresh()
    if self._memories is None:
      self._kept = state.Memories(self.workdir / 'memory', mesh, fresh)
      self._memories = {0: fresh, **self._kept.newest()}
    self._models = state.Models(self._experiment, self.workdir, mesh)
    inputs = [[list(x.shape), str(x.dtype)] for x in self._site.inputs]
    return {'inputs': inputs}

  def _join(self, name):
    """Raises ValueError where the folder is of another federation."""
    path = self.workdir / state.ABOUT
    before = files.read_json(path, mend='take a new --workdir')
    if before is None:
      files.write_json(path, {'id': str(name), 'site': self.name}, sealed=True)
    elif before.get('id') != name:
      raise link.ToldError(
        'its --workdir took part in another federation: take a new one'
      )

  def _memory(self, step):
    """What was remembered after a step of the server.

    Raises RefusalError where that is lost.
    """
    if step not in self._memories:
      raise link.RefusalError(
        f'nothing is remembered of step {step}, only of '
        f'{", ".join(map(str, sorted(self._memories)))}'
      )
    return self._memories[step]

  def round(self, fields, arrays):
    """(fields, leaves): some steps from what the server sent."""
    server = protocol.at_site(self._training.begun, arrays, fields['step'])
    before = self._memory(fields['counted'])
    try:
      (reply,), (memory,) = self._training(server, [self._site], [before])
    except spending.SpentError as e:
      raise link.RefusalError(str(e)) from None
    now = server.step + self._training.steps
    both = {fields['counted']: before, now: memory}
    self._memories = {0: self._memories[0], **both}
    self._kept.save(both)
    said = '' if math.isnan(reply.loss) else f' · loss {reply.loss:.4f}'
    print(f'step {now}{said}', flush=True)
    about = dataclasses.asdict(dataclasses.replace(reply, leaves={}))
    del about['leaves']
    return about, reply.leaves

  def _model(self, fields, arrays):
    """(params, variables) of what the server sent, with what stays here."""
    server = protocol.at_site(self._training.begun, arrays, fields['step'])
    memory = self._memory(fields['counted'])
    return rounds.replaced(server.params, server.variables, memory.kept)

  def _score(self, fields, arrays):
    model = self._model(fields, arrays)
    score, n = self._validation(self.name, model)
    if self._training.algorithm.keep:
      self._models.save(fields['step'], *model, score)
    return {'score': score, 'n': n}

  def _end(self, fields, arrays):
    """Keeps the model, and tests it on the site's own test cases."""
    if reason := fields.get('reason'):
      raise ValueError(f'the server ended it: {reason}')
    if not self._training.algorithm.keep:
      self._models.save(fields['step'], *self._model(fields, arrays), None)
    self._models.close()
    results = evaluate(self._experiment, self.workdir)
    print(text.spoken(results), flush=True)
    self.results = results
    test = results['test']
    found = {
      'score': test['scores'][self._experiment.task.monitor],
      'n': test['n'],
    }
    if own := self._site.spending:
      own.write()
      print(own.private.say(own.steps), flush=True)
      found['spent'] = own.told
    return found


def answer(hospital, address, *, authority='', patience=600):
  """Answers a server until the federation has ended."""

  masking = None

  def respond(message):
    nonlocal masking
    if masked.Masking.asked(message.content):
      try:
        masking = masking or masked.Masking(hospital.declared, hospital.round)
        return masking(message), False
      except (KeyError, ValueError) as e:  # it may be asked again
        print(f'not answered: {e}', file=sys.stderr, flush=True)
        raise link.RefusalError(link.told(e)) from None
    fields, arrays = link.read(message.content)
    fields, arrays, last = hospital(fields, arrays)
    return link.record(fields, arrays), last

  try:
    link.answer(address, respond, authority=authority, patience=patience)
  except OSError:
    if hospital.results is None:
      raise
