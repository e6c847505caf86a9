"""Cases told by patterns and tables."""

import sys

import nibabel as nib
import numpy as np
import PIL.Image
import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from medjax.data import formats
from medjax.data.folder import find_channels, open_folder, open_splits

ALL = {'fractions': (1, 0, 0)}


def picture(path, value, dtype=np.uint8):
  """A PNG of one value, so that a test can tell which file it sees."""
  path.parent.mkdir(parents=True, exist_ok=True)
  array = np.full((4, 5), value, dtype)
  array[0, 0] = 0
  PIL.Image.fromarray(array).save(path)


def volume(path, value, shape=(3, 4, 5), spacing=1.0):
  path.parent.mkdir(parents=True, exist_ok=True)
  affine = np.diag([spacing, 1.0, 1.0, 1.0])
  nib.save(nib.Nifti1Image(np.full(shape, value, np.uint8), affine), path)


def series(folder, patient, value, *, modality='CT'):
  """Three slices of one DICOM series."""
  folder.mkdir(parents=True)
  uid = pydicom.uid.generate_uid()
  for k in range(3):
    d = pydicom.Dataset()
    d.file_meta = pydicom.dataset.FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID = CTImageStorage
    d.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID
    d.SeriesInstanceUID, d.Modality, d.PatientID = uid, modality, patient
    d.Rows, d.Columns, d.SamplesPerPixel = 4, 5, 1
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit, d.PixelRepresentation = 15, 0
    d.PhotometricInterpretation = 'MONOCHROME2'
    d.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    d.ImagePositionPatient, d.PixelSpacing = [0, 0, 2.0 * k], [1, 1]
    d.PixelData = np.full((4, 5), value, np.uint16).tobytes()
    d.save_as(folder / f'{k}.dcm', enforce_file_format=True)


def table(folder, *lines, name='cases.csv'):
  folder.mkdir(exist_ok=True)
  (folder / name).write_text('\n'.join(lines) + '\n')


def opened(folder, split='train', **options):
  return list(open_folder(folder, split, **{**ALL, **options}))


# Patterns.


@pytest.mark.parametrize(
  ('image', 'mask'),
  [
    ('imagesTr/{id}_{0000,0001}.nii.gz', 'labelsTr/{id}.nii.gz'),
    ('{id}/{id}-{t1n,t2w}.nii.gz', '{id}/{id}-seg.nii.gz'),
    ('{patient}_{id}/{t1,t2}.nii.gz', '{patient}_{id}/seg*.nii.gz'),
  ],
)
def test_channels_in_files_of_their_own(tmp_path, image, mask):
  fields = {'image': image, 'mask': mask}
  for i in range(3):
    text = image.replace('{id}', f'BRAIN_{i}').replace('{patient}', f'P{i}')
    start, end = text.index('{'), text.index('}')
    for c, channel in enumerate(text[start + 1 : end].split(',')):
      volume(tmp_path / (text[:start] + channel + text[end + 1 :]), 10 * i + c)
    text = mask.replace('{id}', f'BRAIN_{i}').replace('{patient}', f'P{i}')
    volume(tmp_path / text.replace('*', 'mentation'), 1)
  cases = opened(tmp_path, fields=fields)
  assert [c['id'] for c in cases] == [f'BRAIN_{i}' for i in range(3)]
  assert [c['image'][0, 0, 0].tolist() for c in cases] == [
    [10 * i, 10 * i + 1] for i in range(3)
  ]
  assert cases[0]['mask'].shape == (3, 4, 5)


def test_channels_of_new_files_for_prediction(tmp_path):
  for i in range(2):
    for c in range(2):
      volume(tmp_path / f'x{i}_000{c}.nii.gz', 1)
  found = find_channels(tmp_path, 'imagesTr/{id}_{0000,0001}.nii.gz')
  assert [f.id for f in found] == ['x0', 'x1']
  assert [p.name for p in found[0].images] == [
    'x0_0000.nii.gz',
    'x0_0001.nii.gz',
  ]
  with pytest.raises(FileNotFoundError, match=r'no folder with {id}_t1.nii'):
    find_channels(tmp_path, '{id}_{t1,t2}.nii')


@pytest.mark.parametrize(
  ('files', 'fields'),
  [
    ('{label}/{patient}/{n}.png', {}),  # one class per directory: no telling
    ('{label}/{patient}/{n}.png', {'image': '{label}/{patient}/{n}'}),
    ('{patient}/{n}-{label}.png', {'image': '{patient}/*-{label}.png'}),
    (
      'all/{patient}_{label}_{n}.png',
      {'image': 'all/{p}_{l}_*', 'label': '{l}', 'patient': '{p}'},
    ),
  ],
)
def test_classes_and_patients_in_names(tmp_path, files, fields):
  for p in range(6):
    for n in range(2):
      name = files.replace('{patient}', f'P{p}').replace('{n}', str(n))
      label = ('benign', 'malignant')[p % 2]
      picture(tmp_path / name.replace('{label}', label), 10 * p + n + 1)
  cases = opened(tmp_path, fields=fields)
  assert len(cases) == 12
  for case in cases:
    p = case['image'].max() // 10
    assert case['patient'] == f'P{p}'
    assert case['label'] == p % 2


def test_splits_in_names(tmp_path):
  for p, split in enumerate(('training', 'val', 'test')):
    picture(tmp_path / split / f'P{p}' / 'x.png', p)
    picture(tmp_path / split / f'P{p}' / 'x_roi.png', 1)
  fields = {
    'image': '{split}/{patient}/{n}.png',
    'mask': '{split}/{patient}/{n}_roi.png',
  }
  cases = opened(tmp_path, 'validation', fields=fields)
  assert [c['patient'] for c in cases] == ['P1']


def test_pictures_of_16_bits(tmp_path):
  picture(tmp_path / 'a' / 'x.png', 40_000, np.uint16)
  picture(tmp_path / 'b' / 'y.png', 300, np.uint16)
  cases = opened(tmp_path)
  assert [int(c['image'].max()) for c in cases] == [40_000, 300]


def test_all_splits_leaks_and_all(tmp_path):
  for split in ('test', 'train'):
    picture(tmp_path / split / 'P1' / 'x.png', 7)
  fields = {'image': '{split}/{patient}/{n}.png', 'label': '{n}'}
  splits = open_splits(tmp_path, fields=fields)
  assert {s: len(c) for s, c in splits.items()} == {'train': 1, 'test': 1}
  with pytest.raises(ValueError, match='test/P1/x are of one patient'):
    open_folder(tmp_path, 'train', fields=fields)


# Tables.


def test_columns_of_another_name_and_clinical_ones(tmp_path):
  for i in range(4):
    picture(tmp_path / 'img' / f'{i}.png', i + 1)
    picture(tmp_path / 'roi' / f'{i}.png', 1)
  table(
    tmp_path,
    'file,Grade,pid,age,sex,note,OS months,death,keep',
    '0.png,low,A,61,F,,12.5,1,yes',
    '1.png,high,B,NA,M,"a, b",3,0,yes',
    '2.png,high,B,,F,x,4,FALSE,yes',
    '3.png,high,C,7,F,x,,,no',
    name='clinic.csv',
  )
  fields = {
    'image': 'img/{file}',
    'mask': 'roi/{file}',
    'label': 'Grade',
    'patient': 'pid',
    'time': 'OS months',
    'event': 'death',
  }
  cases = opened(
    tmp_path, table='clinic.csv', fields=fields, where='keep=yes, sex=F'
  )
  assert [(c['id'], c['patient']) for c in cases] == [
    ('img/0', 'A'),
    ('img/2', 'B'),
  ]
  first, second = cases
  assert (first['age'], first['sex'], first['note']) == (61.0, 'F', '')
  assert np.isnan(second['age'])
  assert (first['time'], first['event'], second['event']) == (12.5, 1, 0)
  assert first['mask'].max() == 1
  assert [c['label'] for c in cases] == [1, 0]  # high, low
  with pytest.raises(ValueError, match='line 5: OS months is empty'):
    opened(tmp_path, table='clinic.csv', fields=fields)


def test_survival_alone_is_enough(tmp_path):
  for i in range(8):
    picture(tmp_path / f'{i}.png', i)
  rows = [f'{i}.png,{i + 1}.5,{i % 2}' for i in range(8)]
  table(tmp_path, 'path,time,event', *rows)
  for fold in range(4):  # balanced by the event
    cases = open_folder(tmp_path, f'fold{fold}', folds=4)
    assert sorted(int(c['event']) for c in cases) == [0, 1]
  assert 'label' not in cases[0]


def test_several_labels(tmp_path):
  for i in range(3):
    picture(tmp_path / f'{i}.png', i)
  table(
    tmp_path, 'path,edema,effusion', '0.png,0,1', '1.png,1.0,1', '2.png,0,0'
  )
  fields = {'label': '{effusion,edema}'}
  cases = open_folder(tmp_path, 'train', fields=fields, **ALL)
  assert cases.class_names == ('effusion', 'edema')
  assert [c['label'].tolist() for c in cases] == [[1, 0], [1, 1], [0, 0]]
  order = ('edema', 'effusion')
  cases = open_folder(
    tmp_path, 'train', fields=fields, class_names=order, **ALL
  )
  assert [c['label'].tolist() for c in cases] == [[0, 1], [1, 1], [0, 0]]


def test_a_column_for_each_channel(tmp_path):
  for c in range(2):
    volume(tmp_path / f'a{c}.nii', 5 + c)
  table(tmp_path, 'id,t1,flair,label', 'case 1,a0.nii,a1.nii,x')
  (case,) = opened(tmp_path, fields={'image': '{flair,t1}'})
  assert case['image'][0, 0, 0].tolist() == [6, 5]
  assert case['id'] == 'case 1'


def test_masks_are_the_classes_of_a_dense_task(tmp_path):
  for i in range(2):
    picture(tmp_path / f'{i}.png', i)
    picture(tmp_path / f'm{i}.png', 2)
  table(tmp_path, 'path,mask,label', '0.png,m0.png,3.5', '1.png,m1.png,4')
  cases = open_folder(tmp_path, 'train', dense=True, **ALL)
  assert cases.class_names == ()
  assert cases.num_classes == 3
  assert 'label' not in cases[0]


@pytest.mark.parametrize('kind', ['tsv', 'semicolons', 'parquet', 'spaces'])
def test_kinds_of_tables(tmp_path, kind):
  for i in range(2):
    picture(tmp_path / f'{i}.png', i)
  columns = {
    'path': ['0.png', '1.png'],
    'label': [1, 0],
    'patient': [17.0, 18.0],
    'size': [0.25, None],
    'seen': [True, False],
  }
  if kind == 'parquet':
    pyarrow = pytest.importorskip('pyarrow')
    parquet = pytest.importorskip('pyarrow.parquet')
    parquet.write_table(pyarrow.table(columns), tmp_path / 'cases.parquet')
  else:
    separator = {'tsv': '\t', 'semicolons': ';', 'spaces': ' , '}[kind]
    lines = [columns, ('0.png', 1, 17, 0.25, True), ('1.png', 0, 18, '', False)]
    text = [separator.join(map(str, line)) for line in lines]
    name = 'cases.tsv' if kind == 'tsv' else 'cases.csv'
    table(tmp_path, '\ufeff' + text[0], text[1], '', text[2], name=name)
  cases = opened(tmp_path)
  assert [c['patient'] for c in cases] == ['17', '18']
  assert [c['label'] for c in cases] == [1, 0]
  np.testing.assert_array_equal([c['size'] for c in cases], [0.25, np.nan])
  assert [c['seen'] for c in cases] == ['True', 'False']


# DICOM and patients.


def test_a_table_of_patients_and_folders_of_studies(tmp_path):
  for p in range(4):
    series(tmp_path / f'P{p}' / 'study' / 'CT', 'x', p)
    series(tmp_path / f'P{p}' / 'study' / 'report', 'x', p, modality='SR')
  series(tmp_path / 'P1' / 'later' / 'CT', 'x', 9)
  table(tmp_path, 'patient,label', 'P0,a', 'P1,b', 'P2,a')  # P3: not asked for
  cases = opened(tmp_path)
  assert [(c['id'], c['patient'], int(c['label'])) for c in cases] == [
    ('P0/study/CT', 'P0', 0),
    ('P1/later/CT', 'P1', 1),
    ('P1/study/CT', 'P1', 1),
    ('P2/study/CT', 'P2', 0),
  ]
  assert cases[0]['image'].shape == (5, 4, 3, 1)
  chosen = opened(
    tmp_path, fields={'image': '{patient}/study/{series}', 'label': 'label'}
  )
  assert len(chosen) == 3


def test_patient_ids_are_matched_and_not_kept(tmp_path):
  """Folders called anything, and a table of the ids that are in the files."""
  for i, patient in enumerate(('SMITH-1', 'JONES-2', 'SMITH-1')):
    series(tmp_path / f'export{i}', patient, i + 1)
  table(tmp_path, 'MRN,label', 'JONES-2,ill', 'SMITH-1,well')
  fields = {'patient': 'MRN'}
  cases = opened(tmp_path, fields=fields, patient='dicom')
  values = [(int(c['image'].max()), int(c['label'])) for c in cases]
  assert values == [(2, 0), (1, 1), (3, 1)]
  assert cases[1]['patient'] == cases[2]['patient']
  assert cases[1]['patient'] == formats.patient_digest('SMITH-1')
  assert 'SMITH' not in str([{**c, 'image': 0} for c in cases])
  table(tmp_path, 'MRN,label', 'DOE-3,ill')
  with pytest.raises(FileNotFoundError, match='line 2: no image') as e:
    opened(tmp_path, fields=fields, patient='dicom')
  assert 'DOE' not in str(e.value)


# Refusals.


def make_bad(folder, name):
  """Files and a table for a refusal; returns options of open_folder."""
  for i in range(3):
    picture(folder / f'{i}.png', i)
    volume(folder / f'v{i}_a.nii', 1)
    grid = {'shape': (3, 4, 6)} if i == 1 else {'spacing': 1 + 2.0 * (i == 2)}
    volume(folder / f'v{i}_b.nii', 1, **grid)
    volume(folder / f'v{i}_m.nii', 1)
  lines, options = REFUSED[name][:2]
  if lines:
    table(folder, *lines)
  return options


def fields(**told):
  return {'fields': told}


REFUSED = {
  'channels of another shape': (
    (), fields(image='{v0,v1}_b.nii', mask='{v}_m.nii'), 'has no {name} in it'),
  'channels on another grid': (
    ('id,label', 'v2,x'), fields(image='{id}_{a,b}.nii'),
    'v2_b.nii: lies 4.0 mm from'),
  'channels of another size': (
    ('id,label', 'v1,x'), fields(image='{id}_{a,b}.nii'),
    'v1_b.nii: has shape (3, 4, 6) but'),
  'a missing channel': (
    (), fields(image='{id}_{a,c}.nii', label='{id}'), 'v0_c.nii: no such file'),
  'two files for a channel': (
    (), fields(image='{id}{_*,_a}.nii', label='{id}'),
    'second file of a channel'),
  'no match': ((), fields(image='{id}.tif'), 'matches no image'),
  'a missing mask': (
    (), fields(image='{id}_a.nii', mask='{id}_x.nii'), 'no mask'),
  'two masks': (
    (), fields(image='{id}_a.nii', mask='{id}_*.nii'), '3 masks'),
  'a column without a table': (
    (), fields(image='{id}.png', label='grade'), 'there is no table'),
  'only a label': ((), fields(label='{x}'), 'data.fields needs image'),
  'an unknown field': (
    (), fields(images='{id}.png'), "no 'images'; did you mean 'image'?"),
  'an unknown name': (
    (), fields(image='{case}_a.nii', label='{cas}'), "did you mean 'case'?"),
  'where without a table': ((), {'where': 'a=b'}, "'a=b' needs a table"),
  'an unknown column': (
    ('path,grade', '0.png,a'), fields(label='grades'),
    "cases.csv: no column 'grades'; did you mean 'grade'?"),
  'nothing to learn': (('path,x', '0.png,a'), {}, 'needs a column label or'),
  'no way to the image': (
    ('case,label', '0,a'), {}, 'nothing says which image'),
  'no image of the patient': (
    ('patient,label', '0,a', '7,a'), {}, 'line 3: no image below'),
  'a missing file': (
    ('path,label', '0.png,a', '8.png,b'), {}, 'cases.csv, line 3: no file'),
  'a missing mask file': (
    ('path,mask', '0.png,9.png'), {}, 'cases.csv, line 2: no mask'),
  'an image twice': (
    ('path,label,id', '0.png,a,x', '0.png,a,y'), {},
    '0.png is already in line 2'),
  'an id twice': (
    ('path,label,id', '0.png,a,x', '1.png,a,x'), {},
    'line 3: case x occurs twice'),
  'no label at all': (
    ('path,label', '0.png,', '1.png,#N/A'), {}, 'label is empty in every row'),
  'an uncertain label': (
    ('path,p,q', '0.png,0,-1'), fields(label='{p,q}'), "data.uncertain='zero'"),
  'a name that is taken': (
    ('path,label,spacing', '0.png,a,2'), {}, "column 'spacing' has the name"),
  'two columns of a name': (
    ('path,label,x,x', '0.png,a,1,2'), {}, "has column 'x' twice"),
  'too many cells': (
    ('path,label', '0.png,a,b'), {}, 'line 2: has more cells'),
  'no row left': (
    ('path,label', '0.png,a'), {'where': 'label=b'}, "no row has label='b'"),
  'no condition': (
    ('path,label', '0.png,a'), {'where': 'label'}, 'needs column=value'),
  'an unclosed quote': (
    ('path,label', '"0.png,a'), {}, 'is not a table in CSV'),
  'a negative time': (
    ('path,time,event', '0.png,-1,0'), {}, "time is '-1', not a number"),
  'a text for a time': (
    ('path,time,event', '0.png,soon,0'), {}, "time is 'soon'"),
  'another event': (
    ('path,time,event', '0.png,1,1.5'), {}, "event is '1.5'; 0 is censored"),
  'time without event': (
    ('path,t', '0.png,1'), fields(time='t'), 'needs data.fields.event'),
  'two masks told': (
    ('path,a,b', '0.png,x,y'), fields(mask='{a,b}'), 'line 2: no mask'),
  'a number for a name': (
    ('path,label', '0.png,0', '1.png,1'), {'class_names': (0, 1)},
    "task.class_names: 0 is a number, and labels are texts; write '0'"),
  'no regular expression': (
    ('path,label', '0.png,a'), {'patient': '(P'},
    "data.patient='(P' is no regular expression"),
  'a patient without a name': (
    ('path,label', '0.png,a'), {'patient': 'P*'}, "no patient: 'P*' is not"),
  'two fractions': (
    ('path,label', '0.png,a'), {'fractions': (0.8, 0.2)},
    'data.fractions=(0.8, 0.2): needs 3 numbers, of train, validation, test'),
  'no PatientID': (
    ('path,label', '0.png,a'), {'patient': 'dicom'}, 'is no DICOM'),
  'too few for the folds': (
    ('path,label', '0.png,a', '1.png,a', '2.png,b'), {'folds': 2},
    "class 'b' has 1 patients, fewer than the 2 folds"),
  'no such fold': (
    ('path,label', '0.png,a', '1.png,a'), {'folds': 2},
    "no split 'train'; known: fold0, fold1"),
}  # fmt: skip


@pytest.mark.parametrize('name', REFUSED)
def test_refused_in_one_line(tmp_path, name):
  options = make_bad(tmp_path, name)
  with pytest.raises((ValueError, FileNotFoundError)) as e:
    opened(tmp_path, **options)
  assert REFUSED[name][2] in str(e.value)
  assert '\n' not in str(e.value)


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('cases.csv', 'path,label\nä.png,a'.encode('latin-1'), 'is not UTF-8'),
    ('cases.csv', b'', 'has no rows'),
    ('cases.parquet', b'PAR1 nothing', 'is not a Parquet table, or damaged'),
  ],
)
def test_no_table_at_all(tmp_path, name, content, message):
  if name.endswith('parquet'):
    pytest.importorskip('pyarrow')
  (tmp_path / name).write_bytes(content)
  with pytest.raises(ValueError, match=message) as e:
    opened(tmp_path)
  assert '\n' not in str(e.value)


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'pyarrow', None)
  (tmp_path / 'cases.parquet').write_bytes(b'PAR1')
  with pytest.raises(ValueError, match=r"pip install 'medjax\[tables\]'"):
    opened(tmp_path)


def test_nnunet_files_get_a_hint(tmp_path):
  for c in range(2):
    volume(tmp_path / 'imagesTr' / f'x_000{c}.nii.gz', c)
  volume(tmp_path / 'labelsTr' / 'x.nii.gz', 1)
  with pytest.raises(
    FileNotFoundError, match=r'imagesTr/\{id\}_\{0000,0001\}\.nii'
  ):
    opened(tmp_path)


# Real data.


def test_real_nodules_by_their_own_table(shared_data):
  home = shared_data('lidc_nodules')
  options = {
    'table': 'metadata.csv',
    'where': 'has_image=True',
    'fields': {
      'image': 'image/{file}',
      'mask': 'nodule_mask/{file}',
      'label': 'Diagnosis',
      'patient': 'patient_id',
    },
    'folds': 5,
  }
  folds = [open_folder(home, f'fold{i}', **options) for i in range(5)]
  assert sum(map(len, folds)) == 994
  patients = [{e.patient for e in fold.entries} for fold in folds]
  assert [len(p) for p in patients] == [111, 110, 110, 110, 110]
  assert len(set.union(*patients)) == 551
  case = folds[0][0]
  assert folds[0].class_names == ('Benign', 'Malign')
  assert case['Diagnosis_value'] == case['label']
  assert case['diameter_mm'] > 0
  assert case['mask'].max() == 1
  with pytest.raises(FileNotFoundError, match=r'line 979: no file .*1002_R_1'):
    open_folder(home, 'fold0', **{**options, 'where': ''})


def test_real_fundus_by_pattern(shared_data):
  home = shared_data('chase_db1')
  fields = {'image': 'Image_{id}.jpg', 'mask': 'Image_{id}_1stHO.png'}
  cases = open_folder(
    home, 'train+validation+test', fields=fields, patient=r'\d+'
  )
  assert len(cases) == 28
  assert len({e.patient for e in cases.entries}) == 14
  assert cases[0]['image'].shape == (960, 999, 3)
  assert cases[0]['mask'].max() == 1
