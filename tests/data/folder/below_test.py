"""What lies below a folder is found, whatever lies beside it."""

import PIL.Image
import pytest
from data.folder.written import dicom, picture
from pydicom.uid import (
  CTImageStorage,
  EnhancedSRStorage,
  SecondaryCaptureImageStorage,
)

from medjax.data.folder import open_folder

ALL = {'fractions': (1, 0, 0)}


def ids(path, split='train', **options):
  return [e.id for e in open_folder(path, split, **ALL, **options).entries]


@pytest.fixture
def studies(tmp_path):
  """Two series of each of two patients, in folders below theirs."""
  for label, patient in (('a', 'P1'), ('b', 'P2')):
    for study in ('s1', 's2'):
      dicom(
        tmp_path / label / patient / study / '0.dcm', CTImageStorage, position=0
      )
  return tmp_path


def test_a_report_beside_series_hides_none(studies):
  before = ids(studies)
  assert len(before) == 4
  dicom(studies / 'a' / 'P1' / 'report.dcm', EnhancedSRStorage)
  assert ids(studies) == before


def test_a_report_beside_pictures_hides_none(studies):
  picture(studies / 'a' / 'P1' / 'x.png')
  before = ids(studies)
  assert len(before) == 5
  dicom(studies / 'a' / 'P1' / 'report.dcm', EnhancedSRStorage)
  assert ids(studies) == before


def test_a_series_above_others_is_one_more(studies):
  before = ids(studies)
  dicom(studies / 'a' / 'P1' / '0.dcm', CTImageStorage, position=0)
  dicom(studies / 'a' / 'P1' / '1.dcm', CTImageStorage, position=0)
  (studies / 'a' / 'P1' / 'masks').mkdir()
  picture(studies / 'a' / 'P1' / 'masks' / 'liver.png')
  assert sorted([*before, 'a/P1']) == sorted(ids(studies))


def test_a_picture_before_slices_makes_no_pictures_of_them(studies):
  """As a dose report does, whose name sorts first."""
  before = ids(studies)
  place = studies / 'a' / 'P1' / 's1'
  dicom(place / '00.dcm', SecondaryCaptureImageStorage)
  dicom(place / '1.dcm', CTImageStorage, position=1)
  assert ids(studies) == before
  cases = open_folder(studies, 'train', **ALL)
  with pytest.raises(ValueError, match=r's1: holds \d series .*; give the f'):
    list(cases)


@pytest.mark.parametrize(
  ('split', 'pair'),
  [('validation', ('val', 'valid')), ('train', ('train', 'Train'))],
)
def test_two_folders_of_one_split_are_both_taken(tmp_path, split, pair):
  for folder in ('train', *pair):
    for kind in 'ab':
      picture(tmp_path / folder / kind / f'{folder}.png')
  found = ids(tmp_path, split)
  assert sorted(found) == sorted(f'{p}/{k}/{p}' for p in pair for k in 'ab')


def test_two_folders_of_one_split_with_masks(tmp_path):
  """DRIVE's second folder of masks is none in either."""
  for folder in ('training', 'Train'):
    picture(tmp_path / folder / 'images' / f'{folder}.png')
    for masks in ('1st_manual', 'mask'):
      PIL.Image.new('L', (5, 6), 1).save(
        _made(tmp_path / folder / masks) / f'{folder}.png'
      )
  assert len(ids(tmp_path, dense=True)) == 2


def _made(folder):
  folder.mkdir(parents=True)
  return folder
