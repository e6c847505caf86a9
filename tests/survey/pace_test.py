"""Plans for a given time; the real measurement once, on a tiny network."""

import dataclasses

import jax
import numpy as np
import pytest

from medjax import engine
from medjax.survey import pace, plans, setup

ABOUT = {
  'source': {'title': 'a set', 'name': 'set'},
  'splits': {'train': 20, 'validation': 5, 'test': 5},
  'stated': [],
  'divisible': 20,
  'cases': 25,
  'patients': 25,
  'rank': 3,
  'unit': 'mm',
  'channels': 1,
  'modality': ['MRI'],
  'modality_guessed': False,
  'classes': ['background', 'a'],
  'labelled': False,
  'class_voxels': [9, 1],
  'reoriented': False,
  'zero_background': False,
  'box_share': 1.0,
  'intensity': [{}],
  'geometries': [
    {
      'shape': [40, 48, 32], 'box': [40, 48, 32], 'spacing': [1, 1, 1],
      'cases': 25,
    },
  ],
}  # fmt: skip


@pytest.fixture
def measured(monkeypatch):
  """A device whose steps take `measured.rate` seconds per unit of work."""

  class Device:
    rate, asked = 0.0, []

    def seconds(self, planned, about):
      del about
      self.asked.append(planned)
      return self.rate * pace._work(planned)

  device = Device()
  device.asked = []
  monkeypatch.setattr(pace, 'seconds_per_step', device.seconds)
  return device


def test_what_the_time_allows_is_taken(measured):
  whole = pace._work(pace._setups(ABOUT, 8.0, {})[-1])
  measured.rate = 0.001 / whole  # a millisecond for the plan without a limit
  planned = pace.fit(ABOUT, 10, memory_gb=8.0)
  full = setup.make_setup(ABOUT)
  assert planned.plan.patch == full.plan.patch
  assert planned.config['model'] == full.config['model']
  assert planned.config['train']['steps'] == 250_000  # no more than nnU-Net
  measured.rate = 10 / whole
  planned = pace.fit(ABOUT, 30, memory_gb=8.0)
  seconds = measured.rate * pace._work(planned)
  steps = planned.config['train']['steps']
  assert pace.ENOUGH <= steps == int(0.8 * 1800 / seconds)
  assert planned.config['model']['features'][0] < 32
  larger = [
    s
    for s in pace._setups(ABOUT, 8.0, {})
    if pace._work(s) > pace._work(planned)
  ]
  assert all(
    0.8 * 1800 / (measured.rate * pace._work(s)) < 1000 for s in larger
  )
  why = {name: reason for name, _, reason in planned.table}['steps']
  assert why.startswith(f'30 minutes at {seconds:.2g} s each, measured on')


def test_a_measurement_corrects_what_was_foretold(measured):
  whole = pace._work(pace._setups(ABOUT, 8.0, {})[-1])
  measured.rate = 0.001 / whole
  seconds = measured.seconds
  pace.seconds_per_step = lambda planned, about: (
    seconds(planned, about)
    * (1000 if planned.config['model']['features'][0] == 32 else 1)
  )
  planned = pace.fit(ABOUT, 10, memory_gb=8.0)
  assert planned.config['model']['features'][0] == 16


@pytest.mark.parametrize('minutes', [1, 30])
def test_too_little_time_gets_a_line(measured, minutes):
  measured.rate = 1.0
  with pytest.raises(ValueError, match=rf'--minutes={minutes}: 0 steps') as e:
    pace.fit(ABOUT, minutes, memory_gb=8.0)
  assert 'or more' in str(e.value)


def test_short_runs_are_whole_configs(measured, tmp_path):
  least = pace._work(pace._setups(ABOUT, 8.0, {})[0])
  measured.rate = 0.45 / least
  planned = pace.fit(ABOUT, 1, memory_gb=8.0)
  plans.write(tmp_path / 'x.json', planned, title='x', made_by='x')
  config = plans.load(tmp_path / 'x.json')
  assert config.train.steps == 106
  assert config.train.eval_every == config.schedule.warmup_steps == 10
  assert config.data.batch_size % jax.device_count() == 0


def test_a_real_step_is_measured(monkeypatch):
  size = {'shape': [8, 8], 'box': [8, 8], 'spacing': [1, 1], 'cases': 25}
  about = {**ABOUT, 'rank': 2, 'unit': 'px', 'geometries': [size]}
  planned = setup.make_setup(about, width=2)
  planned = dataclasses.replace(
    planned, config={**planned.config, 'augment': ()}
  )
  one = jax.sharding.Mesh(np.array(jax.devices()[:1]), ('data',))
  monkeypatch.setattr(engine, 'make_mesh', lambda devices=None: one)
  assert 0 < pace.seconds_per_step(planned, about) < 60


def test_few_steps_do_not_learn_every_orientation():
  full = setup.make_setup(ABOUT)
  few, many = (pace._with_steps(full, n, 3, 0.8) for n in (200, 1000))
  names = lambda s: {entry['name'] for entry in s.config['augment']}
  assert names(full) - names(few) == {'flip'}
  assert names(many) == names(full)
  rates = [s.config['optimizer']['learning_rate'] for s in (few, many)]
  assert rates == [3e-3, 1e-3]
  assert dict(row[:2] for row in few.table)['mirroring'] == 'none'
  assert 'flip' in names(full)
