"""The comparison of two runs: tables, figures, and what it refuses."""

import csv

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from medjax import tasks
from medjax.metrics import bootstrap, delong
from medjax.reports import comparison
from medjax.reports.measures import Measures
from medjax.run import per_case

NAN = float('nan')


def _write(folder, rows):
  folder.mkdir(exist_ok=True)
  with (folder / 'per_case.csv').open('w', newline='') as f:
    writer = csv.DictWriter(f, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
  return str(folder)


def _segmentation(n=30, *, gain=0.0, seed=0, split='test'):
  rng, own = np.random.default_rng(7), np.random.default_rng(seed)
  rows = []
  for i in range(n):
    dice = np.clip(
      rng.uniform(0.5, 0.9, 2) + gain + 0.02 * own.normal(size=2), 0, 1
    )
    distance = 10 * (1 - dice)
    rows.append(
      {'split': split, 'id': f'case{i:02d}', 'patient': f'Doe^{i // 2}',
       'dice/left': dice[0], 'dice/right': dice[1],
       'hd95/left': distance[0], 'hd95/right': distance[1]}
    )  # fmt: skip
  return rows


def _classification(n=60, *, noise=1.0, classes=2, seed=0):
  label = np.arange(n) % classes
  rng = np.random.default_rng(seed)
  logits = 2.0 * np.eye(classes)[label] + noise * rng.normal(size=(n, classes))
  p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  names = ['healthy', 'ill', 'worse'][:classes]
  return [
    {'split': 'test', 'id': f'c{i}', 'patient': f'Doe^{i}',
     **{f'probability/{k}': v for k, v in zip(names, p[i], strict=True)},
     'label': label[i]}
    for i in range(n)
  ]  # fmt: skip


MEASURES = Measures(
  {
    'dice': {'title': 'Dice', 'unit': '', 'higher': True},
    'hd95': {'title': 'HD95', 'unit': 'mm', 'higher': False},
  }
)


def _compare(a, b, measures=MEASURES, **options):
  a, b = per_case.read(a, **options), per_case.read(b, **options)
  ids = per_case.match(a, b)
  return comparison.compare(a, b, ids, measures=measures)


def _column(rows, key):
  return np.array([float(row[key]) for row in rows])


def test_segmentation_lines(tmp_path):
  rows = _segmentation(), _segmentation(gain=0.05, seed=1)
  a, b = _write(tmp_path / 'a', rows[0]), _write(tmp_path / 'b', rows[1])
  c = _compare(a, b)
  assert [(line.metric, line.of) for line in c.lines] == [
    (m, k) for m in ('dice', 'hd95') for k in ('mean', 'left', 'right')
  ]
  left = c.lines[1]
  x, y = (_column(r, 'dice/left') for r in rows)
  assert left.a == pytest.approx(x.mean())
  assert left.b == pytest.approx(y.mean())
  assert left.difference == pytest.approx((y - x).mean())
  # Cases come in pairs of one patient.
  patients = np.repeat(np.arange(15), 2)
  again = bootstrap.intervals(
    lambda w: {'x': bootstrap.weighted_mean(y - x, w)},
    patients,
    n_resamples=2000,
  )['x']
  np.testing.assert_allclose(left.interval, again, atol=0.003)
  by_patient = (y - x).reshape(15, 2).mean(1)
  assert left.p == pytest.approx(stats.wilcoxon(by_patient).pvalue)
  p = [line.p for line in c.lines]
  np.testing.assert_allclose(
    [line.adjusted for line in c.lines], stats.false_discovery_control(p)
  )
  mean = c.lines[0]
  assert mean.difference == pytest.approx(
    (c.lines[1].difference + c.lines[2].difference) / 2
  )


def test_pairs_without_a_value_are_left_out_and_counted(tmp_path):
  rows = _segmentation(10), _segmentation(10, gain=0.05, seed=1)
  rows[0][0]['hd95/left'] = NAN
  rows[1][1]['hd95/left'] = ''
  rows[1][2]['hd95/left'] = 'inf'
  a, b = _write(tmp_path / 'a', rows[0]), _write(tmp_path / 'b', rows[1])
  c = _compare(a, b)
  line = next(x for x in c.lines if (x.metric, x.of) == ('hd95', 'left'))
  assert (line.n, line.undefined_a, line.undefined_b) == (7, 1, 2)
  x, y = (_column(r[3:], 'hd95/left') for r in rows)
  assert line.a == pytest.approx(x.mean())
  assert line.b == pytest.approx(y.mean())
  # The mean of a case is of the classes that both define.
  mean = next(x for x in c.lines if (x.metric, x.of) == ('hd95', 'mean'))
  assert mean.n == 10
  own, other = (
    (_column(r[3:], 'hd95/left') + _column(r[3:], 'hd95/right')) / 2
    for r in rows
  )
  change = [*_column(rows[1][:3], 'hd95/right')]
  change -= _column(rows[0][:3], 'hd95/right')
  assert mean.difference == pytest.approx(np.mean([*change, *(other - own)]))
  text = comparison.text(c)
  assert '7 (undefined: A 1, B 2)' in text
  assert 'left out of both means' in text
  assert 'Lower is better: HD95, mm.' in text
  text = comparison.text(_compare(a, b, measures=Measures()))
  assert 'Which way is better is not said: Dice; Hd95.' in text


def test_p_values_of_novelty_are_no_scores(tmp_path):
  rows = _segmentation(), _segmentation(gain=0.05, seed=1)
  compared = lambda: _compare(
    _write(tmp_path / 'a', rows[0]), _write(tmp_path / 'b', rows[1])
  )
  plain = compared()
  rng = np.random.default_rng(0)
  for row in [*rows[0], *rows[1]]:
    for name in ('ood_p', 'ood_p/mahalanobis', 'ood_p/residual'):
      row[name] = rng.random()
  c = compared()
  # Neither tested, nor of those that the others are adjusted by.
  assert [(k.metric, k.of, k.adjusted) for k in c.lines] == [
    (k.metric, k.of, k.adjusted) for k in plain.lines
  ]


def test_a_measure_of_the_whole_case_is_one_that_is_known(tmp_path):
  rows = [
    {'split': 'test', 'id': f'c{i}', 'patient': f'p{i}', 'risk': i, 'mae': i}
    for i in range(6)
  ]
  a = _write(tmp_path / 'a', rows)
  b = _write(tmp_path / 'b', [{**row, 'mae': row['mae'] + 1} for row in rows])
  known = Measures({'mae': {'title': 'MAE', 'unit': 'days', 'higher': False}})
  c = _compare(a, b, measures=known)
  assert [(x.metric, x.of, x.difference) for x in c.lines] == [('mae', '', 1)]
  assert 'Lower is better: MAE, days.' in comparison.text(c)
  with pytest.raises(ValueError, match='share no column'):
    _compare(a, b)


def test_binary_classification_is_that_of_its_parts(tmp_path):
  rows = _classification(noise=1.0), _classification(noise=2.5, seed=1)
  a, b = _write(tmp_path / 'a', rows[0]), _write(tmp_path / 'b', rows[1])
  auroc, accuracy = _compare(a, b).lines
  truth = _column(rows[0], 'label') == 1
  x, y = (_column(r, 'probability/ill') for r in rows)
  assert (auroc.metric, auroc.of) == ('auroc', 'ill')
  assert auroc.a == pytest.approx(sklearn_metrics.roc_auc_score(truth, x))
  test = delong.delong(truth, x, y)
  assert auroc.p == test.p
  assert auroc.delong == test.interval
  np.testing.assert_allclose(auroc.interval, test.interval, atol=0.03)
  right = [(v > 0.5) == truth for v in (x, y)]
  assert accuracy.b == pytest.approx(right[1].mean())
  only = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
  assert accuracy.p == pytest.approx(stats.binomtest(only[0], sum(only)).pvalue)
  p = stats.false_discovery_control([auroc.p, accuracy.p])
  np.testing.assert_allclose([auroc.adjusted, accuracy.adjusted], p)


def test_three_classes_and_named_labels(tmp_path):
  rows = _classification(classes=3), _classification(classes=3, seed=1)
  a = _write(tmp_path / 'a', rows[0])
  for row in rows[1]:
    row['label'] = ['healthy', 'ill', 'worse'][row['label']]
  c = _compare(a, _write(tmp_path / 'b', rows[1]))
  assert [(x.metric, x.of) for x in c.lines] == [
    *(('auroc', k) for k in ('mean', 'healthy', 'ill', 'worse')),
    ('accuracy', ''),
  ]
  p = np.stack([_column(rows[0], f'probability/{k}') for k in c.groups], -1)
  label = np.arange(60) % 3
  assert c.lines[0].a == pytest.approx(
    sklearn_metrics.roc_auc_score(label, p, multi_class='ovr')
  )
  assert np.isnan(c.lines[0].adjusted)
  assert c.lines[-1].a == pytest.approx((p.argmax(1) == label).mean())
  np.testing.assert_allclose(c.a, p[np.arange(60), label])


@pytest.mark.parametrize('as_names', [False, True])
def test_classes_that_are_called_by_numbers(tmp_path, as_names):
  """Grades 1, 2, 3: medjax writes indices 0, 1, 2, others their names."""
  folders, names = [], ['1', '2', '3']
  for name in 'ab':
    rows = _classification(classes=3, noise=0.1)
    for row in rows:
      for old, new in zip(('healthy', 'ill', 'worse'), names, strict=True):
        row[f'probability/{new}'] = row.pop(f'probability/{old}')
      row['label'] = names[row['label']] if as_names else row['label']
    folders.append(_write(tmp_path / name, rows))
  lines = _compare(*folders).lines
  assert lines[0].a == 1.0
  assert lines[-1].metric == 'accuracy'
  assert lines[-1].a == 1.0


def test_a_cause_without_events_is_left_out(tmp_path):
  rng, folders = np.random.default_rng(0), []
  for name in 'ab':
    rows = [
      {
        'split': 'test', 'id': f'c{i}', 'patient': f'p{i}', 'time': 1.0 + i,
        'event': i % 2, 'risk_1': rng.random(), 'risk_2': rng.random(),
        'survival/5': 0.9, 'survival/40': 0.3,
        **{f'incidence_{k}/{t}': 0.01 * t for k in (1, 2) for t in (5, 40)},
      }
      for i in range(40)
    ]  # fmt: skip
    folders.append(_write(tmp_path / name, rows))
  found = _compare(*folders)
  assert {line.of for line in found.lines} == {'cause 1'}
  assert 'No case has an event of cause 2: it is left out.' in found.notes


def test_stages_are_those_that_the_run_decided_for(tmp_path):
  task = tasks.Ordinal(num_classes=4, class_names=('I', 'II', 'III', 'IV'))
  rng, folders, expected = np.random.default_rng(0), [], []
  label = rng.integers(4, size=80)
  for name in 'ab':
    rows = []
    for i, p in enumerate(rng.dirichlet(np.ones(4) / 2, 80)):
      found = task.metrics(p, {'id': f'c{i}', 'label': label[i]})
      rows.append({'split': 'test', 'id': f'c{i}', 'patient': f'p{i}', **found})
    expected.append(task.summarize(rows, n_resamples=0)['scores']['accuracy'])
    (tmp_path / name).mkdir()
    per_case.write(tmp_path / name / 'per_case.csv', rows, task.names)
    folders.append(str(tmp_path / name))
  line = _compare(*folders).lines[-1]
  assert line.metric == 'accuracy'
  np.testing.assert_allclose((line.a, line.b), expected)


def test_several_labels_as_the_task_writes_them(tmp_path):
  task = tasks.Classification(
    num_classes=2, multi_label=True, class_names=('mass', 'fluid')
  )
  rng = np.random.default_rng(0)
  label = rng.integers(0, 2, size=(50, 2))
  runs = []
  for name in 'ab':
    p = np.clip(label * 0.4 + rng.uniform(0, 0.6, size=(50, 2)), 0, 1)
    rows = [
      {'split': 'test', 'id': f'c{i}', 'patient': f'p{i // 2}',
       **task.metrics(p[i], {'label': label[i], 'id': f'c{i}'})}
      for i in range(50)
    ]  # fmt: skip
    (tmp_path / name).mkdir()
    per_case.write(tmp_path / name / 'per_case.csv', rows, task.names)
    runs.append((str(tmp_path / name), task.summarize(rows, n_resamples=0)))
  c = _compare(runs[0][0], runs[1][0])
  assert [(x.metric, x.of) for x in c.lines] == [
    *(('auroc', k) for k in ('mean', 'mass', 'fluid')),
    ('accuracy', 'mass'),
    ('accuracy', 'fluid'),
  ]
  for line in c.lines[1:3]:
    for value, (_, summary) in zip((line.a, line.b), runs, strict=True):
      expected = summary['classes'][line.of]['auroc']['value']
      assert value == pytest.approx(expected)
  assert 'several' in comparison.text(c)


def test_a_run_against_itself_moves_nothing(tmp_path):
  for rows in (_segmentation(), _classification()):
    a = _write(tmp_path / 'a', rows)
    c = _compare(a, a)
    assert all(line.difference == 0 for line in c.lines)
    assert all(line.p == 1 for line in c.lines)
    assert 'No case moved' in comparison.text(c)
    assert comparison.write(c, tmp_path / 'out')[1].exists()


def test_published_table_and_pooled_folds(tmp_path):
  rows = _segmentation(20)
  folds = [
    _write(tmp_path / f'fold{k}', rows[10 * k : 10 * k + 10]) for k in (0, 1)
  ]
  table = tmp_path / 'published.csv'
  with table.open('w', newline='') as f:
    writer = csv.writer(f)
    writer.writerow(['fold', 'case', 'dice_l', 'n_voxels'])
    for i, row in enumerate(reversed(rows)):
      writer.writerow([i % 5, row['id'], row['dice/left'] - 0.01, 100])
  columns = {'id': 'case', 'dice/left': 'dice_l'}
  c = _compare(str(table), ','.join(folds), columns=columns)
  (line,) = c.lines
  assert (line.metric, line.of, line.n) == ('dice', 'left', 20)
  assert line.difference == pytest.approx(0.01)
  assert any('hd95' in note for note in c.notes)
  # Where the table names no patient, the run's own are taken.
  assert len(set(c.patients)) == 10


def test_hippocampus_against_nnunets_published_cases(shared_data, tmp_path):
  path = shared_data('msd_hippocampus') / 'nnunet_percase_dice.csv'
  columns = {
    'id': 'case',
    'dice/anterior': 'dice_anterior',
    'dice/posterior': 'dice_posterior',
  }
  theirs = per_case.read(str(path), columns=columns)
  assert len(theirs) == 260
  c = comparison.compare(theirs, theirs, list(theirs))
  means = {line.of: round(line.a, 4) for line in c.lines}
  assert means == {'mean': 0.8904, 'anterior': 0.8985, 'posterior': 0.8823}


def test_refusals_are_one_clear_line(tmp_path):
  rows = _segmentation(4)
  a = _write(tmp_path / 'a', rows)
  twice = _write(tmp_path / 'twice', [*rows, rows[1]])
  no_id = _write(tmp_path / 'no_id', [{'name': 'x', 'dice/left': 1}])
  words = _write(tmp_path / 'words', [{**r, 'dice/left': 'good'} for r in rows])
  other = _write(tmp_path / 'other', [{'id': 'case00', 'iou/left': 1}])
  far = _write(tmp_path / 'far', [{**rows[0], 'id': 'elsewhere'}])
  one = _classification(6)
  c = _write(tmp_path / 'c', one)
  d = _write(tmp_path / 'd', [{**r, 'label': 1} for r in one])
  e = _write(tmp_path / 'e', [{**r, 'label': 'ghost'} for r in one])
  f = _write(tmp_path / 'f', [{**r, 'probability/ill': NAN} for r in one])
  k = _write(tmp_path / 'k', _classification(6, classes=3))
  no_label = [{x: v for x, v in r.items() if x != 'label'} for r in one]
  g = _write(tmp_path / 'g', no_label)
  for first, second, message in (
    (a, str(tmp_path / 'none'), 'none does not exist: give the workdir'),
    (a, str(tmp_path), 'per_case.csv does not exist'),
    (a, twice, 'has case case01 twice'),
    (a, f'{a},{a}', 'has case case00 twice'),
    (a, no_id, 'has no column id, only name, dice/left'),
    (a, words, "column dice/left of case case00 holds 'good'"),
    (a, far, 'no case of A (case00, case01, case02 and 1 more) is in B (els'),
    (c, d, '3 cases have another label in A than in B, as case c0'),
    (c, k, 'the classes differ: healthy, ill in A, healthy, ill, worse in B'),
    (e, c, "label 'ghost' of case c0 is none of healthy, ill"),
    (c, f, 'case c0 has an undefined probability'),
    (g, g, 'without a column label'),
  ):
    with pytest.raises((ValueError, OSError)) as error:
      _compare(first, second)
    assert message in str(error.value)
    assert 'Doe' not in str(error.value)
  with pytest.raises(ValueError, match="no case of the split 'train', only"):
    _compare(a, a, split='train')
  b = per_case.read(other)
  with pytest.raises(ValueError, match='share no column METRIC/CLASS'):
    comparison.compare(per_case.read(a), b, ['case00'])
