import gzip
import zlib

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

from medjax.data import formats

AFFINE = np.array(
  [[0, -2.0, 0, 10], [1.5, 0, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]]
)


def save(path, array, affine=AFFINE, slope=None):
  image = nib.Nifti1Image(array, affine)
  if slope is not None:
    image.header.set_slope_inter(*slope)
  nib.save(image, path)
  return path


@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize('suffix', ['.nii', '.nii.gz'])
def test_nifti_round_trip(tmp_path, dtype, suffix):
  array = np.arange(60).reshape(3, 4, 5).astype(dtype)
  path = tmp_path / f'a{suffix}'
  formats.write(path, array, AFFINE)
  volume = formats.read(path)
  assert volume.array.shape == (3, 4, 5, 1)
  assert volume.array.dtype == dtype
  np.testing.assert_array_equal(volume.array[..., 0], array)
  np.testing.assert_allclose(volume.affine, AFFINE)
  np.testing.assert_allclose(volume.spacing, [1.5, 2, 3])
  assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize('dtype', [np.int64, np.uint64])
@pytest.mark.parametrize(
  ('highest', 'kept'),
  [(2**31 - 1, False), (2**31, True), (2**32 + 5, True), (2**63 - 1, True)],
)
def test_nifti_of_64_bits_keeps_its_values(tmp_path, dtype, highest, kept):
  array = np.arange(24, dtype=dtype).reshape(2, 3, 4)
  array[0, 0, 0] = highest
  formats.write(tmp_path / 'a.nii.gz', array, AFFINE)
  found = formats.read(tmp_path / 'a.nii.gz').array[..., 0]
  assert found.dtype == (dtype if kept else np.int32)
  np.testing.assert_array_equal(found, array)


def test_nifti_slope_gives_float32(tmp_path):
  image = nib.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), AFFINE)
  image.header.set_slope_inter(0.5, -1024)
  nib.save(image, tmp_path / 'a.nii')
  raw = np.asarray(nib.load(tmp_path / 'a.nii').dataobj)
  volume = formats.read(tmp_path / 'a.nii')
  assert volume.array.dtype == np.float32
  np.testing.assert_allclose(volume.array[..., 0], raw)


def test_nifti_big_endian_becomes_native(tmp_path):
  header = nib.Nifti1Header(endianness='>')
  header.set_data_dtype('>i2')
  array = np.arange(8).reshape(2, 2, 2).astype('>i2')
  nib.save(nib.Nifti1Image(array, AFFINE, header), tmp_path / 'a.nii')
  volume = formats.read(tmp_path / 'a.nii')
  assert volume.array.dtype.isnative
  np.testing.assert_array_equal(volume.array[..., 0], array)


def test_nifti_ranks(tmp_path):
  two = formats.read(save(tmp_path / 'a.nii', np.ones((4, 5), np.int16)))
  assert two.array.shape == (4, 5, 1)
  np.testing.assert_allclose(two.affine, np.diag([1.5, 2, 1]))
  np.testing.assert_allclose(two.meta['affine'], AFFINE)
  four = formats.read(save(tmp_path / 'b.nii', np.ones((2, 3, 4, 2), np.int16)))
  assert four.array.shape == (2, 3, 4, 2)
  five = np.ones((2, 3, 4, 1, 3), np.float32)
  assert formats.read(save(tmp_path / 'c.nii', five)).array.shape == (
    2,
    3,
    4,
    3,
  )
  six = save(tmp_path / 'd.nii', np.ones((2, 2, 2, 2, 2), np.int16))
  with pytest.raises(ValueError, match=r'd\.nii: has shape'):
    formats.read(six)


@pytest.mark.parametrize(
  ('mode', 'channels', 'dtype'),
  [
    ('1', 1, np.uint8),
    ('L', 1, np.uint8),
    ('LA', 1, np.uint8),
    ('I;16', 1, np.uint16),
    ('P', 3, np.uint8),
    ('RGB', 3, np.uint8),
    ('RGBA', 3, np.uint8),
  ],
)
def test_png_modes(tmp_path, mode, channels, dtype):
  if mode == 'I;16':
    image = PIL.Image.fromarray(np.full((4, 6), 40000, np.uint16))
  else:
    image = PIL.Image.new('RGB', (6, 4), (255, 0, 0)).convert(mode)
  image.save(tmp_path / 'a.png')
  volume = formats.read(tmp_path / 'a.png')
  assert volume.array.shape == (4, 6, channels)
  assert volume.array.dtype == dtype
  if channels == 3:
    np.testing.assert_array_equal(volume.array[0, 0], [255, 0, 0])
  if mode == 'I;16':
    assert volume.array[0, 0, 0] == 40000


def test_png_round_trip(tmp_path):
  rng = np.random.default_rng(0)
  for name, array in {
    'a': rng.integers(0, 255, (5, 7), np.uint8),
    'b': rng.integers(0, 60000, (5, 7), np.uint16),
    'c': rng.integers(0, 255, (5, 7, 3), np.uint8),
    'd': rng.integers(0, 3, (5, 7), np.int32),
  }.items():
    path = tmp_path / f'{name}.png'
    formats.write(path, array, np.eye(3))
    got = formats.read(path).array
    np.testing.assert_array_equal(
      got if array.ndim == 3 else got[..., 0], array
    )


def test_jpeg_and_format_by_content(tmp_path):
  PIL.Image.new('RGB', (6, 4), (200, 200, 200)).save(tmp_path / 'a.jpg')
  assert formats.read(tmp_path / 'a.jpg').array.shape == (4, 6, 3)
  (tmp_path / 'a.jpg').rename(tmp_path / 'no_suffix')
  assert formats.read(tmp_path / 'no_suffix').array.shape == (4, 6, 3)


def test_pages_of_a_tiff_are_a_volume(tmp_path):
  array = np.random.default_rng(0).integers(0, 60000, (3, 4, 5), np.uint16)
  first, *others = map(PIL.Image.fromarray, array)
  for options in ({}, {'compression': 'tiff_lzw'}):
    first.save(
      tmp_path / 'a.tif', save_all=True, append_images=others, **options
    )
    volume = formats.read(tmp_path / 'a.tif')
    assert volume.array.dtype == np.uint16
    np.testing.assert_array_equal(volume.array[..., 0].T, array)
    assert (volume.affine.shape, volume.meta['unit']) == ((4, 4), 'pixel')


def test_lost_bits_of_a_colour_are_said(tmp_path):
  def chunk(name, data):
    crc = zlib.crc32(name + data).to_bytes(4)
    return len(data).to_bytes(4) + name + data + crc

  header = (2).to_bytes(4) + (1).to_bytes(4) + bytes([16, 2, 0, 0, 0])
  row = np.array([0x1234, 0x5678, 0x9ABC] * 2, '>u2').tobytes()
  (tmp_path / 'a.png').write_bytes(
    b'\x89PNG\r\n\x1a\n'
    + chunk(b'IHDR', header)
    + chunk(b'IDAT', zlib.compress(b'\0' + row))
    + chunk(b'IEND', b'')
  )
  volume = formats.read(tmp_path / 'a.png')
  np.testing.assert_array_equal(volume.array[0, 0], [0x12, 0x56, 0x9A])
  assert volume.meta['notes'] == ('colours of 16 bits: the upper 8 are kept',)


def test_masks(tmp_path):
  binary = np.zeros((4, 4), np.uint8)
  binary[1] = 255
  PIL.Image.fromarray(binary).save(tmp_path / 'binary.png')
  mask = formats.read_mask(tmp_path / 'binary.png').array
  np.testing.assert_array_equal(mask, binary // 255)
  PIL.Image.fromarray(np.stack([binary] * 3, -1)).save(tmp_path / 'rgb.png')
  np.testing.assert_array_equal(
    formats.read_mask(tmp_path / 'rgb.png').array, binary // 255
  )
  palette = PIL.Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), 'L')
  palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
  palette.save(tmp_path / 'palette.png')
  np.testing.assert_array_equal(
    formats.read_mask(tmp_path / 'palette.png').array, [[0, 1], [2, 1]]
  )
  save(tmp_path / 'f.nii', np.full((2, 2, 2), 2.0, np.float32))
  assert formats.read_mask(tmp_path / 'f.nii').array.dtype.kind == 'i'


def test_a_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / 'a.png'
  formats.write(path, np.ones((3, 3), np.uint8), np.eye(3))
  with pytest.raises(ValueError, match=r'a\.png: a PNG holds integers'):
    formats.write(path, np.ones((3, 3), np.float32), np.eye(3))
  assert formats.read(path).array.max() == 1
  assert len(list(tmp_path.iterdir())) == 1


def make_bad(tmp_path):
  good = save(tmp_path / 'good.nii.gz', np.random.rand(9, 9, 9))
  png = tmp_path / 'good.png'
  PIL.Image.fromarray(
    np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
  ).save(png)
  packed = good.read_bytes()
  header = nib.Nifti1Header()
  header.set_data_shape((32767,) * 4)
  large = header.binaryblock
  header.set_data_shape((4, 4, 4))
  header['vox_offset'] = 2e9
  late = header.binaryblock
  files = {
    'truncated.nii.gz': good.read_bytes()[:-900],
    'truncated_header.nii.gz': good.read_bytes()[:60],
    'truncated.nii': gzip.decompress(good.read_bytes())[:-900],
    'magic.nii.gz': b'this is not a volume' * 40,
    'magic.nii': b'this is not a volume' * 40,
    'magic.png': b'this is not a picture' * 40,
    'truncated.png': png.read_bytes()[:-900],
    'flipped.nii.gz': bytes([*packed[:-99], packed[-99] ^ 4, *packed[-98:]]),
    'bomb.nii.gz': gzip.compress(large + bytes(2**20)),
    'skips.nii.gz': gzip.compress(late + bytes(2**20)),
    'empty.nii.gz': b'',
    'empty.png': b'',
    'series.dcm': b'\0' * 128 + b'DICM' + b'\0' * 400,
    'series': b'\0' * 128 + b'DICM' + b'\0' * 400,
    'notes.xyz': b'hello' * 100,
  }
  for name, content in files.items():
    (tmp_path / name).write_bytes(content)
  array = np.ones((3, 3, 3), np.float32)
  array[0, 0, 0] = np.nan
  save(tmp_path / 'nan.nii', array)
  save(tmp_path / 'zero.nii', np.ones((3, 0, 3), np.float32))
  save(tmp_path / 'line.nii', np.ones(3, np.float32))
  flat = np.diag([1.0, 0, 1, 1])
  image = nib.Nifti1Image(np.ones((3, 3, 3), np.int16), None)
  image.header.set_sform(flat, code=1)
  nib.save(image, tmp_path / 'flat.nii')
  (tmp_path / 'folder').mkdir()
  frames = [PIL.Image.new('L', (4, 4 + i), i) for i in range(2)]
  frames[0].save(
    tmp_path / 'stack.tif', save_all=True, append_images=frames[1:]
  )


BAD = {
  'truncated.nii.gz': 'truncated: ',
  'truncated_header.nii.gz': 'cut off in its header',
  'truncated.nii': 'truncated, or its header is damaged: it promises',
  'magic.nii.gz': 'NIfTI',
  'magic.nii': 'not a NIfTI file',
  'magic.png': 'not a picture',
  'truncated.png': 'truncated or damaged picture',
  'flipped.nii.gz': 'damaged compression',
  'bomb.nii.gz': 'promises 4611123094243246436',
  'skips.nii.gz': 'promises 20000',
  'empty.nii.gz': 'the file is empty',
  'empty.png': 'the file is empty',
  'series.dcm': 'not a DICOM file, or cut off',
  'series': 'not a DICOM file, or cut off',
  'notes.xyz': 'unknown format',
  'nan.nii': '1 of 27 voxels are NaN',
  'zero.nii': 'no voxels',
  'line.nii': 'needs 2 or 3 spatial axes',
  'flat.nii': 'affine cannot be inverted',
  'folder': 'no DICOM images among 0 files',
  'stack.tif': 'its pages differ',
  'missing.nii.gz': 'no such file',
}


@pytest.mark.parametrize('name', BAD)
def test_bad_files_get_one_line(tmp_path, name):
  make_bad(tmp_path)
  kind = FileNotFoundError if name.startswith('missing') else ValueError
  with pytest.raises(kind) as e:
    formats.read(tmp_path / name)
  line = str(e.value)
  assert '\n' not in line
  assert name in line
  assert BAD[name] in line


def test_bad_masks(tmp_path):
  save(tmp_path / 'half.nii', np.full((2, 2, 2), 0.5, np.float32))
  with pytest.raises(ValueError, match=r'half\.nii: label map holds 0\.5'):
    formats.read_mask(tmp_path / 'half.nii')
  rgb = np.zeros((4, 4, 3), np.uint8)
  rgb[..., 0] = 7
  PIL.Image.fromarray(rgb).save(tmp_path / 'colour.png')
  with pytest.raises(ValueError, match=r'colour\.png: a label map has one'):
    formats.read_mask(tmp_path / 'colour.png')
  with pytest.raises(ValueError, match=r'a\.jpg: JPEG alters'):
    formats.write(tmp_path / 'a.jpg', np.ones((2, 2), np.uint8), np.eye(3))
  with pytest.raises(ValueError, match=r'a\.xyz: cannot write'):
    formats.write(tmp_path / 'a.xyz', np.ones((2, 2), np.uint8), np.eye(3))


def test_real_files(shared_data):
  home = shared_data('msd_hippocampus')
  path = home / 'imagesTr' / 'hippocampus_001.nii.gz'
  volume = formats.read(path)
  assert volume.array.shape == (35, 51, 35, 1)
  mask = formats.read_mask(home / 'labelsTr' / path.name)
  assert mask.array.shape == volume.array.shape[:-1]
  assert set(np.unique(mask.array)) == {0, 1, 2}
  fundus = shared_data('chase_db1')
  assert formats.read(fundus / 'Image_01L.jpg').array.shape == (960, 999, 3)
  vessels = formats.read_mask(fundus / 'Image_01L_1stHO.png').array
  assert set(np.unique(vessels)) == {0, 1}
