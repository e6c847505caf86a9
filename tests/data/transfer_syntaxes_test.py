"""Every transfer syntax that can be written or found decodes to its pixels."""

import io
import pathlib

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import get_decoder, get_encoder

from medjax.data import formats
from medjax.data.formats.dicom import jpeg

# name in pydicom.uid: largest difference to the pixels that were encoded.
WRITTEN = {
  'ImplicitVRLittleEndian': 0,
  'ExplicitVRLittleEndian': 0,
  'ExplicitVRBigEndian': 0,
  'DeflatedExplicitVRLittleEndian': 0,
  'RLELossless': 0,
  'JPEGLSLossless': 0,
  'JPEGLSNearLossless': 2,
  'JPEG2000Lossless': 0,
  'JPEG2000': 40,
}
# pydicom's own files: the same pixels, uncompressed; the largest difference.
FOUND = {
  'MR_small_RLE': ('MR_small', 0),
  'MR_small_bigendian': ('MR_small', 0),
  'MR_small_implicit': ('MR_small', 0),
  'MR_small_jp2klossless': ('MR_small', 0),
  'MR_small_jpeg_ls_lossless': ('MR_small', 0),
  'SC_rgb_rle_16bit_2frame': ('SC_rgb_16bit_2frame', 0),
  'SC_rgb_rle_32bit': ('SC_rgb_32bit', 0),
  'SC_rgb_expb_16bit': ('SC_rgb_16bit', 0),
  'SC_rgb_small_odd_jpeg': ('SC_rgb_small_odd', 80),
  'SC_rgb_jpeg_dcmtk': ('SC_rgb', 8),
  'SC_rgb_dcmtk_+eb+cr': ('SC_rgb', 8),
  'SC_rgb_dcmtk_+eb+cy+np': ('SC_rgb', 120),
  'SC_rgb_dcmtk_+eb+cy+s4': ('SC_rgb', 120),  # colours of four pixels in one
  'SC_rgb_jls_lossy_line': ('SC_rgb', 8),
  'SC_rgb_jls_lossy_sample': ('SC_rgb', 8),
  'SC_rgb_gdcm_KY': ('SC_rgb_gdcm2k_uncompressed', 8),
  'SC_rgb_jpeg_gdcm': ('SC_rgb', 0),  # lossless JPEG
  'emri_small_RLE': ('emri_small', 0),
  'emri_small_big_endian': ('emri_small', 0),
  'emri_small_jpeg_2k_lossless': ('emri_small', 0),
  'emri_small_jpeg_ls_lossless': ('emri_small', 0),
  'rtdose_rle': ('rtdose', 0),
  'rtdose_rle_1frame': ('rtdose_1frame', 0),
  'rtdose_expb': ('rtdose', 0),
  'US1_J2KR': ('US1_UNCR', 0),
  'US1_J2KI': ('US1_UNCI', 0),
  '693_J2KR': ('693_UNCR', 0),
}
# An 8x8 ramp in High-Throughput JPEG 2000, by OpenJPH: no encoder here.
RAMP = np.add.outer(np.arange(8) * 40, np.arange(8) * 3)
HTJ2K = (pathlib.Path(__file__).parent / 'ramp.j2c').read_bytes()


def dataset(array):
  d = Dataset()
  d.file_meta = FileMetaDataset()
  d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  d.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
  d.SOPInstanceUID, d.SeriesInstanceUID = '1.2.5', '1.2.3'
  d.Modality = 'OT'
  d.Rows, d.Columns = array.shape[:2]
  d.SamplesPerPixel = 3 if array.ndim == 3 else 1
  d.PhotometricInterpretation = 'RGB' if array.ndim == 3 else 'MONOCHROME2'
  if array.ndim == 3:
    d.PlanarConfiguration = 0
  bits = array.dtype.itemsize * 8
  d.BitsAllocated, d.BitsStored, d.HighBit = bits, bits, bits - 1
  d.PixelRepresentation = int(array.dtype.kind == 'i')
  d.PixelData = array.tobytes()
  return d


def written(array, syntax, path):
  d = dataset(array)
  if syntax.is_encapsulated:
    lossy = {
      pydicom.uid.JPEGLSNearLossless: {'jls_error': 2},
      pydicom.uid.JPEG2000: {'j2k_cr': [4]},
    }
    d.compress(syntax, generate_instance_uid=False, **lossy.get(syntax, {}))
  elif syntax == pydicom.uid.ExplicitVRBigEndian:
    d['PixelData'].VR = 'OW' if array.dtype.itemsize > 1 else 'OB'
    d.PixelData = array.astype(array.dtype.newbyteorder('>')).tobytes()
    d.file_meta.TransferSyntaxUID = syntax
  else:
    d.file_meta.TransferSyntaxUID = syntax
  buffer = io.BytesIO()
  pydicom.dcmwrite(buffer, d, enforce_file_format=True)
  path.write_bytes(buffer.getvalue())
  return path


@pytest.mark.parametrize('kind', ['uint8', 'uint16', 'int16', 'rgb'])
@pytest.mark.parametrize('name', WRITTEN)
def test_what_is_written_is_read(name, kind, tmp_path):
  syntax = getattr(pydicom.uid, name)
  if syntax.is_encapsulated and not get_encoder(syntax).is_available:
    pytest.skip('no encoder')
  shape = (32, 48, 3) if kind == 'rgb' else (32, 48)
  smooth = np.add.outer(np.arange(32) * 3, np.arange(48) * 2)
  array = np.broadcast_to(
    smooth.reshape(32, 48, *[1] * (len(shape) - 2)), shape
  )
  array = array.astype('uint8' if kind == 'rgb' else kind)
  if kind == 'int16':
    array = array - np.int16(90)
  if kind == 'int16' and name == 'JPEGLSNearLossless':
    pytest.skip('lossy JPEG-LS of signed pixels is not encoded')
  got = formats.read(written(array, syntax, tmp_path / 'a.dcm')).array
  want = array if kind == 'rgb' else array[..., None]
  assert got.dtype == want.dtype
  assert got.dtype.isnative
  assert np.abs(got.astype(int) - want).max() <= WRITTEN[name]


@pytest.mark.parametrize('name', FOUND)
def test_what_others_wrote_is_read(name):
  other, tolerance = FOUND[name]
  path = get_testdata_file(f'{name}.dcm', download=False)
  if path is None:
    pytest.skip('pydicom-data is not installed')
  syntax = pydicom.dcmread(path, specific_tags=[]).file_meta.TransferSyntaxUID
  if syntax in jpeg.SYNTAXES and not jpeg.is_available(syntax):
    with pytest.raises(ValueError, match=r'pip install medjax\[dicom\]'):
      formats.read(path)
    return
  got = formats.read(path)
  want = formats.read(get_testdata_file(f'{other}.dcm', download=False))
  assert got.array.shape == want.array.shape
  assert got.array.dtype == want.array.dtype
  assert got.array.dtype.isnative
  off = np.abs(got.array.astype(float) - want.array)
  assert off.max() <= tolerance


@pytest.mark.parametrize(
  'name', ['HTJ2K', 'HTJ2KLossless', 'HTJ2KLosslessRPCL']
)
def test_high_throughput_jpeg_2000(name, tmp_path):
  d = dataset(RAMP.astype(np.uint16))
  d.PixelData = pydicom.encaps.encapsulate([HTJ2K])
  d['PixelData'].is_undefined_length = True
  d.file_meta.TransferSyntaxUID = getattr(pydicom.uid, name)
  d.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
  if not get_decoder(d.file_meta.TransferSyntaxUID).is_available:
    pytest.skip('no decoder')
  got = formats.read(tmp_path / 'a.dcm').array
  np.testing.assert_array_equal(got[..., 0], RAMP)


@pytest.mark.parametrize('kind', ['uint8', 'uint16', 'int16', 'rgb'])
def test_lossless_jpeg(kind, tmp_path):
  imagecodecs = pytest.importorskip('imagecodecs')
  array = np.random.default_rng(0).integers(0, 200, (16, 24, 3), np.uint8)
  if kind != 'rgb':
    array = array[..., 0].astype(kind)
  if kind == 'int16':
    array -= 100
  d = dataset(array)
  whole = imagecodecs.jpeg8_encode(
    array.view('u2') if kind == 'int16' else array,
    lossless=True,
    bitspersample=array.dtype.itemsize * 8,
    colorspace='RGB' if kind == 'rgb' else 'GRAYSCALE',
    outcolorspace='RGB' if kind == 'rgb' else 'GRAYSCALE',
  )
  for frame, good in ((whole, True), (whole[:-40], False)):
    d.PixelData = pydicom.encaps.encapsulate([frame])
    d['PixelData'].is_undefined_length = True
    d.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
    d.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    if good:
      got = formats.read(tmp_path / 'a.dcm').array
      assert got.dtype == array.dtype
      np.testing.assert_array_equal(got.squeeze(), array)
    else:
      with pytest.raises(ValueError, match='damaged DICOM pixels'):
        formats.read(tmp_path / 'a.dcm')


def test_a_dose_of_one_frame_is_in_gray():
  path = get_testdata_file('rtdose_1frame.dcm', download=False)
  d = pydicom.dcmread(path)
  got = formats.read(path).array[..., 0]
  np.testing.assert_allclose(got, d.pixel_array * float(d.DoseGridScaling))


@pytest.mark.parametrize(
  'name',
  ['MR_small_jp2klossless', 'MR_small_jpeg_ls_lossless', 'SC_rgb_jpeg_dcmtk'],
)
def test_a_frame_that_claims_to_be_huge(name, tmp_path):
  d = pydicom.dcmread(get_testdata_file(f'{name}.dcm', download=False))
  (frame,) = pydicom.encaps.generate_frames(d.PixelData, number_of_frames=1)
  at, sizes = (
    (frame.index(b'\xff\x51') + 6, b'\0\0\xff\xff' * 2)
    if 'jp2k' in name
    else (
      max(frame.find(b'\xff\xc0'), frame.find(b'\xff\xf7')) + 5,
      b'\xff\xff\xff\xff',
    )
  )
  frame = frame[:at] + sizes + frame[at + len(sizes) :]
  d.PixelData = pydicom.encaps.encapsulate([frame])
  d.save_as(tmp_path / 'a.dcm')
  with pytest.raises(ValueError, match=r'compressed pixels 65535x65535x'):
    formats.read(tmp_path / 'a.dcm')


def test_missing_decoder_is_said(monkeypatch):
  path = get_testdata_file('MR_small_jp2klossless.dcm', download=False)
  decoder = get_decoder('1.2.840.10008.1.2.4.90')
  monkeypatch.setattr(decoder, '_available', {})
  with pytest.raises(ValueError, match=r'JPEG 2000.* pip install medjax\['):
    formats.read(path)
