"""TIFF beyond pictures: hyperstacks, types of samples, spacing, polarity."""

import json
import sys

import numpy as np
import PIL.Image
import pytest

from medjax.data import formats

tifffile = pytest.importorskip('tifffile')
RNG = np.random.default_rng(0)


def stack(*shape, dtype=np.uint16):
  return RNG.integers(0, 255, shape).astype(dtype)


@pytest.mark.parametrize(
  ('axes', 'shape'),
  [('ZCYX', (5, 2, 6, 7)), ('ZYX', (5, 6, 7)), ('CYX', (3, 6, 7)),
   ('ZYXS', (4, 6, 7, 3))],
)  # fmt: skip
@pytest.mark.parametrize('kind', ['imagej', 'ome'])
def test_hyperstacks(tmp_path, axes, shape, kind):
  array = stack(*shape, dtype=np.uint8)
  metadata = {'axes': axes}
  rgb = {'photometric': 'rgb'} if axes.endswith('S') else {}
  if kind == 'ome':
    metadata |= {
      f'PhysicalSize{a}': v for a, v in (('X', 0.5), ('Y', 0.6), ('Z', 2))
    }
    tifffile.imwrite(
      tmp_path / 'x.ome.tif', array, ome=True, metadata=metadata, **rgb
    )
    found = formats.read(tmp_path / 'x.ome.tif')
  else:
    metadata |= {'spacing': 2, 'unit': 'um'}
    tifffile.imwrite(
      tmp_path / 'x.tif',
      array,
      imagej=True,
      metadata=metadata,
      resolution=(1 / 0.5, 1 / 0.6),
      **rgb,
    )
    found = formats.read(tmp_path / 'x.tif')
  if axes == 'CYX':  # a picture of three channels
    wanted, sizes = array.transpose(1, 2, 0), (0.6, 0.5)
  else:
    wanted = {
      'ZCYX': lambda a: a.transpose(3, 2, 0, 1),
      'ZYX': lambda a: a.transpose(2, 1, 0)[..., None],
      'ZYXS': lambda a: a.transpose(2, 1, 0, 3),
    }[axes](array)
    sizes = (0.5, 0.6, 2)
  np.testing.assert_array_equal(found.array, wanted)
  np.testing.assert_allclose(found.spacing, np.array(sizes) / 1000, rtol=1e-5)
  assert found.meta['unit'] == 'mm'


def test_time(tmp_path):
  tifffile.imwrite(
    tmp_path / 'x.tif',
    stack(4, 3, 6, 7),
    imagej=True,
    metadata={'axes': 'TZYX'},
  )
  with pytest.raises(ValueError, match=r'x\.tif: holds 4 time points of 3'):
    formats.read(tmp_path / 'x.tif')
  tifffile.imwrite(
    tmp_path / 'x.tif', stack(4, 6, 7), imagej=True, metadata={'axes': 'TYX'}
  )
  found = formats.read(tmp_path / 'x.tif')
  assert found.array.shape == (7, 6, 4, 1)
  assert found.meta['notes'] == ('its 4 time points are taken as slices',)


def test_axes_without_names(tmp_path):
  tifffile.imwrite(tmp_path / 'x.tif', stack(5, 6, 7))  # three can be slices
  assert formats.read(tmp_path / 'x.tif').array.shape == (7, 6, 5, 1)
  tifffile.imwrite(
    tmp_path / 'x.tif', stack(2, 3, 6, 7), photometric='minisblack'
  )
  with pytest.raises(
    ValueError, match=r'\(2, 3, 6, 7\) whose axes it does not'
  ):
    formats.read(tmp_path / 'x.tif')


def test_a_description_that_lies(tmp_path):
  tifffile.imwrite(
    tmp_path / 'x.tif',
    stack(5, 6, 7),
    description='ImageJ=1.5\nimages=10\nchannels=2\nslices=5\n',
    metadata=None,
  )
  with pytest.raises(
    ValueError, match='2 c x 5 z x 1 t pages, and 5 are there'
  ):
    formats.read(tmp_path / 'x.tif')


@pytest.mark.parametrize(
  'dtype',
  ['uint8', 'int8', 'uint16', 'int16', 'uint32', 'int32', 'uint64', 'float16',
   'float32', 'float64'],
)  # fmt: skip
@pytest.mark.parametrize('compression', [None, 'zlib'])
def test_types_of_samples(tmp_path, dtype, compression):
  kind = np.dtype(dtype)
  array = np.arange(42).reshape(6, 7).astype(kind)
  top = np.iinfo(kind).max if kind.kind in 'iu' else 0.5
  array[0, 0] = top
  array[0, 1] = 0 if kind.kind == 'u' else -5
  tifffile.imwrite(tmp_path / 'x.tif', array, compression=compression)
  found = formats.read(tmp_path / 'x.tif').array[..., 0]
  np.testing.assert_array_equal(found, array)
  assert found.dtype == (np.float32 if kind.kind == 'f' else kind)


@pytest.mark.parametrize('planar', ['contig', 'separate'])
@pytest.mark.parametrize(('channels', 'dtype'), [(8, 'uint16'), (3, 'uint16')])
def test_many_channels(tmp_path, planar, channels, dtype):
  array = stack(6, 7, channels, dtype=dtype)
  stored = array if planar == 'contig' else array.transpose(2, 0, 1)
  photometric = 'rgb' if channels == 3 else 'minisblack'
  tifffile.imwrite(
    tmp_path / 'x.tif', stored, planarconfig=planar, photometric=photometric
  )
  np.testing.assert_array_equal(formats.read(tmp_path / 'x.tif').array, array)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_white_is_zero(tmp_path, dtype):
  array = stack(6, 7, dtype=dtype)
  tifffile.imwrite(tmp_path / 'x.tif', array, photometric='miniswhite')
  found = formats.read(tmp_path / 'x.tif').array[..., 0]
  np.testing.assert_array_equal(found, np.iinfo(dtype).max - array)
  assert found.dtype == dtype


def test_jpeg_2000_inside(tmp_path):
  pytest.importorskip('imagecodecs')
  array = stack(32, 32, dtype=np.uint8)
  tifffile.imwrite(tmp_path / 'x.tif', array, compression='jpeg2000')
  found = formats.read(tmp_path / 'x.tif').array[..., 0]
  np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize('name', ['x_0000.tif', 'x.tif'])
def test_the_spacing_beside_it(tmp_path, name):
  """As nnU-Net's Tiff3DIO wants it: in the order of the array's axes."""
  array = stack(5, 6, 7)
  tifffile.imwrite(tmp_path / name, array)
  text = json.dumps({'spacing': [7.6, 0.5, 0.25]})
  (tmp_path / 'x.json').write_text(text, 'utf-8-sig')  # as Windows saves it
  found = formats.read(tmp_path / name)
  np.testing.assert_array_equal(found.array[..., 0], array.T)
  np.testing.assert_allclose(found.spacing, [0.25, 0.5, 7.6])
  assert found.meta['unit'] == 'mm'
  (tmp_path / 'x.json').write_text('{"spacing": [1, 0, 2]}')
  with pytest.raises(ValueError, match=r'x\.json: spacing is'):
    formats.read(tmp_path / name)
  (tmp_path / 'x.json').write_text('{"age": 61}')
  assert formats.read(tmp_path / name).meta['unit'] == 'pixel'


def test_without_tifffile(tmp_path, monkeypatch):
  tifffile.imwrite(tmp_path / 'x.tif', np.ones((3, 4)))
  tifffile.imwrite(tmp_path / 'y.tif', np.full((3, 4), 2**32 - 1, np.uint32))
  monkeypatch.setitem(sys.modules, 'tifffile', None)
  with pytest.raises(ValueError, match='1 x float64, which needs tifffile'):
    formats.read(tmp_path / 'x.tif')
  assert formats.read(tmp_path / 'y.tif').array.min() == 2**32 - 1


def test_damage_is_one_line(tmp_path):
  tifffile.imwrite(tmp_path / 'good.tif', RNG.normal(size=(64, 64)))
  raw = (tmp_path / 'good.tif').read_bytes()
  (tmp_path / 'x.tif').write_bytes(raw[:-3000])
  with pytest.raises(ValueError, match=r'x\.tif: ') as e:
    formats.read(tmp_path / 'x.tif')
  assert '\n' not in str(e.value)
  (tmp_path / 'x.tif').write_bytes(raw[:12])
  with pytest.raises(ValueError, match='copy it again'):
    formats.read(tmp_path / 'x.tif')
  tifffile.imwrite(tmp_path / 'x.tif', RNG.normal(size=(4, 4)) + 1j)
  with pytest.raises(ValueError, match=r'x\.tif: '):
    formats.read(tmp_path / 'x.tif')


def test_levels_of_a_slide(tmp_path):
  with tifffile.TiffWriter(tmp_path / 'x.tif') as file:
    file.write(stack(32, 32, 3, dtype=np.uint8), photometric='rgb')
    file.write(stack(16, 16, 3, dtype=np.uint8), photometric='rgb')
  with pytest.raises(ValueError, match='the levels of a slide'):
    formats.read(tmp_path / 'x.tif')


def test_a_picture_that_is_too_large(tmp_path, monkeypatch):
  monkeypatch.setattr(PIL.Image, 'MAX_IMAGE_PIXELS', 100)
  PIL.Image.new('L', (30, 30)).save(tmp_path / 'x.png')
  with pytest.raises(ValueError, match='more than 179 megapixels'):
    formats.read(tmp_path / 'x.png')
