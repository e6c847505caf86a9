"""Tables as Excel, NIH, Stanford and ISIC write them; further fields."""

import unicodedata

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

from medjax.data.folder import open_folder, open_splits

ALL = {'fractions': (1, 0, 0)}


def picture(path, value=1, shape=(6, 5)):
  path.parent.mkdir(parents=True, exist_ok=True)
  array = np.full(shape, value, np.uint8)
  array[0, 0] = 0
  PIL.Image.fromarray(array).save(path)


def table(root, *lines, name='cases.csv'):
  root.mkdir(exist_ok=True)
  (root / name).write_text('\n'.join(lines) + '\n')


def opened(folder, split='train', **options):
  return open_folder(folder, split, **{**ALL, **options})


# Excel.


@pytest.mark.parametrize(
  'lines',
  [
    ('sep=;', 'path;label;age', 'p/0.png;a;40,5', 'p/1.png;b;39'),
    ('"sep=,"', 'path,label,age', 'p/0.png,a,"40,5"', 'p/1.png,b,39'),
    ('path,label,age,,', 'p/0.png,a,40.5,,', 'p/1.png,b,39,,'),
    ('path,label,age', 'p/0.png,a,40.5,,', 'p/1.png,b,39'),
    ('path,label,age', r'p\0.png,a,40.5', r'p\1.png,b,39'),
    ('path,label,age', r'C:\data\p\0.png,a,40.5', '/mnt/x/p/1.png,b,39'),
    ('path,label,age', '0,a,40.5', '1,b,39'),
    ('path,label,age', 'p/0,a,40.5', 'p/1,b,39'),
    (',path,label,age', '1,0.png,a,40.5', '2,1.png,b,39'),
    ('Path,LABEL,age', 'p/0.png,a,40.5', 'p/1.png,b,39'),
    ('path\tlabel\tage', 'p/0.png\ta\t40,5', 'p/1.png\tb\t39,0'),
  ],
)
def test_forms(tmp_path, lines):
  for i in range(2):
    picture(tmp_path / 'p' / f'{i}.png', i + 1)
  table(tmp_path, *lines)
  cases = opened(tmp_path)
  assert [c['image'].max() for c in cases] == [1, 2]
  assert cases.class_names == ('a', 'b')
  assert [c['age'] for c in cases] == [40.5, 39]


def test_a_name_in_two_folders(tmp_path):
  for place in ('p', 'q'):
    picture(tmp_path / place / '0.png')
  table(tmp_path, 'path,label', '0.png,a')
  with pytest.raises(ValueError, match=r'0\.png may be .*p/0\.png or .*q/0'):
    opened(tmp_path)
  # A folder that is there is believed; another file of the name is not taken.
  table(tmp_path, 'path,label', 'q/0.png,a')
  assert opened(tmp_path).entries[0].image == tmp_path / 'q' / '0.png'
  table(tmp_path, 'path,label', 'r/0.png,a')
  with pytest.raises(FileNotFoundError, match=r'line 2: no file .*r/0\.png'):
    opened(tmp_path)


def test_umlauts_of_macos(tmp_path):
  for i, name in enumerate(('Jürgen', 'Jörg')):
    file = f'{unicodedata.normalize("NFD", name)}.png'
    picture(tmp_path / 'p' / file, 1 + i)
  table(tmp_path, 'path,label', 'p/Jürgen.png,a', 'Jörg,b')
  assert [e.label for e in opened(tmp_path).entries] == ['a', 'b']


def test_thousands_are_not_guessed(tmp_path):
  picture(tmp_path / '0.png')
  table(tmp_path, 'path,label,dose', '0.png,a,"1,234"')
  assert opened(tmp_path)[0]['dose'] == '1,234'
  table(tmp_path, 'path;label;dose', '0.png;a;1,234')
  assert opened(tmp_path)[0]['dose'] == 1.234


def test_labels_that_differ_in_capitals(tmp_path):
  for i in range(2):
    picture(tmp_path / f'{i}.png', i)
  table(tmp_path, 'path,label', '0.png,Benign', '1.png,benign')
  with pytest.raises(
    ValueError, match="labels 'Benign' and 'benign' differ on"
  ):
    opened(tmp_path)


# Sets as they are shipped.


@pytest.mark.parametrize(
  'image',
  ['{folder}/images/{Image Index}', 'images_*/images/{Image Index}',
   'Image Index'],
)  # fmt: skip
def test_nih_chest_x_ray_14(tmp_path, image):
  found = ('Hernia|Mass', 'No Finding', 'Mass', 'Hernia')
  rows = ['Image Index,Finding Labels,Patient ID']
  for i in range(4):
    place = tmp_path / f'images_00{i % 2 + 1}' / 'images'
    picture(place / f'0000{i}_000.png', i + 1)
    rows.append(f'0000{i}_000.png,{found[i]},{i}')
  table(tmp_path, *rows, name='Data_Entry.csv')
  fields = {'image': image, 'label': 'Finding Labels', 'patient': 'Patient ID'}
  cases = opened(tmp_path, table='Data_Entry.csv', fields=fields)
  assert [c['image'].max() for c in cases] == [1, 2, 3, 4]
  assert cases.class_names == ('Hernia', 'Mass')
  labels = [c['label'].tolist() for c in cases]
  assert labels == [[1, 1], [0, 0], [0, 1], [1, 0]]
  assert "labels joined by '|' are several: 2" in cases.notes[0]
  order = opened(
    tmp_path,
    table='Data_Entry.csv',
    fields=fields,
    class_names=('Mass', 'Hernia'),
  )
  assert order[2]['label'].tolist() == [1, 0]


@pytest.mark.parametrize('image', [None, 'train/{image}.jpg', 'train/{image}'])
def test_isic(tmp_path, image):
  for i in range(3):
    picture(tmp_path / 'train' / f'ISIC_{i}.jpg', 50 * i)
  table(
    tmp_path,
    'image,MEL,NV,age_approx',
    'ISIC_0,0.0,1.0,40',
    'ISIC_1,1.0,0.0,50',
    'ISIC_2,0.0,1.0,60',
    name='truth.csv',
  )
  fields = {'label': '{MEL,NV}'} | ({'image': image} if image else {})
  cases = opened(tmp_path, table='truth.csv', fields=fields)
  assert cases.class_names == ('MEL', 'NV')
  assert [c['label'].tolist() for c in cases] == [[0, 1], [1, 0], [0, 1]]
  assert cases[1]['age_approx'] == 50
  assert cases[1]['id'] == 'train/ISIC_1'


@pytest.mark.parametrize(
  ('policy', 'labels', 'names'),
  [
    ('zero', [[0, 1], [0, 0], [1, 0]], ('E', 'P')),
    ('one', [[0, 1], [1, 0], [1, 1]], ('E', 'P')),
    ('ignore', [[0, 1], [-1, 0], [1, -1]], ('E', 'P')),
    (
      'class',
      [[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]],
      ('E', 'P', 'E uncertain', 'P uncertain'),
    ),
  ],
)
def test_chexpert(tmp_path, policy, labels, names):
  for i in range(3):
    picture(tmp_path / f'{i}.png', i)
  rows = ('Path,E,P', '0.png,0.0,1.0', '1.png,-1.0,', '2.png,1.0,-1.0')
  table(tmp_path, *rows)
  options = {'fields': {'image': 'Path', 'label': '{E,P}'}}
  cases = opened(tmp_path, uncertain=policy, **options)
  assert [c['label'].tolist() for c in cases] == labels
  assert cases.class_names == names
  with pytest.raises(ValueError, match=r"-1 means: data\.uncertain='zero'"):
    opened(tmp_path, **options)
  with pytest.raises(
    ValueError, match="uncertain='zeros'; did you mean 'zero'"
  ):
    opened(tmp_path, uncertain='zeros', **options)


def test_a_table_without_test(tmp_path):
  rows = ['path,split,label']
  for i in range(6):
    picture(tmp_path / f'{i}.png', i)
    rows.append(f'{i}.png,{"train" if i < 4 else "val"},{"ab"[i % 2]}')
  table(tmp_path, *rows)
  assert len(opened(tmp_path, 'validation')) == 2
  with pytest.raises(ValueError, match=r"data\.splits\.test='validation'") as e:
    opened(tmp_path, 'test')
  assert 'add some of test' in str(e.value)


# Further fields.


def test_covariates(tmp_path):
  for i in range(4):
    picture(tmp_path / f'{i}.png', i)
  table(
    tmp_path,
    'path,label,age,sex,site,note',
    '0.png,a,61,F,x,seen',
    '1.png,b,NA,M,,',
    '2.png,a,7,,x,again',
    '3.png,b,50,F,y,',
  )
  for told in ('age, sex,site', ['age', 'sex', 'site']):
    cases = opened(tmp_path, fields={'covariates': told, 'text': 'note'})
    assert cases.covariate_names == (
      'age',
      'sex=F',
      'sex=M',
      'site=x',
      'site=y',
    )
    nan = np.nan
    wanted = [
      [61, 1, 0, 1, 0], [nan, 0, 1, nan, nan], [7, nan, nan, 1, 0],
      [50, 1, 0, 0, 1],
    ]  # fmt: skip
    found = np.array([c['covariates'] for c in cases])
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == np.float32
    assert [c.get('text') for c in cases] == ['seen', None, 'again', None]
    assert 'age' not in cases[0]
  assert 'covariate sex: one-hot over F, M' in cases.notes
  with pytest.raises(ValueError, match="no column 'agee'; did you mean 'age'"):
    opened(tmp_path, fields={'covariates': ['agee']})
  table(tmp_path, 'path,label,empty', '0.png,a,')
  with pytest.raises(ValueError, match="covariate 'empty' has 0 values"):
    opened(tmp_path, fields={'covariates': 'empty'})


def test_further_images_of_a_table(tmp_path):
  for i in range(3):
    picture(tmp_path / f'{i}.png', i)
  nib.save(
    nib.Nifti1Image(np.full((2, 3, 4), 7, np.uint8), np.diag([1, 2, 3, 1])),
    tmp_path / 'ct.nii.gz',
  )
  table(
    tmp_path, 'path,label,before', '0.png,a,ct.nii.gz', '1.png,b,', '2.png,a,'
  )
  fields = {'prior': 'before'}
  cases = opened(tmp_path, fields=fields)
  case = cases[0]
  assert case['prior'].shape == (2, 3, 4, 1)
  np.testing.assert_allclose(case['prior_spacing'], [1, 2, 3])
  np.testing.assert_allclose(case['prior_affine'], np.diag([1, 2, 3, 1]))
  assert case['image'].shape == (6, 5, 1)
  assert 'prior' not in cases[1]
  assert '2 of 3 have no prior' in cases.notes
  table(tmp_path, 'path,label,before', '0.png,a,gone.nii')
  with pytest.raises(FileNotFoundError, match=r'line 2: no file .*gone\.nii'):
    opened(tmp_path, fields=fields)


def test_further_images_of_patterns(tmp_path):
  for i in range(3):
    picture(tmp_path / 'now' / f'{i}.png', i)
    picture(tmp_path / 'masks' / f'{i}.png', 1)
    if i:
      picture(tmp_path / 'before' / f'{i}.png', 10 + i, shape=(3, 4))
  fields = {
    'image': 'now/{id}.png',
    'mask': 'masks/{id}.png',
    'prior': 'before/{id}.png',
  }
  cases = opened(tmp_path, fields=fields)
  assert [c['prior'].max() for c in cases[1:]] == [11, 12]
  assert 'prior' not in cases[0]
  assert '1 of 3 have no prior' in cases.notes
  with pytest.raises(
    FileNotFoundError, match=r'data\.fields\.prior: matches no'
  ):
    opened(tmp_path, fields={**fields, 'prior': 'earlier/{id}.png'})
  for name in ('spacing', 'affine', 'a-b'):
    with pytest.raises(ValueError, match=r'data\.fields'):
      opened(tmp_path, fields={**fields, name: 'before/{id}.png'})


def test_cases_without_a_reference(tmp_path):
  for i in range(4):
    picture(tmp_path / f'{i}.png', i)
    picture(tmp_path / f'm{i}.png', 1)
  table(tmp_path, 'path,label,mask', '0.png,a,m0.png', '1.png,,m1.png',
        '2.png,b,NA', '3.png,,')  # fmt: skip
  cases = opened(tmp_path)
  assert [sorted({'label', 'mask'} & set(c)) for c in cases] == [
    ['label', 'mask'], ['mask'], ['label'], [],
  ]  # fmt: skip
  assert cases.notes[:2] == ('2 of 4 have no label', '2 of 4 have no mask')
  table(tmp_path, 'path,x', '0.png,1')
  assert 'label' not in opened(tmp_path, unlabelled=True)[0]
  with pytest.raises(ValueError, match='needs a column label or mask'):
    opened(tmp_path)


def test_a_table_that_is_none(tmp_path):
  with (tmp_path / 'cases.csv').open('wb') as f:
    f.truncate(2**28 + 1)
  with pytest.raises(ValueError, match='is larger than 256 MiB'):
    opened(tmp_path)


def test_images_that_the_table_leaves_out_are_counted(tmp_path):
  for i in range(5):
    picture(tmp_path / f'{i}.png', i + 1)
  picture(tmp_path / '0_mask.png')
  rows = ['path,label', *(f'{i}.png,{"ab"[i % 2]}' for i in range(3))]
  (tmp_path / 'cases.csv').write_text('\n'.join(rows))
  note = '2 images beside those of cases.csv are in no row of it'
  assert note in open_folder(tmp_path, 'train').notes
  chosen = open_folder(tmp_path, 'train', where='label=a')
  assert 'beside those' not in str(chosen.notes)


def test_a_pretraining_on_a_table_keeps_its_labels(tmp_path):
  """By which its splits are those of the run that it is for."""
  lines = [f'P{i:02},{"abcd"[i % 4]},{i}' for i in range(60)]
  table = tmp_path / 'a.csv'
  table.write_text('\n'.join(['patient,label,age', *lines]))
  labelled, plain, unread = (
    open_splits(table, images=False, **options)
    for options in ({}, {'unlabelled': True}, {'unlabelled': True, 'unread': 1})
  )
  ids = lambda splits: {k: [e.id for e in v.entries] for k, v in splits.items()}
  assert ids(labelled) == ids(plain)
  assert plain['train'].class_names == labelled['train'].class_names
  assert unread['train'].class_names == ()
  assert 'label' not in unread['train'][0]
