"""Members and folds are the runs that they would be alone."""

import copy
import csv
import json
import shutil
import types
from typing import ClassVar

import jax
import numpy as np
import pytest
from PIL import Image

import medjax
from medjax import experiment
from medjax import train as train_lib
from medjax.config import default_config
from medjax.evaluate import evaluate
from medjax.predict import predict
from medjax.run import writer as writer_lib
from medjax.run.checkpoint import Checkpointer, best_variables
from medjax.run.member import stalled
from medjax.run.stop import Stopped

TIMES = {'train/examples_per_second', 'train/waiting', 'seconds'}


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
  """Noise of two widths, 12 of each."""
  root, rng = tmp_path_factory.mktemp('pictures'), np.random.default_rng(0)
  for i in range(24):
    folder = root / ('dark', 'bright')[i % 2]
    folder.mkdir(exist_ok=True)
    noise = np.clip(rng.normal(90, 30 + 8 * (i % 2), (8, 8)), 0, 255)
    Image.fromarray(noise.astype(np.uint8)).save(folder / f'{i:02}.png')
  return root


def make(pictures, **fields):
  config = default_config()
  config.data.update(name='folder', path=str(pictures), batch_size=8)
  config.data.fractions = (0.4, 0.4, 0.2)
  config.data.preprocess = (dict(name='zscore'),)
  config.augment = (dict(name='gaussian_noise', p=0.5),)
  config.model = dict(name='small_net:Net')
  config.task = dict(name='Classification', monitor='auroc')
  config.optimizer.update(name='sgd', learning_rate=0.1)
  config.train.update(steps=6, log_every=2, eval_every=2, ema_decay=0.5)
  config.update_from_flattened_dict(fields)
  return config


def train(config, workdir):
  made = experiment.make(config)
  train_lib.train(made, workdir)
  return made


def run(config, workdir):
  return evaluate(train(config, workdir), workdir)


def read_rows(workdir):
  with (workdir / 'per_case.csv').open(newline='') as f:
    return list(csv.DictReader(f))


def assert_same_run(a, b, *, atol):
  """Weights, log and rows of two runs, to rounding."""
  (step, left), (other, right) = best_variables(a), best_variables(b)
  assert step == other
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=atol), left, right
  )
  left, right = (
    [json.loads(x) for x in (w / 'metrics.jsonl').read_text().splitlines()]
    for w in (a, b)
  )
  for x, y in zip(left, right, strict=True):
    assert x.keys() == y.keys()
    for k in x.keys() - TIMES:
      assert x[k] == pytest.approx(y[k], abs=atol), k
  for x, y in zip(read_rows(a), read_rows(b), strict=True):
    assert x['id'] == y['id']
    p, q = float(x['probability/dark']), float(y['probability/dark'])
    assert p == pytest.approx(q, abs=atol)
  assert (a / 'config.json').read_text() == (b / 'config.json').read_text()


def test_members_together_are_runs_alone_and_their_mean_is_one(
  pictures, tmp_path
):
  together = {'members': 2, 'train.together': True, 'train.shard_above': 64}
  results = run(make(pictures, **together), tmp_path)
  alone = make(pictures, **{'seed': 1, 'data.seed': 0, 'train.shard_above': 64})
  run(alone, tmp_path / 'alone')
  assert_same_run(tmp_path / 'member1', tmp_path / 'alone', atol=1e-5)
  each = [read_rows(tmp_path / f'member{i}') for i in range(2)]
  assert each[0] != each[1]
  for row, *members in zip(read_rows(tmp_path), *each, strict=True):
    mean = np.mean([float(m['probability/dark']) for m in members])
    assert float(row['probability/dark']) == pytest.approx(mean, abs=1e-6)
    assert 0 <= float(row['mutual_information']) < float(row['entropy'])
  assert list(results['members']) == ['member0', 'member1']
  assert results['test']['applied_temperature'] > 0
  assert results['test']['uncertainty']['entropy'] > 0
  assert results['test']['repeated'] == {'n': 0}  # none was trained on
  written = json.loads((tmp_path / 'metrics.json').read_text())
  one = json.loads((tmp_path / 'member1/metrics.json').read_text())
  assert written['members']['member1']['test'] == one['test']['scores']
  files = sorted((pictures / 'dark').iterdir())
  tables = []
  for calibrated in (False, True):
    out = tmp_path / f'out{calibrated}'
    predict(tmp_path, files, out, calibrated=calibrated, trust=True)
    with (out / 'predictions.csv').open(newline='') as f:
      tables.append(list(csv.DictReader(f)))
  rows = {f'{row["id"]}.png': row for row in read_rows(tmp_path)}
  temperature = results['calibration']['temperature']
  for plain, calm in zip(*tables, strict=True):
    p, q = float(plain['dark']), float(calm['dark'])
    logit = np.log(p / (1 - p)) / temperature
    assert q == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
    assert plain['entropy'] == calm['entropy']
    row = rows.get('/'.join(plain['file'].split('/')[-2:]))
    if row:
      assert p == pytest.approx(float(row['probability/dark']), abs=1e-5)
  with pytest.raises(ValueError, match='members: 2 → 3'):
    train(make(pictures, **{**together, 'members': 3}), tmp_path)


class StopAt(train_lib.StopSignal):
  """Told to stop after a step."""

  def exit_code(self, step):
    return 143 if step == 3 else None


def test_folds_are_runs_alone_also_after_a_stop(
  pictures, tmp_path, monkeypatch
):
  folds = {'folds': 3, 'data.folds': 3}
  monkeypatch.setattr(train_lib, 'StopSignal', StopAt)
  with pytest.raises(Stopped):
    train(make(pictures, **folds), tmp_path)
  monkeypatch.undo()
  # As if killed between two of its checkpoints: fold 2 begins again.
  shutil.rmtree(tmp_path / 'fold2/checkpoints')
  results = run(make(pictures, **folds), tmp_path)
  splits = dict(train='fold1', validation='fold0', test='fold2')
  alone = make(pictures, **{'data.folds': 3, 'data.splits': splits})
  run(alone, tmp_path / 'alone')
  assert_same_run(tmp_path / 'fold2', tmp_path / 'alone', atol=0)
  for i in range(3):
    saved = Checkpointer(tmp_path / f'fold{i}', read_only=True)
    assert saved.latest_step() == 6
    saved.close()
  rows = read_rows(tmp_path)
  assert len({row['id'] for row in rows}) == len(rows) == 24
  assert {row['fold'] for row in rows} == {'fold0', 'fold1', 'fold2'}
  assert results['test']['n'] == 24
  low, high = results['test']['intervals']['auroc']
  assert low < results['test']['scores']['auroc'] <= high
  assert 'validation' not in results
  with pytest.raises(ValueError, match='of a cross-validation each fold'):
    predict(tmp_path, [], tmp_path / 'out', calibrated=True, trust=True)


@pytest.fixture(scope='module')
def table(tmp_path_factory):
  """Thirty patients: two columns, a grade, and how long they lived."""
  rng = np.random.default_rng(0)
  lines = ['who,grade,age,size,months,died']
  for i in range(30):
    age, size = rng.normal(60, 10), rng.lognormal(2, 1)
    months = rng.exponential(30 + 20 * (i % 2))
    cells = f'{age:.1f},{size:.2f},{months:.1f},{int(i % 5 > 0)}'
    lines.append(f'P{i:02},{"ab"[i % 2]},{cells}')
  path = tmp_path_factory.mktemp('table') / 'patients.csv'
  path.write_text('\n'.join(lines))
  return path


def of_a_table(table, fields, **task):
  config = default_config()
  config.data.update(name='folder', path=str(table), batch_size=8, folds=3)
  config.data.fields.update(patient='who', covariates='age, size', **fields)
  config.data.preprocess = (dict(name='standardise'),)
  config.task = dict(inputs=('covariates',), **task)
  config.model = dict(name='MLP', hidden=())
  config.optimizer.update(name='sgd', learning_rate=0.1)
  config.train.update(steps=2, log_every=1, eval_every=2)
  return config


def alone_in(config, fold):
  alone = copy.deepcopy(config)
  others = [(fold + k) % 3 for k in (1, 2)]
  alone.data.splits = dict(
    validation=f'fold{others[0]}', train=f'fold{others[1]}', test=f'fold{fold}'
  )
  return alone


def test_each_fold_measures_its_own_training_cases_alone(table, tmp_path):
  """All had the mean of fold 0's, who are the test cases of others."""
  fields = {'label': 'grade'}
  config = of_a_table(table, fields, name='Classification', monitor='auroc')
  whole = copy.deepcopy(config)
  whole.folds = 3
  run(whole, tmp_path)
  made = experiment.restore(tmp_path)
  means = {each.facts.covariate_statistics for _, each in made.members}
  assert len(means) == 3
  tables = []
  for i in range(3):
    alone = alone_in(config, i)
    assert made.members[i][1].facts == experiment.make(alone).facts
    run(alone, tmp_path / f'alone{i}')
    step, left = best_variables(tmp_path / f'fold{i}')
    other, right = best_variables(tmp_path / f'alone{i}')
    assert step == other
    jax.tree.map(np.testing.assert_array_equal, left, right)
    tables.append(read_rows(tmp_path / f'alone{i}'))
    assert read_rows(tmp_path / f'fold{i}') == tables[-1]
  # As one: each sees a patient as it was trained to.
  trained = [
    medjax.load(tmp_path / name) for name in ('fold0', 'fold1', 'fold2')
  ]
  case = {'covariates': np.array([70, 3.0], np.float32)}
  each = [one.predict(**case).probabilities for one in trained]
  mean = medjax.load(tmp_path).predict(**case).probabilities
  np.testing.assert_allclose(mean, np.mean(each, 0), atol=1e-6)


def test_folds_have_their_own_event_times_and_one_table(table, tmp_path):
  fields = {'time': 'months', 'event': 'died'}
  task = dict(name='Survival', model='discrete', intervals=4)
  config = of_a_table(table, fields, **task)
  whole = copy.deepcopy(config)
  whole.folds = 3
  results = run(whole, tmp_path)
  assert results['test']['n'] == 30
  made = experiment.restore(tmp_path)
  assert len({each.task.event_times for _, each in made.members}) == 3
  run(alone_in(config, 1), tmp_path / 'alone1')
  assert read_rows(tmp_path / 'fold1') == read_rows(tmp_path / 'alone1')
  # Their rows are on the grid of the first.
  columns = [k for k in read_rows(tmp_path)[0] if k.startswith('survival/')]
  first = read_rows(tmp_path / 'fold0')
  assert columns == [k for k in first[0] if k.startswith('survival/')]
  for row in read_rows(tmp_path):
    curve = [float(row[k]) for k in columns]
    assert curve == sorted(curve, reverse=True)
    if row['fold'] == 'fold0':
      assert row['risk'] in {r['risk'] for r in first if r['id'] == row['id']}
  with pytest.raises(ValueError, match=r'event times .* WORKDIR/fold0'):
    medjax.load(tmp_path).predict(covariates=np.zeros(2, np.float32))


def test_a_member_that_stops_early_leaves_the_others(pictures, tmp_path):
  patience = {'train.patience': 1, 'train.eval_every': 1}
  train(make(pictures, members=2, **patience), tmp_path)
  found = {}
  for i in range(2):
    alone = make(pictures, **patience, **{'seed': i, 'data.seed': 0})
    train(alone, tmp_path / f'alone{i}')
    for name in ('member', 'alone'):
      saved = Checkpointer(tmp_path / f'{name}{i}', read_only=True)
      found[name, i] = saved.latest_step(), saved.best_step()
      saved.close()
    assert found['member', i] == found['alone', i]
  assert found['member', 0] != found['member', 1]


def test_fewer_folds_than_the_data_have(pictures, tmp_path):
  config = make(pictures, **{'folds': 3, 'data.folds': 4})
  with pytest.raises(ValueError, match='folds is 3, but folder has a fold3'):
    train(config, tmp_path)


@pytest.mark.parametrize(
  ('scores', 'patience', 'stop'),
  [
    ([0.5, 0.4, 0.4], 2, True),
    ([0.5, 0.4, 0.6], 2, False),
    ([0.5, 0.4, 0.4], 0, False),
    ([0.5, 0.5], 1, True),  # a tie is not better
    ([0.5, 0.4], 2, False),
    ([np.nan, np.nan, np.nan], 2, True),
    ([np.nan, 0.1, np.nan], 2, False),
    ([0.1, np.nan, np.nan], 2, True),
  ],
)
def test_stalled(scores, patience, stop):
  history = [[i, score] for i, score in enumerate(scores)]
  assert stalled(history, patience) is stop


def test_a_finished_run_goes_on_where_the_schedule_allows(
  pictures, tmp_path, capsys
):
  fields = {'schedule.name': 'constant', 'schedule.warmup_steps': 2}
  short = make(pictures, **fields, **{'train.steps': 4})
  train(short, tmp_path / 'a')
  more = make(pictures, **fields)  # 6 steps
  capsys.readouterr()
  train(more, tmp_path / 'a')
  said = capsys.readouterr().out
  assert 'train.steps 4 → 6: goes on from step 4' in said
  train(more, tmp_path / 'b')
  found = []
  for name in 'ab':
    with Checkpointer(tmp_path / name, read_only=True) as saved:
      found.append(saved.variables('last'))
  (left, a), (right, b) = found
  assert left == right == 6
  jax.tree.map(np.testing.assert_array_equal, a, b)
  stored = json.loads((tmp_path / 'a/config.json').read_text())
  assert stored['train']['steps'] == 6
  with pytest.raises(ValueError, match='=3, but it has had 6 already'):
    train(make(pictures, **fields, **{'train.steps': 3}), tmp_path / 'a')
  fields['seed'] = 5
  with pytest.raises(ValueError, match='seed: 0 → 5'):
    train(make(pictures, **fields, **{'train.steps': 8}), tmp_path / 'a')


def test_a_schedule_that_fell_to_the_end_does_not_go_on(pictures, tmp_path):
  train(make(pictures, **{'train.steps': 2}), tmp_path)
  with pytest.raises(ValueError, match='2 → 6: the cosine schedule let the'):
    train(make(pictures), tmp_path)


class Told:
  """A writer of ten lines, as for MLflow or W&B."""

  log: ClassVar = []

  def __init__(self, workdir, config):
    self.log.append((workdir.name, config['train']['steps']))

  def scalars(self, step, values):
    self.log.append((step, values))

  def close(self):
    self.log.append('closed')


def test_a_writer_of_the_config_and_a_profile(pictures, tmp_path):
  Told.log.clear()
  fields = {'train.steps': 4, 'train.profile': (2, 3)}
  fields['train.writer'] = f'{__name__}:Told'
  train(make(pictures, **fields), tmp_path / 'a')
  first, *logged, last = Told.log
  assert (first, last) == (('a', 4), 'closed')
  lines = (tmp_path / 'a/metrics.jsonl').read_text().splitlines()
  assert [step for step, _ in logged] == [
    json.loads(line)['step'] for line in lines
  ]
  assert any('validation/auroc' in values for _, values in logged)
  assert list((tmp_path / 'a/profile').rglob('*.xplane.pb'))
  # It is no part of what was trained.
  train(make(pictures, **{'train.steps': 4}), tmp_path / 'a')


def test_the_pace_is_said_once_it_is_known(tmp_path, monkeypatch, capsys):
  now = [0.0]
  monkeypatch.setattr(
    writer_lib, 'time', types.SimpleNamespace(
      monotonic=lambda: now[0], time_ns=lambda: 1, time=lambda: 1.0
    )
  )  # fmt: skip
  for seconds, said in ((2, 'ETA 0:03:14'), (0.1, '')):
    with writer_lib.Writer(tmp_path, 100) as found:
      found.pace(1)
      now[0] += 2 * seconds
      found.pace(3)
    out = capsys.readouterr().out
    assert said in out
    assert bool(out) == bool(said)
