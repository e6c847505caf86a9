"""NumPy and HDF5 files, FreeSurfer, Analyze, NIfTI's units and places."""

import gzip
import zipfile

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk  # noqa: N813

from medjax.data import formats

RNG = np.random.default_rng(0)
OBLIQUE = np.array(
  [[0, -2.0, 0.1, 10], [1.5, 0, 0, -20], [0, 0.2, 3.0, 5], [0, 0, 0, 1]]
)


def volume(*shape, dtype=np.int16):
  return RNG.integers(0, 100, shape).astype(dtype)


# Bare arrays.


@pytest.mark.parametrize(
  ('shape', 'wanted'),
  [((6, 7), (6, 7, 1)), ((6, 7, 3), (6, 7, 3)), ((6, 7, 8), (6, 7, 8, 1)),
   ((6, 7, 8, 2), (6, 7, 8, 2)), ((6, 7, 1), (6, 7, 1))],
)  # fmt: skip
def test_shapes(tmp_path, shape, wanted):
  array = volume(*shape)
  np.save(tmp_path / 'x.npy', np.asfortranarray(array.astype('>i2')))
  found = formats.read(tmp_path / 'x.npy')
  np.testing.assert_array_equal(found.array.reshape(shape), array)
  assert found.array.shape == wanted
  assert found.array.dtype == np.int16
  assert found.meta['unit'] == 'pixel'


@pytest.mark.parametrize(
  'shape', [(3, 64, 64), (5,), (5, 6, 7, 8), (1, 6, 7, 8)]
)
def test_axes_that_could_be_either(tmp_path, shape):
  np.save(tmp_path / 'x.npy', volume(*shape))
  with pytest.raises(ValueError, match=r'x\.npy: has shape .* of channels'):
    formats.read(tmp_path / 'x.npy')


def test_an_image_and_its_mask_in_one_file(tmp_path):
  image, label = volume(6, 7, 8, dtype=np.float64), volume(6, 7, 8) % 3
  np.savez_compressed(
    tmp_path / 'x.npz', image=image, label=label, spacing=[1.0, 2, 3]
  )
  found = formats.read(tmp_path / 'x.npz')
  np.testing.assert_array_equal(found.array[..., 0], image)
  np.testing.assert_allclose(found.spacing, [1, 2, 3])
  assert (found.array.dtype, found.meta['unit']) == (np.float32, 'mm')
  mask = formats.read_mask(tmp_path / 'x.npz')
  np.testing.assert_array_equal(mask.array, label)
  np.savez(tmp_path / 'y.npz', image)  # arr_0
  np.testing.assert_array_equal(
    formats.read(tmp_path / 'y.npz').array[..., 0], image
  )
  np.savez(tmp_path / 'y.npz', ct=image, pet=image)
  with pytest.raises(ValueError, match=r'y\.npz: which of its arrays ct, pet'):
    formats.read(tmp_path / 'y.npz')


def test_hdf5(tmp_path):
  h5py = pytest.importorskip('h5py')
  image, label = volume(6, 7, 8), volume(6, 7, 8) % 3
  with h5py.File(tmp_path / 'x.h5', 'w') as file:
    file['case/image'], file['case/label'] = image, label
  np.testing.assert_array_equal(
    formats.read(tmp_path / 'x.h5').array[..., 0], image
  )
  np.testing.assert_array_equal(
    formats.read_mask(tmp_path / 'x.h5').array, label
  )


def test_hdf5_of_several_cases(tmp_path):
  h5py = pytest.importorskip('h5py')
  with h5py.File(tmp_path / 'x.h5', 'w') as file:
    file['p1/image'], file['p2/image'] = volume(6, 7, 8), volume(6, 7, 8)
    file['p1/spacing'], file['p2/spacing'] = [1.0, 1, 2], [1.0, 1, 3]
  with pytest.raises(ValueError, match=r'which of its arrays p1/image, p2/im'):
    formats.read(tmp_path / 'x.h5')
  with h5py.File(tmp_path / 'x.h5', 'a') as file:
    file['image'] = image = volume(6, 7, 8)
  with pytest.raises(ValueError, match=r'which of p1/spacing, p2/spacing is'):
    formats.read(tmp_path / 'x.h5')
  with h5py.File(tmp_path / 'x.h5', 'a') as file:
    file['spacing'] = [1.0, 1, 4]
  found = formats.read(tmp_path / 'x.h5')
  np.testing.assert_array_equal(found.array[..., 0], image)
  assert found.spacing.tolist() == [1, 1, 4]


def test_hdf5_without_h5py(tmp_path, monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'h5py', None)
  (tmp_path / 'x.h5').write_bytes(b'\x89HDF\r\n\x1a\n')
  with pytest.raises(ValueError, match='pip install h5py'):
    formats.read(tmp_path / 'x.h5')


def test_hostile_arrays(tmp_path):
  np.save(tmp_path / 'objects.npy', np.array([{}, []], object))
  np.save(tmp_path / 'good.npy', volume(6, 7))
  good = (tmp_path / 'good.npy').read_bytes()
  (tmp_path / 'short.npy').write_bytes(good[:-10])
  huge = good.replace(b'(6, 7)', b'(6, 70000000)'.ljust(6))
  (tmp_path / 'huge.npy').write_bytes(huge)
  (tmp_path / 'none.npz').write_bytes(b'PK\3\4 nothing')
  with zipfile.ZipFile(tmp_path / 'bomb.npz', 'w') as archive:
    archive.writestr('image.npy', huge)
  np.save(tmp_path / 'text.npy', np.array(['a', 'b']))
  for path in sorted(tmp_path.iterdir()):
    if path.name != 'good.npy':
      with pytest.raises(ValueError, match=path.name) as e:
        formats.read(path)
      assert '\n' not in str(e.value)


# FreeSurfer.


@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.int32, np.float32])
@pytest.mark.parametrize('suffix', ['.mgh', '.mgz'])
def test_mgh_matches_nibabel(tmp_path, dtype, suffix):
  for shape in ((6, 7, 8), (6, 7, 8, 2)):
    image = nib.MGHImage(volume(*shape, dtype=dtype), OBLIQUE)
    nib.save(image, tmp_path / f'x{suffix}')
    found = formats.read(tmp_path / f'x{suffix}')
    wanted = nib.load(tmp_path / f'x{suffix}')
    np.testing.assert_array_equal(
      found.array.reshape(shape), np.asarray(wanted.dataobj)
    )
    np.testing.assert_allclose(found.affine, wanted.affine, atol=1e-5)
    assert found.array.dtype == dtype


def test_damaged_mgh(tmp_path):
  nib.save(nib.MGHImage(volume(6, 7, 8), OBLIQUE), tmp_path / 'x.mgh')
  raw = (tmp_path / 'x.mgh').read_bytes()
  for cut in (200, 400):
    (tmp_path / 'y.mgh').write_bytes(raw[:cut])
    with pytest.raises(ValueError, match=r'y\.mgh: '):
      formats.read(tmp_path / 'y.mgh')
  (tmp_path / 'y.mgz').write_bytes(gzip.compress(raw)[:-9])
  with pytest.raises(ValueError, match=r'y\.mgz: .*truncated'):
    formats.read(tmp_path / 'y.mgz')


# Pairs.


@pytest.mark.parametrize('kind', [nib.Nifti1Pair, nib.Spm99AnalyzeImage])
def test_pairs_match_nibabel(tmp_path, kind):
  array = volume(6, 7, 8)
  image = kind(array, np.diag([2.0, 3, 4, 1]))
  nib.save(image, tmp_path / 'x.img')
  (tmp_path / 'x.mat').unlink(missing_ok=True)
  for name in ('x.hdr', 'x.img'):
    found = formats.read(tmp_path / name)
    np.testing.assert_array_equal(found.array[..., 0], array)
    np.testing.assert_allclose(found.spacing, [2, 3, 4])
  if kind is nib.Nifti1Pair:
    np.testing.assert_allclose(found.affine, image.affine)
  else:
    assert 'no orientation' in found.meta['notes'][0]
  assert formats.is_image(tmp_path / 'x.hdr')
  assert not formats.is_image(tmp_path / 'x.img')  # one image, not two
  (tmp_path / 'x.img').unlink()
  with pytest.raises(FileNotFoundError, match=r'x\.hdr: its voxels, x\.img'):
    formats.read(tmp_path / 'x.hdr')


# NIfTI's header.


@pytest.mark.parametrize(
  ('unit', 'scale'), [('micron', 1e-3), ('meter', 1e3), ('mm', 1)]
)
def test_units_match_simple_itk(tmp_path, unit, scale):
  image = nib.Nifti1Image(volume(6, 7, 8), OBLIQUE)
  image.header.set_xyzt_units(unit)
  nib.save(image, tmp_path / 'x.nii')
  found = formats.read(tmp_path / 'x.nii')
  np.testing.assert_allclose(found.affine[:3], OBLIQUE[:3] * scale, rtol=1e-6)
  shorn = np.diag([2.0, 3, 4, 1])  # ITK refuses shears
  image = nib.Nifti1Image(volume(6, 7, 8), shorn)
  image.header.set_xyzt_units(unit)
  nib.save(image, tmp_path / 'x.nii')
  theirs = sitk.ReadImage(tmp_path / 'x.nii').GetSpacing()
  np.testing.assert_allclose(
    formats.read(tmp_path / 'x.nii').spacing, theirs, rtol=1e-5
  )


def test_two_places_that_disagree(tmp_path):
  image = nib.Nifti1Image(volume(6, 7, 8), np.eye(4))
  moved = np.eye(4)
  moved[0, 3] = 4
  image.set_sform(moved, code=2)
  image.set_qform(np.eye(4), code=1)
  nib.save(image, tmp_path / 'x.nii')
  found = formats.read(tmp_path / 'x.nii')
  np.testing.assert_array_equal(found.affine, moved)
  assert found.meta['notes'] == (
    'sform and qform disagree by up to 4 mm: the sform is taken',
  )
  image.set_sform(np.eye(4), code=2)
  nib.save(image, tmp_path / 'x.nii')
  assert 'notes' not in formats.read(tmp_path / 'x.nii').meta


def test_no_size_and_no_place(tmp_path):
  image = nib.Nifti1Image(volume(6, 7, 8), None)
  image.header['pixdim'][1:4] = (2, 0, 3)
  image.header.set_sform(None, code=0)
  image.header.set_qform(None, code=0)
  raw = image.header.binaryblock + bytes(4) + volume(6, 7, 8).tobytes()
  (tmp_path / 'x.nii').write_bytes(raw)
  found = formats.read(tmp_path / 'x.nii')
  np.testing.assert_allclose(found.spacing, [2, 1, 3])
  assert found.meta['notes'] == (
    'voxel size 0 along y: 1 mm is assumed',
    'no orientation in the header: taken as LAS',
  )


# Further formats.


@pytest.mark.parametrize('suffix', ['.webp', '.gif', '.jp2', '.pgm', '.ppm'])
def test_more_pictures(tmp_path, suffix):
  channels = 3 if suffix in ('.webp', '.ppm') else 1
  array = volume(16, 16, channels, dtype=np.uint8)
  image = PIL.Image.fromarray(array[..., 0] if channels == 1 else array)
  options = {'.webp': {'lossless': True}, '.jp2': {'irreversible': False}}
  image.save(tmp_path / f'x{suffix}', **options.get(suffix, {}))
  found = formats.read(tmp_path / f'x{suffix}').array
  if suffix == '.gif':  # a palette, whose colours are grey
    found = found[..., :1]
  np.testing.assert_array_equal(found, array)


def test_an_animation_is_no_picture(tmp_path):
  frames = [PIL.Image.new('L', (4, 4), 90 * i) for i in range(3)]
  frames[0].save(tmp_path / 'x.gif', save_all=True, append_images=frames[1:])
  with pytest.raises(ValueError, match='is an animation of 3 frames'):
    formats.read(tmp_path / 'x.gif')


def test_a_pipe_is_not_opened(tmp_path):
  import os

  os.mkfifo(tmp_path / 'x.nii')
  with pytest.raises(ValueError, match=r'x\.nii: is no regular file'):
    formats.read(tmp_path / 'x.nii')
