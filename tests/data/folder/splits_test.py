import collections
import dataclasses
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from medjax.data import folder
from medjax.data.folder.entry import Entry
from medjax.data.folder.splits import assign, assigned

FRACTIONS = (0.7, 0.15, 0.15)


def make(labels, *, images=2, split=''):
  """Patients p0, p1, … of these labels, with some images each."""
  return [
    Entry(
      id=f'p{p}_{i}',
      images=(pathlib.Path(f'p{p}_{i}.png'),),
      patient=f'p{p}',
      label=label,
      split=split,
    )
    for p, label in enumerate(labels)
    for i in range(images)
  ]


def splits_of(entries, *, seed=0, fractions=FRACTIONS, folds=0):
  """{patient: split}, each in one only."""
  found = collections.defaultdict(set)
  for e in assign(entries, seed=seed, fractions=fractions, folds=folds):
    found[e.patient].add(e.split)
  assert all(len(s) == 1 for s in found.values())
  return {patient: s.pop() for patient, s in found.items()}


def test_each_class_is_divided_to_one_patient():
  labels = ['common'] * 101 + ['rare'] * 17
  found = splits_of(make(labels))
  for label in set(labels):
    patients = [f'p{i}' for i, x in enumerate(labels) if x == label]
    counts = collections.Counter(found[p] for p in patients)
    for split, share in zip(
      ('train', 'validation', 'test'), FRACTIONS, strict=True
    ):
      assert abs(counts[split] - share * len(patients)) < 1
  assert splits_of(make(labels)) == found
  assert splits_of(make(labels), seed=1) != found


def test_folds_are_even_by_class_and_in_all():
  labels = list('aaaaaaabbbbbbbbbcccccc')
  found = splits_of(make(labels), folds=5)
  assert set(found.values()) == {f'fold{i}' for i in range(5)}
  sizes = collections.Counter(found.values())
  assert max(sizes.values()) - min(sizes.values()) <= 1
  for label in 'abc':
    counts = collections.Counter(
      found[f'p{i}'] for i, x in enumerate(labels) if x == label
    )
    assert len(counts) == 5
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize('folds', [0, 5])
def test_a_new_patient_moves_only_a_few(folds):
  labels = ['a', 'a', 'b'] * 100
  before = splits_of(make(labels), folds=folds)
  for label in 'ab':
    after = splits_of(make([*labels, label]), folds=folds)
    moved = [p for p, split in before.items() if after[p] != split]
    assert len(moved) <= 2 * max(folds, 3)  # of 300: the ends of the runs


def test_several_labels_are_balanced_by_the_rarest():
  rng = np.random.default_rng(0)
  drawn = rng.random((200, 3)) < (0.5, 0.3, 0.1)
  labels = [tuple(map(int, row)) for row in drawn]
  found = splits_of(make(labels), folds=4)
  for k, off in ((2, 1), (1, 6), (0, 10)):
    counts = collections.Counter(
      found[f'p{i}'] for i, x in enumerate(labels) if x[k]
    )
    assert max(counts.values()) - min(counts.values()) <= off


def test_folds_of_a_stated_train_split():
  entries = make('aabb' * 3, split='train')
  for e in make('ab', split='test'):
    entries.append(dataclasses.replace(e, patient=e.patient.replace('p', 'q')))
  found = splits_of(entries, folds=3)
  assert {found['q0'], found['q1']} == {'test'}
  assert set(found.values()) == {'fold0', 'fold1', 'fold2', 'test'}


def test_a_stated_train_split_gives_validation_its_share():
  entries = make('a' * 34, split='train')
  for e in make('ab', split='test'):
    entries.append(dataclasses.replace(e, patient=e.patient.replace('p', 'q')))
  counts = collections.Counter(splits_of(entries).values())
  # The fractions without the test's: .15 of .85.
  assert counts == {'train': 28, 'validation': 6, 'test': 2}


@pytest.mark.parametrize(
  ('labels', 'split', 'options', 'message'),
  [
    ('aaaaab', '', {'folds': 2}, "class 'b' has 1 patients, fewer than the 2"),
    ([None] * 3, '', {'folds': 4}, 'there are 3 patients, fewer than the 4'),
    ([(1, 0)] * 4 + [(0, 1)], '', {'folds': 2}, "class 'label 1' has 1 pat"),
    ('aabb', 'test', {'folds': 2}, '(test) and none is train'),
    ('aabb', '', {'folds': -1}, 'data.folds -1 must be positive'),
    ('aabb', '', {'fractions': (1, -1, 0)}, 'must be positive'),
  ],
)
def test_refused(labels, split, options, message):
  with pytest.raises(ValueError, match=re.escape(message)) as e:
    splits_of(make(labels, split=split), **options)
  assert '\n' not in str(e.value)


def test_an_unlabelled_case_is_of_the_stated_split_of_its_patient():
  told = [('a', 'x', 'train'), ('b', 'x', 'validation'), ('c', 'y', 'test')]
  entries = [
    Entry(id=p, images=(), patient=p, label=label, split=split)
    for p, label, split in told
  ]
  entries += [Entry(id=f'{p}2', images=(), patient=p) for p in 'abd']
  found = assigned(
    entries, lambda e: e.label is not None, seed=0, fractions=(1, 1, 1), folds=0
  )
  assert {e.id: e.split for e in found} == {
    'a': 'train', 'a2': 'train', 'b': 'validation', 'b2': 'validation',
    'c': 'test', 'd2': 'train',
  }  # fmt: skip


def test_splits_do_not_depend_on_the_locale():
  """Where it is ASCII, bytes of an umlaut come as surrogates."""
  names = [f'Jürgen{i}' for i in range(30)]
  strange = [n.encode().decode('ascii', 'surrogateescape') for n in names]

  def splits(patients):
    entries = [
      dataclasses.replace(e, patient=patient)
      for e, patient in zip(make([''] * 30), patients, strict=False)
    ]
    return [*splits_of(entries).values()]

  assert splits(strange) == splits(names)


def test_a_patient_is_the_group_that_matched(tmp_path):
  for name in ('P1_a', 'P1_b', 'Q1_a', 'Q2_a'):
    path = tmp_path / 'x' / f'{name}.png'
    path.parent.mkdir(exist_ok=True)
    array = np.full((4, 5), len(list(tmp_path.rglob('*'))), np.uint8)
    Image.fromarray(array).save(path)
  for rule in (r'(P\d+)|(Q\d+)', r'[PQ]\d+'):
    cases = folder.open_folder(
      tmp_path, 'train', fractions=(1, 0, 0), patient=rule
    )
    assert [e.patient for e in cases.entries] == ['P1', 'P1', 'Q1', 'Q2']


def test_copies_of_an_image_stay_in_one_split(tmp_path):
  """data.group='duplicates': near and exact copies, and their patients."""
  rng = np.random.default_rng(0)
  originals = rng.integers(0, 200, (12, 48, 48)).astype(np.uint8)
  for i, image in enumerate(originals):
    label = tmp_path / ('a', 'b')[i % 2]
    label.mkdir(exist_ok=True)
    Image.fromarray(image).save(label / f'{i:02}.png')
    brighter = (image + 3).astype(np.uint8)
    Image.fromarray(brighter).save(label / f'{i:02}_again.png')

  def split_of(group):
    splits = folder.open_splits(tmp_path, group=group)
    return {
      e.id: split for split, cases in splits.items() for e in cases.entries
    }

  together = split_of('duplicates')
  apart = split_of('')
  stems = sorted({name.removesuffix('_again') for name in together})
  assert all(together[s] == together[f'{s}_again'] for s in stems)
  assert any(apart[s] != apart[f'{s}_again'] for s in stems)
  cases = folder.open_folder(tmp_path, 'train', group='duplicates')
  assert '12 images joined the patient of an image like them' in cases.notes
  with pytest.raises(ValueError, match=r"data\.group is 'duplicates' or empty"):
    folder.open_folder(tmp_path, 'train', group='copies')
