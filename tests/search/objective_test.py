"""A trial that stops at a rung and goes on is the run that never stopped."""

import json

import jax
import numpy as np
import optuna
import PIL.Image
import pytest

from medjax import begin
from medjax.run.checkpoint import variables
from medjax.search import ledger, objective, population, winner

CONFIG = """
from medjax.config import default_config


def get_config():
  config = default_config()
  config.data.update(name='folder', path={path!r}, batch_size=8)
  config.data.preprocess = (dict(name='zscore'),)
  config.augment = (dict(name='flip', p=0.5),)
  config.model = dict(name='LeNet5')
  config.task = dict(name='Classification', monitor='auroc')
  config.optimizer = dict(name='adam', learning_rate=0.01)
  config.train.update(steps=6, log_every=2, eval_every=2)
  return config
"""


@pytest.fixture
def config(tmp_path):
  rng = np.random.default_rng(1)
  for i in range(40):
    image = rng.normal(90, 15, (16, 16))
    image[4:11, 4:11] += 90 * (i % 2)
    folder = tmp_path / 'data' / ('dark', 'bright')[i % 2]
    folder.mkdir(parents=True, exist_ok=True)
    picture = PIL.Image.fromarray(image.clip(0, 255).astype(np.uint8))
    picture.save(folder / f'{i:02}.png')
  path = tmp_path / 'small.py'
  path.write_text(CONFIG.format(path=str(tmp_path / 'data')))
  return str(path)


def test_promoted_is_bit_for_bit_the_run_that_never_stopped(config, tmp_path):
  work = objective.Objective(config)
  assert work.steps == 6
  rate = {'optimizer.learning_rate': 0.02}
  whole = work(rate, tmp_path / 'whole', 6)
  curves = [work(rate, tmp_path / 'cut', until) for until in (1, 3, 6)]
  (step, a), (other, b) = (
    variables(tmp_path / name, 'last') for name in ('whole', 'cut')
  )
  assert step == other == 6
  jax.tree.map(np.testing.assert_array_equal, a, b)
  assert set(curves[-1]) == {1, 2, 3, 4, 6}
  for step, score in whole.items():  # looking more often changes nothing
    assert curves[-1][step] == score
  before = (tmp_path / 'cut' / 'metrics.jsonl').read_text()
  work(rate, tmp_path / 'cut', 6)  # nothing is left to do
  assert (tmp_path / 'cut' / 'metrics.jsonl').read_text() == before


def test_the_test_split_is_not_opened(config, tmp_path, monkeypatch):
  prepared, asked = begin.samples, []
  monkeypatch.setattr(
    begin,
    'samples',
    lambda made, split, **options: (
      asked.append(split) or prepared(made, split, **options)
    ),
  )
  (score,) = objective.Objective(config)({}, tmp_path / 'run', 2).values()
  assert 0 <= score <= 1
  assert set(asked) == {'validation'}


def kept(folder):
  """Digests of all that a run has kept at its end, its optimizer's too."""
  return json.loads((folder / 'checkpoints/6/digests/metadata').read_text())


def test_a_successor_has_the_exact_state(config, tmp_path):
  """With the settings of its parent it is the parent that goes on."""
  work, (a, b, c) = objective.Objective(config), (tmp_path / x for x in 'abc')
  first = work({}, a, 2)
  for successor in (b, c):
    population.take_over(a, successor)
  copied = [p.relative_to(a) for p in a.glob('checkpoints/**/*') if p.is_file()]
  assert copied
  for path in copied:
    assert (a / path).read_bytes() == (b / path).read_bytes()
  whole = work({}, a, 6)
  assert whole == work({}, b, 6)
  assert kept(a) == kept(b)
  assert first.items() <= whole.items()
  other = {'optimizer.learning_rate': 0.5}
  work(other, c, 6)
  assert kept(a) != kept(c)
  settings = json.loads((c / 'config.json').read_text())
  assert settings['optimizer']['learning_rate'] == 0.5


def test_the_schedule_of_a_population_is_trained(config, tmp_path):
  peaks, field = [0.02, 0.005], 'optimizer.learning_rate'
  for trial in (
    ledger.Trial(0, {field: peaks[0]}, {}, {2: 0.5}, 2, state='paused'),
    ledger.Trial(1, {field: peaks[1]}, {}, {6: 0.9}, 6, state='done', parent=0,
                 since=2),
  ):  # fmt: skip
    ledger.write(tmp_path, trial)
  for _ in range(2):  # the second time all of it is there
    winner.trained(tmp_path, config, seeds=1)
  lines = (tmp_path / 'best/seed1/metrics.jsonl').read_text().splitlines()
  name, logged = 'train/learning_rate', [json.loads(line) for line in lines]
  rates = {e['step']: e[name] for e in logged if name in e}
  for step, peak in ((2, peaks[0]), (4, peaks[1]), (6, peaks[1])):
    cosine = (1 + np.cos(np.pi * (step - 1) / 6)) / 2
    assert rates[step] == pytest.approx(peak * cosine, rel=1e-5)


def test_weights_that_would_not_fit_are_refused(config):
  def average(trial, choices):
    return {'train.ema_decay': trial.suggest_categorical('e', choices)}

  draw = lambda choices: lambda seed: average(
    optuna.create_study(
      sampler=optuna.samplers.RandomSampler(seed=seed)
    ).ask(), choices
  )  # fmt: skip
  population.check(config, draw([0.9, 0.99]))
  with pytest.raises(ValueError, match=r'train\.ema_decay differs'):
    population.check(config, draw([0.0, 0.99]))
  with pytest.raises(ValueError, match=r'optimizer\.name differs'):
    population.check(
      config, lambda seed: {'optimizer.name': ('adam', 'sgd')[seed % 2]}
    )
  for field in ('train.patience', 'privacy.epsilon'):
    with pytest.raises(ValueError, match=f'--population: {field}=3'):
      population.check(config, lambda seed, field=field: {field: 3})
  with pytest.raises(ValueError, match='--rungs=1 is not'):
    population.levels(6, count=1)
  assert population.levels(6, count=3) == (2, 4, 6)
