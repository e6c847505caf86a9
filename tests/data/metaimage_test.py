"""MetaImage by its definition; nrrd_test compares both with SimpleITK."""

import zlib

import numpy as np
import pytest

from medjax.data import formats

HEADER = {
  'ObjectType': 'Image',
  'NDims': '3',
  'BinaryData': 'True',
  'BinaryDataByteOrderMSB': 'False',
  'TransformMatrix': '1 0 0 0 1 0 0 0 1',
  'Offset': '10 20 30',
  'ElementSpacing': '2 3 4',
  'DimSize': '2 3 4',
  'ElementType': 'MET_SHORT',
  'ElementDataFile': 'LOCAL',
}
VOXELS = np.arange(24, dtype='<i2')
STORED = VOXELS.tobytes()


def save(path, voxels=STORED, **fields):
  fields = {**HEADER, **fields}
  end = fields.pop('ElementDataFile')  # always the last
  lines = [f'{k} = {v}' for k, v in fields.items() if v]
  text = '\n'.join([*lines, f'ElementDataFile = {end}', ''])
  path.write_bytes(text.encode() + voxels)
  return path


def test_where_and_how_voxels_are_stored(tmp_path):
  want = VOXELS.reshape((2, 3, 4), order='F')
  (tmp_path / 'a.raw').write_bytes(b'12345' + VOXELS.tobytes())
  text = ' '.join(map(str, VOXELS)).encode()
  packed = zlib.compress(VOXELS.tobytes())
  big = VOXELS.astype('>i2').tobytes()
  there = {'voxels': b'', 'ElementDataFile': 'a.raw'}
  for path in (
    save(tmp_path / 'a.mha'),
    save(tmp_path / 'b.mha', voxels=text, BinaryData='False'),
    save(tmp_path / 'c.mha', voxels=packed, CompressedData='True'),
    save(tmp_path / 'd.mha', voxels=big, BinaryDataByteOrderMSB='True'),
    save(tmp_path / 'e.mhd', **there, HeaderSize='5'),
    save(tmp_path / 'f.mhd', **there, HeaderSize='-1'),
  ):
    volume = formats.read(path)
    np.testing.assert_array_equal(volume.array[..., 0], want)
    np.testing.assert_allclose(volume.affine @ [1, 1, 1, 1], [-12, -23, 34, 1])
  (tmp_path / 'a').write_bytes((tmp_path / 'a.mha').read_bytes())
  assert formats.read(tmp_path / 'a').meta['format'] == 'metaimage'


def test_a_fourth_axis_is_channels(tmp_path):
  path = save(
    tmp_path / 'a.mha',
    NDims='4',
    DimSize='2 3 2 2',
    TransformMatrix=' '.join(map(str, np.eye(4).ravel())),
    Offset='10 20 30 0',
    ElementSpacing='2 3 4 1',
  )
  volume = formats.read(path)
  want = VOXELS.reshape((2, 3, 2, 2), order='F')
  np.testing.assert_array_equal(volume.array, want)
  np.testing.assert_allclose(volume.spacing, [2, 3, 4])


BAD = {
  'promises 2000000000000 bytes': {'DimSize': '1000000 1000000 1'},
  'so no voxels': {'DimSize': '2 0 4'},
  "field 'DimSize' is not": {'DimSize': '2 b 4'},
  "states '3' axes": {'DimSize': '2 3'},
  'cannot read voxels of type': {'ElementType': 'MET_STRING'},
  "'Offset' is not 3 numbers": {'Offset': '1 2'},
  "'TransformMatrix' is not 9": {'TransformMatrix': '1 0 0 1'},
  'cannot be inverted': {'ElementSpacing': '1 0 1'},
  'BinaryData is': {'BinaryData': 'maybe'},
  'damaged compression': {'CompressedData': 'True'},
  'DistanceUnits are': {'DistanceUnits': 'furlong'},
  'must lie beside it': {'ElementDataFile': '../a.raw'},
  'is missing': {'ElementDataFile': 'nowhere.raw'},
  'in several files': {'ElementDataFile': 'LIST'},
  'not a MetaImage, or cut off': {'ElementDataFile': 'LOCAL', 'x\ny': '1'},
}


@pytest.mark.parametrize('line', BAD)
def test_bad_headers_get_one_line(tmp_path, line):
  path = save(tmp_path / 'bad.mha', **BAD[line])
  with pytest.raises((ValueError, FileNotFoundError)) as e:
    formats.read(path)
  assert str(e.value).startswith(str(path))
  assert line in str(e.value)
