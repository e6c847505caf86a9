import pickle

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

from medjax.data.folder import open_folder


def picture(path, seed, shape=(6, 5)):
  path.parent.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(seed)
  PIL.Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(path)
  return path


def label_map(path, shape=(6, 5), top=2, seed=0):
  path.parent.mkdir(parents=True, exist_ok=True)
  array = np.random.default_rng(seed).integers(0, top + 1, shape, np.uint8)
  array.flat[0] = top
  PIL.Image.fromarray(array).save(path)
  return path


def volume(path, array, affine=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  affine = np.diag([1, 2, 3, 1]) if affine is None else affine
  nib.save(nib.Nifti1Image(array, affine), path)
  return path


@pytest.fixture
def classes(tmp_path):
  """40 cats and 20 dogs of 20 patients each with 3 pictures."""
  seed = 0
  for p in range(20):
    for i in range(3):
      seed += 1
      kind = 'dog' if p % 3 == 0 else 'cat'
      picture(tmp_path / kind / f'p{p:02d}_{i}.png', seed)
  return tmp_path


def test_classes(classes):
  cases = open_folder(classes, 'train')
  assert cases.class_names == ('cat', 'dog')
  assert cases.num_classes == 2
  case = cases[0]
  assert case['image'].shape == (6, 5, 1)
  assert case['image'].dtype == np.uint8
  assert case['label'].dtype == np.int32
  assert case['id'] == cases.entries[0].id == 'cat/p01_1'
  np.testing.assert_array_equal(case['affine'], np.eye(3))
  assert [c['id'] for c in cases][-1] == cases[-1]['id']
  assert len(cases[:2]) == 2


def test_splits_by_patient_and_label(classes):
  fields = {'image': '{label}/{patient}_{n}'}
  found = {
    s: open_folder(classes, s, fields=fields)
    for s in ('train', 'validation', 'test')
  }
  patients = {s: {e.patient for e in c.entries} for s, c in found.items()}
  assert patients['train'] | patients['validation'] | patients['test'] == {
    f'p{i:02d}' for i in range(20)
  }
  assert sum(len(p) for p in patients.values()) == 20
  assert [len(patients[s]) for s in found] == [14, 3, 3]
  for cases in found.values():  # a third are dogs
    dogs = np.mean([e.label == 'dog' for e in cases.entries])
    assert 0.2 < dogs < 0.5
  again = open_folder(classes, 'train', fields=fields)
  assert repr(again) == repr(found['train'])
  other = open_folder(classes, 'train', fields=fields, seed=1)
  assert repr(other) != repr(again)
  both = open_folder(classes, 'train+validation', fields=fields)
  assert len(both) == 51


def test_pickles(classes):
  cases = open_folder(classes, 'test')
  copy = pickle.loads(pickle.dumps(cases))
  assert repr(copy) == repr(cases)
  assert copy[0]['id'] == cases[0]['id']


@pytest.mark.parametrize(
  ('image', 'mask'),
  [
    ('images/{}.png', 'masks/{}.png'),
    ('images/{}.png', 'masks/{}_mask.png'),
    ('imagesTr/{}.png', 'labelsTr/{}.png'),
    ('images/{}.png', 'labels/{}.png'),
    ('{}.png', '{}_mask.png'),
    ('{}.png', '{}_seg.png'),
    ('{}.png', '{}_label.png'),
  ],
)
def test_pairs(tmp_path, image, mask):
  for i in range(8):
    picture(tmp_path / image.format(f'a{i}'), i)
    label_map(tmp_path / mask.format(f'a{i}'))
  cases = open_folder(tmp_path, 'train')
  assert 4 <= len(cases) <= 6
  assert cases[0]['mask'].shape == (6, 5)
  assert {c['id'] for c in cases} < {f'a{i}' for i in range(8)}
  assert 'label' not in cases[0]
  assert cases.class_names == ()
  assert cases.num_classes == 3
  named = open_folder(tmp_path, 'train', class_names=('bg', 'a', 'b'))
  assert named.num_classes == 3


def test_explicit_splits(tmp_path):
  for i in range(4):
    picture(tmp_path / 'train' / 'a' / f'{i}.png', i)
    picture(tmp_path / 'train' / 'b' / f'{i}.png', 10 + i)
    picture(tmp_path / 'test' / 'a' / f'{i}.png', 20 + i)
  test = open_folder(tmp_path, 'test')
  assert [e.id for e in test.entries] == [f'test/a/{i}' for i in range(4)]
  train = open_folder(tmp_path, 'train')
  validation = open_folder(tmp_path, 'val')  # taken from train
  assert len(train) + len(validation) == 8
  assert 0 < len(validation) < 4
  picture(tmp_path / 'val' / 'b' / 'x.png', 99)
  assert len(open_folder(tmp_path, 'train')) == 8


def write_csv(folder, text, name='cases.csv'):
  (folder / name).write_text(text)
  return folder / name


def test_csv(tmp_path):
  for i in range(4):
    picture(tmp_path / 'files' / f'{i}.png', i)
    label_map(tmp_path / 'files' / f'{i}_m.png')
  lines = ['path,label,mask,split,patient']
  for i, (label, split) in enumerate(
    [('sick', 'train'), ('well', 'train'), ('sick', 'val'), ('well', 'fold9')]
  ):
    lines.append(f'files/{i}.png,{label},files/{i}_m.png,{split},P{i}')
  table = write_csv(tmp_path, '\n'.join(lines))
  cases = open_folder(tmp_path, 'train')
  assert [c['patient'] for c in cases] == ['P0', 'P1']
  assert [int(c['label']) for c in cases] == [0, 1]
  assert cases[0]['mask'].shape == (6, 5)
  assert cases.class_names == ('sick', 'well')
  assert len(open_folder(table, 'validation')) == 1
  assert len(open_folder(tmp_path, 'fold9', table='cases.csv')) == 1
  order = open_folder(tmp_path, 'train', class_names=('well', 'sick'))
  assert [int(c['label']) for c in order] == [1, 0]


def test_csv_of_indices(tmp_path):
  for i in range(11):
    picture(tmp_path / f'{i}.png', i)
  write_csv(
    tmp_path,
    'path,label,split\n' + '\n'.join(f'{i}.png,{i}.0,train' for i in range(11)),
  )
  cases = open_folder(tmp_path, 'train')  # one case a class: all to train
  assert {c['id']: int(c['label']) for c in cases} == {
    str(i): i for i in range(11)
  }


def test_volumes(tmp_path):
  rng = np.random.default_rng(0)
  for i in range(5):
    name = f'{i}.nii.gz'
    volume(tmp_path / 'images' / name, rng.normal(size=(4, 5, 6)))
    volume(tmp_path / 'masks' / name, np.ones((4, 5, 6), np.uint8))
  case = open_folder(tmp_path, 'train')[0]
  assert case['image'].shape == (4, 5, 6, 1)
  np.testing.assert_allclose(case['spacing'], [1, 2, 3])


def bad_folder(tmp_path, name):
  """Makes the folder; returns further arguments of open_folder."""
  p = tmp_path
  if name == 'missing folder':
    return p / 'none', {}
  if name == 'nothing inside':
    (p / 'readme.txt').write_text('hello')
  if name == 'empty class':
    picture(p / 'a' / '1.png', 1)
    (p / 'b').mkdir()
  if name == 'no mask':
    picture(p / 'images' / '1.png', 1)
    (p / 'masks').mkdir()
  if name == 'no masks folder':
    picture(p / 'images' / '1.png', 1)
  if name == 'no image':
    label_map(p / 'masks' / '1.png')
    (p / 'images').mkdir()
  if name == 'two masks':
    picture(p / '1.png', 1)
    label_map(p / '1_mask.png')
    label_map(p / '1_seg.png')
  if name == 'mask of another shape':
    picture(p / 'images' / '1.png', 1)
    label_map(p / 'masks' / '1.png', shape=(5, 5))
  if name == 'mask elsewhere':
    volume(p / 'images' / '1.nii', np.ones((4, 4, 4), np.float32))
    volume(
      p / 'masks' / '1.nii',
      np.ones((4, 4, 4), np.uint8),
      np.diag([-1, 2, 3, 1]),
    )
  if name == 'negative mask':
    volume(p / 'images' / '1.nii', np.ones((4, 4, 4), np.float32))
    volume(p / 'masks' / '1.nii', np.full((4, 4, 4), -1, np.int16))
  if name == 'mask out of range':
    picture(p / 'images' / '1.png', 1)
    label_map(p / 'masks' / '1.png', top=3)
    return p, {'class_names': ('bg', 'fg')}
  if name == 'NaN voxels':
    volume(p / 'images' / '1.nii', np.full((4, 4, 4), np.nan, np.float32))
    volume(p / 'masks' / '1.nii', np.ones((4, 4, 4), np.uint8))
  if name == 'same image in two splits':
    for split in ('train', 'test'):
      for kind in 'ab':
        picture(p / split / kind / f'{split}.png', kind == 'a')
  if name == 'same image in two classes':
    picture(p / 'a' / '1.png', 1)
    picture(p / 'b' / '2.png', 1)
  if name == 'same case twice':
    picture(p / 'a' / '1.png', 1)
    PIL.Image.open(p / 'a' / '1.png').save(p / 'a' / '1.jpg')
  if name == 'too few for a split':
    picture(p / 'a' / '1.png', 1)
  if name == 'unknown split':
    picture(p / 'a' / '1.png', 1)
  if name == 'patient not found':
    picture(p / 'a' / '1.png', 1)
    return p, {'patient': r'P(\d+)'}
  if name == 'DICOM':
    (p / 'a').mkdir()
    (p / 'a' / '1.dcm').write_bytes(b'\0' * 128 + b'DICM')
  for i in range(3):
    if name.startswith('csv'):
      picture(p / f'{i}.png', i)
  tables = {
    'csv: columns': 'file,kind\n0.png,1',
    'csv: no rows': 'path,label\n',
    'csv: missing file': 'path,label\n7.png,1',
    'csv: empty cell': 'path,label\n0.png,',
    'csv: fraction label': 'path,label\n0.png,0\n1.png,0.5',
    'csv: negative label': 'path,label\n0.png,0\n1.png,-1',
    'csv: mixed labels': 'path,label\n0.png,0\n1.png,cat',
    'csv: gap': 'path,label\n0.png,0\n1.png,2',
    'csv: twice': 'path,label\n0.png,0\n0.png,0',
    'csv: patient in two splits': (
      'path,label,split,patient\n0.png,0,train,A\n1.png,0,test,A'
    ),
    'csv: unknown class': 'path,label\n0.png,catt\n1.png,dog',
    'csv: class without case': 'path,label\n0.png,cat\n1.png,cat',
  }
  if name in tables:
    write_csv(p, tables[name])
  if name in ('csv: unknown class', 'csv: class without case'):
    return p, {'class_names': ('cat', 'dog')}
  return p, {}


BAD = {
  'missing folder': 'no such folder',
  'nothing inside': 'no images found',
  'empty class': 'class without images',
  'no mask': 'masks: holds no mask that is read',
  'no masks folder': 'has no masks/ beside it',
  'no image': 'images: holds no image of a known format',
  'two masks': 'second mask for 1',
  'mask of another shape': r'1.png: has shape (5, 5) but',
  'mask elsewhere': 'mm from',
  'negative mask': '1: mask holds -1',
  'mask out of range': 'holds label 3, but there are 2 classes (bg, fg)',
  'NaN voxels': '64 of 64 voxels are NaN',
  'same image in two splits': 'are the same image, with split',
  'same image in two classes': 'are the same image, with label a and b',
  'same case twice': 'case a/1 occurs twice',
  'too few for a split': "split 'test' is empty: 1 patients",
  'unknown split': "no split 'tests'; did you mean 'test'?",
  'patient not found': 'no patient',
  'DICOM': 'not a DICOM file, or cut off in its header',
  'csv: columns': 'needs a column label or mask, or time and event',
  'csv: no rows': 'has no rows',
  'csv: missing file': 'line 2: no file',
  'csv: empty cell': 'label is empty in every row',
  'csv: fraction label': "label '0.5' is not a class index",
  'csv: negative label': "label '-1' is not a class index",
  'csv: mixed labels': "label 'cat' among integers",
  'csv: gap': 'class 1 has no case',
  'csv: twice': '0.png is already in line 2',
  'csv: patient in two splits': 'cases 0 and 1 are of one patient, but',
  'csv: unknown class': "label 'catt' is no class; did you mean 'cat'?",
  'csv: class without case': "class 'dog' has no case",
}


@pytest.mark.parametrize('name', BAD)
def test_bad_folders_get_one_line(tmp_path, name):
  path, options = bad_folder(tmp_path, name)
  splits = {'unknown split': 'tests', 'too few for a split': 'test'}
  with pytest.raises((ValueError, FileNotFoundError)) as e:
    list(open_folder(path, splits.get(name, 'train'), **options))
  assert '\n' not in str(e.value)
  assert BAD[name] in str(e.value)


def test_real_nodules(shared_data, tmp_path):
  home = shared_data('lidc_nodules')
  images = sorted((home / 'image').iterdir())[:12]
  lines = [f'{p},{i % 2}' for i, p in enumerate(images)]
  table = write_csv(tmp_path, '\n'.join(['path,label', *lines]))
  cases = open_folder(table, 'train', patient=r'LIDC-IDRI-\d+')
  assert cases[0]['patient'].startswith('LIDC-IDRI-')
  assert cases[0]['image'].dtype.kind == 'i'


def test_dicom_series_and_structure_sets_are_cases(shared_data, tmp_path):
  home = shared_data('dicom_sts025')
  for name in ('CT', 'PET'):
    for kind, files in (
      ('images', home / name / 'image'),
      ('masks', home / name / 'mask'),
    ):
      place = tmp_path / kind / name if kind == 'images' else tmp_path / kind
      place.mkdir(parents=True, exist_ok=True)
      for file in files.iterdir():
        target = file.name if kind == 'images' else f'{name}.dcm'
        (place / target).symlink_to(file)
  cases = open_folder(tmp_path, 'train', fractions=(1, 0, 0))
  assert [c['id'] for c in cases] == ['CT', 'PET']
  assert cases.num_classes == 2
  for case in cases:
    assert case['mask'].shape == case['image'].shape[:-1]
    assert case['mask'].max() == 1


def test_dicom_series_per_class(shared_data, tmp_path):
  home = shared_data('dicom_sts025')
  for name in ('CT', 'PET'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'patient_1').symlink_to(home / name / 'image')
  cases = open_folder(tmp_path, 'train', fractions=(1, 0, 0))
  assert cases.class_names == ('CT', 'PET')
  assert {c['image'].shape[2] for c in cases} == {47}


@pytest.mark.parametrize('first', [8, 16])
def test_pictures_of_two_depths_are_noted(tmp_path, first):
  for i in range(6):
    array = np.full((5, 4), i, np.uint8 if (i < 2) == (first == 8) else '<u2')
    PIL.Image.fromarray(array).save(tmp_path / f'{i}.png')
    PIL.Image.fromarray(array > 1).save(tmp_path / f'{i}_mask.png')
  cases = open_folder(tmp_path, 'train', dense=True)
  counts = {8: '4 pictures are of 16 bits, 2 of 8', 16: '2 pictures are of 16'}
  assert counts[first] in str(cases.notes)
