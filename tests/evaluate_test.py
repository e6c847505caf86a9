import csv
import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import engine, evaluate, experiment
from medjax.config import default_config
from medjax.data import repeated
from medjax.data.facts import DataFacts
from medjax.prediction import scored
from medjax.prediction.predictor import Predictor, local_variables
from medjax.run import per_case
from medjax.tasks import Classification, Segmentation

TASK = Segmentation(num_classes=2)


class Threshold(nn.Module):
  """Foreground is what is brighter than one half."""

  @nn.compact
  def __call__(self, x, *, train=False):
    bright = 20 * (x[..., 0] - 0.5)
    return jnp.stack([-bright, bright], -1)


class Brightness(nn.Module):
  """Class 1 where the image is bright in the mean; no map."""

  @nn.compact
  def __call__(self, x, *, train=False):
    bright = x.mean(tuple(range(1, x.ndim))) - 0.5
    return jnp.stack([-bright, bright], -1)


def oblique():
  """Voxels of 1 × 2.5 × 1.2 mm, axes permuted, flipped and rotated."""
  c, s = np.cos(0.2), np.sin(0.2)
  rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
  affine = np.eye(4)
  affine[:3, :3] = rotation @ [[0, -1, 0], [0, 0, 1], [1, 0, 0]] * [1, 2.5, 1.2]
  affine[:3, 3] = (-20, 30, 7)
  return affine


def make_case(i=0, shape=(24, 14, 20), affine=None):
  """A smooth ball, its edge at one half."""
  affine = oblique() if affine is None else affine
  n = len(shape)
  spacing = np.linalg.norm(affine[:n, :n], axis=0)
  grid = np.moveaxis(np.indices(shape), 0, -1) * spacing
  centre = (np.array(shape) - 1) / 2 * spacing + i
  image = np.exp(-((np.linalg.norm(grid - centre, axis=-1) / 9) ** 2))
  return {
    'image': image[..., None].astype(np.float32),
    'mask': (image > 0.5).astype(np.uint8),
    'label': np.int32(i % 2),
    'id': f'case {i}',
    'patient': f'patient {i // 2}',
    'affine': affine,
    'spacing': spacing,
  }


def make(*preprocess, task=TASK, model=None, **settings):
  config = default_config()
  config.model = dict(name='LeNet5')
  config.task = dict(name='Classification', num_classes=2)
  config.data.preprocess = preprocess
  config.data.patch_size = settings.pop('patch_size', ())
  config.inference.update(batch_size=3, **settings)
  made = experiment.make(config, facts=DataFacts(channels=1, rank=3))
  return dataclasses.replace(made, task=task, model=model or Threshold())


def predictor(*preprocess, **settings):
  """cases → [(case, prediction)]."""
  made = make(*preprocess, **settings)
  predict = Predictor(made).with_weights({})
  return lambda cases: [
    (sample['raw'], found.prediction)
    for sample, found in predict(map(made.prepare, cases))
  ]


@pytest.mark.parametrize(
  ('patch_size', 'shard_space'),
  [((), False), ((12, 12, 12), False), ((12, 12, 12), True)],
)
def test_flipped_and_permuted_cases_come_back_exactly(patch_size, shard_space):
  predict = predictor(
    dict(name='reorient'), patch_size=patch_size, shard_space=shard_space
  )
  case = make_case()
  ((raw, found),) = predict([case])
  assert raw is case
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(found, case['mask'])


@pytest.mark.parametrize('patch_size', [(), (16, 16, 16)])
def test_resampled_cases_come_back_within_interpolation(patch_size):
  predict = predictor(
    dict(name='reorient'),
    dict(name='resample', spacing=(1.0, 1.0, 1.0)),
    patch_size=patch_size,
  )
  cases = [make_case(0), make_case(1, (20, 12, 31))]
  for case, (raw, found) in zip(cases, predict(cases), strict=True):
    assert raw is case
    assert found.shape == case['mask'].shape
    wrong = (found != case['mask']).sum()
    assert wrong <= 0.03 * case['mask'].sum()


def test_pictures_resized_and_cropped_come_back():
  predict = predictor(
    dict(name='crop_foreground', threshold=0.05),
    dict(name='resize', shape=(40, 40), antialias=False),
  )
  case = make_case(shape=(30, 44), affine=np.eye(3))
  ((_, found),) = predict([case])
  assert found.shape == (30, 44)
  assert (found != case['mask']).sum() <= 0.05 * case['mask'].sum()


def test_probabilities_of_a_class_are_no_map():
  task = Classification(num_classes=2)
  predict = predictor(
    dict(name='resample', spacing=(2.0, 2.0, 2.0)),
    task=task,
    model=Brightness(),
  )
  found = [p for _, p in predict([make_case(i) for i in range(5)])]
  assert [p.shape for p in found] == [(2,)] * 5
  np.testing.assert_allclose(np.sum(found, 1), 1, rtol=1e-5)


def test_a_class_is_no_map_to_spread_over_devices():
  task = Classification(num_classes=2)
  predict = predictor(task=task, model=Brightness(), shard_space=True)
  with pytest.raises(ValueError, match='shard_space is for models that give'):
    predict([make_case()])


def test_rows_come_in_the_order_of_the_cases_and_are_visited():
  cases, seen, made = [make_case(i) for i in range(5)], [], make()
  rows = evaluate.evaluate_cases(
    Predictor(made).with_weights({}),
    TASK,
    [made.prepare(case) for case in cases],
    visit=lambda case, prediction, row: seen.append((case['id'], row['case'])),
  )
  assert [row['id'] for row in rows] == [f'case {i}' for i in range(5)]
  assert [row['patient'] for row in rows] == [
    f'patient {i}' for i in (0, 0, 1, 1, 2)
  ]
  assert seen == [(f'case {i}', i) for i in range(5)]
  assert all(row['dice'] == [1.0] for row in rows)


def test_per_case_table(tmp_path):
  task = Segmentation(num_classes=3, class_names=('none', 'grey', 'white'))
  rows = [
    {'split': s, 'id': f'{i}, "x"', 'patient': 'p',
     'dice': np.array([0.5, np.nan])}
    for i, s in enumerate(('validation', 'test'))
  ]  # fmt: skip
  per_case.write(tmp_path / 'per_case.csv', rows, task.names)
  with (tmp_path / 'per_case.csv').open(newline='') as f:
    table = list(csv.DictReader(f))
  assert list(table[0]) == ['split', 'id', 'patient', 'dice/grey', 'dice/white']
  assert [r['id'] for r in table] == ['0, "x"', '1, "x"']
  assert (table[1]['dice/grey'], table[1]['dice/white']) == ('0.5', 'nan')


def test_per_case_table_of_labels(tmp_path):
  task = Classification(num_classes=2, class_names=('dark', 'bright'))
  row = {'split': 'test', 'id': '0', 'patient': '0'}
  row |= {'probability': np.array([0.25, 0.75]), 'label': np.int32(1)}
  per_case.write(tmp_path / 'per_case.csv', [row], task.names)
  head, line = (tmp_path / 'per_case.csv').read_text().splitlines()
  assert head == 'split,id,patient,probability/dark,probability/bright,label'
  assert line == 'test,0,0,0.25,0.75,1'


def test_each_process_predicts_its_share_of_the_cases(monkeypatch):
  made, seen = make(), []
  samples = [made.prepare(make_case(i)) for i in range(5)]
  predict = Predictor(made).with_weights({})
  monkeypatch.setattr(scored, '_gathered', lambda rows: rows)
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  for process in range(2):
    monkeypatch.setattr(jax, 'process_index', lambda p=process: p)
    rows = evaluate.evaluate_cases(predict, TASK, samples)
    seen.append([row['case'] for row in rows])
  assert seen == [[0, 2, 4], [1, 3]]


def test_cases_without_reference_are_passed_over():
  cases, made = [make_case(i) for i in range(4)], make()
  for i in (0, 2):
    del cases[i]['mask']
  predict = Predictor(made).with_weights({})
  samples = [made.prepare(case) for case in cases]
  rows = evaluate.evaluate_cases(predict, TASK, samples)
  assert [(row['case'], row['id']) for row in rows] == [
    (1, 'case 1'), (3, 'case 3'),
  ]  # fmt: skip
  with pytest.raises(ValueError, match='none of 1 cases has a mask'):
    evaluate.evaluate_cases(predict, TASK, samples[:1])
  assert evaluate._of_test(predict, TASK, samples[:1], None) == {}
  assert [*evaluate._of_test(predict, TASK, samples, None)] == ['test']


@pytest.mark.parametrize('members', [1, 2])
def test_maps_without_numbers_are_missed_and_named(members, capsys):
  task = Segmentation(num_classes=2, level=0.9)
  cases, made = [make_case(i) for i in range(3)], make(task=task)
  for i in (0, 2):
    cases[i]['image'][3, 4, 5] = np.nan
  samples = [made.prepare(case) for case in cases]
  predict = evaluate.predictor_of(made).with_weights(*[{}] * members)
  seen = []
  rows = evaluate.evaluate_cases(
    predict, task, samples, visit=lambda *found: seen.append(found[1].any())
  )
  assert [float(row['dice'][0]) for row in rows] == [0, 1, 0]
  assert seen == [False, True, False]
  assert rows[0].keys() == rows[1].keys() == rows[2].keys()
  assert (rows[0]['missed'][0][1:] == 1).all()
  assert rows[0]['auroc'] == 0.5
  assert 'no numbers of 2 of 3 cases' in (line := capsys.readouterr().err)
  assert line.endswith('they count as missed: case 0, case 2\n')
  assert task.summarize(rows)['scores']['dice'] == pytest.approx(1 / 3)
  assert task.calibrate(rows)
  with pytest.raises(ValueError, match=r'case 0: the .* \(1 of 1 cases\)'):
    evaluate.evaluate_cases(predict, task, samples[:1])


def test_no_process_waits_for_one_that_has_no_numbers(monkeypatch):
  task, gathered = Classification(num_classes=2), []
  made = make(task=task, model=Brightness())
  cases = [make_case(i) for i in range(3)]
  cases[1]['image'][3, 4, 5] = np.nan
  samples = [made.prepare(case) for case in cases]
  predict = Predictor(made).with_weights({})
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(
    scored, '_gathered', lambda rows: gathered.extend(map(dict, rows)) or rows
  )
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  with pytest.raises(ValueError, match='case 1: the model gives no numbers'):
    evaluate.evaluate_cases(predict, task, samples)
  monkeypatch.setattr(scored, '_gathered', lambda rows: gathered + rows)
  monkeypatch.setattr(jax, 'process_index', lambda: 0)
  with pytest.raises(ValueError, match=r'case 1: .* \(1 of 3 cases\)'):
    evaluate.evaluate_cases(predict, task, samples)


def test_scores_are_also_said_without_what_training_has_seen():
  task = Classification(num_classes=2)
  sure = lambda p, label: {'probability': np.array([1 - p, p]), 'label': label}
  rows = [
    {**sure(p, label), 'id': str(i), 'patient': str(i), 'repeated': i < 2}
    for i, (p, label) in enumerate(
      [(0.9, 1), (0.1, 0), (0.9, 1), (0.8, 0), (0.1, 1), (0.2, 0)]
    )
  ]
  found = repeated.summarize(task, rows, None, seed=0)['repeated']
  assert found['n'] == 2
  assert found['without']['n'] == 4
  assert found['without']['scores']['accuracy'] == 0.5
  fresh = [{**row, 'repeated': False} for row in rows]
  assert repeated.summarize(task, fresh, None, seed=0) == {'repeated': {'n': 0}}
  for row in rows:  # not looked for
    del row['repeated']
  assert repeated.summarize(task, rows, None, seed=0) == {}


def test_variables_of_a_sharded_state_are_gathered():
  params = {'kernel': np.arange(64.0, dtype=np.float32).reshape(8, 8)}
  state = engine.TrainState(
    step=np.int32(3), params=params, variables={}, opt_state=()
  )
  mesh = engine.make_mesh(jax.devices()[:8])
  sharding = engine.state_sharding(state, mesh, shard_above=64)
  state = jax.device_put(state, sharding)
  assert state.params['kernel'].addressable_data(0).shape == (1, 8)
  found = local_variables(state)
  np.testing.assert_array_equal(found['params']['kernel'], params['kernel'])
