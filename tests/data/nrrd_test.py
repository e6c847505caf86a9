"""NRRD, against SimpleITK and by its definition."""

import gzip

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medjax.data import formats

LPS = np.diag([-1.0, -1, 1, 1])
HEADER = """NRRD0005
# made by hand
type: short
dimension: 3
space: left-posterior-superior
sizes: 2 3 4
space directions: (2,0,0) (0,3,0) (0,0,4)
kinds: domain domain domain
endian: little
encoding: raw
space origin: (10,20,30)
"""
VOXELS = np.arange(24, dtype='<i2')
STORED = VOXELS.tobytes()


def save(path, header=HEADER, voxels=STORED, **fields):
  for name, value in fields.items():
    name = name.replace('_', ' ')
    lines = [x for x in header.splitlines() if not x.startswith(f'{name}:')]
    header = '\n'.join(lines + ([f'{name}: {value}'] if value else [])) + '\n'
  path.write_bytes(header.encode() + b'\n' + voxels)
  return path


def oblique(array, *, vector=False):
  """An image of SimpleITK's, slanted in space."""
  image = sitk.GetImageFromArray(array, isVector=vector)
  image.SetSpacing((0.7, 0.8, 2.5))
  image.SetOrigin((-12.5, 40, 7))
  matrix, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
  image.SetDirection((matrix * np.sign(np.linalg.det(matrix))).ravel())
  return image


@pytest.mark.parametrize('name', ['a.nrrd', 'a.nhdr', 'a.mha', 'a.mhd'])
@pytest.mark.parametrize('packed', [False, True])
@pytest.mark.parametrize('dtype', ['uint8', 'int16', 'float64'])
def test_agrees_with_simpleitk(tmp_path, name, packed, dtype):
  array = np.random.default_rng(1).integers(0, 200, (4, 5, 6)).astype(dtype)
  image = oblique(array)
  sitk.WriteImage(image, tmp_path / name, useCompression=packed)
  volume = formats.read(tmp_path / name)
  assert volume.array.shape == (6, 5, 4, 1)
  assert volume.array.dtype == dtype
  assert volume.array.dtype.isnative
  np.testing.assert_array_equal(volume.array[..., 0].T, array)
  for index in np.ndindex(2, 2, 2):
    at = [int(i) * n for i, n in zip(index, (5, 4, 3), strict=True)]
    mm = LPS @ volume.affine @ [*at, 1]
    np.testing.assert_allclose(
      mm[:3], image.TransformIndexToPhysicalPoint(at), atol=1e-3
    )
  assert volume.meta['unit'] == 'mm'


@pytest.mark.parametrize('suffix', ['nrrd', 'mha'])
def test_vectors_are_channels(tmp_path, suffix):
  array = np.random.default_rng(1).normal(size=(2, 3, 4, 5)).astype('f4')
  image = oblique(array, vector=True)
  sitk.WriteImage(image, tmp_path / f'a.{suffix}')
  volume = formats.read(tmp_path / f'a.{suffix}')
  np.testing.assert_array_equal(volume.array, array.transpose(2, 1, 0, 3))
  assert volume.affine.shape == (4, 4)


@pytest.mark.parametrize('suffix', ['nrrd', 'mha'])
def test_two_axes(tmp_path, suffix):
  image = sitk.GetImageFromArray(np.arange(6, dtype=np.uint16).reshape(2, 3))
  image.SetSpacing((0.5, 0.25))
  sitk.WriteImage(image, tmp_path / f'a.{suffix}')
  volume = formats.read(tmp_path / f'a.{suffix}')
  np.testing.assert_array_equal(volume.array[..., 0], [[0, 3], [1, 4], [2, 5]])
  np.testing.assert_allclose(volume.spacing, [0.5, 0.25])


@pytest.mark.parametrize(
  ('space', 'signs', 'noted'),
  [
    ('right-anterior-superior', (1, 1, 1), False),
    ('RAS', (1, 1, 1), False),
    ('left-anterior-superior', (-1, 1, 1), False),
    ('left-posterior-superior', (-1, -1, 1), False),
    ('scanner-xyz', (-1, -1, 1), True),
  ],
)
def test_spaces(tmp_path, space, signs, noted):
  volume = formats.read(save(tmp_path / 'a.nrrd', space=space))
  want = np.diag([*signs, 1.0]) @ [
    [2, 0, 0, 10], [0, 3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1],
  ]  # fmt: skip
  np.testing.assert_allclose(volume.affine, want)
  assert bool(volume.meta.get('notes')) == noted


def test_a_list_axis_anywhere_is_channels(tmp_path):
  path = save(
    tmp_path / 'a.nrrd',
    dimension='4',
    sizes='2 3 2 2',
    kinds='domain list domain domain',
    space_directions='(2,0,0) none (0,3,0) (0,0,4)',
  )
  volume = formats.read(path)
  want = VOXELS.reshape((2, 3, 2, 2), order='F').transpose(0, 2, 3, 1)
  np.testing.assert_array_equal(volume.array, want)
  np.testing.assert_allclose(volume.spacing, [2, 3, 4])


def test_without_a_space_there_are_spacings_or_pixels(tmp_path):
  bare = {'space': '', 'space_directions': '', 'space_origin': ''}
  path = save(tmp_path / 'a.nrrd', **bare)
  assert formats.read(path).meta['unit'] == 'pixel'
  path = save(tmp_path / 'a.nrrd', **bare, spacings='1 2 3')
  volume = formats.read(path)
  assert volume.meta['unit'] == 'mm'
  np.testing.assert_allclose(volume.spacing, [1, 2, 3])


def test_a_slice_knows_its_place(tmp_path):
  path = save(
    tmp_path / 'a.nrrd',
    dimension='2',
    sizes='4 6',
    kinds='',
    space_directions='(0,2,0) (0,0,3)',
  )
  volume = formats.read(path)
  assert volume.array.shape == (4, 6, 1)
  np.testing.assert_allclose(volume.spacing, [2, 3])
  np.testing.assert_allclose(
    volume.meta['affine'] @ [1, 1, 0, 1], [-10, -22, 33, 1]
  )


def test_encodings_skips_and_separate_files(tmp_path):
  text = ' '.join(map(str, VOXELS)).encode()
  want = VOXELS.reshape((2, 3, 4), order='F')
  (tmp_path / 'a.raw').write_bytes(b'12345\n' + VOXELS.tobytes())
  (tmp_path / 'a.txt').write_bytes(text)
  packed = gzip.compress(b'12' + VOXELS.tobytes())
  big = VOXELS.astype('>i2').tobytes()
  for path in (
    save(tmp_path / 'a.nrrd', voxels=text, encoding='ascii', endian=''),
    save(tmp_path / 'b.nrrd', voxels=packed, encoding='gzip', byte_skip='2'),
    save(tmp_path / 'c.nrrd', voxels=big, endian='big'),
    save(tmp_path / 'd.nhdr', voxels=b'', data_file='a.raw', byte_skip='6'),
    save(tmp_path / 'e.nhdr', voxels=b'', data_file='a.raw', line_skip='1'),
    save(tmp_path / 'f.nhdr', voxels=b'', data_file='a.raw', byte_skip='-1'),
    save(tmp_path / 'g.nhdr', voxels=b'', datafile='a.txt', encoding='text'),
    save(tmp_path / 'h.nrrd', space_units='"cm" "cm" "cm"', space_origin=''),
    save(tmp_path / 'i.nrrd', type='signed short int'),
  ):
    volume = formats.read(path)
    np.testing.assert_array_equal(volume.array[..., 0], want)
  scaled = formats.read(tmp_path / 'h.nrrd')
  np.testing.assert_allclose(scaled.spacing, [20, 30, 40])
  (tmp_path / 'a').write_bytes((tmp_path / 'c.nrrd').read_bytes())
  assert formats.read(tmp_path / 'a').meta['format'] == 'nrrd'


BAD = {
  'truncated, or its header is damaged': {'sizes': '200 300 400'},
  'promises 2000000000000 bytes': {'sizes': '1000000 1000000 1'},
  'so no voxels': {'sizes': '2 0 4'},
  "field 'sizes' is not": {'sizes': 'a b c'},
  'has 2 sizes, but dimension': {'sizes': '2 3'},
  'has no sizes': {'sizes': ''},
  'cannot read voxels of type': {'type': 'block'},
  'cannot read encoding': {'encoding': 'bzip2'},
  'endian is': {'endian': 'middle'},
  'has 2 space directions for 3': {'space_directions': '(1,0,0) (0,1,0)'},
  'not all of 2, or all of 3': {'space_directions': '(1,0) (0,1,0) (0,0,1)'},
  "'space directions' is not numbers": {
    'space_directions': '(1,0,x) (0,1,0) (0,0,1)'
  },
  'cannot be inverted': {'space_directions': '(1,0,0) (1,0,0) (0,0,1)'},
  'space units are': {'space_units': '"furlong" "furlong" "furlong"'},
  'has 1 spatial axes': {'kinds': 'domain list list'},
  'has 2 kinds': {'kinds': 'domain list'},
  'must lie beside it': {'data_file': '../a.raw'},
  'must lie beside it, not in': {'data_file': '/etc/hostname'},
  'is missing': {'data_file': 'nowhere.raw'},
  'in several files': {'data_file': 'LIST'},
  'byte skip is -7': {'byte_skip': '-7'},
  'line skip is': {'line_skip': '-7'},
}


@pytest.mark.parametrize('line', BAD)
def test_bad_headers_get_one_line(tmp_path, line):
  path = save(tmp_path / 'bad.nrrd', **BAD[line])
  with pytest.raises((ValueError, FileNotFoundError)) as e:
    formats.read(path)
  assert str(e.value).startswith(str(path))
  assert line in str(e.value)


def test_damaged_voxels(tmp_path):
  packed = gzip.compress(np.random.default_rng(0).bytes(48))
  flipped = bytearray(packed)
  flipped[20] ^= 4
  for name, voxels, line in (
    ('cut', packed[:-9], 'truncated'),
    ('flipped', bytes(flipped), 'damaged compression'),
    ('junk', b'junk' * 20, 'damaged compression'),
    ('short', gzip.compress(b'12345'), 'truncated: 43 of 48'),
  ):
    path = save(tmp_path / f'{name}.nrrd', voxels=voxels, encoding='gzip')
    with pytest.raises(ValueError, match=line):
      formats.read(path)
  # What follows the promised voxels is not unpacked.
  path = save(
    tmp_path / 'more.nrrd',
    voxels=gzip.compress(VOXELS.tobytes() + bytes(2**24)),
    encoding='gzip',
  )
  assert formats.read(path).array.size == 24
