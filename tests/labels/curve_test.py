"""Curves of labels: the command, what it skips and refuses, its numbers."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from medjax import experiment, files
from medjax.labels import __main__ as program
from medjax.labels import curve, forest, runs
from medjax.labels.scored import Scored
from medjax.tasks import Classification, Segmentation

SKLEARN = pytest.importorskip('sklearn.metrics')


def table_of(pictures, folder):
  """A CSV with a number of each picture of the folder."""
  lines = ['id,size']
  for path in (pictures / 'study').rglob('*.png'):
    name = path.relative_to(pictures / 'study').with_suffix('')
    lines.append(f'{name},{int(path.stem) % 7}')
  (folder / 'table.csv').write_text('\n'.join(lines))
  return folder / 'table.csv'


def test_a_curve_by_the_command(pictures, tmp_path, capsys, monkeypatch):
  words = [
    'curve', f'--config={pictures}/small.py:pictures', '--labels=6,10',
    '--seeds=1', '--methods=mean_teacher,entropy',
    f'--workdir={tmp_path}/c', '--config.train.steps=4',
    f'--table={table_of(pictures, tmp_path)}',
  ]  # fmt: skip
  program.main(words)
  shown = capsys.readouterr()[0]
  assert 'curve.html' in shown
  result = json.loads((tmp_path / 'c/curve.json').read_text())
  methods = [
    'supervised', 'mean_teacher', 'forest', 'forest_of_table', 'entropy',
    'random',
  ]  # fmt: skip
  found = {(r['method'], r['labels']): r for r in result['table']}
  assert [*found] == [(m, n) for m in methods for n in (6, 10)]
  page = (tmp_path / 'c/curve.html').read_text()
  assert all(m.replace('_', ' ') in page for m in methods)
  # Each is an ordinary run, whose scores are those of the table.
  for (method, n), row in found.items():
    start = method in ('entropy', 'random') and n == 6
    name = 'supervised' if start else method
    for seed in (0,):
      place = runs.folder(tmp_path / 'c', name, n, seed)
      table = curve.rows_of(place)
      p = [r['probability'][1] for r in table]
      wanted = SKLEARN.roc_auc_score([r['label'] for r in table], p)
      assert row['each'][seed] == pytest.approx(wanted, abs=1e-6)
    assert row['score'] == pytest.approx(np.mean(row['each']))
    assert row['low'] <= row['score'] <= row['high']
  stored = json.loads(
    (runs.folder(tmp_path / 'c', 'entropy', 10, 0) / 'config.json').read_text()
  )
  assert len(stored['data']['labelled_ids']) == 10
  assert stored['train']['steps'] == 4
  # Again, nothing is trained.
  monkeypatch.setattr(runs, 'train', None)
  monkeypatch.setattr(forest, 'rows', None)
  monkeypatch.setattr(curve.select, 'look', None)
  program.main(words)
  assert json.loads((tmp_path / 'c/curve.json').read_text()) == result
  shutil.copy(tmp_path / 'table.csv', tmp_path / 'other.csv')
  with pytest.raises(SystemExit):
    program.main([*words, f'--table={tmp_path}/other.csv'])
  assert 'take another --workdir' in capsys.readouterr()[1]
  with pytest.raises(SystemExit):  # a forest is of its config, as a run is
    program.main([*words, '--config.train.steps=5'])
  said = capsys.readouterr()[1]
  assert 'runs/forest/n0006/seed0/config.json belongs to a run with' in said


def test_members_of_two_seeds_are_not_the_same(pictures):
  plan = runs.Plan(f'{pictures}/small.py:pictures', (('members', 2),))
  made = [
    experiment.make(runs.configured(plan, 'supervised', count=6, seed=k))
    for k in (0, 1)
  ]
  seeds = [each.seed for one in made for _, each in one.members]
  assert seeds == [0, 1, 2, 3]
  assert [one.data.labelled_seed for one in made] == [0, 1]


def test_fields_of_the_model_are_those_of_both_networks_of_a_pair():
  plan = runs.Plan(
    'configs/semi.py:pneumoniamnist', (('model.width', 8), ('train.steps', 5))
  )
  one, pair = (
    runs.configured(plan, method, count=47, seed=0)
    for method in ('supervised', 'cps')
  )
  assert one.model.width == pair.model.network.width == 8
  assert 'width' not in pair.model
  assert one.train.steps == pair.train.steps == 5


def test_a_seed_chooses_labels_and_leaves_the_test_split(pictures):
  plan = runs.Plan(f'{pictures}/small.py:pictures')
  ids = {}
  for seed in (0, 1):
    config = runs.configured(plan, 'supervised', count=8, seed=seed)
    made = experiment.make(config)
    ids[seed] = [
      {c['id'] for c in made.cases(split)} for split in ('train', 'test')
    ]
  assert ids[0][1] == ids[1][1]
  assert ids[0][0] != ids[1][0]


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['--labels=6,ten'], 'whole numbers'),
    (['--labels=0'], '1 or more'),
    (['--labels=6,500'], 'labelled=500, but 56 patients'),
    (['--labels=6,56', '--methods=mean_teacher'], 'all 56 training cases'),
    (['--labels=6', '--methods=supervised'], 'always there'),
    (['--labels=6', '--methods=pretrained'], 'say --pretrained=WORKDIR'),
    (['--labels=6', '--methods=bald'], 'train with --config.members=3'),
    (['--labels=6', '--config.folds=5'], 'folds=0'),
    (['--labels=6', 'more'], "unknown argument 'more'"),
  ],
)
def test_bad_arguments(words, message, pictures, tmp_path, capsys):
  base = [f'--config={pictures}/small.py:pictures', f'--workdir={tmp_path}']
  with pytest.raises(SystemExit):
    program.main(['curve', *base, '--seeds=1', *words])
  assert message in capsys.readouterr()[1]


def binary_rows(rng, n, skill):
  label = rng.integers(0, 2, n)
  p = 1 / (1 + np.exp(-(skill * (label - 0.5) + rng.normal(size=n))))
  return [
    {'id': f'{i}', 'patient': f'{i}', 'label': int(y),
     'probability': np.array([1 - q, q])}
    for i, (y, q) in enumerate(zip(label, p, strict=True))
  ]  # fmt: skip


def test_differences_are_found_where_there_are_some_and_not_else():
  rows = {}
  for seed in range(4):
    for name, skill in (('supervised', 1.0), ('same', 1.0), ('better', 4.0)):
      salt = {'supervised': 0, 'same': 1, 'better': 2}[name]
      rng = np.random.default_rng((seed, salt))
      made = binary_rows(rng, 200, skill)
      truth = np.random.default_rng(9).integers(0, 2, 200)
      for row, y in zip(made, truth, strict=True):
        score = skill * (y - 0.5) + rng.normal()
        q = 1 / (1 + np.exp(-score))
        row |= {'label': int(y), 'probability': np.array([1 - q, q])}
      rows[name, 10, seed] = made
  scored = Scored(Classification(num_classes=2), rows)
  better = scored.difference('better', 'supervised', 10)
  same = scored.difference('same', 'supervised', 10)
  truths = lambda name: [
    SKLEARN.roc_auc_score(
      [r['label'] for r in rows[name, 10, s]],
      [r['probability'][1] for r in rows[name, 10, s]],
    )
    for s in range(4)
  ]
  wanted = np.mean(truths('better')) - np.mean(truths('supervised'))
  assert better[0] == pytest.approx(wanted, abs=1e-9)
  assert better[1] > 0
  assert better[3] < 0.01
  assert same[1] < 0 < same[2]
  assert same[3] > 0.05
  assert better[4] is None  # AUROC is no score of a case


def test_segmentations_have_a_wilcoxon_test_over_patients():
  import scipy.stats

  rng, rows = np.random.default_rng(0), {}
  for method, shift in (('supervised', 0.0), ('mine', 0.05)):
    for seed in range(2):
      rows[method, 5, seed] = [
        {'id': f'{i}', 'patient': f'{i}', 'nsd': np.full(2, 0.5),
         'hd95': np.ones(2),
         'dice': np.array([0.6, 0.8]) + shift + rng.normal(0, 0.05, 2)}
        for i in range(30)
      ]  # fmt: skip
  scored = Scored(Segmentation(num_classes=3), rows)
  mean = {
    m: np.mean([[r['dice'].mean() for r in rows[m, 5, s]] for s in (0, 1)], 0)
    for m in ('supervised', 'mine')
  }
  found = scored.difference('mine', 'supervised', 5)
  apart = np.round(mean['mine'] - mean['supervised'], 10)
  assert found[0] == pytest.approx(apart.mean())
  assert found[4] == pytest.approx(scipy.stats.wilcoxon(apart).pvalue)
  assert found[4] < 0.01


def test_the_area_is_the_mean_height_over_the_logarithm():
  task, rows = Classification(num_classes=2), {}
  for n, skill in ((10, 1.0), (20, 2.0), (80, 4.0)):
    rows['supervised', n, 0] = binary_rows(np.random.default_rng(n), 50, skill)
    for i, row in enumerate(rows['supervised', n, 0]):
      row['label'] = i % 2
  scored = Scored(task, rows)
  heights = [scored.mean('supervised', n)[0] for n in (10, 20, 80)]
  wanted = (heights[0] + heights[1]) / 2 / 3 + (heights[1] + heights[2]) / 3
  assert scored.area('supervised', [10, 20, 80])[0] == pytest.approx(wanted)


def test_runs_of_other_cases_are_not_compared():
  rng, task = np.random.default_rng(0), Classification(num_classes=2)
  rows = {
    ('a', 1, 0): binary_rows(rng, 9, 1),
    ('b', 1, 0): binary_rows(rng, 8, 1),
  }
  with pytest.raises(ValueError, match='tested different cases'):
    Scored(task, rows)


class Voxels:
  """An experiment whose masks are what is bright."""

  task = Segmentation(num_classes=2)

  def preprocess(self, case):
    return case

  def cases(self, split):
    rng, found = np.random.default_rng(len(split)), []
    for i in range(4):
      mask = np.zeros((10, 12, 8), np.uint8)
      low = rng.integers(1, 4, 3)
      mask[tuple(slice(a, a + 4) for a in low)] = 1
      image = (mask + rng.normal(0, 0.3, mask.shape))[..., None]
      found.append({
        'id': f'{split}{i}', 'patient': f'{split}{i}', 'image': image,
        'mask': mask, 'spacing': np.ones(3), 'affine': np.eye(4),
      })  # fmt: skip
    return found


def test_a_forest_of_voxels_finds_what_is_bright():
  rows, minutes = forest.rows(Voxels())
  assert np.mean([r['dice'] for r in rows]) > 0.8
  assert minutes > 0


class Pixels:
  """An experiment whose two labels are a bright half each."""

  task = Classification(num_classes=2, multi_label=True)
  preprocess = Voxels.preprocess

  def cases(self, split):
    rng, found = np.random.default_rng(len(split)), []
    for i in range(40):
      label = rng.integers(0, 2, 2) * (split == 'test' or i < 30)
      image = rng.normal(0, 0.3, (6, 6, 1))
      image[:, :3] += label[0]
      image[:, 3:] += label[1]
      about = {'id': f'{split}{i}', 'patient': f'{split}{i}', 'image': image}
      found.append(about | {'label': label.astype(np.uint8)})
    found[0].pop('label')  # is passed over
    return found


def test_a_forest_of_pixels_knows_several_labels():
  rows, _ = forest.rows(Pixels())
  assert len(rows) == 39
  p = np.stack([r['probability'] for r in rows])
  truth = np.stack([r['label'] for r in rows])
  assert SKLEARN.roc_auc_score(truth, p) > 0.95


def test_a_forest_on_the_features_of_a_table(tmp_path):
  found, lines = Pixels(), ['id,side,size,blank,patient']
  found.task = Classification(num_classes=2)
  cases = {split: found.cases(split) for split in ('train', 'test')}
  for split in cases.values():
    for case in split:
      case.setdefault('label', np.zeros(2, np.uint8))
      case['label'] = int(case['label'][0])
      size = case['label'] + 0.1
      lines.append(f'{case["id"]},left,{size},,{case["label"]}')
      case['image'] = np.zeros((6, 6, 1))
  found.cases = cases.get
  path = tmp_path / 'features.csv'
  path.write_text('\n'.join(lines))
  table = forest.read_table(path)
  assert table['test3'].shape == (1,)  # no text, no blank, not the patient
  rows, _ = forest.rows(found, table=table)
  assert all(r['probability'].argmax() == r['label'] for r in rows)
  del table['test3']
  with pytest.raises(ValueError, match='test3 is not in the table'):
    forest.rows(found, table=table)
  with pytest.raises(ValueError, match='leave --table out'):
    forest.rows(Voxels(), table=table)


def test_a_forest_grows_again_of_a_table_that_was_corrected(
  pictures, tmp_path, monkeypatch
):
  path, grown = table_of(pictures, tmp_path), []
  plan = runs.Plan(f'{pictures}/small.py:pictures', table=str(path))
  rows = forest.rows
  monkeypatch.setattr(
    forest, 'rows', lambda *a, **b: grown.append(1) or rows(*a, **b)
  )

  def found():
    table = forest.read_table(path)
    place = tmp_path / 'forest_of_table'
    return [
      row['probability'][1]
      for row in curve._grown(plan, place, 16, 0, table)[0]
    ]

  first = found()
  assert found() == first
  assert len(grown) == 1
  head, *lines = path.read_text().splitlines()
  lines = [f'{x.split(",")[0]},{int(x[0] == "b")}' for x in lines]
  path.write_text('\n'.join([head, *lines]))
  assert found() != first
  assert len(grown) == 2


def test_a_table_with_decimal_commas(tmp_path):
  path = tmp_path / 'features.csv'
  path.write_text('id;size;age\na;40,5;\nb;2;61\n')
  table = forest.read_table(path)
  np.testing.assert_array_equal(table['a'], [40.5, np.nan])
  np.testing.assert_array_equal(table['b'], [2, 61])


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('name,size\na,1\n', 'no column id'),
    ('id,kind\na,b\n', 'of numbers'),
    ('id,size\na,1\na,2\n', "line 3: id 'a' is there twice"),
  ],
)
def test_tables_without_features(text, message, tmp_path):
  (tmp_path / 'a.csv').write_text(text)
  with pytest.raises(ValueError, match=message):
    forest.read_table(tmp_path / 'a.csv')


def test_what_is_there_already_is_of_this_config(pictures, tmp_path):
  plan = runs.Plan(f'{pictures}/small.py:pictures')
  config = runs.configured(plan, 'supervised', count=8, seed=0)
  experiment.make(config).store(tmp_path)
  files.write_json(pathlib.Path(tmp_path) / 'metrics.json', {})
  assert runs.done(config, tmp_path)
  other = runs.configured(plan, 'supervised', count=9, seed=0)
  with pytest.raises(ValueError, match=r'data\.labelled: 8 → 9'):
    runs.done(other, tmp_path)
