"""Images whose results lie in folders of one name: none is taken for another's.

The results are written in any order, and some lie there from a run before.
"""

import pathlib
import sys

import numpy as np
import PIL.Image
import pytest

from medjax import convert
from medjax.data import formats

sys.path.append(str(pathlib.Path(__file__).parent))
from dicom_series import dataset, line, save, series

THREE = line(range(3))


def below(folder):
  return sorted(str(p.relative_to(folder)) for p in folder.rglob('*.*'))


def converted(source, out, to, *, backwards=False):
  """What was written, of jobs in either order."""
  jobs = convert.find_jobs(source, out, to)[:: -1 if backwards else 1]
  written = [convert.convert(job, to) for job in jobs]
  return sum(path is not None for path in written)


@pytest.mark.parametrize('to', [None, 'nifti'])
@pytest.mark.parametrize('backwards', [False, True])
def test_a_volume_beside_the_folder_of_another(tmp_path, to, backwards):
  series(tmp_path / 'in/P1/s1', THREE)
  image = np.zeros((3, 4, 5), np.int16)
  formats.write(tmp_path / 'in/P1.nii.gz', image, np.eye(4))
  out = tmp_path / 'out'
  assert converted(tmp_path / 'in', out, to, backwards=backwards) == 2
  assert below(out) == ['P1.nii.gz', 'P1/s1.nii.gz']
  assert converted(tmp_path / 'in', out, to) == 0


@pytest.mark.parametrize('backwards', [False, True])
def test_a_slice_beside_the_folder_of_another(tmp_path, backwards):
  flat = dataset(np.zeros((4, 5), np.int16), SeriesInstanceUID='1.2.9')
  save(flat, tmp_path / 'in/P1.dcm')
  (tmp_path / 'in/P1').mkdir()
  PIL.Image.new('L', (5, 4)).save(tmp_path / 'in/P1/0.bmp')
  out = tmp_path / 'out'
  assert converted(tmp_path / 'in', out, 'png', backwards=backwards) == 2
  assert below(out) == ['P1.png', 'P1/0.png']
  assert converted(tmp_path / 'in', out, 'png') == 0


def test_slices_of_a_series_are_not_mixed_with_other_results(tmp_path):
  series(tmp_path / 'in/P1', THREE, SeriesInstanceUID='1.2.8', SeriesNumber=3)
  series(tmp_path / 'in/P1/early', THREE, SeriesNumber=2)
  with pytest.raises(
    ValueError, match=r'in/P1: its slices .* the result of .*P1/early lies; '
  ):
    convert.convert_all(tmp_path / 'in', tmp_path / 'out', to='png')
  assert not (tmp_path / 'out').exists()
  assert converted(tmp_path / 'in', tmp_path / 'out', 'nifti') == 2


@pytest.mark.parametrize('backwards', [False, True])
def test_a_file_that_turns_out_a_volume(tmp_path, backwards):
  """What it holds shows when it is read; the others are converted."""
  image = np.zeros((3, 4, 5), np.int16)
  formats.write(tmp_path / 'in/P1.nii.gz', image, np.eye(4))
  formats.write(tmp_path / 'in/P1/a.nii.gz', image, np.eye(4))
  jobs = convert.find_jobs(tmp_path / 'in', tmp_path / 'out', 'png')
  jobs = jobs[:: -1 if backwards else 1]
  said = [outcome.error for _, outcome in convert.attempts(jobs, 'png')]
  assert [error for error in said if error] == [
    f'{tmp_path}/in/P1.nii.gz: its slices would become the folder '
    f'{tmp_path}/out/P1, in which the result of others lies; convert them '
    'into two folders, or --to=nifti'
  ]
  assert below(tmp_path / 'out') == [f'P1/a/{k}.png' for k in range(5)]
