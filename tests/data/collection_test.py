import shutil

import numpy as np
import pydicom.fileset
import pytest

from medjax.data import collection
from medjax.data.formats import dicom


def test_series_of_a_real_patient(shared_data):
  home = shared_data('dicom_sts025')
  found = collection.find_series(home)
  assert {s.patient for s in found} == {'STS_025'}
  by_folder = {str(s.folder.relative_to(home)): s for s in found}
  count = {k: (s.modality, len(s.files)) for k, s in by_folder.items()}
  assert count == {
    'CT/image': ('CT', 47),
    'CT/mask': ('RTSTRUCT', 1),
    'MR_T1/image': ('MR', 25),
    'MR_T1/mask': ('RTSTRUCT', 1),
    'PET/image': ('PT', 47),
    'PET/mask': ('RTSTRUCT', 1),
  }
  assert len({s.frame for s in found}) == 1
  for name in ('CT', 'MR_T1', 'PET'):
    image, mask = by_folder[f'{name}/image'], by_folder[f'{name}/mask']
    assert mask.refers == {image.uid}
    assert not image.refers


def test_series_in_one_folder_are_told_apart(shared_data, tmp_path):
  home = shared_data('dicom_sts025')
  for name in ('CT', 'PET'):
    for path in sorted((home / name / 'image').iterdir())[:3]:
      shutil.copy(path, tmp_path / f'{name}{path.stem}')
  (tmp_path / 'notes.txt').write_text('of no interest')
  (tmp_path / '._CT000000.dcm').write_bytes(b'litter')
  found = {s.modality: s for s in collection.find_series(tmp_path)}
  assert {k: len(s.files) for k, s in found.items()} == {'CT': 3, 'PT': 3}
  ct = dicom.read(found['CT'].folder, series=found['CT'].uid)
  whole = dicom.read(home / 'CT' / 'image')
  np.testing.assert_array_equal(
    ct.array, whole.array[:, :, : ct.array.shape[2]]
  )


def test_bad_folders(tmp_path):
  with pytest.raises(FileNotFoundError, match='holds no DICOM files'):
    collection.find_series(tmp_path)
  (tmp_path / 'a.dcm').write_bytes(b'')
  with pytest.raises(ValueError, match=r'a\.dcm: the file is empty'):
    collection.find_series(tmp_path)


def test_a_dicomdir_is_no_series(shared_data, tmp_path):
  home = shared_data('dicom_sts025') / 'CT' / 'image'
  for path in sorted(home.iterdir())[:2]:
    shutil.copy(path, tmp_path)
  medium = pydicom.fileset.FileSet()
  medium.write(tmp_path)
  (found,) = collection.find_series(tmp_path)
  assert len(found.files) == 2
