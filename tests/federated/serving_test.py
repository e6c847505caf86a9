"""A server and sites that are elsewhere, without the wire between them."""

import dataclasses
import json
import types
from unittest import mock

import numpy as np
import pytest
from federated.small_sites import (
  assert_close,
  by_site,
  make_cases,
  use_own,
)

from medjax import experiment
from medjax.data.facts import DataFacts
from medjax.federated import (
  algorithms,
  hospital,
  link,
  masked,
  protocol,
  rounds,
  serving,
  settings,
  simulate,
)
from medjax.run.checkpoint import variables

CONFIG = """
from federated.small_sites import make_config


def get_config():
  return make_config({options})
"""
PLAN = simulate.Plan(rounds=3, steps=2)


class Wire:
  """Sites in this process; `spoil(node, fields, answer)` may change answers."""

  def __init__(self, sites, spoil=lambda node, fields, answer: answer):
    self.sites, self.spoil, self.asked = dict(sites), spoil, []

  def nodes(self):
    return sorted(self.sites)

  def ask(self, questions, *, timeout):
    found = {}
    for node, (fields, arrays) in questions.items():
      self.asked.append((node, fields['ask']))
      try:
        site = self.sites[node]
        *answer, _ = site(json.loads(json.dumps(fields)), dict(arrays))
        answer = json.loads(json.dumps(answer[0])), answer[1]
        found[node] = self.spoil(node, fields, answer)
      except (KeyError, ValueError) as e:
        found[node] = f'failed ({e})'
    return found


@pytest.fixture
def world(tmp_path, monkeypatch):
  """A function that gives a config file, and lets sites open their cases."""
  use_own(monkeypatch)

  def make(options=''):
    path = tmp_path / 'config.py'
    path.write_text(CONFIG.format(options=options))
    return str(path)

  return make


def sites(config, tmp_path, names='abc'):
  return {
    10 + i: hospital.Hospital(
      name, config, [f'data.path={name}'], tmp_path / f'at_{name}'
    )
    for i, name in enumerate(names)
  }


def serve(wire, config, workdir, name='scaffold', plan=PLAN, **options):
  more = {'sites': 3, 'timeout': 0.5, **options}
  job = serving.Job(name, {}, plan)
  return serving.serve(wire, settings.config(config, []), job, workdir, **more)


def simulated(config, workdir, name):
  made = experiment.make(settings.config(config, []))
  algorithm = algorithms.make(name, made.config['optimizer'])
  cases = [by_site(make_cases(split)) for split in ('train', 'validation')]
  return simulate.federate(made, workdir, algorithm, *cases, PLAN)


def last(workdir):
  step, found = variables(workdir, 'last')
  return step, rounds.leaves_of(found.pop('params'), found)


@pytest.mark.parametrize('name', ['scaffold', 'fedbn'])
def test_it_is_the_simulation(name, world, tmp_path):
  config = world('norm=True')
  models = simulated(config, tmp_path / 'simulated', name)
  there = sites(config, tmp_path)
  scores = serve(Wire(there), config, tmp_path / 'served', name)
  (a, one), (b, other) = map(
    last, (tmp_path / 'simulated', tmp_path / 'served')
  )
  assert a == b == 6
  assert_close(one, other)
  logs = [
    [
      {k: v for k, v in json.loads(line).items() if k != 'seconds'}
      for line in (tmp_path / k / 'metrics.jsonl').read_text().splitlines()
    ]
    for k in ('simulated', 'served')
  ]
  for lines in zip(*logs, strict=True):
    assert lines[0] == pytest.approx(lines[1], abs=1e-6)
  assert {*scores} == {'a', 'b', 'c'}
  # Each has a run of its own, of the model that it was given or kept.
  for site in 'abc':
    _, own = variables(tmp_path / f'at_{site}')
    own = rounds.leaves_of(own.pop('params'), own)
    model = dict(models[site])
    assert_close(own, rounds.leaves_of(model.pop('params'), model))
    results = json.loads((tmp_path / f'at_{site}/metrics.json').read_text())
    assert results['test']['n'] == scores[site]['n']


def test_killed_servers_and_sites_go_on_as_if_nothing_was(world, tmp_path):
  config = world()
  serve(Wire(sites(config, tmp_path)), config, tmp_path / 'whole')
  _, whole = last(tmp_path / 'whole')

  class Killed(BaseException):
    pass

  def dies(node, fields, answer):
    if (node, fields['ask'], fields.get('step')) == (12, 'score', 4):
      raise Killed  # all have trained on, and the server has not saved that
    return answer

  there = sites(config, tmp_path / 'again')
  with pytest.raises(Killed):
    serve(Wire(there, dies), config, tmp_path / 'killed')
  there[11] = sites(config, tmp_path / 'again', 'b')[10]  # it starts anew
  serve(Wire(there), config, tmp_path / 'killed')
  step, found = last(tmp_path / 'killed')
  assert step == 6
  for path in whole:
    np.testing.assert_array_equal(whole[path], found[path])


@pytest.mark.slow
def test_a_server_that_is_killed_at_any_message(world, tmp_path):
  """In greetings, rounds, scores and at the end, each time a bit later."""
  config = world()
  serve(Wire(sites(config, tmp_path)), config, tmp_path / 'whole')
  _, whole = last(tmp_path / 'whole')

  class Killed(BaseException):
    pass

  there, asked = sites(config, tmp_path / 'again'), set()
  for alive in (1, 4, 7, 10, 13, 14, 11, 15, 7):
    messages = []

    def dies(node, fields, answer, messages=messages, alive=alive):
      messages.append(fields['ask'])
      if len(messages) == alive:
        asked.add(fields['ask'])
        raise Killed
      return answer

    with pytest.raises(Killed):
      serve(Wire(there, dies), config, tmp_path / 'killed')
  assert asked == {'hello', 'prepare', 'round', 'score', 'end'}
  scores = serve(Wire(there), config, tmp_path / 'killed')
  assert {*scores} == {'a', 'b', 'c'}
  step, found = last(tmp_path / 'killed')
  assert step == 6
  for path in whole:
    np.testing.assert_array_equal(whole[path], found[path])


LIES = {
  'not finite': lambda fields, leaves: (
    fields, {k: v * np.float32('nan') for k, v in leaves.items()}
  ),
  'answers step 0, and 2 was asked': lambda fields, leaves: (
    {**fields, 'step': 0}, leaves
  ),
  'other parameters': lambda fields, leaves: (fields, {}),
  'did not answer': lambda fields, leaves: 'did not answer in 1 s',
  'failed (no room)': lambda fields, leaves: ({'error': 'no room'}, {}),
  'says it has 99 cases, and 3 before': lambda fields, leaves: (
    {**fields, 'n': 99}, leaves
  ),
  'has None cases': lambda fields, leaves: (
    {k: v for k, v in fields.items() if k != 'n'}, leaves
  ),
}  # fmt: skip


def test_a_site_that_lies_or_dies_is_left_out_and_said(world, tmp_path, capsys):
  config = world()

  def lies(node, fields, answer):
    if node == 11 and fields['ask'] == 'round' and fields['step']:
      return [*LIES.values()][fields['step'] - 1](*answer)
    return answer

  wire = Wire(sites(config, tmp_path), lies)
  plan = simulate.Plan(rounds=1 + len(LIES), steps=1, every=9)
  serve(wire, config, tmp_path / 'served', plan=plan)
  said = capsys.readouterr().out.splitlines()
  said = [line for line in said if line.startswith('left out of this round: b')]
  assert len(said) == len(LIES)
  for line, why in zip(said, LIES, strict=True):
    assert why in line
  log = (tmp_path / 'served/metrics.jsonl').read_text().splitlines()
  taken = [json.loads(line)['federated/sites'] for line in log]
  assert taken == [3, *[2] * len(LIES)]


def test_too_few_sites_end_it_with_a_sentence(world, tmp_path):
  config = world()
  few = simulate.Plan(rounds=3, steps=2, min_sites=3)
  two = sites(config, tmp_path, 'ab')
  with pytest.raises(ValueError, match=r'2 of at least 3 sites were here aft'):
    serve(Wire(two), config, tmp_path / 'served', plan=few)
  enough = simulate.Plan(rounds=1, steps=2, min_sites=2)
  serve(Wire(two), config, tmp_path / 'served', plan=enough)

  wire = Wire(sites(config, tmp_path / 'more'))

  def leaves(node, fields, answer):
    if (fields['ask'], fields.get('step')) == ('score', 2):
      wire.sites.pop(12, None)  # the power is cut
    return answer

  wire.spoil = leaves
  with pytest.raises(ValueError, match=r'2 of at least 3 .*c is not here'):
    serve(wire, config, tmp_path / 'cut', plan=few)
  assert wire.asked[-2:] == [(10, 'end'), (11, 'end')]  # nobody waits for ever


def test_who_does_not_belong_is_turned_away(world, tmp_path, capsys):
  config = world()
  there = sites(config, tmp_path, 'ab')
  there[12] = sites(config, tmp_path / 'twin', 'b')[10]
  other = tmp_path / 'other.py'
  other.write_text(CONFIG.format(options='learning_rate=0.5'))
  there[13] = hospital.Hospital(
    'c', str(other), ['data.path=c'], tmp_path / 'o'
  )
  wire = Wire(there)
  serve(wire, config, tmp_path / 'served', plan=simulate.Plan(1, 1), sites=2)
  said = capsys.readouterr().out
  assert 'is called b, and so is another' in said
  assert (
    'its config has optimizer.learning_rate=0.5, that of the server 0.3' in said
  )
  assert {node for node, ask in wire.asked if ask == 'round'} == {10, 11}


@pytest.mark.parametrize(
  'field', ['channel_names', 'normalisation', 'further_images']
)
def test_sites_with_channels_in_another_order_are_refused(field):
  make = lambda *names: dataclasses.asdict(
    DataFacts(channels=2, rank=3, **{field: names})
  )
  one, other = make('ct', 'none'), make('none', 'ct')
  assert protocol.agreed({'b': one, 'a': one}) == one
  with pytest.raises(ValueError, match=f'c has {field} .*describe their data'):
    protocol.agreed({'a': one, 'b': one, 'c': other})
  # Formats without names of channels are no other channels.
  if field != 'further_images':
    assert protocol.agreed({'a': make(), 'b': one}) == make()
    with pytest.raises(ValueError, match=f'c has {field}'):
      protocol.agreed({'a': make(), 'b': one, 'c': other})


def test_sites_whose_volumes_lie_otherwise_are_told_of():
  make = lambda **more: dataclasses.asdict(
    DataFacts(channels=1, rank=3, spacing=(1.0, 1.0, 1.0), **more)
  )
  plain, turned = make(orientation='RAS'), make(orientation='LPS')
  unknown = make()
  (line,) = protocol.doubts({'a': plain, 'b': turned, 'c': unknown}, set())
  assert line.startswith('b, beside a: its axes run to LPS')
  assert not protocol.doubts({'a': plain, 'b': turned}, {'reorient'})
  thick = {**plain, 'spacing': [1.0, 1.0, 5.0]}
  (line,) = protocol.doubts({'a': plain, 'b': thick}, set())
  assert 'voxels of 1 × 1 × 5 mm' in line
  table = dataclasses.asdict(DataFacts(channels=0, rank=0))
  assert not protocol.doubts({'a': table, 'b': table}, set())


def test_a_site_tells_nothing_of_who_its_patients_are(world, tmp_path):
  noted = 'Meier_Eva: 2 files passed over'
  (site,) = sites(world(), tmp_path, 'a').values()
  facts = dataclasses.replace(site._experiment.facts, notes=(noted,))
  config = {**site._experiment.config}
  config['data'] = {
    **config['data'],
    'labelled_ids': ('Meier_Eva',),
    'join': {'table': '/hospital/a/Meier_Eva.csv', 'on': 'Meier_Eva'},
  }
  site._experiment = dataclasses.replace(
    site._experiment, facts=facts, config=config
  )
  hello, _, _ = site({'ask': 'hello'}, {})
  assert hello['facts']['class_names'] == ['no', 'yes']
  assert 'Meier' not in json.dumps(hello)


def test_a_masked_round_that_fails_names_no_file(monkeypatch):
  flower = types.SimpleNamespace(content={})
  monkeypatch.setattr(masked.Masking, 'asked', lambda content: True)
  monkeypatch.setattr(masked.Masking, '__init__', lambda *given: None)
  errors = []

  def answering(address, respond, **options):
    for error in (
      ValueError('/hospital/a/Meier_Eva/ct.nii.gz: damaged'),
      link.RefusalError('moved w by 2, beyond the declared ±1'),
    ):
      monkeypatch.setattr(
        masked.Masking, '__call__', mock.Mock(side_effect=error)
      )
      with pytest.raises(link.RefusalError) as raised:
        respond(flower)
      errors.append(str(raised.value))

  monkeypatch.setattr(link, 'answer', answering)
  hospital.answer(mock.Mock(), 'x:1')
  assert errors == [
    'ValueError, of which the site itself says more',
    'moved w by 2, beyond the declared ±1',
  ]


def test_a_site_takes_part_in_one_federation(world, tmp_path):
  config, one = world(), simulate.Plan(1, 1)
  serve(Wire(sites(config, tmp_path)), config, tmp_path / 'first', plan=one)
  again = Wire(sites(config, tmp_path))
  serve(again, config, tmp_path / 'first', plan=one)  # the same, once more
  with pytest.raises(ValueError, match='no site is ready'):
    serve(Wire(sites(config, tmp_path)), config, tmp_path / 'other', plan=one)
