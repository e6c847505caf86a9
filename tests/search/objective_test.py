"""A trial that stops at a rung and goes on is the run that never stopped."""

import jax
import numpy as np
import PIL.Image
import pytest

from medjax import begin
from medjax.run.checkpoint import variables
from medjax.search import objective

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
