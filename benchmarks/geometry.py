"""Where a voxel lies: medjax against SimpleITK and nibabel, in mm.

    python benchmarks/geometry.py FOLDER…

looks through the folders for DICOM series, enhanced DICOM files, NIfTI, NRRD
and MetaImage, and prints the largest distance between where the same voxel
lies here and there. Columns: read by SimpleITK, values compared; read by
nibabel (each slice of a series, or the NIfTI file); written by medjax as NIfTI
and read by SimpleITK. `-`: the other one does not read it.
"""

import argparse
import contextlib
import itertools
import pathlib
import tempfile
import warnings

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813

from medjax.data import formats
from medjax.data.formats import dicom

with warnings.catch_warnings():
  warnings.simplefilter('ignore')  # that it is experimental
  from nibabel.nicom import dicomwrappers

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
VOLUMES = ('.nii', '.nii.gz', '.nrrd', '.nhdr', '.mha', '.mhd')


def corners(shape):
  """Voxel indices (8, 3) of the corners of a volume."""
  return np.array(list(itertools.product(*[(0, n - 1) for n in shape[:3]])))


def to_itk(volume, image, *, values=True):
  """Largest mm between voxels of a SimpleITK image and the same voxels here.

  Corners, and 100 voxels at random. The same voxel is the one whose centre is
  nearest; infinite where it holds another value, or lies outside.
  """
  size = image.GetSize()
  inside = np.random.default_rng(0).integers(0, size, (100, 3))
  index = np.r_[corners(size), inside]
  there = np.array(
    [image.TransformIndexToPhysicalPoint([int(i) for i in at]) for at in index]
  )
  there = (LPS[:3, :3] @ there.T).T
  back = np.linalg.inv(volume.affine)
  ours = np.rint((back @ np.c_[there, np.ones(len(there))].T)[:3].T).astype(int)
  if (ours < 0).any() or (ours >= volume.array.shape[:3]).any():
    return np.inf
  if values:
    here = volume.array[tuple(ours.T)].squeeze(-1)
    theirs = sitk.GetArrayViewFromImage(image)[tuple(index.T[::-1])]
    if not np.allclose(here, theirs, rtol=1e-5):
      return np.inf
  here = (volume.affine @ np.c_[ours, np.ones(len(ours))].T)[:3].T
  return np.linalg.norm(here - there, axis=1).max()


def to_nibabel(volume, path):
  """The same for nibabel: of the file, or of every slice of a series."""
  shape = volume.array.shape
  points = np.c_[corners(shape), np.ones(8)].T
  if not path.is_dir():
    there = nib.load(path).affine
    return np.linalg.norm((volume.affine - there) @ points, axis=0).max()
  worst = 0.0
  back = np.linalg.inv(LPS @ volume.affine)
  for file in sorted(path.rglob('*')):
    if not dicom.is_dicom(file):
      continue
    data = pydicom.dcmread(file, stop_before_pixels=True)
    if not data.get('ImagePositionPatient'):
      continue
    affine = dicomwrappers.wrapper_from_data(data).affine
    k = np.rint((back @ affine[:, 3])[2])
    for row, column in itertools.product((0, shape[1] - 1), (0, shape[0] - 1)):
      ours = LPS @ volume.affine @ [column, row, k, 1]
      theirs = affine @ [row, column, 0, 1]
      worst = max(worst, np.linalg.norm(ours - theirs))
  return worst


def read_itk(path):
  """The image as SimpleITK reads it."""
  if not path.is_dir():
    return sitk.ReadImage(str(path))
  reader = sitk.ImageSeriesReader()
  reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
  return reader.Execute()


def written(volume):
  """The NIfTI that medjax writes, as SimpleITK reads it."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'a.nii.gz'
    shape = volume.array.shape[:3]
    formats.write(path, np.zeros(shape, np.uint8), volume.affine)
    return sitk.ReadImage(str(path))


def images(folder):
  """Volumes below a folder: files, and folders of one DICOM series."""
  seen = set()
  for path in sorted(pathlib.Path(folder).rglob('*')):
    if path.is_file() and formats.suffix(path) in VOLUMES:
      yield path
    if not dicom.is_dicom(path):
      continue
    data = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    if 'Rows' not in data or data.get('Modality') == 'SEG':
      continue
    if 'PerFrameFunctionalGroupsSequence' in data:
      yield path
    elif path.parent not in seen and len(list(path.parent.iterdir())) > 1:
      seen.add(path.parent)
      yield path.parent


def rows(folders):
  """(path, shape, spacing, errors in mm or None, …) of all that is read."""
  for path in itertools.chain.from_iterable(map(images, folders)):
    try:
      volume = formats.read(path)
    except ValueError:
      continue  # several series, X-rays, …
    if volume.affine.shape != (4, 4) or volume.meta['unit'] != 'mm':
      continue
    itk = bare = None
    with contextlib.suppress(RuntimeError):  # ITK wants right angles, say
      itk = to_itk(volume, read_itk(path))
    if path.is_dir() or '.nii' in path.name:
      bare = to_nibabel(volume, path)
    yield path, volume, itk, bare, to_itk(volume, written(volume), values=False)


def main():
  """Prints a line for each image, and the worst of each column."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('folders', nargs='+', type=pathlib.Path)
  parser.add_argument('--brief', action='store_true', help='only the last line')
  args = parser.parse_args()
  print(f'{"image":44} {"voxels":>15} {"SimpleITK":>10} {"nibabel":>10} '
        f'{"written":>10}')  # fmt: skip
  worst, count = np.zeros(3), np.zeros(3, int)
  for path, volume, *errors in rows(args.folders):
    shape = 'x'.join(map(str, volume.array.shape[:3]))
    said = ' '.join('         -' if e is None else f'{e:10.1e}' for e in errors)
    name = '/'.join(path.parts[-3:])
    if not args.brief:
      print(f'{name[-44:]:44} {shape:>15} {said}')
    known = np.array([e is not None for e in errors])
    worst = np.maximum(worst, [e or 0.0 for e in errors])
    count += known
  print(f'largest of {count.tolist()} images: '
        + ' '.join(f'{e:.1e}' for e in worst) + ' mm')  # fmt: skip


if __name__ == '__main__':
  main()
