"""trust stress, as a user runs it, on a small run."""

import csv
import json
import types

import jax
import numpy as np
import pytest

from medjax import experiment
from medjax.run.checkpoint import best_variables
from medjax.trust import __main__ as command
from medjax.trust import adapt, stress


@pytest.fixture(scope='module')
def stressed(workdir, tmp_path_factory):
  out = tmp_path_factory.mktemp('stress')
  names = ('gaussian_noise', 'brightness_down')
  with pytest.MonkeyPatch.context() as patch:
    few = {k: stress.corrupt.SUITES['xray'][k] for k in names}
    patch.setitem(stress.corrupt.SUITES, 'xray', few)
    path = stress.run(
      workdir, 'xray', out=out, severities=(1, 5), adapt='bn', trust=True
    )
  return path, json.loads((out / 'stress.json').read_text())


def within(row, name):
  """Whether a number lies in its interval, or is the same in all resamples."""
  low, high = row[f'{name}_low'], row[f'{name}_high']
  return (low, high) == (None, None) or low <= row[name] <= high


def test_the_table_has_a_row_for_each(stressed):
  path, found = stressed
  rows = list(csv.DictReader((path.parent / 'stress.csv').open()))
  places = [(r['corruption'], r['severity']) for r in rows]
  assert places == [
    ('none', '0'),
    ('gaussian_noise', '1'),
    ('gaussian_noise', '5'),
    ('brightness_down', '1'),
    ('brightness_down', '5'),
  ]
  clean, *others = found['table']
  assert clean['auroc'] > 0.9
  for row in others:
    np.testing.assert_allclose(row['change'], row['auroc'] - clean['auroc'])
    assert within(row, 'change')
    np.testing.assert_allclose(row['gain'], row['adapted'] - row['auroc'])
    assert within(row, 'gain')
  dark = others[-1]
  assert dark['flagged_as_new'] > 0.9 > clean['flagged_as_new']
  assert dark['set_coverage'] < clean['set_coverage']
  one = found['corruptions']['brightness_down']
  mean = np.mean([r['balanced_accuracy_at_threshold'] for r in others[2:]])
  np.testing.assert_allclose(one['error'], 1 - mean)
  np.testing.assert_allclose(
    one['relative'], clean['balanced_accuracy_at_threshold'] - mean
  )
  assert one['adaptation'].endswith(' none')


def test_the_page_stands_on_its_own(stressed):
  text = stressed[0].read_text()
  assert 'brightness down' in text
  assert text.count('data:image/png;base64,') >= 4
  assert 'http' not in text.partition('<body')[2]


def test_clean_scores_are_those_of_the_evaluation(stressed, workdir):
  metrics = json.loads((workdir / 'metrics.json').read_text())
  for name in ('auroc', 'ece', 'balanced_accuracy_at_threshold'):
    np.testing.assert_allclose(
      stressed[1]['clean'][name], metrics['test']['scores'][name], atol=1e-6
    )


def variables_of(workdir):
  made = experiment.restore(workdir, trust=True)
  return made, best_variables(workdir)[1]


def batches(made):
  cases = made.cases('test')
  samples = [made.prepare({**cases[i], 'id': str(i)}) for i in range(20)]
  return adapt.batches_of(made, samples)


@pytest.mark.parametrize(
  ('adapted', 'higher', 'said'),
  [
    (0.7, True, 'worse than none'),
    (0.9, True, 'better than none'),
    (0.9, False, 'worse than none'),
    (0.8, True, 'as good as none'),
  ],
)
def test_adaptation_is_compared_with_none(adapted, higher, said):
  table = [
    {'corruption': 'none', 'severity': 0, 'auroc': 0.9, 'adapted': 0.9},
    {'corruption': 'blur', 'severity': 1, 'auroc': 0.8, 'adapted': adapted},
  ]
  found = stress.summarize(table, 'auroc', higher=higher)
  assert found['corruptions']['blur']['adaptation'] == said


def test_bn_moves_statistics_only_and_tent_affine_too(workdir, data):
  made, before = variables_of(workdir)
  inputs = batches(made)
  bn = adapt.adapted(made, before, inputs, way='bn')
  tent = adapt.adapted(made, before, inputs, way='tent')
  equal = lambda a, b: bool(jax.tree.all(jax.tree.map(np.array_equal, a, b)))
  assert equal(bn['params'], before['params'])
  assert not equal(bn['batch_stats'], before['batch_stats'])
  changed = {
    name: not equal(tent['params'][name], before['params'][name])
    for name in before['params']
  }
  assert changed == {'conv': False, 'norm': True, 'head': False}


def test_adapted_statistics_are_those_of_the_batches(workdir, data):
  made, before = variables_of(workdir)
  ((whole,),) = batches(made)
  inputs = [[whole[:15]], [whole[15:]]]
  after = adapt.adapted(made, before, inputs, way='bn')
  kernel = before['params']['conv']
  maps = [
    jax.lax.conv_general_dilated(
      x, kernel['kernel'], (1, 1), 'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    ) + kernel['bias']
    for (x,) in inputs
  ]  # fmt: skip
  stats = after['batch_stats']['norm']
  for name, function in (('mean', np.mean), ('var', np.var)):
    each = [function(x, (0, 1, 2)) for x in maps]
    wanted = np.average(each, 0, [15, 5])
    np.testing.assert_allclose(stats[name], wanted, rtol=1e-3, atol=1e-4)


def test_batches_for_adapting_are_of_one_shape(workdir, data):
  made, _ = variables_of(workdir)
  sample = lambda k, side: {
    'image': np.full((side, side, 1), k, np.float32),
  }  # fmt: skip
  small, large = [sample(k, 8) for k in range(33)], [sample(99, 12)]
  found = adapt.batches_of(made, [*small[:3], *large, *small[3:]])
  # 33 are a batch of 32 and one, which would be alone; the large one is left.
  ((images,),) = found
  np.testing.assert_array_equal(images[:, 0, 0, 0], range(33))
  with pytest.raises(ValueError, match='two images of one shape'):
    adapt.batches_of(made, [small[0], *large])


def test_a_model_without_batch_norm_cannot_adapt(workdir, data):
  made, before = variables_of(workdir)
  with pytest.raises(ValueError, match='this model has none'):
    adapt.adapted(made, {'params': before['params']}, [], way='bn')


def test_without_classes_there_is_no_entropy():
  task = types.SimpleNamespace(fields=('time', 'event'))
  variables = {'batch_stats': {'mean': np.zeros(1)}}
  adapt.check(variables, task, 'bn')
  with pytest.raises(ValueError, match='entropy of classes'):
    adapt.check(variables, task, 'tent')


def test_limited_cases_are_drawn_and_stay_in_order():
  test = [{'id': i, 'label': int(i >= 50)} for i in range(100)]
  del test[3]['label']
  drawn = [c['id'] for c in stress._drawn(test, ('label',), 20, 0)]
  assert len(drawn) == 20
  assert drawn == sorted(drawn)
  assert 4 < sum(i >= 50 for i in drawn) < 16
  assert drawn != [c['id'] for c in stress._drawn(test, ('label',), 20, 1)]
  every = [c['id'] for c in stress._drawn(test, ('label',), None, 0)]
  assert every == [i for i in range(100) if i != 3]


@pytest.mark.parametrize(
  ('kind', 'shape', 'message'),
  [('xray', (4, 4, 4, 1), 'is for pictures'), ('ct', (4, 4, 1), 'below 0')],
)
def test_every_case_is_looked_at_before_the_first_is_predicted(
  kind, shape, message
):
  fits = np.full((4, 4, 1), -5.0)
  cases = [{'id': 'a', 'image': fits}, {'id': 'b', 'image': np.ones(shape)}]
  with pytest.raises(ValueError, match=f'b: .*{message}'):
    stress.measure(types.SimpleNamespace(cases=cases), kind)


def test_a_run_on_tables_is_not_stressed(monkeypatch, tmp_path):
  task = types.SimpleNamespace(inputs=('covariates',))
  made = types.SimpleNamespace(folds=0, task=task)
  monkeypatch.setattr(experiment, 'restore', lambda *_, **__: made)
  with pytest.raises(ValueError, match='takes covariates: stress corrupts'):
    stress.load(tmp_path)


@pytest.mark.parametrize(
  ('arguments', 'line'),
  [
    (['--suite=xray', '--limit=0'], 'at least one case'),
    (['--suite=ct'], 'no value below 0'),
    (['--suite=mrt'], 'known are xray, mri, ct'),
    (['--suite=xray', '--severity=6'], 'severities are 1 to 5'),
  ],
)
def test_what_cannot_be_is_said_in_a_line(
  workdir, data, arguments, line, capsys
):
  with pytest.raises(SystemExit):
    command.main(['stress', f'--workdir={workdir}', '--trust', *arguments])
  error = capsys.readouterr().err.strip()
  assert line in error
  assert error.count('\n') == 0
  assert not (workdir / 'stress').exists()
