"""Folders as people have them, read without telling."""

import os
import shutil
import unicodedata

import nibabel as nib
import numpy as np
import PIL.Image
import pydicom
import pytest
from data.folder.written import dicom
from pydicom.uid import (
  CTImageStorage,
  DigitalXRayImageStorageForPresentation,
  RTStructureSetStorage,
)

from medjax.data.folder import open_folder, open_splits

ALL = {'fractions': (1, 0, 0)}


def picture(path, value=None, shape=(6, 5), seed=0):
  path.parent.mkdir(parents=True, exist_ok=True)
  if value is None:
    rng = np.random.default_rng([seed, *path.as_posix().encode()])
    array = rng.integers(0, 255, shape, np.uint8)
  else:
    array = np.zeros(shape, np.uint8)
    array[1:3, 1:4] = value
  PIL.Image.fromarray(array).save(path)


def volume(path, value=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  array = np.zeros((3, 4, 5), np.uint8)
  array[1] = 1
  if value is None:
    rng = np.random.default_rng([*path.as_posix().encode()])
    array = rng.integers(0, 255, (3, 4, 5), np.uint8)
  nib.save(nib.Nifti1Image(array, np.eye(4)), path)


def opened(folder, split='train', **options):
  return open_folder(folder, split, **{**ALL, **options})


# Images and masks.


@pytest.mark.parametrize(
  ('image', 'mask'),
  [
    ('Images/{}.png', 'Masks/{}.png'),
    ('imgs/{}.png', 'gt/{}.png'),
    ('image/{}.png', 'label/{}.png'),
    ('IMG/{}.JPG', 'GroundTruth/{}.png'),
    ('images/img_{}.png', 'masks/mask_{}.png'),
    ('images/{}_training.tif', '1st_manual/{}_manual1.gif'),
    ('images/{}.png', 'masks/{}_segmentation.png'),
    ('images/a/{}.png', 'masks/a/{}.png'),
    ('{}.png', '{}-mask.png'),
  ],
)
def test_usual_names(tmp_path, image, mask):
  for i in range(8, 12):  # of one and of two digits
    picture(tmp_path / image.format(i))
    picture(tmp_path / mask.format(i), 255)
  cases = opened(tmp_path, dense=True)
  assert len(cases) == 4
  assert all(c['mask'].sum() == 6 for c in cases)
  assert cases.num_classes == 2


def test_the_field_of_view_of_drive_is_no_vessel(tmp_path):
  for i in (21, 22):
    picture(tmp_path / f'training/images/{i}_training.tif')
    picture(tmp_path / f'training/1st_manual/{i}_manual1.gif', 255)
    picture(tmp_path / f'training/mask/{i}_training_mask.gif', 255, (7, 7))
    picture(tmp_path / f'test/images/0{i - 20}_test.tif')
    picture(tmp_path / f'test/mask/0{i - 20}_test_mask.gif', 255, (7, 7))
    picture(tmp_path / f'test/1st_manual/0{i - 20}_manual1.gif', 255)
  assert open_folder(tmp_path, 'test', dense=True)[1]['mask'].sum() == 6
  # As the set is handed out, nobody's vessels of the test images are known.
  shutil.rmtree(tmp_path / 'test/1st_manual')
  assert 'mask' not in open_folder(tmp_path, 'test', dense=True)[1]
  assert open_folder(tmp_path, 'train', dense=True)[0]['mask'].sum() == 6


def test_umlauts_of_macos_in_one_of_two_folders(tmp_path):
  for i, name in enumerate(('Jürgen', 'Jörg')):
    file = f'{unicodedata.normalize("NFD", name)}.png'
    picture(tmp_path / 'images' / file, 3 + i)
    picture(tmp_path / 'masks' / f'{name}.png', 1)
  assert len(open_folder(tmp_path, 'train', dense=True, **ALL)) == 2


def test_test_images_without_masks(tmp_path):
  for i in range(3):
    picture(tmp_path / f'train/images/{i}.png')
    picture(tmp_path / f'train/masks/{i}.png', 1)
    picture(tmp_path / f'test/images/t{i}.png')
  cases = open_folder(tmp_path, 'test', dense=True)
  assert 'mask' not in cases[0]
  (tmp_path / 'train' / 'masks').rename(tmp_path / 'train' / 'other')
  with pytest.raises(FileNotFoundError, match='has no masks/ beside it'):
    opened(tmp_path, dense=True)


@pytest.mark.parametrize('dense', [False, True])
def test_numbered_masks_are_masks(tmp_path, dense):
  for kind in ('benign', 'malignant'):
    for i in range(3):
      picture(tmp_path / kind / f'{kind} ({i}).png')
      picture(tmp_path / kind / f'{kind} ({i})_mask.png', 255)
  second = np.zeros((6, 5), np.uint8)
  second[5] = 255
  place = tmp_path / 'benign' / 'benign (1)_mask_1.png'
  PIL.Image.fromarray(second).save(place)
  cases = opened(tmp_path, dense=dense)
  assert len(cases) == 6
  if dense:
    (case,) = (c for c in cases if c['id'] == 'benign/benign (1)')
    assert case['mask'].sum() == 6 + 5
    assert cases.num_classes == 2
  else:
    assert cases.class_names == ('benign', 'malignant')
    assert 'mask' not in cases[0]


def test_numbered_masks_in_a_folder_of_their_own(tmp_path):
  for i in range(2):
    picture(tmp_path / 'images' / f'cell{i}.png')
    picture(tmp_path / 'masks' / f'cell{i}_1.png', 255)
  second = np.zeros((6, 5), np.uint8)
  second[5] = 255
  PIL.Image.fromarray(second).save(tmp_path / 'masks' / 'cell1_2.png')
  cases = opened(tmp_path)
  assert [c['mask'].sum() for c in cases] == [6, 11]
  assert '1 cases have several masks' in str(cases.notes)


def test_several_masks_of_several_classes_are_not_joined(tmp_path):
  picture(tmp_path / 'x.png')
  picture(tmp_path / 'x_mask_1.png', 1)
  picture(tmp_path / 'x_mask_2.png', 2)
  with pytest.raises(ValueError, match=r'x_mask_2\.png: holds label 2, but'):
    opened(tmp_path, dense=True)[0]


def test_no_masks(tmp_path):
  picture(tmp_path / 'a' / '1.png')
  picture(tmp_path / 'b' / '2.png')
  with pytest.raises(ValueError, match='no masks found among 2 cases'):
    opened(tmp_path, dense=True)


def test_two_pictures_of_one_name(tmp_path):
  picture(tmp_path / 'a' / '1.png')
  picture(tmp_path / 'a' / '1.jpg')
  with pytest.raises(ValueError, match=r'twice \(1\.jpg and 1\.png\)'):
    opened(tmp_path)
  for kind in ('images', 'masks'):
    picture(tmp_path / 'b' / kind / '1.png', 1)
  picture(tmp_path / 'b' / 'images' / '1.jpg')
  with pytest.raises(ValueError, match=r'images/1\.png have one name'):
    opened(tmp_path / 'b')


# Patients.


def test_a_folder_for_each_patient(tmp_path):
  for p in range(6):
    volume(tmp_path / f'P{p:03d}' / 'image.nii.gz')
    volume(tmp_path / f'P{p:03d}' / 'mask.nii.gz', 1)
  for dense in (False, True):
    cases = opened(tmp_path, dense=dense)
    assert [c['patient'] for c in cases] == [f'P{p:03d}' for p in range(6)]
    assert cases[0]['id'] == 'P000'
    assert cases.num_classes == 2
    assert cases.class_names == ()


def test_a_folder_of_structures_for_each_patient(tmp_path):
  """As TotalSegmentator has them: ct.nii.gz beside segmentations/liver.…."""
  for p in range(3):
    volume(tmp_path / f's{p}' / 'ct.nii.gz')
    structure(tmp_path / f's{p}/segmentations/liver.nii.gz', 0)
    if p:  # the spleen is cut off in s0
      structure(tmp_path / f's{p}/segmentations/spleen.nii.gz', 2)
  cases = opened(tmp_path, dense=True)
  assert [c['id'] for c in cases] == [c['patient'] for c in cases]
  assert cases.class_names == ('background', 'liver', 'spleen')
  first, second, _ = (c['mask'][:, 0, 0].tolist() for c in cases)
  assert (first, second) == ([1, 0, 0], [1, 0, 2])
  assert cases[0]['image'].shape == (3, 4, 5, 1)

  spleen = opened(tmp_path, dense=True, class_names=('background', 'spleen'))
  assert spleen[1]['mask'][:, 0, 0].tolist() == [0, 0, 1]

  shutil.rmtree(tmp_path / 's1/segmentations')
  with pytest.raises(ValueError, match=r's1: has no image beside .* as s0 has'):
    opened(tmp_path, dense=True)


def test_a_mask_of_each_cell(tmp_path):
  """As the Data Science Bowl of 2018 has them: masks by random names."""
  for p in ('a1', 'b2'):
    picture(tmp_path / p / 'images' / f'{p}.png')
    for i, rows in enumerate(((1, 2), (4, 5))):
      mask = np.zeros((6, 5), np.uint8)
      mask[slice(*rows), 1:4] = 255
      path = tmp_path / p / 'masks' / f'{p}{i}c.png'
      path.parent.mkdir(exist_ok=True)
      PIL.Image.fromarray(mask).save(path)
  cases = opened(tmp_path, dense=True)
  assert cases.class_names == ()
  assert [c['patient'] for c in cases] == ['a1', 'b2']
  assert cases[0]['mask'][:, 2].tolist() == [0, 1, 0, 0, 1, 0]


def structure(path, plane):
  """A mask of one of three planes."""
  path.parent.mkdir(parents=True, exist_ok=True)
  array = np.zeros((3, 4, 5), np.uint8)
  array[plane] = 1
  nib.save(nib.Nifti1Image(array, np.eye(4)), path)


def test_patients_with_channels_are_told_how(tmp_path):
  for p in range(3):
    for name in ('flair', 't1', 't1ce'):
      volume(tmp_path / f'B_{p}' / f'B_{p}_{name}.nii.gz')
    volume(tmp_path / f'B_{p}' / f'B_{p}_seg.nii.gz', 1)
  image = '{patient}/{patient}_{flair,t1,t1ce}.nii.gz'
  mask = '{patient}/{patient}_seg.nii.gz'
  volume(tmp_path / 'B_0' / 'seg.nii.gz', 1)
  with pytest.raises(ValueError, match='looks like a folder for each pa') as e:
    opened(tmp_path, dense=True)
  assert f"data.fields.image='{image}'" in str(e.value)
  assert f"data.fields.mask='{mask}'" in str(e.value)
  (tmp_path / 'B_0' / 'seg.nii.gz').unlink()
  cases = opened(tmp_path, dense=True, fields={'image': image, 'mask': mask})
  assert cases[2]['image'].shape == (3, 4, 5, 3)


def test_the_one_mask_of_several_channels(tmp_path):
  """As BraTS has them, in 2023 with hyphens."""
  for p in range(2):
    for name in ('t1c', 't2w'):
      volume(tmp_path / f'B-{p}' / f'B-{p}-{name}.nii.gz')
    volume(tmp_path / f'B-{p}' / f'B-{p}-seg.nii.gz', 1)
  with pytest.raises(ValueError, match='looks like a folder for each') as e:
    opened(tmp_path, dense=True)
  assert "mask='{patient}/{patient}-seg.nii.gz'" in str(e.value)


@pytest.mark.parametrize(
  ('image', 'mask'),
  [
    ('volume-{}', 'segmentation-{}'),  # LiTS
    ('ct_10{}_image', 'ct_10{}_label'),  # MM-WHS
    ('Case0{}', 'Case0{}_segmentation'),  # PROMISE12
  ],
)
def test_images_and_masks_in_one_folder(tmp_path, image, mask):
  for i in range(3):
    volume(tmp_path / f'{image.format(i)}.nii.gz')
    volume(tmp_path / f'{mask.format(i)}.nii.gz', 1)
  cases = opened(tmp_path, dense=True)
  assert [c['id'] for c in cases] == [image.format(i) for i in range(3)]
  assert [e.mask.name for e in cases.entries] == [
    f'{mask.format(i)}.nii.gz' for i in range(3)
  ]


def test_patients_are_no_classes(tmp_path):
  for p in range(6):
    volume(tmp_path / f'P{p:03d}' / 'image.nii.gz')
  with pytest.raises(ValueError, match='6 folders of one image each, which'):
    opened(tmp_path)


def test_slices_in_a_folder_for_each_patient(tmp_path):
  for p in range(5):
    for i in range(2):
      picture(tmp_path / f'TCGA_{p}' / f'TCGA_{p}_{i}.png')
      picture(tmp_path / f'TCGA_{p}' / f'TCGA_{p}_{i}_mask.png', 1)
  cases = opened(tmp_path, dense=True)
  assert [c['patient'] for c in cases] == [
    f'TCGA_{p}' for p in range(5) for _ in range(2)
  ]


@pytest.mark.parametrize('dense', [False, True])
def test_bids(tmp_path, dense):
  rows = ['participant_id\tage\tgroup']
  for p in range(1, 5):
    stem = f'sub-0{p}/ses-1/anat/sub-0{p}_ses-1'
    volume(tmp_path / f'{stem}_T1w.nii.gz')
    if dense:
      volume(tmp_path / 'derivatives' / 'masks' / f'{stem}_mask.nii.gz', 1)
    rows.append(f'sub-0{p}\t{50 + p}\t{"ab"[p % 2]}')
  (tmp_path / 'participants.tsv').write_text('\n'.join(rows))
  (tmp_path / 'dataset_description.json').write_text('{}')
  cases = opened(tmp_path, dense=dense)
  assert len(cases) == 4
  case = cases[0]
  assert (case['patient'], case['age']) == ('sub-01', 51.0)
  if dense:
    assert case['mask'].sum() == 20
  else:
    assert cases.class_names == ('a', 'b')
    (tmp_path / 'participants.tsv').unlink()
    with pytest.raises(ValueError, match='looks like BIDS') as e:
      opened(tmp_path)
    assert '{participant_id}/ses-*/anat/*_T1w.nii.gz' in str(e.value)


def test_bids_with_several_masks(tmp_path):
  """Of a session, or of each subject another; the message says how."""
  for p in range(1, 4):
    stem = f'sub-0{p}/ses-1/anat/sub-0{p}_ses-1'
    volume(tmp_path / f'{stem}_T1w.nii.gz')
    for kind in ('brain', 'lesion'):
      place = tmp_path / 'derivatives' / f'{stem}_run-{p}_{kind}_mask.nii.gz'
      volume(place, 1)
  for partly in (False, True):
    with pytest.raises(ValueError, match='masks of several names') as e:
      opened(tmp_path, dense=True, partly=partly)
  stem = '{patient}/{session}/anat/{patient}_{session}'
  assert f"image='{stem}_T1w.nii.gz'" in str(e.value)
  assert f"mask='derivatives/{stem}_run-1_brain_mask.nii.gz'" in str(e.value)
  for path in tmp_path.glob('derivatives/**/*_brain_*'):
    path.unlink()
  assert len(opened(tmp_path, dense=True)) == 3
  path = next(tmp_path.glob('derivatives/**/sub-02*_mask.nii.gz'))
  path.rename(path.with_name(path.name.replace('lesion', 'brain')))
  with pytest.raises(ValueError, match=r'sub-01.*sub-02.*say which, as in'):
    opened(tmp_path, dense=True)


def test_one_mask_each_of_another_structure(tmp_path):
  for p in range(4):
    volume(tmp_path / f'P{p}' / 'scan_ct.nii.gz')
    volume(tmp_path / f'P{p}' / f'P{p}_liver{p}_mask.nii.gz', 1)
  assert len(opened(tmp_path, dense=True)) == 4
  path = tmp_path / 'P1' / 'P1_liver1_mask.nii.gz'
  path.rename(path.with_name('tumour_mask.nii.gz'))
  cases = opened(tmp_path, dense=True)
  assert len(cases) == 4
  assert 'as P0_liver0_mask.nii.gz and tumour_mask' in str(cases.notes)


@pytest.mark.parametrize(
  'names',
  [
    ('A1B2', 'A3B4', 'C1D9', 'E5F6'),  # study ids, of which digits differ
    ('MUJO', 'SMAN'),
    ('ct', 'mr', 'ct', 'mr'),
  ],
)
def test_masks_that_are_called_as_their_images(tmp_path, names):
  for p, name in enumerate(names):
    volume(tmp_path / f'P00{p}' / f'{name}_img.nii.gz')
    volume(tmp_path / f'P00{p}' / f'{name}_seg.nii.gz', 1)
  cases = opened(tmp_path, dense=True)
  assert len(cases) == len(names)
  assert not cases.notes


def test_bids_masks_of_images_of_two_kinds(tmp_path):
  for p in range(4):
    stem = f'sub-0{p}/anat/sub-0{p}_{"T1w" if p % 2 else "FLAIR"}'
    volume(tmp_path / f'{stem}.nii.gz')
    place = tmp_path / 'derivatives' / f'{stem}_label-lesion_mask.nii.gz'
    volume(place, 1)
  assert len(opened(tmp_path, dense=True)) == 4


def test_masks_called_as_patients_are_of_one_class(tmp_path):
  for name in ('DoeJohn', 'RoeJane', 'PoeEdgar'):
    volume(tmp_path / f'{name[:3]}_{name[3:]}' / 'ct.nii.gz')
    volume(tmp_path / f'{name[:3]}_{name[3:]}' / f'{name}_mask.nii.gz', 1)
  assert len(opened(tmp_path, dense=True)) == 3


def test_bids_by_its_table(tmp_path):
  """With the words that the refusal of several images proposes."""
  rows = ['participant_id\tdx']
  for p in range(1, 5):
    for kind in ('T1w', 'T2w'):
      volume(tmp_path / f'sub-0{p}/ses-1/anat/sub-0{p}_ses-1_{kind}.nii.gz')
    rows.append(f'sub-0{p}\t{"ab"[p % 2]}')
  (tmp_path / 'participants.tsv').write_text('\n'.join(rows))
  with pytest.raises(ValueError, match='several images of a session'):
    opened(tmp_path)
  cases = opened(
    tmp_path,
    table='participants.tsv',
    fields={
      'image': '{participant_id}/ses-*/anat/*_T1w.nii.gz',
      'patient': 'participant_id',
      'label': 'dx',
    },
  )
  assert len(cases) == 4
  assert cases[0]['patient'] == 'sub-01'
  assert cases[0]['id'].endswith('T1w')


def test_bids_with_raw_data_apart(tmp_path):
  """As VerSe and ISLES have them."""
  for p in range(3):
    volume(tmp_path / f'rawdata/sub-{p}/sub-{p}_ct.nii.gz')
    volume(tmp_path / f'derivatives/sub-{p}/sub-{p}_seg-vert_msk.nii.gz', 1)
  cases = opened(tmp_path, dense=True)
  assert [c['patient'] for c in cases] == ['sub-0', 'sub-1', 'sub-2']
  assert all(e.mask.name.endswith('_msk.nii.gz') for e in cases.entries)


def test_x_rays_of_a_patient_in_one_folder(tmp_path):
  for kind in ('benign', 'malignant'):
    for p in range(2):
      for i in range(2):
        dicom(
          tmp_path / kind / f'{kind}{p}' / f'{i}.dcm',
          DigitalXRayImageStorageForPresentation,
        )
  cases = opened(tmp_path)
  assert len(cases) == 8
  assert len({c['patient'] for c in cases}) == 4
  assert cases[0]['image'].shape == (4, 5, 1)


def test_a_series_and_its_export_are_two_cases_which_is_said(tmp_path):
  for kind in 'ab':
    for p in range(2):
      place = tmp_path / kind / f'{kind}{p}'
      dicom(place / 'dcm' / '0.dcm', CTImageStorage, position=0)
      if not p:
        volume(place / 'vol.nii.gz')
  assert '2 patients have DICOM and files of another' in str(
    opened(tmp_path).notes
  )


def test_structure_sets_in_a_folder_each(tmp_path):
  for p in range(2):
    dicom(tmp_path / f'images/P{p}/0.dcm', CTImageStorage, position=0)
    dicom(tmp_path / f'masks/P{p}/rs{p}.dcm', RTStructureSetStorage)
  entries = opened(tmp_path, dense=True).entries
  assert [e.mask.name for e in entries] == ['rs0.dcm', 'rs1.dcm']
  assert [e.id for e in entries] == ['P0', 'P1']
  # The same, told by their mere names in a table.
  rows = ['path,mask', 'images/P0,rs0.dcm', 'images/P1,rs1']
  (tmp_path / 'cases.csv').write_text('\n'.join(rows))
  assert [e.masks for e in opened(tmp_path, dense=True).entries] == [
    e.masks for e in entries
  ]


def test_a_series_whose_first_file_is_no_image(tmp_path):
  for kind in 'ab':
    for p in range(2):
      uid = pydicom.uid.generate_uid()
      for k in range(3):
        path = tmp_path / kind / f'{kind}{p}' / f'{k + 1}.dcm'
        dicom(path, CTImageStorage, position=2.0 * k, uid=uid)
  dicom(tmp_path / 'a' / 'a0' / '0.dcm', RTStructureSetStorage)
  (tmp_path / 'b' / 'rt').mkdir()
  dicom(tmp_path / 'b' / 'rt' / '0.dcm', RTStructureSetStorage)
  cases = opened(tmp_path)
  assert [c['image'].shape for c in cases] == [(5, 4, 3, 1)] * 4


def test_a_series_and_what_is_drawn_on_it(shared_data, tmp_path):
  """One patient, and a folder of such."""
  home = shared_data('dicom_sts025')
  one = opened(home / 'CT', dense=True)
  assert len(one) == 1
  assert one.entries[0].images == (home / 'CT' / 'image',)
  for p, kind in (('P1', 'CT'), ('P2', 'PET')):
    (tmp_path / p).symlink_to(home / kind)
  cases = opened(tmp_path, dense=True)
  assert [e.id for e in cases.entries] == ['P1', 'P2']
  assert cases.num_classes == 2


# What is left out.


def test_what_is_left_out_is_said(tmp_path):
  for i in range(3):
    picture(tmp_path / 'a' / f'{i}.png')
    picture(tmp_path / 'b' / f'{i}.jpg')
    picture(tmp_path / 'a' / '@eaDir' / f'{i}.png' / 'THUMB.png')
    (tmp_path / 'b' / f'{i}.heic').write_text('x')
    (tmp_path / 'b' / f'._{i}.jpg').write_text('x')
  cases = opened(tmp_path)
  assert len(cases) == 6
  assert cases.notes == (
    'passed over: 1 folders of thumbnails or deleted files',
    'passed over: 3 hidden files or folders',
    'not read: 3 files that are no image of a known format (3 .heic)',
  )
  (tmp_path / 'c').mkdir()
  (tmp_path / 'c' / '1.heic').write_text('x')
  with pytest.raises(ValueError, match=r'c: class without.*not read: 4 \.heic'):
    opened(tmp_path)


@pytest.mark.parametrize('masks', [True, False])
def test_images_of_an_unknown_format(tmp_path, masks):
  for kind in ('images', 'masks'):
    (tmp_path / kind).mkdir()
    (tmp_path / kind / '1.heic').write_text('x')
  if not masks:
    picture(tmp_path / 'images' / '1.png')
  where = 'images: holds no image' if masks else 'masks: holds no mask'
  with pytest.raises((ValueError, OSError), match=rf'{where}.* 1 \.heic'):
    opened(tmp_path)
  with pytest.raises((ValueError, OSError), match=where):
    open_splits(tmp_path)


def test_loops_and_links(tmp_path):
  """16 files stay 16 cases, and what lies elsewhere is found."""
  for kind in 'ab':
    for i in range(8):
      picture(tmp_path / 'in' / kind / f'{i}.png')
    picture(tmp_path / 'out' / kind / 'far.png')
    (tmp_path / 'in' / kind / 'loop').symlink_to(tmp_path / 'in' / kind)
    (tmp_path / 'in' / kind / 'up').symlink_to(tmp_path / 'in')
    (tmp_path / 'in' / kind / 'far').symlink_to(tmp_path / 'out' / kind)
    first = tmp_path / 'in' / kind / '0.png'
    os.link(first, tmp_path / 'in' / kind / 'copy.png')
  cases = opened(tmp_path / 'in')
  assert len(cases) == 18
  assert 'passed over: 2 further links of a file that is listed al' in str(
    cases.notes
  )
  os.link(first, tmp_path / 'in' / 'a' / 'wrong.png')
  with pytest.raises(ValueError, match='the same image, with label'):
    opened(tmp_path / 'in')


def test_pipes_are_passed_over(tmp_path):
  for kind in 'ab':
    picture(tmp_path / kind / '1.png')
    os.mkfifo(tmp_path / kind / '2.png')
  assert len(opened(tmp_path)) == 2


def test_grey_beside_colour(tmp_path):
  for i in range(5):
    picture(tmp_path / 'a' / f'{i}.png')
    picture(tmp_path / 'b' / f'{i}.jpg')
  picture(tmp_path / 'b' / 'c.png', shape=(6, 5, 3))
  cases = opened(tmp_path)
  assert {c['image'].shape for c in cases} == {(6, 5, 3)}
  grey = np.array(PIL.Image.open(tmp_path / 'a' / '0.png'))
  np.testing.assert_array_equal(cases[0]['image'], grey[..., None].repeat(3, 2))
  assert '10 pictures are grey, 1 in colour' in cases.notes[0]


def test_classes_that_differ_in_capitals(tmp_path):
  picture(tmp_path / 'train' / 'Benign' / '1.png')
  picture(tmp_path / 'test' / 'benign' / '1.png')
  with pytest.raises(ValueError, match="'Benign' and 'benign' differ only in"):
    opened(tmp_path)


def test_images_alone(tmp_path):
  for split in ('train', 'test'):
    for i in range(3):
      picture(tmp_path / split / 'deep' / f'{i}.png')
  cases = open_folder(tmp_path, 'test', unlabelled=True)
  assert len(cases) == 3
  assert not {'mask', 'label'} & set(cases[0])
