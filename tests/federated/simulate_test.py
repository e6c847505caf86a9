"""A federation in one program: killed anywhere it goes on as if it had not."""

import dataclasses
import json
import os

import jax
import numpy as np
import pytest
from federated.small_sites import Cases, by_site, make_cases, make_config, use

from medjax import experiment
from medjax.federated import (
  algorithms,
  division,
  gain,
  page,
  secure,
  settings,
  simulate,
  state,
)
from medjax.run.checkpoint import variables

PLAN = simulate.Plan(rounds=3, steps=2)


def federate(workdir, name, *, norm=False, plan=PLAN):
  made = experiment.make(make_config(norm=norm))
  algorithm = algorithms.make(name, made.config['optimizer'])
  return simulate.federate(
    made, workdir, algorithm,
    by_site(make_cases()), by_site(make_cases('validation')), plan,
  )  # fmt: skip


@pytest.mark.parametrize(
  ('name', 'norm'), [('scaffold', False), ('fedbn', True)]
)
def test_killed_anywhere_it_is_the_same_to_the_bit(
  name, norm, tmp_path, monkeypatch
):
  use(monkeypatch)
  whole = federate(tmp_path / 'whole', name, norm=norm)
  once = simulate.round

  class Killed(BaseException):
    pass

  for die in (1, 2):  # in the first round, and once a checkpoint is there
    calls = []

    def dying(*args, die=die, calls=calls):
      calls.append(1)
      if len(calls) == die:
        raise Killed
      return once(*args)

    with monkeypatch.context() as patch:
      patch.setattr(simulate, 'round', dying)
      with pytest.raises(Killed):
        federate(tmp_path / 'killed', name, norm=norm)
  killed = federate(tmp_path / 'killed', name, norm=norm)
  jax.tree.map(np.testing.assert_array_equal, whole, killed)
  scores = [
    [
      (line['step'], line['validation/auroc'], line['train/loss'])
      for line in map(json.loads, path.read_text().splitlines())
    ]
    for path in (tmp_path / k / 'metrics.jsonl' for k in ('whole', 'killed'))
  ]
  assert scores[0] == scores[1]
  assert [step for step, _, _ in scores[0]] == [2, 4, 6]
  if name == 'scaffold':
    assert len({id(v) for v in whole.values()}) == 1
  else:  # each site its own norms, and all the rest alike
    a, b = whole['a'], whole['b']
    assert (a['params']['Dense_0']['kernel']
            == b['params']['Dense_0']['kernel']).all()  # fmt: skip
    assert (a['batch_stats']['BatchNorm_0']['mean']
            != b['batch_stats']['BatchNorm_0']['mean']).any()  # fmt: skip


def test_another_federation_does_not_go_on_there(tmp_path, monkeypatch):
  use(monkeypatch)
  federate(tmp_path / 'run', 'fedavg')
  step, _ = variables(tmp_path / 'run', 'last')
  assert step == 6
  before = os.stat(tmp_path / 'run/metrics.jsonl').st_size
  federate(tmp_path / 'run', 'fedavg')  # nothing is left to do
  assert os.stat(tmp_path / 'run/metrics.jsonl').st_size == before
  with pytest.raises(ValueError, match="algorithm='FedAvg', not 'Scaffold'"):
    federate(tmp_path / 'run', 'scaffold')
  longer = simulate.Plan(rounds=4, steps=2)
  with pytest.raises(ValueError, match=r'train\.steps: 6 → 8'):
    federate(tmp_path / 'run', 'fedavg', plan=longer)


def test_masked_rounds_are_the_plain_ones_to_the_levels(tmp_path, monkeypatch):
  use(monkeypatch)
  declared = secure.Range(0.5, 9)
  plain = federate(tmp_path / 'plain', 'scaffold')['a']
  masked = federate(
    tmp_path / 'masked', 'scaffold',
    plan=dataclasses.replace(PLAN, declared=declared),
  )['a']  # fmt: skip
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), plain, masked
  )
  assert (plain['params']['Dense_0']['bias']
          != masked['params']['Dense_0']['bias']).any()  # fmt: skip
  tight = dataclasses.replace(PLAN, declared=secure.Range(1e-6, 9))
  with pytest.raises(ValueError, match='beyond the declared ±1e-06'):
    federate(tmp_path / 'tight', 'scaffold', plan=tight)


def test_too_few_sites_end_it_with_a_sentence(tmp_path, monkeypatch, capsys):
  use(monkeypatch)
  refused = simulate.rounds.refused
  monkeypatch.setattr(
    simulate.rounds,
    'refused',
    lambda reply, *rest: (
      'is a liar' if reply.site == 'b' else refused(reply, *rest)
    ),
  )
  federate(tmp_path / 'two', 'fedavg', plan=simulate.Plan(1, 1, min_sites=2))
  assert 'left out of this round: b is a liar' in capsys.readouterr().out
  three = simulate.Plan(1, 1, min_sites=3)
  with pytest.raises(
    ValueError, match=r'2 of at least 3 .*b is a liar.*goes on'
  ):
    federate(tmp_path / 'three', 'fedavg', plan=three)


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('train.ema_decay', 0.9, r'set train\.ema_decay=0'),
    ('members', 2, 'set members=1'),
    ('train.microbatches', 2, r'set train\.microbatches=1'),
  ],
)
def test_what_would_be_ignored_is_refused(field, value, message, monkeypatch):
  use(monkeypatch)
  config = make_config()
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ValueError, match=message):
    simulate.local.check(experiment.make(config))


def test_what_each_site_gains(tmp_path, monkeypatch):
  use(monkeypatch)
  sizes = {'a': 12, 'b': 14}
  cases = {s: make_cases(s, sizes) for s in ('train', 'validation', 'test')}
  for i, case in enumerate(cases['test']):  # no model is right about these
    case['label'] = np.int32(i % 3 == 0)
  monkeypatch.setattr(experiment, 'open_cases', lambda c, split: cases[split])
  made = experiment.make(make_config())
  places = division.divide(made.cases, 'site')
  assert {k: len(v) for k, v in places['test'].items()} == sizes
  candidates = {'fedavg': settings.algorithm(made, 'fedavg', {})}
  plan = simulate.Plan(rounds=2, steps=3)
  found = gain.compare(made, tmp_path, candidates, places, plan)
  lines = {(k['site'], k['on']): k for k in found['table']}
  assert [*lines] == [
    ('a', 'a'), ('a', 'all sites'), ('b', 'b'), ('b', 'all sites')
  ]  # fmt: skip
  whole = lines['a', 'all sites']
  assert (whole['n'], whole['train']) == (26, 12)
  # One federated model for all; by itself each site has its own.
  other = lines['b', 'all sites']
  assert whole['scores']['fedavg'] == other['scores']['fedavg']
  assert (tmp_path / 'gain/local.csv').read_text() != (
    tmp_path / 'gain/fedavg.csv'
  ).read_text()
  score = {arm: s['value'] for arm, s in whole['scores'].items()}
  difference = whole['gains']['fedavg']['difference']
  np.testing.assert_allclose(difference, score['fedavg'] - score['local'])
  table = (tmp_path / 'gain/local.csv').read_text().splitlines()
  assert len(table) == 27
  # What is alone, and pooled, is an ordinary federation of one.
  assert json.loads((tmp_path / 'pooled/federation.json').read_text())[
    'sites'
  ] == {'pooled': 26}
  said = page.text(found)
  assert 'By itself' in said
  assert 'fedavg' in said
  html = page.write(tmp_path).read_text()
  assert 'MB back in a round' in html
  assert '<h2>On the test cases of the site</h2>' in html


def labelled(n, share, seed=0):
  cases = Cases()
  rng = np.random.default_rng(seed)
  for i in range(n):
    cases.append(
      {
        'id': str(i),
        'patient': str(i // 2),  # of two images each
        'label': np.int32(rng.random() < share if i % 2 == 0 else
                          cases[-1]['label']),
      }
    )  # fmt: skip
  return cases


@pytest.mark.parametrize('alpha', ['0.3', '5', 'inf'])
def test_drawn_sites_share_out_patients_and_differ_as_told(alpha):
  cases = {
    s: labelled(n, 0.4, seed=n)
    for s, n in (('train', 800), ('validation', 200), ('test', 400))
  }
  places = division.divide(cases.get, f'dirichlet({alpha}, 4)', seed=3)
  shares = {}
  for split, sites in places.items():
    every = sorted(i for own in sites.values() for i in own)
    assert every == [*range(len(cases[split]))]
    patients = [
      {cases[split][i]['patient'] for i in own} for own in sites.values()
    ]
    assert sum(map(len, patients)) == len(set().union(*patients))
    shares[split] = np.array(
      [
        [sum(cases[split][i]['label'] == k for i in own) for k in (0, 1)]
        for own in sites.values()
      ],
      float,
    )
    shares[split] /= shares[split].sum(0)
  np.testing.assert_allclose(shares['train'], shares['test'], atol=0.03)
  spread = np.abs(shares['train'] - 0.25).max()
  assert spread < 0.01 if alpha == 'inf' else spread > 0.05
  again = division.divide(cases.get, f'dirichlet({alpha}, 4)', seed=3)
  assert again == places


@pytest.mark.parametrize(
  ('sites', 'message'),
  [
    ('dirichlet(0.5)', r"write 'dirichlet\(0\.5, 5\)'"),
    ('dirichlet(0, 3)', 'α above 0'),
    ('nowhere', "--sites: no case says 'nowhere'"),
    ('some', '9 of 18 cases do not say it'),
  ],
)
def test_cases_that_do_not_say_their_site(sites, message):
  cases = make_cases()
  for case in cases[::2]:
    case['some'] = 'here'
  with pytest.raises(ValueError, match=message):
    division.divide({k: cases for k in ('train', 'validation', 'test')}.get,
                    sites)  # fmt: skip


def test_fields_of_the_config_are_set(tmp_path):
  path = tmp_path / 'c.py'
  path.write_text('from medjax.config import default_config as get_config\n')
  made = settings.config(
    path, ['data.path=/a', 'train.log_every=7', "model={'name': 'LeNet5'}"]
  )
  assert (made.data.path, made.train.log_every) == ('/a', 7)
  assert made.model.name == 'LeNet5'
  for text, message in (
    ('data.paths=/a', 'no config field data.paths; did you mean'),
    ('nothing', 'write FIELD=VALUE'),
    ('no.such=1', 'no config field no.such'),
  ):
    with pytest.raises(ValueError, match=message):
      settings.config(path, [text])


def test_the_checkpoint_holds_all_that_a_round_depends_on(
  tmp_path, monkeypatch
):
  mesh = use(monkeypatch)
  from federated.small_sites import Rounds

  found = Rounds(make_config(), 'scaffold', mesh, steps=2)(2)
  names = [s.name for s in found.sites]
  fresh = found.training.fresh()
  with state.Saved(tmp_path, mesh, names, fresh) as saved:
    saved.save(found.server, found.memories, [[4, 0.5]])
    saved.wait()
  with state.Saved(tmp_path, mesh, names, fresh) as saved:
    server, memories, history = saved.newest(found.training.begun)
  assert history == [[4, 0.5]]
  assert server.counted == found.server.counted
  jax.tree.map(
    np.testing.assert_array_equal,
    (server.params, server.own, [vars(m) for m in memories]),
    (found.server.params, found.server.own,
     [vars(m) for m in found.memories]),
  )  # fmt: skip
