"""nnU-Net's and the Decathlon's folders as they lie."""

import json

import nibabel as nib
import numpy as np
import pytest

from medjax.data.folder import find_numbered, open_folder, open_splits

LABELS = {'background': 0, 'edema': 1, 'core': 2, 'enhancing': 3}
REGIONS = {
  'background': 0,
  'whole': [1, 2, 3],
  'core': [2, 3],
  'enhancing': 3,
  'ignore': 4,
}


def volume(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  array = np.zeros((3, 4, 5), np.int16)
  array[1] = value
  nib.save(nib.Nifti1Image(array, np.eye(4)), path)


def task(root, *, cases=10, channels=2, tests=2, labelled=False, **about):
  for i in range(cases):
    for c in range(channels):
      volume(root / f'imagesTr/case_{i:03d}_{c:04d}.nii.gz', 100 * i + c)
    volume(root / f'labelsTr/case_{i:03d}.nii.gz', 1 + i % 3)
  for i in range(tests):
    for c in range(channels):
      volume(root / f'imagesTs/test_{i}_{c:04d}.nii.gz', 5000 + 9 * i + c)
    if labelled:
      volume(root / f'labelsTs/test_{i}.nii.gz', 1)
  names = {'0': 'CT', '1': 'PET', '2': 'noNorm', '3': 'rescale_to_0_1'}
  found = {
    'channel_names': {k: names[k] for k in map(str, range(channels))},
    'labels': LABELS,
    'numTraining': cases,
    'file_ending': '.nii.gz',
    **about,
  }
  (root / 'dataset.json').write_text(json.dumps(found))
  return root


def folds(root, *validation):
  every = sorted({name for fold in validation for name in fold})
  found = [
    {'train': [n for n in every if n not in fold], 'val': list(fold)}
    for fold in validation
  ]
  (root / 'splits_final.json').write_text(json.dumps(found))


def ids(*numbers):
  return [f'case_{i:03d}' for i in numbers]


def test_as_it_lies(tmp_path):
  cases = open_folder(task(tmp_path, channels=4), 'train', dense=True)
  assert cases.class_names == ('background', 'edema', 'core', 'enhancing')
  assert cases.num_classes == 4
  assert cases.channel_names == ('CT', 'PET', 'noNorm', 'rescale_to_0_1')
  assert cases.normalisation == ('ct', 'zscore', 'none', 'rescale_0_1')
  assert (cases.regions, cases.ignore) == ((), None)
  assert len(cases) == 7
  case = cases[0]
  number = int(case['id'][-3:])
  assert case['image'].shape == (3, 4, 5, 4)
  assert case['image'][1, 0, 0].tolist() == [100 * number + c for c in range(4)]
  assert case['mask'].max() == 1 + number % 3
  splits = open_splits(tmp_path, dense=True)
  sizes = {s: len(c) for s, c in splits.items()}
  assert sizes == {'train': 7, 'validation': 2, 'test': 1, 'unlabelled': 2}
  assert 'mask' not in splits['unlabelled'][0]
  assert 'imagesTs: 2 images without labelsTs' in str(cases.notes)


def test_regions_and_what_is_ignored(tmp_path):
  root = task(tmp_path, labels=REGIONS, regions_class_order=[1, 2, 3])
  volume(root / 'labelsTr' / 'case_000.nii.gz', 4)
  cases = open_folder(root, 'train', dense=True, fractions=(1, 0, 0))
  assert cases.class_names == ('whole', 'core', 'enhancing')
  assert cases.regions == ((1, 2, 3), (2, 3), (3,))
  assert cases.region_order == (1, 2, 3)
  assert cases.ignore == 4
  assert cases.num_classes == 4
  assert cases[0]['mask'].max() == 4
  volume(root / 'labelsTr' / 'case_000.nii.gz', 5)
  with pytest.raises(
    ValueError, match='holds label 5, but there are 4 classes'
  ):
    cases[0]


def test_a_labelled_test_set(tmp_path):
  root = task(tmp_path, labelled=True)
  sizes = {s: len(c) for s, c in open_splits(root, dense=True).items()}
  assert (sizes['test'], sizes['train'] + sizes['validation']) == (2, 10)
  folds(root, ids(0, 1, 2, 3, 4), ids(5, 6, 7, 8, 9))
  splits = open_splits(root, dense=True)
  assert [e.id for e in splits['validation'].entries] == ids(0, 1, 2, 3, 4)
  assert len(splits['test']) == 2


def test_folds_as_stated(tmp_path):
  root = task(tmp_path)
  parts = [ids(0, 9), ids(1, 8), ids(2, 7), ids(3, 6), ids(4, 5)]
  folds(root, *parts)
  for i, part in enumerate(parts):
    cases = open_folder(root, f'fold{i}', folds=5, dense=True)
    assert [e.id for e in cases.entries] == part
  splits = open_splits(root, dense=True)  # without being asked for folds
  found = {s: [e.id for e in c.entries] for s, c in splits.items()}
  assert found['test'] == parts[0]
  assert found['validation'] == parts[1]
  assert len(found['train']) == 6
  assert 'fold 0 is the test split' in str(splits['test'].notes)
  other = open_folder(root, 'fold0', folds=2, dense=True)
  assert len(other) == 5
  assert 'folds of splits_final.json are not used' in str(other.notes)
  folds(root, ids(0, 1), ids(1, 2))
  assert 'do not validate every case once' in str(
    open_folder(root, 'train', dense=True).notes
  )


def test_other_folds_than_stated_leave_a_labelled_test_set(tmp_path):
  root = task(tmp_path, labelled=True)
  folds(root, ids(0, 9), ids(1, 8), ids(2, 7), ids(3, 6), ids(4, 5))
  splits = open_splits(root, folds=3, dense=True)
  found = {name: len(cases) for name, cases in splits.items()}
  assert found == {'test': 2, 'fold0': 4, 'fold1': 3, 'fold2': 3}


def test_a_part_of_the_masks(tmp_path):
  """Of imagesTr where a task learns without; of imagesTs all are a test set."""
  root = task(tmp_path, labelled=True)
  (root / 'labelsTr/case_003.nii.gz').unlink()
  cases = open_folder(root, 'train', dense=True, partly=True)
  (bare,) = (e for e in cases.entries if not e.masks)
  assert bare.id == 'case_003'
  (root / 'labelsTs/test_1.nii.gz').unlink()
  splits = open_splits(root, dense=True, partly=True)
  assert len(splits['unlabelled']) == 2
  assert sum(map(len, splits.values())) == 12
  assert '1 of 2 images have no mask in labelsTs' in str(splits['train'].notes)


@pytest.mark.parametrize(
  'beside', ['labelsTr/case_000', 'imagesTr/case_000_0001']
)
def test_two_files_of_one_mask_or_channel(tmp_path, beside):
  """nnU-Net reads what ends as dataset.json says; else they are refused."""
  root = task(tmp_path)
  volume(root / f'{beside}.nii', 3)
  splits = open_splits(root, dense=True)
  entries = [e for cases in splits.values() for e in cases.entries]
  files = [p.name for e in entries for p in (*e.images, *e.masks)]
  assert all(name.endswith('.nii.gz') for name in files)
  assert 'not read: 1 files' in str(splits['train'].notes)
  task(tmp_path, file_ending=None)
  with pytest.raises(ValueError, match='by its name; keep one'):
    open_folder(root, 'train', dense=True)
  if 'images' in beside:
    with pytest.raises(ValueError, match='by its name; keep one'):
      find_numbered(root / 'imagesTr', 2)


def test_the_decathlon_has_other_forms(tmp_path):
  """Version 1: labels by number, `modality`, four axes, no _0000."""
  for i in range(4):
    path = tmp_path / f'imagesTr/BRATS_{i:03d}.nii.gz'
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(
      nib.Nifti1Image(np.full((3, 4, 5, 2), i, np.int16), np.eye(4)), path
    )
    (path.parent / f'._{path.name}').write_text('x')
    volume(tmp_path / f'labelsTr/BRATS_{i:03d}.nii.gz', 1)
  about = {
    'modality': {'0': 'FLAIR', '1': 'T1w'},
    'labels': {'0': 'background', '1': 'tumour'},
    'training': [],
  }
  (tmp_path / 'dataset.json').write_text(json.dumps(about))
  cases = open_folder(tmp_path, 'train', dense=True, fractions=(1, 0, 0))
  assert cases.class_names == ('background', 'tumour')
  assert cases[3]['image'].shape == (3, 4, 5, 2)
  assert cases.channel_names == ('FLAIR', 'T1w')


def test_names_that_end_in_four_digits(tmp_path):
  for i in (2001, 2002, 2003):
    volume(tmp_path / f'imagesTr/scan_{i}.nii.gz', i)
    volume(tmp_path / f'labelsTr/scan_{i}.nii.gz', 1)
  about = {'channel_names': {'0': 'MR'}, 'labels': {'background': 0, 'a': 1}}
  (tmp_path / 'dataset.json').write_text(json.dumps(about))
  cases = open_folder(tmp_path, 'train', dense=True, fractions=(1, 0, 0))
  assert [c['id'] for c in cases] == ['scan_2001', 'scan_2002', 'scan_2003']


def test_a_file_list(tmp_path):
  task(tmp_path / 'other', cases=3, tests=0)
  (tmp_path / 'imagesTr').mkdir()
  listed = {
    f'p{i}': {
      'images': [
        f'other/imagesTr/case_{i:03d}_{c:04d}.nii.gz' for c in range(2)
      ],
      'label': f'other/labelsTr/case_{i:03d}.nii.gz',
    }
    for i in range(3)
  }
  about = {
    'channel_names': {'0': 'CT', '1': 'PET'},
    'labels': LABELS,
    'dataset': listed,
  }
  (tmp_path / 'dataset.json').write_text(json.dumps(about))
  cases = open_folder(tmp_path, 'train', dense=True, fractions=(1, 0, 0))
  assert [c['id'] for c in cases] == ['p0', 'p1', 'p2']
  assert cases[2]['image'][1, 0, 0].tolist() == [200, 201]


def test_labels_without_names(tmp_path):
  cases = open_folder(task(tmp_path, labels={}), 'train', dense=True)
  assert (cases.class_names, cases.num_classes) == ((), 4)
  assert cases[0]['mask'].max() > 0


def test_images_to_predict_on(tmp_path):
  root = task(tmp_path)
  found = find_numbered(root / 'imagesTs', 2)
  assert [f.id for f in found] == ['test_0', 'test_1']
  assert [p.name for p in found[1].images] == [
    'test_1_0000.nii.gz',
    'test_1_0001.nii.gz',
  ]
  assert [f.id for f in find_numbered(root / 'labelsTr', 1)][:2] == ids(0, 1)
  found[1].images[1].unlink()
  with pytest.raises(
    FileNotFoundError, match=r'test_1: has channels \[0\] of 2'
  ):
    find_numbered(root / 'imagesTs', 2)
  with pytest.raises(FileNotFoundError, match='holds no image file'):
    find_numbered(root, 2)


def test_own_class_names_and_plain_labels(tmp_path):
  names = ('bg', 'a', 'b', 'c')
  cases = open_folder(task(tmp_path), 'train', dense=True, class_names=names)
  assert cases.class_names == names


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('json', 'dataset.json: is not JSON'),
    ('labels', 'labels must be {name: number or'),
    ('gap', 'have gaps; number them from 0'),
    ('order', 'regions_class_order has 2 labels for 3 regions'),
    ('channel', 'case_003: has channels [0], others have 2'),
    ('mask', 'has no mask labelsTr/case_003.nii.gz'),
    ('folds', 'splits_final.json: is no list'),
    ('empty', 'holds no image that is read'),
    ('masks', 'labelsTr: holds no mask that is read'),
  ],
)
def test_refusals(tmp_path, name, message):
  about = {
    'labels': {'labels': {'a': 'x'}},
    'gap': {'labels': {'background': 0, 'a': 2}},
    'order': {'labels': REGIONS, 'regions_class_order': [1, 2]},
  }.get(name, {})
  root = task(tmp_path, **about)
  if name == 'json':
    (root / 'dataset.json').write_text('{')
  if name == 'channel':
    (root / 'imagesTr' / 'case_003_0001.nii.gz').unlink()
  if name == 'mask':
    (root / 'labelsTr' / 'case_003.nii.gz').unlink()
  if name == 'folds':
    (root / 'splits_final.json').write_text('[{"train": []}]')
  for folder, wanted in (('imagesTr', 'empty'), ('labelsTr', 'masks')):
    for path in (root / folder).iterdir() if name == wanted else ():
      path.unlink()
  with pytest.raises((ValueError, OSError)) as e:
    open_folder(root, 'train', dense=True)
  assert message in str(e.value)
  assert '\n' not in str(e.value)


def test_numbers_of_cases_that_differ_are_said(tmp_path):
  cases = open_folder(task(tmp_path, numTraining=12), 'train', dense=True)
  assert 'dataset.json says 12 cases, 10 are there' in cases.notes


def test_real_hippocampus(shared_data, tmp_path):
  home = shared_data('msd_hippocampus')
  about = {
    'modality': {'0': 'MRI'},
    'labels': {'0': 'background', '1': 'Anterior', '2': 'Posterior'},
  }
  for name in ('imagesTr', 'labelsTr'):
    (tmp_path / name).symlink_to(home / name)
  (tmp_path / 'dataset.json').write_text(json.dumps(about))
  cases = open_folder(tmp_path, 'train', dense=True)
  assert cases.class_names == ('background', 'Anterior', 'Posterior')
  assert set(np.unique(cases[0]['mask'])) == {0, 1, 2}
