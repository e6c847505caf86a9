"""Sites that spend: each its own budget, by every step that it takes."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from federated.small_sites import (
  SIZES,
  assert_close,
  by_site,
  make_cases,
  make_config,
  use,
  use_own,
)

pytest.importorskip('dp_accounting')

from medjax import engine, experiment
from medjax.dp import accounting
from medjax.federated import (
  algorithms,
  division,
  gain,
  hospital,
  link,
  page,
  rounds,
  serving,
  settings,
  simulate,
  spending,
  state,
)
from medjax.reports import text
from medjax.run.checkpoint import variables

PLAN = simulate.Plan(rounds=3, steps=2)
NOISE = {'a': 0.9, 'b': 1.1, 'c': 0.8}
CONFIG = """
from federated.small_sites import make_config


def get_config():
  config = make_config(batch_size=2)
  config.privacy.update(epsilon=60.0, delta=1e-2, key={key!r})
  return config
"""


@pytest.fixture
def world(tmp_path, monkeypatch):
  """A config file; each site opens its own cases."""
  use_own(monkeypatch)
  # The search for the noise takes seconds; sites of other sizes have another.
  rates = {2 / n: NOISE[site] for site, n in SIZES.items()} | {2 / 18: 1.0}
  monkeypatch.setattr(
    accounting, 'noise_for', lambda target, rate, *rest: rates[rate]
  )
  secret, path = tmp_path / 'secret', tmp_path / 'config.py'
  secret.write_text('0123456789abcdef' * 4)
  path.write_text(CONFIG.format(key=str(secret)))
  return str(path)


def simulated(config, workdir, name='scaffold', plan=PLAN):
  made = experiment.make(settings.config(config, []))
  algorithm = algorithms.make(name, made.config['optimizer'])
  cases = [by_site(make_cases(split)) for split in ('train', 'validation')]
  return simulate.federate(made, workdir, algorithm, *cases, plan)


def last(workdir):
  _, found = variables(workdir, 'last')
  return rounds.leaves_of(found.pop('params'), found)


def told(workdir):
  return json.loads((workdir / spending.WHOLE).read_text())


def hospitals(config, tmp_path):
  return {
    i: hospital.Hospital(
      name, config, [f'data.path={name}'], tmp_path / f'at_{name}'
    )
    for i, name in enumerate(SIZES)
  }


def test_each_site_spends_its_own_and_processes_are_the_simulation(
  world, tmp_path, capsys, monkeypatch
):
  made, make = [], engine.make_train_step

  def making(*args, **options):
    made.append(make(*args, **options))
    return made[-1]

  with monkeypatch.context() as patch:
    patch.setattr(engine, 'make_train_step', making)
    simulated(world, tmp_path / 'simulated')
  # Of three sites of other sizes and other noise, one program.
  assert [step._cache_size() for step in made] == [1]
  from federated.serving_test import Wire

  job = serving.Job('scaffold', {}, PLAN)
  scores = serving.serve(
    Wire(hospitals(world, tmp_path)), settings.config(world, []), job,
    tmp_path / 'served', sites=3, timeout=0.5,
  )  # fmt: skip
  assert_close(last(tmp_path / 'simulated'), last(tmp_path / 'served'))
  found = told(tmp_path / 'simulated')
  assert found == told(tmp_path / 'served')
  for site, n in SIZES.items():
    own = found['sites'][site]
    assert (own['patients'], own['noise'], own['steps']) == (n, NOISE[site], 6)
    spent = accounting.epsilon(NOISE[site], 2 / n, 6, accounting.kept(1e-2))
    assert own['epsilon'] == pytest.approx(spent)
    assert scores[site]['spent'] == own
    written = json.loads((tmp_path / f'at_{site}/privacy.json').read_text())
    assert written['spent']['pld'] == own['epsilon']
    assert written['noise'] == NOISE[site]
  each = [own['epsilon'] for own in found['sites'].values()]
  assert found['epsilon'] == {'epsilon': max(each), 'delta': 1e-2}
  assert found['several'] == pytest.approx(
    {'epsilon': sum(each), 'delta': 3e-2}
  )
  assert f'of the federation {max(each):.3f}' in capsys.readouterr().out
  # The loss of training is not covered, and not told.
  log = (tmp_path / 'simulated/metrics.jsonl').read_text()
  assert 'validation/auroc' in log
  assert 'train/loss' not in log


@pytest.mark.slow
def test_killed_it_spends_nothing_twice(world, tmp_path, monkeypatch):
  simulated(world, tmp_path / 'whole', 'fedavg')
  once, calls = simulate.round, []

  class Killed(BaseException):
    pass

  def dying(*args):
    found = once(*args)
    calls.append(1)
    if len(calls) == 2:
      raise Killed  # all have trained on, and the server has not saved that
    return found

  with monkeypatch.context() as patch:
    patch.setattr(simulate, 'round', dying)
    with pytest.raises(Killed):
      simulated(world, tmp_path / 'killed', 'fedavg')
  simulated(world, tmp_path / 'killed', 'fedavg')
  for path, leaf in last(tmp_path / 'whole').items():
    np.testing.assert_array_equal(leaf, last(tmp_path / 'killed')[path])
  assert told(tmp_path / 'whole') == told(tmp_path / 'killed')
  # Without what was spent it does not go on.
  (tmp_path / 'killed/privacy/b/spent.json').unlink()
  with pytest.raises(
    ValueError, match=r'spent\.json is gone, and with it what b'
  ):
    simulated(world, tmp_path / 'killed', 'fedavg')


def asked(site, step, server):
  """The leaves that a site answers a round with."""
  fields = {'ask': 'round', 'step': step, 'counted': 0}
  arrays = rounds.leaves_of(server.params, server.variables)
  return site(fields, arrays)[1]


def test_a_round_that_does_not_count_is_spent(world, tmp_path):
  (site, *_) = hospitals(world, tmp_path).values()
  site(
    {'ask': 'prepare', 'id': '1', 'algorithm': 'fedavg', 'options': {},
     'rounds': 2, 'steps': 2, 'facts': site._hello()['facts']}, {},
  )  # fmt: skip
  begun = site._training.begun
  spent = lambda: site._site.spending.steps
  first = asked(site, 0, begun)
  assert spent() == 2
  again = asked(site, 0, begun)  # the answer was lost: it is the same
  assert spent() == 2
  for path in first:
    np.testing.assert_array_equal(first[path], again[path])
  # From elsewhere it is another round, with noise that was never sent: the
  # difference to the first is no gradient.
  near = dataclasses.replace(
    begun, params=jax.tree.map(lambda x: x + np.float32(1e-6), begun.params)
  )
  other = asked(site, 0, near)
  assert spent() == 4
  gap = max(np.abs(other[path] - first[path]).max() for path in first)
  assert gap > 0.1
  with pytest.raises(link.RefusalError, match='has spent its budget, 4 of 4'):
    asked(site, 2, dataclasses.replace(begun, step=2))
  kept = json.loads((tmp_path / 'at_a/spent.json').read_text())
  assert kept['steps'] == 4


def test_federations_of_one_secret_share_no_noise(world, tmp_path, monkeypatch):
  mesh, cases = use(monkeypatch), by_site(make_cases())['a']
  config, keys = settings.config(world, []), []
  for name, steps in (('fedavg', 2), ('fedprox', 2), ('fedavg', 1)):
    made = state.planned(experiment.make(config), 6 // steps, steps)
    algorithm = algorithms.make(name, made.config['optimizer'])
    site = simulate.local.Site(
      made, 'a', cases, mesh, folder=tmp_path / f'{name}{steps}',
      about=simulate.local.about(algorithm, steps),
    )  # fmt: skip
    keys.append(jax.random.key_data(site.key).tolist())
  assert len({*map(tuple, keys)}) == 3


def test_sites_have_chance_of_their_own(world, tmp_path, monkeypatch):
  """The same cases at two sites, of one secret: other draws, other noise."""
  mesh = use(monkeypatch)
  made = state.planned(experiment.make(settings.config(world, [])), 3, 2)
  cases = by_site(make_cases())['a']
  sites = [
    simulate.local.Site(made, name, cases, mesh, folder=tmp_path / name)
    for name in ('x', 'y')
  ]
  keys = [np.asarray(jax.random.key_data(site.key)) for site in sites]
  assert (keys[0] != keys[1]).any()
  drawn = [
    np.concatenate([site.batch(k)['padding'] for k in range(6)])
    for site in sites
  ]
  assert (drawn[0] != drawn[1]).any()


def test_what_no_epsilon_covers_is_refused_with_the_site(
  world, tmp_path, monkeypatch
):
  mesh = use(monkeypatch)
  cases = by_site(make_cases())
  for change, message in (
    (dict(norm=True), 'b: .*BatchNorm'),
    (dict(batch_size=4), r'b: data\.batch_size is 4: .* 3 patients'),
  ):
    config = make_config(**{'batch_size': 2} | change)
    config.privacy.update(epsilon=8.0, delta=1e-2)
    made = state.planned(experiment.make(config), 3, 2)
    with pytest.raises(ValueError, match=message):
      simulate.local.Site(made, 'b', cases['b'], mesh, folder=tmp_path / 'b')
  config = make_config(batch_size=2)
  config.privacy.update(epsilon=20.0, delta=1e-2, noise=0.9)
  made = state.planned(experiment.make(config), 30, 2)
  with pytest.raises(
    ValueError, match=r'b: privacy\.noise=0\.9 lasts for \d+ of'
  ):
    simulate.local.Site(made, 'b', cases['b'], mesh, folder=tmp_path / 'c')


def test_the_page_says_both_epsilons(world, tmp_path):
  made = experiment.make(settings.config(world, []))
  places = division.divide(made.cases, 'site')
  candidates = {'fedavg': settings.algorithm(made, 'fedavg', {})}
  plan = simulate.Plan(rounds=1, steps=2)
  gain.compare(made, tmp_path, candidates, places, plan)
  html = page.write(tmp_path).read_text()
  one, several = (
    told(tmp_path / 'fedavg')[k]['epsilon'] for k in ('epsilon', 'several')
  )
  assert f'fedavg: epsilon {text.number(one)} at delta 0.01' in html
  assert f'; {text.number(several)} at 0.03 for one of all' in html
  assert re.search(r'fedavg; 1 round of 2 steps · written 20\d\d-', html)
  # A model of all cases is of one site.
  assert 'Pooled: epsilon' in html
  assert told(tmp_path / 'pooled')['sites']['pooled']['patients'] == 18
