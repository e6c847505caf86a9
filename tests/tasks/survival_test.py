"""The task of survival: from outputs to curves, and whole runs on tables."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

import medjax
from medjax import engine, experiment
from medjax.compare import compare_runs
from medjax.config import default_config
from medjax.evaluate import evaluate
from medjax.external import evaluate_on
from medjax.metrics import conformal, cox
from medjax.predict import predict
from medjax.report import write_report
from medjax.run.writer import Writer
from medjax.tasks import Survival, survival_scores
from medjax.tasks import survival_methods as methods
from medjax.tasks.task import Calibration
from medjax.train import train

TIMES = tuple(np.linspace(1, 10, 201))


def make_task(**options):
  return Survival(event_times=TIMES, intervals=9, **options)


def sample(n=60, causes=1, seed=0):
  """Covariates (n, 2), times that depend on the first, events."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(n, 2)).round(4)
  time = (rng.exponential(size=n) * np.exp(-x[:, 0]) * 5 + 0.05).round(3)
  return x, time, rng.integers(0, causes + 1, n)


def write_table(path, seed=0, n=60, causes=1, split=True, **columns):
  x, time, event = sample(n, causes, seed)
  parts = np.array(['train', 'train', 'validation', 'test'])
  rows = ['patient,age,sex,time,event' + (',split' if split else '')]
  for i in range(n):
    sex = '' if i % 9 == 8 else 'fm'[int(x[i, 1] > 0)]
    row = [f'p{seed}-{i}', x[i, 0], sex, time[i], event[i]]
    rows.append(','.join(map(str, row + [parts[i % 4]] * split)))
  path.write_text('\n'.join(rows) + '\n')
  return path


def make_config(path, model='cox', **task):
  config = default_config()
  config.data.update(name='folder', path=str(path), batch_size=0)
  config.data.preprocess = (dict(name='standardise'),)
  config.task = dict(name='Survival', model=model, intervals=6, **task)
  config.model = dict(name='MLP', hidden=(4,))
  if model == 'coxtime':
    config.model.name = 'CoxTime'
  config.optimizer.learning_rate = 1e-2
  config.train.update(steps=4, log_every=2, eval_every=2)
  return config


def devices(monkeypatch, count):
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:count]), ('data',))
  monkeypatch.setattr(engine, 'make_mesh', lambda devices=None: mesh)


# From outputs to curves.


def test_a_cox_model_gets_the_survival_of_breslow():
  x, time, event = sample(200)
  task = make_task()
  rows = [
    task.metrics({'curves': x[i, :1]}, {'id': str(i), 'time': time[i],
                                        'event': event[i]})
    for i in range(200)
  ]  # fmt: skip
  decided = task.calibrate([], train=rows)
  h = cox.baseline(x[:, 0], time, event)
  expected = np.exp(-h.at(task.grid)[None] * np.exp(x[:, :1]))
  found = task.completed(rows, decided)
  for row, curve in zip(found, expected, strict=True):
    values = [v for k, v in row.items() if k.startswith('survival/')]
    np.testing.assert_allclose(values, curve, atol=1e-9)
  # By their own baseline, where nobody has completed them.
  (score,) = task.monitored(rows, None)(np.ones((1, 200)))
  scores = task.summarize(rows, n_resamples=0)['scores']
  assert score == pytest.approx(scores[task.monitor])
  # Calibration goes through JSON.
  again = Calibration.of(json.loads(json.dumps(dataclasses.asdict(decided))))
  assert again == decided


def test_times_that_are_written_alike_are_one():
  # 65.3 - 62.2 is 3.0999999999999943, and 3.1 no other time.
  rng = np.random.default_rng(0)
  start = rng.uniform(40, 60, 100).round(1)
  age = (start + rng.exponential(4, 100).round(1) + 0.1).round(1)
  levels = np.linspace(0, 1, 201)
  times = tuple(np.quantile(age - start, levels))
  task = Survival(event_times=times, model='discrete', intervals=200)
  assert len({f'{t:.7g}' for t in task.grid}) == len(task.grid)
  assert (np.diff(task.grid) > 1e-6).all()
  assert task.grid[-1] == (age - start).max()  # none lies beyond
  rows = [
    {'id': str(i), 'time': t, 'event': 1, 'curves': 1 - np.exp(-task.grid / t)}
    for i, t in enumerate(age - start)
  ]
  rows = task.completed(rows, task.calibrate(rows))
  curves = survival_scores.Rows(task, rows).free
  np.testing.assert_allclose(curves[7], np.exp(-task.grid / rows[7]['time']))
  assert task.summarize(rows, n_resamples=0)['scores']['antolini'] > 0.9


def test_competing_incidences_and_survival_make_one():
  x, time, event = sample(150, causes=2)
  base = methods.baseline(x[:, :, None], time, event, make_task().grid)
  found = methods.incidence(x[:, :, None], base)
  hazard = (np.exp(x)[:, :, None] * base).sum(1)
  free = np.exp(-hazard.cumsum(-1))
  np.testing.assert_allclose(found.sum(1) + free, 1, atol=1e-12)
  assert (np.diff(found, axis=-1) >= 0).all()


def test_no_covariates_are_aalen_johansen():
  """Equal risks: what a Cox model predicts is what is seen, nearly."""
  _, time, event = sample(3000, causes=2, seed=3)
  grid = make_task().grid
  base = methods.baseline(np.zeros((3000, 2, 1)), time, event, grid)
  (found,) = methods.incidence(np.zeros((1, 2, 1)), base)
  expected = methods.marginal(time, event, 2, grid)
  # The hazards of a cause are taken as even within an interval.
  np.testing.assert_allclose(found, expected, atol=0.01)


@pytest.mark.parametrize('model', ['discrete', 'deephit'])
def test_outputs_are_incidences(model):
  task = make_task(model=model)
  outputs = np.random.default_rng(0).normal(size=(5, task.num_outputs))
  found = np.asarray(task.predict(outputs.astype(np.float32))['curves'])
  assert found.shape == (5, len(task.grid))
  assert (np.diff(found, axis=1) > 0).all()
  assert (found > 0).all()
  assert (found < 1).all()


@pytest.mark.parametrize(
  ('options', 'says'),
  [
    (dict(model='kox'), "task.model='kox' is none of cox"),
    (dict(model='cox', causes=2), "'cox' knows of one cause, the data have 2"),
    (dict(ties='exact'), "'efron' or 'breslow', not 'exact'"),
    (dict(horizons=(0,)), 'times are above 0'),
    (dict(cause_names=('a', 'b')), 'cause_names has 2 entries'),
    (dict(event_times=()), 'no case of the training split has an event'),
    (dict(monitor='ibs'), "monitor='ibs' is none of"),
  ],
)
def test_refused_in_one_line(options, says):
  with pytest.raises(ValueError, match=says):
    Survival(**{'event_times': TIMES, **options})


@pytest.mark.parametrize(
  ('case', 'says'),
  [
    (dict(time=0, event=1), 'time is 0; times are above 0'),
    (dict(time=np.nan, event=1), 'time is nan'),
    (dict(time=1, event=2), 'event is 2; 0 is censored'),
    (dict(time=1, event=0.5), 'event is 0.5'),
  ],
)
def test_a_case_that_cannot_be_used(case, says):
  with pytest.raises(ValueError, match=f"case 'x': {says}"):
    make_task().check({'id': 'x', **case})


def test_scores_of_nobody_with_an_event_are_undefined():
  task = make_task()
  rows = [
    task.metrics({'curves': np.array([float(i)])}, {'id': str(i),
                 'time': 1.0 + i, 'event': int(i == 0) * e})
    for e in (0,) for i in range(6)
  ]  # fmt: skip
  found = task.summarize(rows, n_resamples=10)
  assert found['scores']['harrell'] is None
  assert found['about']['event']['events'] == 0
  one = [{**row, 'event': int(i == 0)} for i, row in enumerate(rows)]
  found = task.summarize(one, n_resamples=10)
  assert found['scores']['harrell'] == 0  # the earliest has the lowest risk


# Whole runs.


@pytest.fixture(scope='module')
def ran(tmp_path_factory):
  """A run of one step size on a table, with its workdir."""
  folder = tmp_path_factory.mktemp('survival')
  table = write_table(folder / 'cases.csv')
  with pytest.MonkeyPatch.context() as patch:
    devices(patch, 1)
    made = experiment.make(make_config(table))
    train(made, folder / 'one')
    results = evaluate(made, folder / 'one')
  return folder, made, results


BAD_TABLES = {
  'a time of 0': ('time,event,a', '0,1,1', "line 2: time is '0', not a number"),
  'no time': ('time,event,a', ',1,1', "line 2: time is empty"),
  'NaN': ('time,event,a', 'nan,1,1', 'time is empty'),
  'half an event': ('time,event,a', '1,0.5,1', "event is '0.5'; 0 is censored"),
  'an event below 0': ('time,event,a', '1,-1,1', "event is '-1'; 0 is cens"),
  'all censored': ('time,event,a', '1,0,1', 'no case of the training split'),
  'no covariates': ('time,event', '1,1', 'no case of the training split has a'),
  'a patient twice': (
    'patient,time,event,a', 'p,1,1,1', 'case p occurs twice; keep one'),
  'only one of both': ('time,a', '1,1', 'label or mask, or time and event'),
}  # fmt: skip


@pytest.mark.parametrize('name', BAD_TABLES)
def test_a_table_that_cannot_be_used(name, tmp_path):
  header, row, says = BAD_TABLES[name]
  one_row = header == 'time,event,a' and name != 'all censored'
  good = '1,1,1' if one_row else row
  path = tmp_path / 'cases.csv'
  path.write_text('\n'.join([header, row, *[good] * 9]) + '\n')

  def begin():
    made = experiment.make(make_config(path))
    made.stream(made.cases('train'))

  with pytest.raises(ValueError, match=says) as e:
    begin()
  assert '\n' not in str(e.value)


def losses(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  found = [json.loads(line).get('train/loss') for line in lines]
  return [x for x in found if x is not None]


def test_facts_of_the_table(ran):
  _, made, _ = ran
  assert made.facts.rank == made.facts.channels == 0
  assert made.facts.covariate_names == ('age', 'sex=f', 'sex=m')
  assert made.facts.causes == 1
  assert len(made.facts.event_times) == 201
  assert 'covariates, as none are named: age, sex' in made.facts.notes


def test_cox_on_eight_devices_and_after_a_kill(ran, monkeypatch):
  """30 training cases: eight devices hold two that count for nothing."""
  folder, made, _ = ran
  devices(monkeypatch, 8)
  train(made, folder / 'eight')
  np.testing.assert_allclose(
    losses(folder / 'one'), losses(folder / 'eight'), rtol=2e-5
  )
  assert len(losses(folder / 'one')) == 2

  devices(monkeypatch, 1)
  scalars = Writer.scalars

  def fail(self, step, values):
    scalars(self, step, values)
    if step == 4 and 'train/loss' in values:
      raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(Writer, 'scalars', fail)
    with pytest.raises(KeyboardInterrupt):
      train(made, folder / 'killed')
  train(made, folder / 'killed')
  evaluate(made, folder / 'killed')
  one, killed = (
    (folder / k / 'per_case.csv').read_text() for k in ('one', 'killed')
  )
  assert one == killed


def test_what_a_run_writes(ran):
  folder, _, results = ran
  found = results['test']
  assert found['n'] == 15
  assert {'antolini', 'harrell', 'uno', 'ibs', 'auc'} <= found['scores'].keys()
  about = found['about']['event']
  assert about['censoring_from'] == 'the training cases'
  assert about['n_pairs'] + about['n_dropped'] == 15 * 14 // 2
  validation = results['validation']['about']['event']
  assert validation['censoring_from'] == 'these cases'
  page = write_report(folder / 'one').read_text()
  assert 'censoring distribution of the training cases' in page
  drawn = {p.stem for p in (folder / 'one/figures').glob('survival_*.png')}
  assert drawn == {
    'survival_thirds', 'survival_brier', 'survival_incidence',
    'survival_calibration', 'survival_cases',
  }  # fmt: skip


@pytest.mark.parametrize('covariates', ['age', 'age, sex', ''])
def test_groups_of_a_table_without_images(ran, tmp_path, covariates):
  """A column is known beside the covariates, and where it is one of them."""
  folder, *_ = ran
  config = make_config(folder / 'cases.csv')
  config.data.fields.covariates = covariates
  config.data.subgroups = ('sex',)
  config.train.steps = 1
  made = experiment.make(config)
  train(made, tmp_path / 'run')
  evaluate(made, tmp_path / 'run')
  with open(tmp_path / 'run/per_case.csv', newline='') as f:
    groups = {row['group_sex'] for row in csv.DictReader(f)}
  assert groups == {'female', 'male', 'unknown'}


def test_a_group_that_no_case_could_be_in_is_refused_before_training(
  ran, tmp_path
):
  folder, *_ = ran
  config = make_config(folder / 'cases.csv')
  config.data.subgroups = ('site',)
  with pytest.raises(ValueError, match="no case says 'site'"):
    train(experiment.make(config), tmp_path / 'run')
  assert not list(tmp_path.glob('run/checkpoints/*'))


def test_compared_with_itself_nothing_differs(ran):
  folder, _, results = ran
  found = compare_runs(str(folder / 'one'), str(folder / 'one'))
  lines = {line.metric: line for line in found.lines}
  assert {*lines} == {'harrell', 'antolini', 'auc', 'ibs'}
  for line in lines.values():
    assert line.difference == 0
    assert np.isnan(line.interval).all()  # 0 in every resample
  scores = results['test']['scores']
  for name in ('harrell', 'antolini'):
    assert lines[name].a == pytest.approx(scores[name], abs=1e-6)


def test_predicts_on_tables(ran, tmp_path):
  folder, _, _ = ran
  run = medjax.load(folder / 'one')
  lines = (folder / 'one/per_case.csv').read_text().splitlines()
  header = lines[0].split(',')
  rows = [dict(zip(header, x.split(','), strict=True)) for x in lines[1:]]
  # A table of other patients, without outcomes and with a kind not seen.
  table = tmp_path / 'new.csv'
  wanted = {r['id'] for r in rows if r['split'] == 'test'}
  source = (folder / 'cases.csv').read_text().splitlines()[1:]
  kept = [x.split(',')[:3] for x in source if x.split(',')[0] in wanted]
  kept.append(['other', '0.5', 'diverse'])
  text = '\n'.join(','.join(r) for r in [['patient', 'age', 'sex'], *kept])
  table.write_text(text + '\n')
  predict(folder / 'one', [table], tmp_path / 'out')
  found = (tmp_path / 'out/predictions.csv').read_text().splitlines()
  header = found[0].split(',')
  found = [dict(zip(header, x.split(','), strict=True)) for x in found[1:]]
  assert len(found) == len(kept)
  by_id = {r['id']: r for r in rows}
  for row in found[:-1]:
    for name in header[1:]:
      expected = float(by_id[row['id']][name])
      assert float(row[name]) == pytest.approx(expected, abs=2e-6)
  # In Python, by the columns; what is not known is NaN.
  value = run.predict(covariates=np.array([0.5, np.nan, np.nan], np.float32))
  assert value.values['risk'] == pytest.approx(
    float(found[-1]['risk']), abs=2e-6
  )
  with pytest.raises(ValueError, match='2 covariates, the model was trained'):
    run.predict(covariates=np.zeros(2, np.float32))
  table.write_text('patient,age\nx,1\n')
  with pytest.raises(ValueError, match="has no column 'sex'"):
    predict(folder / 'one', [table], tmp_path / 'other')


@pytest.mark.parametrize('method', [None, 'independent'])
def test_predicts_a_time_that_is_outlived(ran, tmp_path, capsys, method):
  folder, made, results = ran
  table = write_table(tmp_path / 'new.csv', seed=7, n=12, split=False)
  predict(folder / 'one', [table], tmp_path / 'out', conformal=0.8, sets=method)
  said = capsys.readouterr().out
  method = method or 'any'
  assert f'at 0.8 ({method} censoring), of 15 test patients: ' in said
  with (tmp_path / 'out/predictions.csv').open() as f:
    rows = list(csv.DictReader(f))
  assert len(rows) == 12
  assert {row['abstain'] for row in rows} == {'0'}
  stored = medjax.load(folder / 'one').calibration.conformal
  stored = {k: np.array(v) for k, v in stored.items()}
  assert len(stored['reached']) == 15  # of validation
  weight = stored['weight'] if method == 'independent' else None
  limit = conformal.survival_limit(stored['reached'], level=0.8, weight=weight)
  grid = made.task.grid
  for row in rows:  # the bound is where the curve falls to 1 - limit
    curve = [float(row[f'survival/{t:.7g}']) for t in grid]
    at = np.interp(float(row['lower_bound']), [0, *grid], [1, *curve])
    assert at == pytest.approx(max(1 - limit, curve[-1]), abs=1e-4)
  # The evaluation, at its own level, and the report of it.
  found = {t['method']: t for t in results['test']['sets']}
  assert found[method]['level'] == 0.9
  assert 0 <= found[method]['unknown'] <= 1
  page = write_report(folder / 'one').read_text()
  assert 'Lower bounds, any censoring' in page


@pytest.mark.parametrize(
  ('options', 'line'),
  [
    (dict(conformal=0.8, sets='lac'), 'none of any, independent'),
    (dict(conformal=0.8, by_class=True), 'survival has no classes'),
    (dict(conformal=0.99), '15 calibration patients are too few'),
    (dict(ood=True), '--ood are for images'),
  ],
)
def test_bounds_that_cannot_be_are_refused(ran, tmp_path, options, line):
  folder, _, _ = ran
  with pytest.raises(ValueError, match=line):
    predict(folder / 'one', [folder / 'cases.csv'], tmp_path / 'out', **options)
  assert not (tmp_path / 'out').exists()


def test_bounds_that_do_not_hold_are_said_to_be_low():
  """Curves of half the hazard: calibrated on cases that die twice as late."""
  task, rng, sides = make_task(model='discrete'), np.random.default_rng(0), []
  curve = 1 - np.exp(-task.grid / 8)
  for scale in (8, 2, 8):
    time = rng.exponential(scale, 400) + 0.01
    rows = [
      {'id': str(i), 'patient': str(i), 'time': t, 'event': 1, 'curves': curve}
      for i, t in enumerate(time)
    ]
    sides.append(rows)
  decided = task.calibrate(sides[0], train=sides[0])
  sick, alike = (
    task.measured(task.completed(rows, decided), decided, level=0.9)
    for rows in sides[1:]
  )
  assert sick['coverage'] < 0.75
  assert 'below what they say' in sick['warning']
  assert alike['coverage'] == pytest.approx(0.9, abs=0.05)
  assert not alike['warning']


def test_evaluated_on_other_patients(ran):
  folder, made, _ = ran
  table = write_table(folder / 'other.csv', seed=5, split=False)
  results, _ = evaluate_on(made, folder / 'one', str(table))
  assert results['test']['n'] == 60
  about = results['test']['about']['event']
  assert about['censoring_from'] == 'the training cases'
  with pytest.raises(ValueError, match='that the run was trained on'):
    evaluate_on(made, folder / 'one', str(folder / 'cases.csv'))


@pytest.mark.parametrize(
  ('model', 'causes'), [('coxtime', 1), ('deephit', 2), ('competing', 2)]
)
def test_other_models(model, causes, tmp_path, monkeypatch):
  devices(monkeypatch, 1)
  table = write_table(tmp_path / 'cases.csv', causes=causes)
  made = experiment.make(make_config(table, model))
  train(made, tmp_path / 'run')
  results = evaluate(made, tmp_path / 'run')
  assert results['test']['scores']['antolini'] is not None
  if causes == 2:
    assert [*results['test']['classes']] == ['event 1', 'event 2']
  assert write_report(tmp_path / 'run').exists()
  compare_runs(*[str(tmp_path / 'run')] * 2)


def test_image_and_table_together(tmp_path, monkeypatch):
  devices(monkeypatch, 1)
  study = tmp_path / 'study'
  study.mkdir()
  write_table(study / 'cases.csv', n=24)
  lines = (study / 'cases.csv').read_text().splitlines()
  rng = np.random.default_rng(0)
  for i in range(24):
    pixels = rng.integers(0, 255, (8, 8), np.uint8)
    Image.fromarray(pixels).save(study / f'{i}.png')
    lines[i + 1] += f',{i}.png'
  lines[0] += ',path'
  (study / 'cases.csv').write_text('\n'.join(lines))
  config = make_config(study, 'coxtime', inputs=('image', 'covariates'))
  config.data.fields.covariates = 'age, sex'
  config.data.preprocess += (dict(name='scale', mean=127.5, std=127.5),)
  encoder = dict(name='ResNet', stage_sizes=(1,), width=4, stem='small')
  config.model.backbone = dict(name='Fusion', backbone=encoder, hidden=4)
  made = experiment.make(config)
  train(made, tmp_path / 'run')
  results = evaluate(made, tmp_path / 'run')
  assert results['test']['n'] == 6
  run = medjax.load(tmp_path / 'run')
  known = np.array([0.5, 1.0, 0.0], np.float32)
  found = run.predict(np.zeros((8, 8, 1), np.uint8), covariates=known)
  assert 0 < found.values['risk'] < results['test']['about']['event']['tau'] * 9
  whole, *others = results['test']['modalities']['lines']
  score = results['test']['scores']['antolini']
  np.testing.assert_allclose(whole['score']['value'], score)
  assert [(x['way'], x['input']) for x in others] == [
    (way, name)
    for way in ('without', 'permuted')
    for name in ('image', 'covariates')
  ]
  blind = run.predict(covariates=known).values['risk']
  assert 0 < blind != found.values['risk']


def test_converged_it_is_the_fit_of_newton(tmp_path, monkeypatch):
  devices(monkeypatch, 1)
  x, time, event = sample(80)
  rows = ['id,a,b,time,event,split']
  for i in range(80):
    split = 'train' if i < 60 else ('validation', 'test')[i % 2]
    row = [f'c{i}', *x[i], time[i], event[i], split]
    rows.append(','.join(map(str, row)))
  (tmp_path / 'cases.csv').write_text('\n'.join(rows))
  config = make_config(tmp_path / 'cases.csv')
  config.model.hidden = ()
  config.optimizer.update(name='adam', learning_rate=5e-2)
  config.train.update(steps=500, eval_every=500, log_every=500)
  made = experiment.make(config)
  train(made, tmp_path / 'run')
  (variables,) = medjax.load(tmp_path / 'run').variables
  kernel = np.asarray(variables['params']['head']['kernel'])[:2, 0]
  own = x[:60].astype(np.float32)
  expected = cox.fit((own - own.mean(0)) / own.std(0), time[:60], event[:60])
  np.testing.assert_allclose(kernel, expected.coefficients, atol=2e-4)
