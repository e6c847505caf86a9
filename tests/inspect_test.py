import csv
import json
import re
import sys

import numpy as np
import pytest
from scipy import ndimage

from medjax import inspect
from medjax.data import duplicates
from medjax.survey import findings, measure, summary
from medjax.survey.source import Source, open_source

LABELS = ('benign', 'malignant')


class Cases(list):
  """Cases of a split; an exception in their place is raised."""

  def __getitem__(self, i):
    case = super().__getitem__(i)
    if isinstance(case, Exception):
      raise case
    return case


def picture(i, split='train', **fields):
  rng = np.random.default_rng(i)
  return {
    'id': f'{split}_{i}',
    'patient': f'Doe, Jane {i}',
    'image': rng.integers(0, 256, (20, 24, 1)).astype(np.uint8),
    'label': np.int32(i % 2),
    'affine': np.eye(3),
    'spacing': np.ones(2),
    **fields,
  }


def volume(i, split='train', spacing=(1.0, 1.0, 2.0), **fields):
  rng = np.random.default_rng(100 + i)
  mask = np.zeros((9, 10, 6), np.uint8)
  mask[2:5, 3:6, 2:4] = 1 + i % 2
  return {
    'id': f'{split}_{i}',
    'patient': f'{split}_{i}',
    'image': rng.normal(100, 10, (9, 10, 6, 1)).astype(np.float32),
    'mask': mask,
    'affine': np.diag([*spacing, 1.0]),
    'spacing': np.array(spacing),
    **fields,
  }


def look(splits, class_names=LABELS):
  splits = {name: Cases(cases) for name, cases in splits.items()}
  source = Source(name='set', splits=splits, class_names=class_names)
  surveyed = measure.survey(source)
  twins = duplicates.find_twins(surveyed.read)
  return surveyed, twins, findings.findings(surveyed, twins)


def texts(found, level):
  return [f.text for f in found if f.level == level]


def healthy(n=10, make=picture):
  return {
    split: [make(k * 100 + i, split) for i in range(n)]
    for k, split in enumerate(('train', 'validation', 'test'))
  }


def test_nothing_to_say_of_healthy_data():
  _, _, found = look(healthy())
  assert found == []
  names = ('background', 'a', 'b')
  _, _, found = look(healthy(make=volume), names)
  (note,) = found
  assert note.level == 'note'
  assert 'No patients are named' in note.text


def test_leaks():
  splits = healthy()
  train, validation, test = splits.values()
  test[3]['patient'] = train[0]['patient']
  validation[2]['image'] = train[5]['image']  # with another label
  validation[2]['label'] = 1 - train[5]['label']
  validation[4]['image'] = train[6]['image']
  noise = np.random.default_rng(0).normal(0, 2, (20, 24, 1))
  test[7]['image'] = (train[7]['image'] + noise).astype(np.float32)
  train[8]['image'] = train[4]['image']
  _, twins, found = look(splits)
  first, second, third = texts(found, 'error')
  assert first.startswith('1 patient in more than one split')
  assert second == '2 images of validation are also in train.'
  assert third == '1 pair of exact duplicates with different labels.'
  (near,) = [t for t in texts(found, 'warning') if 'much like' in t]
  assert near.startswith('1 image of test is much like one of train')
  assert '1 pair of the same image within a split.' in texts(found, 'note')
  assert len(twins.exact) == 3
  # Patients are not named, images are.
  said = ' '.join(f.text + ' '.join(f.examples) for f in found)
  assert 'Jane' not in said
  assert 'train_5 = validation_102' in said
  assert 'train: train_0; test: test_203' in said


def test_images():
  splits = healthy()
  splits['train'][0]['image'] = np.full((20, 24, 1), 7, np.uint8)
  splits['train'][1]['image'] = np.full((20, 24, 1), 7, np.uint8)
  splits['train'][2] = ValueError('b.png: 3 of 480 voxels are NaN')
  splits['test'][4]['image'] = splits['test'][4]['image'].repeat(3, -1)
  for case in splits['validation']:
    case['image'] = case['image'] * np.float32(1000)
  _, _, found = look(splits)
  errors = texts(found, 'error')
  assert '1 case cannot be read.' in errors
  assert '2 images constant: nothing is on them.' in errors
  assert (
    'Images of different kinds: 28 of 2-D with 1 channel, 1 of 2-D with 3 '
    'channels.' in errors
  )
  assert not any('also in' in e for e in errors)  # constant images are no twins
  assert any('different scales' in t for t in texts(found, 'warning'))


def coloured(i, split, spread):
  """Three channels that differ by `spread` of the range."""
  rng = np.random.default_rng(i)
  grey = rng.integers(20, 200, (20, 24, 1))
  image = (grey + np.array([0, 0, spread * 255])).astype(np.uint8)
  return picture(i, split, image=image)


def test_grey_pictures_in_colour():
  _, _, found = look(
    healthy(make=lambda i, split: coloured(i, split, 0.01)),
  )
  (note,) = texts(found, 'note')
  assert note.startswith('All images are grey, though stored in colour')
  _, _, found = look(
    healthy(make=lambda i, split: coloured(i, split, 0.2 if i % 5 else 0.01)),
  )
  (warning,) = texts(found, 'warning')
  assert '(2 of 10 of train, 2 of 10 of validation, 2 of 10 of test)' in warning
  _, _, found = look(healthy(make=lambda i, split: coloured(i, split, 0.2)))
  assert found == []


def slices(blur):
  """One volume of 60 planes, cut into splits at random."""
  rng = np.random.default_rng(0)
  planes = ndimage.gaussian_filter(rng.normal(size=(60, 20, 24)), blur)
  splits = {'train': [], 'test': []}
  for i, plane in enumerate(planes):
    split = 'test' if rng.random() < 0.3 else 'train'
    case = picture(i, split, image=plane[..., None].astype(np.float32))
    splits[split].append({**case, 'id': f'{split}/brain_{i:03}'})
  return splits


def test_neighbouring_slices_in_two_splits():
  _, _, found = look(slices((3, 2, 2)))
  (warning,) = [t for t in texts(found, 'warning') if 'neighbouring' in t]
  assert 'Split by volume' in warning
  _, _, found = look(slices((0, 2, 2)))  # numbered, but nothing in common
  assert not [t for t in texts(found, 'warning') if 'neighbouring' in t]


def test_who_names_the_patients():
  """A builder whose patients have one image each does name them."""
  splits = {
    'train': Cases([picture(i, patient=f'train_{i}') for i in range(9)])
  }
  for named, noted in ((None, True), (False, True), (True, False)):
    source = Source(name='set', splits=splits, class_names=LABELS, named=named)
    surveyed = measure.survey(source)
    twins = duplicates.find_twins(surveyed.read)
    notes = texts(findings.findings(surveyed, twins), 'note')
    assert any('No patients are named' in note for note in notes) == noted
    ((_, _, remark), *_) = summary.cards(surveyed, ())
    assert (remark == 'patients are not named') == noted


def test_units_follow_the_data(tmp_path):
  """Pictures have pixels; those that say how large have millimetres."""
  for spacing, shown in (((1, 1), False), ((0.2, 0.2), True)):
    cases = Cases([picture(i, spacing=np.array(spacing)) for i in range(4)])
    source = Source(name='set', splits={'train': cases}, class_names=LABELS)
    text = inspect.inspect(source, tmp_path).read_text()
    assert ('Spacing, mm' in text) == shown
    assert ('0.2 × 0.2 mm' in text) == shown


def test_control_characters_do_not_reach_the_terminal(tmp_path, capsys):
  evil = 'a\x1b]0;owned\x07'
  cases = Cases(
    [picture(i, id=f'{evil}{i}', label=np.int32(0)) for i in range(3)]
  )
  cases.append(ValueError(f'{evil}.png: damaged'))
  source = Source(name=evil, splits={'train': cases}, class_names=(evil, 'b'))
  inspect.inspect(source, tmp_path)
  assert all(c.isprintable() or c == '\n' for c in capsys.readouterr().out)


def test_geometry():
  splits = healthy(make=volume)
  splits['train'][0] = volume(0, spacing=(0.5, 0.5, 6.0))
  splits['train'][1] = volume(1, spacing=(1.0, 1.0, 1.0))
  splits['train'][2]['affine'] = np.diag([-1.0, -1.0, 2.0, 1.0])
  _, _, found = look(splits, ('background', 'a', 'b'))
  warned = ' '.join(texts(found, 'warning'))
  assert '1 volume with an axis more than 10 times as coarse' in warned
  assert 'from 0.5 × 0.5 × 1 to 1 × 1 × 6 mm: resample' in warned
  assert "(29 RAS, 1 LPS): begin data.preprocess with 'reorient'" in warned
  noted = ' '.join(texts(found, 'note'))
  assert '1 volume of 30 with a spacing of exactly 1 mm' in noted


def test_classes():
  splits = healthy(60)
  for i, case in enumerate(splits['train']):
    case['label'] = np.int32(i % 30 == 0)
  for case in splits['test']:
    case['label'] = np.int32(0)
  _, _, found = look(splits, (*LABELS, 'unclear'))
  assert texts(found, 'error') == [
    'No case shows unclear.',
    'test has no case of malignant.',
  ]
  (mixed, *_) = [t for t in texts(found, 'warning') if 'mixed' in t]
  assert 'train and validation are mixed differently' in mixed
  splits = healthy(make=volume)
  splits['test'][0]['mask'] = np.zeros((9, 10, 6), np.uint8)
  for case in splits['validation']:
    case['mask'] = np.minimum(case['mask'], 1)
  splits['train'][1]['image'] = splits['train'][0]['image']
  splits['train'][0]['mask'] = splits['train'][1]['mask'].copy()
  splits['train'][0]['mask'][0, 0, 0] = 1
  _, _, found = look(splits, ('background', 'a', 'b'))
  assert texts(found, 'error') == [
    '1 pair of exact duplicates with different masks.',
    'validation has no case of b.',
  ]
  assert '1 mask without any label.' in texts(found, 'warning')


def test_masks_and_labels_together():
  splits = healthy(make=volume)
  for cases in splits.values():
    for i, case in enumerate(cases):
      case['label'] = np.int32(i < 3)
  surveyed, _, found = look(splits)
  header, rows = summary.count_table(surveyed)
  assert header[3:] == [*LABELS, 'label 1', 'label 2']
  assert rows[0] == ['train', '10', '10', '7', '3', '5', '5']
  assert texts(found, 'error') == []


@pytest.mark.parametrize('make', [picture, volume])
def test_the_page_and_the_files(tmp_path, capsys, make):
  splits = healthy(6, make)
  splits['validation'][0]['image'] = splits['train'][0]['image']
  splits['validation'][0]['id'] = '<b>x</b>'
  names = LABELS if make is picture else ('background', 'a', 'b')
  source = Source(
    name='set',
    splits={k: Cases(v) for k, v in splits.items()},
    class_names=names,
  )
  path = inspect.inspect(source, tmp_path / 'out')
  said = capsys.readouterr().out
  assert '1 image of validation is also in train' in said
  assert re.search(r'train +6 +6 +3 +3', said)
  text = path.read_text()
  assert '1 image of validation is also in train' in text
  assert '&lt;b&gt;x' in text
  assert '<b>x' not in text
  assert 'Jane' not in said + text
  sources = set(re.findall(r'(?:src|href)="([^,"]{0,22})', text))
  assert sources == {'data:image/png;base64'}  # it stands on its own
  with (tmp_path / 'out/duplicates.csv').open() as f:
    (row,) = csv.DictReader(f)
  assert row == {
    'kind': 'exact', 'correlation': '1.0', 'split_a': 'train',
    'id_a': 'train_0', 'split_b': 'validation', 'id_b': '<b>x</b>',
  }  # fmt: skip
  about = json.loads((tmp_path / 'out/fingerprint.json').read_text())
  assert about['cases'] == 12
  figures = {p.stem for p in (tmp_path / 'out/figures').glob('*.png')}
  assert {'gallery', 'intensity', 'duplicates'} <= figures
  assert ('classes' in figures) == (make is volume)


def test_more_classes_than_columns():
  names = tuple(f'class {k}' for k in range(15))
  splits = {
    'train': [
      picture(i, label=np.eye(15, dtype=np.uint8)[i]) for i in range(15)
    ]
  }
  surveyed, _, _ = look(splits, names)
  header, rows = summary.count_table(surveyed)
  assert header == ['Split', 'train']
  assert rows[:3] == [['Images', '15'], ['Patients', '15'], ['class 0', '1']]
  assert len(rows) == 17


def test_errors_have_one_line(tmp_path, capsys, monkeypatch):
  (tmp_path / 'empty').mkdir()
  for arguments, message in (
    (['nowhere'], 'nor is there a folder nowhere'),
    ([str(tmp_path / 'empty')], 'no images found'),
    ([str(tmp_path)], 'lies inside'),
    (['medmnist/pneumonia'], "did you mean 'pneumoniamnist'"),
    (['x', '--config.data.pth=1'], 'Did you mean "path"'),
  ):
    command = ['inspect', *arguments, f'--out={tmp_path / "out"}']
    monkeypatch.setattr(sys, 'argv', command)
    with pytest.raises(SystemExit, match='1'):
      inspect.main()
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith('medjax: ')
    assert message in line
  assert not (tmp_path / 'out').exists()


def test_real_pneumonia_has_duplicates(shared_data, tmp_path):
  source = open_source(
    'medmnist/pneumoniamnist',
    data_dir=tmp_path,
    manual_dir=shared_data('pneumoniamnist'),
  )
  surveyed = measure.survey(source)
  twins = duplicates.find_twins(surveyed.read)
  found = findings.findings(surveyed, twins)
  # Known: 8 validation images are in train, too.
  assert texts(found, 'error') == ['8 images of validation are also in train.']
  assert not len(twins.near)
  (mixed,) = texts(found, 'warning')
  assert 'train and test are mixed differently' in mixed
  _, rows = summary.count_table(surveyed)
  assert [row[1] for row in rows] == ['4,708', '524', '624', '5,856']
