"""Real processes over Flower on the loopback: server and sites.

Flower holds back versions of packages that others need, and so has an
environment of its own: $MEDJAX_FLOWER_PYTHON is its interpreter.
"""

import csv
import json
import os
import re
import subprocess
import sys

import jax
import numpy as np
import PIL.Image
import pytest
from federated.small_sites import assert_close

from medjax import engine, experiment
from medjax.data.part import Part
from medjax.federated import (
  algorithms,
  division,
  rounds,
  secure,
  settings,
  simulate,
  spending,
)
from medjax.run.checkpoint import variables

PYTHON = os.environ.get('MEDJAX_FLOWER_PYTHON', sys.executable)
SITES = {'a': 10, 'b': 6, 'c': 8}
TWO = ('a', 'b')
CONFIG = """
from medjax.config import default_config


def get_config():
  config = default_config()
  config.data.update(name='folder', path={path!r}, batch_size=4)
  config.data.preprocess = (dict(name='scale', mean=127.5, std=127.5),)
  config.augment = (dict(name='flip', p=0.5),)
  config.model = dict(name='LeNet5')
  config.task = dict(name='Classification')
  config.optimizer = dict(name='sgd', learning_rate=0.05)
  config.schedule.name = 'constant'
  config.inference.batch_size = 8
  config.privacy.update({privacy!r})
  return config
"""


@pytest.fixture(scope='module', autouse=True)
def flower():
  if subprocess.run(
    [PYTHON, '-c', 'import flwr'], capture_output=True
  ).returncode:
    pytest.skip('Flower is not here: $MEDJAX_FLOWER_PYTHON says where')


@pytest.fixture(scope='module')
def hospitals(tmp_path_factory):
  """A folder of pictures by site, one of all, and the config of the latter."""
  home, rng = tmp_path_factory.mktemp('hospitals'), np.random.default_rng(0)
  tables = {name: [] for name in ('all', *SITES)}
  for site, n in SITES.items():
    for i in range(n * 3):
      split = ('train', 'validation', 'test')[i // n]
      image = rng.normal(90 + 30 * (site == 'b'), 15, (16, 16))
      image[4:11, 4:11] += 60 * (i % 2)
      row = {
        'path': f'{site}{i:02}.png', 'label': ('dark', 'bright')[i % 2],
        'split': split, 'site': site,
      }  # fmt: skip
      for name in ('all', site):
        (home / name).mkdir(exist_ok=True)
        picture = PIL.Image.fromarray(image.clip(0, 255).astype(np.uint8))
        picture.save(home / name / row['path'])
        tables[name].append(row)
  for name, rows in tables.items():
    with (home / name / 'cases.csv').open('w', newline='') as f:
      writer = csv.DictWriter(f, [*rows[0]])
      writer.writeheader()
      writer.writerows(rows)
  path = home / 'config.py'
  path.write_text(CONFIG.format(path=str(home / 'all'), privacy={}))
  return home, path


@pytest.fixture
def private(hospitals, tmp_path):
  """The config with a budget, which lasts for the rounds of `serving`."""
  if subprocess.run(
    [PYTHON, '-c', 'import dp_accounting'], capture_output=True
  ).returncode:
    pytest.skip('dp-accounting is not where Flower is')
  home, _ = hospitals
  secret, path = tmp_path / 'secret', tmp_path / 'private.py'
  secret.write_text('0123456789abcdef' * 4)
  privacy = dict(epsilon=60.0, delta=1e-2, noise=0.8, key=str(secret))
  path.write_text(CONFIG.format(path=str(home / 'all'), privacy=privacy))
  return home, path


def start(verb, config, *options):
  environment = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': os.environ['XLA_FLAGS']
    + ' --xla_force_host_platform_device_count=1',
    'PYTHONPATH': os.pathsep.join(sys.path),
  }
  if sys.executable != PYTHON:
    environment['PYTHONPATH'] = os.getcwd()
  return subprocess.Popen(
    [PYTHON, '-m', 'medjax.federated', verb, f'--config={config}', *options],
    env=environment, text=True,
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
  )  # fmt: skip


def serving(config, workdir, *options):
  """(the process of a server, its address)."""
  server = start(
    'server', config, f'--workdir={workdir}', '--address=127.0.0.1:0',
    '--rounds=3', '--steps=2', *options,
  )  # fmt: skip
  line = server.stdout.readline()
  found = re.search(r'at (127\.0\.0\.1:\d+)', line)
  assert found, line + server.communicate(timeout=60)[0]
  return server, found[1]


def site(name, config, home, workdir, address, *options):
  return start(
    'site', config, f'--set=data.path={home / name}', f'--name={name}',
    f'--server={address}', f'--workdir={workdir / name}', *options,
  )  # fmt: skip


@pytest.fixture
def ended():
  """Ends what a test has started, whatever happens."""
  started = []
  yield started
  for process in started:
    process.kill()
    process.wait()


@pytest.fixture
def begun(hospitals, tmp_path, ended):
  """Starts a server and its sites: (the server, [the sites])."""
  home, _ = hospitals

  def begin(config, *options, names=TWO, more=()):
    server, address = serving(
      config, tmp_path / 'served', f'--sites={len(names)}', *options
    )
    sites = [site(n, config, home, tmp_path, address, *more) for n in names]
    ended.extend([server, *sites])
    return server, sites

  return begin


def simulated(config, workdir, name, monkeypatch, names=TWO):
  one = jax.sharding.Mesh(np.array(jax.devices()[:1]), ('data',))
  monkeypatch.setattr(engine, 'make_mesh', lambda devices=None: one)
  made = experiment.make(settings.config(config, []))
  places = division.divide(made.cases, 'site')
  cases = [
    {
      s: Part(made.cases(split), own)
      for s, own in places[split].items()
      if s in names
    }
    for split in ('train', 'validation')
  ]
  algorithm = algorithms.make(name, made.config['optimizer'])
  plan = simulate.Plan(rounds=3, steps=2)
  simulate.federate(made, workdir, algorithm, *cases, plan)


def model(workdir, which='last'):
  step, found = variables(workdir, which)
  return step, rounds.leaves_of(found.pop('params'), found)


@pytest.mark.slow
def test_processes_are_the_simulation(hospitals, tmp_path, begun, monkeypatch):
  _, config = hospitals
  server, both = begun(config, '--algorithm=scaffold', '--timeout=120')
  said = server.communicate(timeout=300)[0]
  assert server.returncode == 0, said
  for name, process in zip(TWO, both, strict=True):
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 0, out
    assert re.search(rf'^{name}: [01]\.\d* on its \d+ test cases', said, re.M)
    assert 'test: AUROC' in out
  simulated(config, tmp_path / 'simulated', 'scaffold', monkeypatch)
  (a, one), (b, other) = (model(tmp_path / k) for k in ('simulated', 'served'))
  assert a == b == 6
  assert_close(one, other)
  best = model(tmp_path / 'served', 'best')
  for name in TWO:  # a run as any other, of the model that all have
    step, own = model(tmp_path / name, 'best')
    assert step == best[0]
    assert_close(own, best[1], atol=0)


@pytest.mark.slow
def test_private_processes_are_the_private_simulation(
  private, tmp_path, begun, monkeypatch
):
  """Each by noise of its own, which the site draws from the secret it has."""
  _, config = private
  server, both = begun(config, '--timeout=400')
  said = server.communicate(timeout=900)[0]
  assert server.returncode == 0, said
  simulated(config, tmp_path / 'simulated', 'fedavg', monkeypatch)
  (a, one), (b, other) = (model(tmp_path / k) for k in ('simulated', 'served'))
  assert a == b == 6
  assert_close(one, other)
  told = [
    json.loads((tmp_path / k / spending.WHOLE).read_text())
    for k in ('simulated', 'served')
  ]
  assert told[0] == told[1]
  for name, process in zip(TWO, both, strict=True):
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 0, out
    epsilon = told[1]['sites'][name]['epsilon']
    assert f'spent: epsilon {epsilon:.3f} ' in out
    assert ' · loss ' not in out
  assert f'of the federation {told[1]["epsilon"]["epsilon"]:.3f}' in said
  # With other noise it is another model.
  (tmp_path / 'secret').write_text('fedcba9876543210' * 4)
  simulated(config, tmp_path / 'again', 'fedavg', monkeypatch)
  _, again = model(tmp_path / 'again')
  assert max(np.abs(again[k] - one[k]).max() for k in one) > 1e-2


@pytest.mark.slow
def test_a_site_that_is_killed_is_left_out(
  hospitals, tmp_path, begun, monkeypatch
):
  _, config = hospitals
  server, both = begun(config, '--timeout=45')
  for line in both[1].stdout:
    if line.startswith('step 2'):
      both[1].kill()
      break
  said = server.communicate(timeout=300)[0]
  assert server.returncode == 1
  assert 'left out of this round: b' in said
  assert 'medjax: 1 of at least 2 sites took part (b ' in said
  out = both[0].communicate(timeout=60)[0]
  assert 'the server ended it: 1 of at least 2 sites' in out

  # The rest is done when it comes back, as if nothing had been.
  server, _ = begun(config, '--timeout=120')
  said = server.communicate(timeout=300)[0]
  assert server.returncode == 0, said
  simulated(config, tmp_path / 'simulated', 'fedavg', monkeypatch)
  assert_close(model(tmp_path / 'simulated')[1], model(tmp_path / 'served')[1])


@pytest.mark.slow
def test_masked_rounds_are_the_plain_ones_to_the_levels(
  hospitals, tmp_path, begun, monkeypatch
):
  _, config = hospitals
  options = '--algorithm=scaffold', '--range=0.5', '--most=10', '--timeout=120'
  server, _ = begun(config, *options, names=SITES, more=('--masked',))
  said = server.communicate(timeout=400)[0]
  assert server.returncode == 0, said
  simulated(config, tmp_path / 'simulated', 'scaffold', monkeypatch, SITES)
  (_, one), (_, other) = (model(tmp_path / k) for k in ('simulated', 'served'))
  step = secure.Range(0.5, 10).step([*SITES.values()])
  assert step < 1e-6
  assert_close(one, other, atol=1e-5)  # three rounds, each from the last
  assert any((one[path] != other[path]).any() for path in one)


@pytest.mark.slow
def test_a_step_beyond_the_range_is_refused_and_not_clipped(hospitals, begun):
  _, config = hospitals
  options = '--range=1e-6', '--most=10', '--timeout=120'
  server, _ = begun(config, *options, names=SITES)
  said = server.communicate(timeout=400)[0]
  assert server.returncode == 1
  assert 'secure aggregation: too few of 3 sites finished' in said
  assert 'beyond the declared' in said


@pytest.mark.slow
def test_nobody_waits_for_ever(hospitals, tmp_path, ended):
  home, config = hospitals
  server, _ = serving(config, tmp_path / 'served', '--sites=2', '--timeout=1')
  ended.append(server)
  said = server.communicate(timeout=120)[0]
  assert server.returncode == 1
  assert 'medjax: 0 of at least 2 sites were here after 1 s' in said
  alone = site('a', config, home, tmp_path, '127.0.0.1:1', '--timeout=2')
  ended.append(alone)
  said = alone.communicate(timeout=120)[0]
  assert alone.returncode == 1
  assert 'medjax: 127.0.0.1:1: no server there for 2 s' in said
  plain = start(
    'server',
    config,
    f'--workdir={tmp_path}',
    '--address=0.0.0.0:0',
    '--sites=2',
  )
  ended.append(plain)
  said = plain.communicate(timeout=120)[0]
  assert 'would travel unencrypted: give --certificate' in said
