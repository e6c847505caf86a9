"""Conversion of folders: names, windows, errors, and no patient data."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

from medjax import convert
from medjax.data import formats


def test_study_becomes_nifti_with_the_same_voxels(shared_data, tmp_path):
  source = shared_data('dicom_sts025')
  jobs = convert.find_jobs(source, tmp_path)
  names = sorted(str(j.target.relative_to(tmp_path)) for j in jobs)
  assert names == ['CT/image', 'MR_T1/image', 'PET/image']
  job = next(j for j in jobs if 'MR' in str(j.target))
  written = convert.convert(job)
  assert written == tmp_path / 'MR_T1' / 'image.nii.gz'
  volume, want = formats.read(written), formats.read(source / 'MR_T1' / 'image')
  np.testing.assert_array_equal(volume.array, want.array)
  np.testing.assert_allclose(volume.affine, want.affine, atol=1e-3)
  assert convert.convert(job) is None  # is there already
  assert sorted(os.listdir(tmp_path / 'MR_T1')) == ['image.nii.gz']


def test_slices_become_pictures_through_the_window(shared_data, tmp_path):
  source = shared_data('dicom_sts025') / 'MR_T1' / 'image'
  (job,) = convert.find_jobs(source, tmp_path)
  folder = convert.convert(job, 'png', (0, 500))
  assert len(list(folder.iterdir())) == 25
  volume = formats.read(source).array[..., 7, 0]
  picture = np.array(PIL.Image.open(folder / '07.png'))
  want = np.rint(np.clip(volume / 500, 0, 1) * 255).T
  assert np.abs(picture - want).max() <= 1
  assert convert.convert(job, 'jpeg', (0, 500)) is None


def test_pictures_and_volumes_in_one_tree(shared_data, tmp_path):
  tree = tmp_path / 'tree'
  (tree / 'sub').mkdir(parents=True)
  xray = shared_data('dicom_highdicom') / 'dx_image.dcm'
  (tree / 'sub' / 'a.dcm').write_bytes(xray.read_bytes())
  PIL.Image.fromarray(np.full((4, 5), 9, np.uint8)).save(tree / 'b.png')
  jobs = convert.find_jobs(tree, tmp_path / 'out')
  written = [convert.convert(j, 'jpeg') for j in jobs]
  assert sorted(p.name for p in written) == ['a.jpg', 'b.jpg']
  assert np.array(PIL.Image.open(tmp_path / 'out' / 'b.jpg')).max() == 9
  assert PIL.Image.open(tmp_path / 'out' / 'sub' / 'a.jpg').size == (211, 169)


def test_a_window_of_what_is_there_or_of_a_nifti_changes_nothing(
  tmp_path, capsys
):
  source, out = tmp_path / 'x.nii.gz', tmp_path / 'out'
  formats.write(source, np.zeros((4, 5, 6), np.int16), np.eye(4))
  convert.convert_all(source, out, window=(0, 9), workers=1)
  assert '--window is of PNG and JPEG' in capsys.readouterr().out
  for window, noted in (((0, 9), False), ((0, 5), True), (None, False)):
    convert.convert_all(source, out, to='png', window=window, workers=1)
    said = capsys.readouterr().out
    assert ('there stays as it was made' in said) == noted


class Deadly:
  """A source whose arrival ends the process, as the system may."""

  def __str__(self):
    return 'deadly.png'

  def __reduce__(self):
    return os._exit, (1,)


def test_a_job_that_ends_its_process_is_one_failure(tmp_path):
  jobs = []
  for name in 'abc':
    path = tmp_path / f'{name}.png'
    PIL.Image.fromarray(np.full((4, 5), 9, np.uint8)).save(path)
    jobs.append(convert.Job(path, tmp_path / 'out' / name))
  jobs.insert(1, convert.Job(Deadly(), tmp_path / 'out' / 'd'))
  done = convert.attempts(jobs, workers=2)
  found = {job.target.name: outcome.error for job, outcome in done}
  assert found == {
    'a': '', 'b': '', 'c': '',
    'd': 'deadly.png: ended its process; out of memory?',
  }  # fmt: skip
  assert len(os.listdir(tmp_path / 'out')) == 3


def test_nothing_half_written_stays(tmp_path, monkeypatch):
  pages = [PIL.Image.new('L', (5, 4), k) for k in range(3)]
  pages[0].save(tmp_path / 'a.tif', save_all=True, append_images=pages[1:])
  job = convert.Job(tmp_path / 'a.tif', tmp_path / 'out' / 'a')
  folder = convert.convert(job, 'png')
  assert [
    np.array(PIL.Image.open(p)).max() for p in sorted(folder.iterdir())
  ] == [0, 1, 2]
  assert PIL.Image.open(folder / '0.png').size == (5, 4)
  whole = PIL.Image.Image.save

  def full(self, path, **options):
    if path.name.startswith('1'):
      raise OSError('no space left on device')
    whole(self, path, **options)

  monkeypatch.setattr(PIL.Image.Image, 'save', full)
  job = convert.Job(tmp_path / 'a.tif', tmp_path / 'other' / 'a')
  with pytest.raises(OSError, match='no space'):
    convert.convert(job, 'png')
  assert not os.listdir(tmp_path / 'other')


def test_two_inputs_never_share_a_name(tmp_path):
  for name in ('a.png', 'A.bmp'):
    PIL.Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / name)
  with pytest.raises(ValueError, match=r'would both become'):
    convert.find_jobs(tmp_path, tmp_path.parent / 'out')
  with pytest.raises(ValueError, match=r'lies inside'):
    convert.find_jobs(tmp_path, tmp_path / 'out')
  os.mkfifo(tmp_path / 'pipe.png')
  with pytest.raises(ValueError, match=r'pipe\.png: is neither a file nor a'):
    convert.find_jobs(tmp_path / 'pipe.png', tmp_path.parent / 'out')
  with pytest.raises(FileNotFoundError, match=r'no such file'):
    convert.find_jobs(tmp_path / 'x', tmp_path)


@pytest.mark.parametrize('text', ['1', '5,1', 'a,b', '1,2,3'])
def test_bad_windows(text):
  with pytest.raises(ValueError, match=r'needs LOW,HIGH'):
    convert.parse_window(text)
  assert convert.parse_window('-160,240') == (-160, 240)


def test_command_line(shared_data, tmp_path):
  source = tmp_path / 'in'
  (source / 'good').mkdir(parents=True)
  (source / 'bad').mkdir()
  slices = sorted((shared_data('dicom_sts025') / 'CT' / 'image').iterdir())
  for path in slices[:3]:
    (source / 'good' / path.name).write_bytes(path.read_bytes())
    (source / 'bad' / path.name).write_bytes(path.read_bytes())
  first = next((source / 'bad').iterdir())
  first.write_bytes(first.read_bytes()[:-5000])
  (source / 'bad' / 'x.dcm').write_bytes(b'junk' * 99)
  done = subprocess.run(
    [
      sys.executable, '-m', 'medjax', 'convert', source / 'good',
      tmp_path / 'a',
    ],
    capture_output=True, text=True, check=False,
    cwd=pathlib.Path(__file__).resolve().parents[1],
  )  # fmt: skip
  assert (done.returncode, done.stderr) == (0, '')
  assert '1/1' in done.stdout
  assert (tmp_path / 'a' / 'good.nii.gz').is_file()
  assert 'STS_025' not in done.stdout
  errors = convert.convert_all(source / 'bad', tmp_path / 'b', workers=1)
  assert len(errors) == 1
  assert 'x.dcm: not a DICOM file' in errors[0]
  assert not list((tmp_path).glob('b/*'))


def test_the_name_of_a_file_is_a_file(shared_data, tmp_path):
  home = shared_data('dicom_sts025')
  one = sorted((home / 'CT' / 'image').iterdir())[3]
  out = tmp_path / 'out'

  def converted(source, name, to=None):
    (job,) = convert.find_jobs(source, out / name)
    return convert.convert(job, to)

  for source, name in (
    (home / 'MR_T1' / 'image', 'y.nii.gz'),
    (one, 'y.nii'),
    (one, 'deep/y.PNG'),
    (one, 'y.jpeg'),
  ):
    assert converted(source, name) == out / name
    assert (out / name).is_file()
    assert converted(source, name) is None  # is there already
  assert sorted(os.listdir(out)) == ['deep', 'y.jpeg', 'y.nii', 'y.nii.gz']
  with pytest.raises(ValueError, match=r'is one file, and .* holds 3 images'):
    converted(home, 'z.nii.gz')
  with pytest.raises(ValueError, match=r'\.dcm is not written; give a folder'):
    converted(one, 'z.dcm')
  with pytest.raises(
    ValueError, match=r'is a volume, of which \.png holds one'
  ):
    converted(home / 'MR_T1' / 'image', 'z.png')
  with pytest.raises(ValueError, match=r'is not called as png is; drop --to'):
    converted(one, 'z.nii.gz', to='png')
  (out / 'folder.nii.gz').mkdir()
  found = converted(one, 'folder.nii.gz')
  assert found == out / 'folder.nii.gz' / f'{one.stem}.nii.gz'


def test_a_slice_keeps_its_place(shared_data, tmp_path):
  folder = shared_data('dicom_sts025') / 'CT' / 'image'
  one = sorted(folder.iterdir())[3]
  (job,) = convert.find_jobs(one, tmp_path)
  written = convert.convert(job)
  image, theirs = (sitk.ReadImage(str(p)) for p in (written, one))
  np.testing.assert_array_equal(*map(sitk.GetArrayFromImage, (image, theirs)))
  np.testing.assert_allclose(image.GetOrigin(), theirs.GetOrigin(), atol=1e-3)
  np.testing.assert_allclose(image.GetDirection(), theirs.GetDirection())
  np.testing.assert_allclose(image.GetSpacing()[:2], theirs.GetSpacing()[:2])
  # A NIfTI of two axes as well.
  place = np.diag([2.0, 3, 4, 1])
  place[:3, 3] = 5, 6, 7
  flat = np.arange(20, dtype=np.int16).reshape(4, 5)
  formats.write(tmp_path / 'flat.nii.gz', flat, place)
  (job,) = convert.find_jobs(tmp_path / 'flat.nii.gz', tmp_path / 'out')
  again = formats.read(convert.convert(job))
  np.testing.assert_array_equal(again.array[:, :, 0, 0], flat)
  np.testing.assert_allclose(again.affine, place)


def test_what_is_assumed_and_left_out_is_printed(shared_data, tmp_path, capsys):
  tree = tmp_path / 'tree'
  for name in ('a', 'b'):
    (tree / name).mkdir(parents=True)
  ct = sorted((shared_data('dicom_sts025') / 'CT' / 'image').iterdir())[:3]
  pet = sorted((shared_data('dicom_sts025') / 'PET' / 'image').iterdir())[:3]
  for path in (*ct, ct[0]):
    (tree / 'a' / f'ct{path.name}').write_bytes(path.read_bytes())
  (tree / 'a' / 'copy.dcm').write_bytes(ct[0].read_bytes())
  for path in pet:
    (tree / 'a' / f'pet{path.name}').write_bytes(path.read_bytes())
  structures = shared_data('dicom_sts025') / 'CT' / 'mask' / 'RS.dcm'
  (tree / 'b' / 'rs.dcm').write_bytes(structures.read_bytes())
  (tree / 'b' / 'notes.txt').write_text('x')
  (tree / 'b' / '.hidden.png').write_bytes(b'x')
  assert not convert.convert_all(tree, tmp_path / 'out', workers=1)
  said = capsys.readouterr().out
  assert 'note: 1 copies of files left out' in said
  assert 'note: rescaled slice by slice' in said
  assert 'left out: 1 hidden files or folders, 1 .txt, 1 .dcm' in said
  for path in (ct[0], pet[0]):
    d = pydicom.dcmread(path, stop_before_pixels=True)
    assert str(d.SeriesInstanceUID) not in said
    assert str(d.SeriesInstanceUID)[-6:] not in said


def test_a_folder_that_cannot_be_read_is_a_failure(tmp_path, monkeypatch):
  for name in ('a', 'b'):
    (tmp_path / 'in' / name).mkdir(parents=True)
    picture = PIL.Image.fromarray(np.full((4, 5), 9, np.uint8))
    picture.save(tmp_path / 'in' / name / 'x.png')
  whole = os.scandir

  def scandir(path):
    if str(path).endswith('b'):
      raise PermissionError(13, 'Permission denied', str(path))
    return whole(path)

  monkeypatch.setattr(os, 'scandir', scandir)
  good, bad = convert.find_jobs(tmp_path / 'in', tmp_path / 'out')[::-1]
  assert good.source == tmp_path / 'in' / 'a' / 'x.png'
  assert bad.problem.endswith(
    'b: this folder may not be read; change its rights, or take it away'
  )


@pytest.mark.parametrize('ending', ['.nii.gz', '.mha', '.nrrd'])
def test_two_axes_are_those_of_itk(tmp_path, ending):
  """A picture becomes what ITK reads as that picture, and so it does back."""
  rows = np.arange(12, dtype=np.uint8).reshape(3, 4)

  def converted(source, name):
    (job,) = convert.find_jobs(source, tmp_path / name)
    return convert.convert(job)

  PIL.Image.fromarray(rows).save(tmp_path / 'a.png')
  written = sitk.ReadImage(str(converted(tmp_path / 'a.png', 'a.nii.gz')))
  np.testing.assert_array_equal(sitk.GetArrayFromImage(written), rows)
  source = tmp_path / f'b{ending}'
  sitk.WriteImage(sitk.GetImageFromArray(rows), str(source))
  picture = PIL.Image.open(converted(source, 'b.png'))
  np.testing.assert_array_equal(np.asarray(picture), rows)
  again = sitk.ReadImage(str(converted(source, 'c.nii.gz')))
  np.testing.assert_array_equal(np.squeeze(sitk.GetArrayFromImage(again)), rows)


def test_an_unplaced_radiograph_keeps_its_spacing(shared_data, tmp_path):
  source = shared_data('dicom_highdicom') / 'dx_image.dcm'
  d = pydicom.dcmread(source)
  d.PixelSpacing = [0.2, 0.3]  # of rows, of columns
  d.save_as(tmp_path / 'a.dcm')
  (job,) = convert.find_jobs(tmp_path / 'a.dcm', tmp_path / 'a.nii.gz')
  image = sitk.ReadImage(str(convert.convert(job)))
  assert image.GetSize() == (211, 169)
  np.testing.assert_allclose(image.GetSpacing(), (0.3, 0.2), rtol=1e-6)
  values = formats.read(tmp_path / 'a.dcm').array[..., 0]
  np.testing.assert_array_equal(sitk.GetArrayFromImage(image), values)
