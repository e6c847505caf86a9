"""Folders of classes, and what only looks like them."""

import os

import numpy as np
import PIL.Image
import pytest
from data.folder.written import picture

from medjax.data.folder import open_folder


def opened(path, **options):
  return open_folder(path, 'train', fractions=(1, 0, 0), **options)


def test_images_and_masks_of_each_class(tmp_path):
  """As the COVID-19 Radiography Database has them."""
  for name in ('covid', 'normal'):
    for i in range(3):
      picture(tmp_path / name / 'images' / f'{name}-{i}.png')
      picture(tmp_path / name / 'masks' / f'{name}-{i}.png', 1)
  cases = opened(tmp_path)
  assert [int(c['label']) for c in cases] == [0, 0, 0, 1, 1, 1]
  assert all('/images/' in c['id'] for c in cases)
  assert len({c['patient'] for c in cases}) == 6
  dense = opened(tmp_path, dense=True)
  assert len(dense) == 6
  assert all(c['mask'].all() for c in dense)
  picture(tmp_path / 'covid' / 'lung masks' / 'covid-0.png', 1)
  with pytest.raises(ValueError, match='several folders of masks'):
    opened(tmp_path, dense=True)
  assert len(opened(tmp_path)) == 6


def test_names_that_are_no_utf8_are_split_and_their_classes_have_names(
  tmp_path,
):
  """So are all umlauts where the locale is ASCII; splits are the same."""
  for name in (b'gut', b'b\xf6se'):
    for i in range(6):
      path = tmp_path / os.fsdecode(name) / f'{i}.png'
      path.parent.mkdir(exist_ok=True)
      PIL.Image.fromarray(np.full((6, 5), i + 9 * len(name), np.uint8)).save(
        path
      )
  cases = opened(tmp_path)
  assert cases.class_names == (r'b\udcf6se', 'gut')
  assert len(cases) == 12
  assert 'n=12' in repr(cases)


@pytest.mark.parametrize('dense', [False, True])
def test_images_and_masks_in_folders_of_other_names(tmp_path, dense):
  for i in range(3):
    picture(tmp_path / 'Training_Input' / f'ISIC_{i}.jpg')
    picture(tmp_path / 'Part1_GroundTruth' / f'ISIC_{i}_segmentation.png', 1)
  with pytest.raises(ValueError, match='as images and their masks') as e:
    opened(tmp_path, dense=dense)
  fields = {
    'image': 'Training_Input/{id}.jpg',
    'mask': 'Part1_GroundTruth/{id}_segmentation.png',
  }
  for field, text in fields.items():
    assert f"data.fields.{field}='{text}'" in str(e.value)
  assert len(opened(tmp_path, dense=True, fields=fields)) == 3


def test_classes_below_patients(tmp_path):
  """As IDC patches of breast cancer have them: PATIENT/0/ and PATIENT/1/."""
  for p in range(5):
    for label in '01':
      picture(tmp_path / f'{p}' / label / f'{p}_{label}.png')
  with pytest.raises(ValueError, match='look like patients') as e:
    opened(tmp_path)
  image = '{patient}/{label}/{id}.png'
  assert f"data.fields.image='{image}'" in str(e.value)
  cases = opened(tmp_path, fields={'image': image})
  assert cases.class_names == ('0', '1')
  assert [c['patient'] for c in cases][:3] == ['0', '0', '1']


def test_patients_below_classes_stay(tmp_path):
  """Numbered from 1 in each of five classes: then they are no classes."""
  for name in 'abcde':
    for p in range(6):
      picture(tmp_path / name / str(p) / '1.png')
  assert opened(tmp_path).class_names == tuple('abcde')


def test_names_of_utf8_stay_as_they_are(tmp_path):
  """Also with a space that may not be broken, as runs before had them."""
  for name in ('a\xa0b', 'ü'):
    picture(tmp_path / name / '1.png')
  assert opened(tmp_path).class_names == ('a\xa0b', 'ü')


def test_few_patients_each_in_some_of_many_classes_stay(tmp_path):
  """A name below half of the folders only is no class."""
  sets = ('12', '34', '1', '2', '3', '4')
  for name, patients in zip('abcdef', sets, strict=True):
    for p in patients:
      picture(tmp_path / name / f'patient-{p}' / f'{name}{p}.png')
  cases = opened(tmp_path)
  assert cases.class_names == tuple('abcdef')
  assert {c['patient'] for c in cases} == {f'patient-{i}' for i in '1234'}


def test_splits_below_classes(tmp_path):
  for name in 'ab':
    for split in ('train', 'test'):
      picture(tmp_path / name / split / '1.png')
  with pytest.raises(ValueError, match='each class has folders test, tr') as e:
    opened(tmp_path)
  image = '{label}/{split}/{id}.png'
  assert f"data.fields.image='{image}'" in str(e.value)
  cases = opened(tmp_path, fields={'image': image, 'id': '{label}{split}'})
  assert len(cases) == 2


def test_masks_whose_names_go_on(tmp_path):
  """As STARE and IDRiD have them."""
  for i in range(3):
    picture(tmp_path / 'stare-images' / f'im{i}.png')
    picture(tmp_path / 'labels-ah' / 'discs' / f'im{i}.ah.png', 1)
  with pytest.raises(ValueError, match='as images and their masks') as e:
    opened(tmp_path)
  assert "data.fields.mask='labels-ah/discs/{id}.ah.png'" in str(e.value)


def test_folds_are_no_classes(tmp_path):
  for fold in ('fold1', 'fold2'):
    for name in 'ab':
      picture(tmp_path / fold / name / f'{fold}{name}.png')
  with pytest.raises(ValueError, match='look like folds, not classes') as e:
    opened(tmp_path)
  image = '{split}/{label}/{id}.png'
  assert image in str(e.value)
  fields = {'image': image}
  assert len(open_folder(tmp_path, 'fold2', fields=fields)) == 2


def test_twenty_numbered_folders_are_patients(tmp_path):
  for count in (19, 20):
    for i in range(2):
      picture(tmp_path / f'IMD{count}' / f'{i}.png')
    for k in range(1, 19):
      picture(tmp_path / f'IMD{k}' / 'a.png')
    if count == 19:
      assert len(opened(tmp_path).class_names) == 19
  with pytest.raises(ValueError, match='20 folders that look like patients'):
    opened(tmp_path)


def test_a_folder_beside_those_of_splits_is_said(tmp_path):
  for split in ('train', 'test', 'holdout'):
    for name in 'ab':
      picture(tmp_path / split / name / f'{split}.png')
  (tmp_path / 'documents').mkdir()
  assert opened(tmp_path).notes == (
    'passed over: 1 folder beside those of splits: holdout',
  )


@pytest.mark.parametrize('word', ['patient', 'Case_', 'subject-'])
def test_numbered_patients_are_no_classes(tmp_path, word):
  for p in range(2):
    for i in range(2):
      picture(tmp_path / f'{word}{p}' / f'{i}.png')
  with pytest.raises(ValueError, match='2 folders that look like patients'):
    opened(tmp_path)


def test_an_image_without_a_mask_among_others(tmp_path):
  for i in range(3):
    picture(tmp_path / 'lesions' / f'{i}.png')
    picture(tmp_path / 'lesions' / f'{i}_mask.png', 1)
  picture(tmp_path / 'healthy' / 'a.png')
  with pytest.raises(ValueError, match=r'a.png: has no mask, nor have 0 other'):
    opened(tmp_path, dense=True)
  assert len(opened(tmp_path, dense=True, partly=True)) == 4
  assert opened(tmp_path).class_names == ('healthy', 'lesions')
