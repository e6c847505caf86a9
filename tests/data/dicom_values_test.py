"""From stored words to values: slopes, tables, bits, palettes."""

import pathlib
import sys

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut

from medjax.data import formats
from medjax.data.formats import dicom

sys.path.append(str(pathlib.Path(__file__).parent))
from dicom_files import FRAMES, dataset, enhanced, save, slices

PIXELS = FRAMES[0]


def read(d, path):
  return formats.read(save(d, path / 'a.dcm'))


def test_a_slope_of_0_is_1_as_for_others(tmp_path):
  folder = slices(tmp_path / 'a', RescaleSlope=0, RescaleIntercept=-5)
  volume = formats.read(folder)
  image = sitk.ReadImage(str(folder / '0.dcm'))
  theirs = sitk.GetArrayFromImage(image)[0]
  np.testing.assert_array_equal(volume.array[..., 0, 0].T, theirs)
  assert volume.meta['notes'] == ('RescaleSlope is 0: taken as 1',)
  dose = dataset(PIXELS, modality='RTDOSE', DoseGridScaling=0)
  with pytest.raises(ValueError, match=r'a\.dcm: DoseGridScaling is 0'):
    read(dose, tmp_path)


@pytest.mark.parametrize('kind', ['uint16', 'int16'])
@pytest.mark.parametrize('compressed', [False, True])
def test_high_bit_says_which_bits_are_values(kind, compressed, tmp_path):
  low = 0 if kind == 'uint16' else -2048
  values = np.linspace(low, low + 4000, 24).astype(kind).reshape(4, 6)
  d = dataset(values << 4, BitsStored=12, HighBit=15)
  if compressed:
    d.compress(pydicom.uid.RLELossless)
  found = read(d, tmp_path)
  np.testing.assert_array_equal(found.array[..., 0], values)
  assert found.meta['notes'][0].startswith('HighBit 15: values are the highest')


def test_a_high_bit_that_cannot_be(tmp_path):
  # What HighBit says, the pixels do not have: 12 bits from the lowest on.
  d = dataset(np.arange(4072, 4096, dtype=np.uint16).reshape(4, 6))
  d.BitsStored, d.HighBit = 12, 15
  with pytest.raises(ValueError, match=r'HighBit 15 contradicts its pixels'):
    read(d, tmp_path)
  d.BitsStored, d.HighBit = 16, 11
  found = read(d, tmp_path)
  assert found.array.min() == 4072
  assert found.meta['notes'] == (
    'HighBit 11 contradicts BitsStored 16: ignored',
  )


def table(d, data, descriptor):
  item = Dataset()
  item.ModalityLUTType = 'US'
  item.add_new('LUTDescriptor', 'US', descriptor)
  item.add_new('LUTData', 'OW', np.asarray(data, '<u2').tobytes())
  d.ModalityLUTSequence = [item]
  return d


@pytest.mark.parametrize('where', ['picture', 'frames', 'series'])
def test_modality_tables_are_applied_everywhere(where, tmp_path):
  frames = FRAMES.astype(np.uint8)
  data, descriptor = 20 * np.arange(200) + 100, [200, 3, 16]
  if where == 'series':
    folder = slices(tmp_path / 'a')
    for path in folder.iterdir():
      save(table(pydicom.dcmread(path), data, descriptor), path)
    d = pydicom.dcmread(folder / '0.dcm')
    found, stored = formats.read(folder), FRAMES.transpose(2, 1, 0)
  elif where == 'frames':
    d = table(dataset(frames, modality='XA'), data, descriptor)
    found, stored = read(d, tmp_path), frames.transpose(2, 1, 0)
  else:
    d = table(dataset(frames[0], modality='CR'), data, descriptor)
    found, stored = read(d, tmp_path), frames[0]
  want = apply_modality_lut(stored, d)
  np.testing.assert_array_equal(found.array[..., 0], want)
  assert found.meta['notes'][0].startswith('values are those of the modality')


def test_fluoroscopy_is_shown_as_it_is_stored(tmp_path):
  """PS3.3 C.8.7.1.1.2: its window is of stored values, not of the table's."""
  for modality, shown in (('XA', PIXELS), ('CR', PIXELS * 20 + 100)):
    d = dataset(PIXELS.astype(np.uint8), modality=modality)
    d.WindowCenter, d.WindowWidth = 128, 256
    table(d, 20 * np.arange(256) + 100, [256, 0, 16])
    path = save(d, tmp_path / 'a.dcm')
    found = formats.read(path)
    np.testing.assert_array_equal(found.array[..., 0], PIXELS * 20 + 100)
    assert ('window' in found.meta) == (modality == 'CR')
    got = dicom.read(path, voi=True).array[..., 0]
    want = np.clip((shown - 127.5) / 255 + 0.5, 0, 1) * 255
    np.testing.assert_allclose(got / got.max(), want / want.max(), atol=0.01)


COLOURS = np.arange(256) * np.array([[1], [2], [3]]) % 256
# bits that the descriptor says, and the entries as they are stored.
PALETTES = {
  '8 in bytes': (8, COLOURS.astype('u1')),
  '16, shifted': (16, (COLOURS << 8).astype('u2')),
  '16, repeated': (16, (COLOURS * 257).astype('u2')),
  '16 in bytes': (16, COLOURS.astype('u1')),
  '16, 8 used': (16, COLOURS.astype('u2')),
  '8 in words': (8, COLOURS.astype('u2')),
  '8, 16 used': (8, (COLOURS << 8).astype('u2')),
}
ODD = {'16 in bytes', '16, 8 used', '8, 16 used'}


def coloured(index, bits, entries):
  d = dataset(index, PhotometricInterpretation='PALETTE COLOR', modality='OT')
  for colour, data in zip(('Red', 'Green', 'Blue'), entries, strict=True):
    name = f'{colour}PaletteColorLookupTable'
    setattr(d, f'{name}Descriptor', [len(data), 0, bits])
    setattr(d, f'{name}Data', data.tobytes())
  return d


@pytest.mark.parametrize('name', PALETTES)
def test_palettes_whatever_their_descriptor_says(name, tmp_path):
  index = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
  found = read(coloured(index, *PALETTES[name]), tmp_path)
  np.testing.assert_array_equal(found.array, COLOURS.T[index])
  assert bool(found.meta['notes']) == (name in ODD)


def test_a_long_palette_of_bytes(tmp_path):
  index = np.arange(0, 4080, 170, dtype=np.uint16).reshape(4, 6)
  entries = np.arange(4096).astype('u1')[None].repeat(3, 0)
  found = read(coloured(index, 8, entries), tmp_path)
  np.testing.assert_array_equal(found.array[..., 1], index % 256)
  short = coloured(index, 8, entries[:, :100])
  short.RedPaletteColorLookupTableDescriptor = [4096, 0, 8]
  with pytest.raises(ValueError, match=r'a\.dcm: damaged DICOM pixels'):
    read(short, tmp_path)


def mapping(slope, intercept=-1.0):
  item, unit = Dataset(), Dataset()
  unit.CodeValue, unit.CodingSchemeDesignator = '1', 'UCUM'
  unit.CodeMeaning = 'no units'
  item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, intercept
  item.RealWorldValueFirstValueMapped = 0
  item.RealWorldValueLastValueMapped = 1000
  item.MeasurementUnitsCodeSequence = [unit]
  item.LUTExplanation, item.LUTLabel = 'x', 'x'
  return item


def parametric(*items, per_frame=False):
  d = enhanced(
    pydicom.uid.ParametricMapStorage,
    'ImagePositionPatient',
    'ImageOrientationPatient',
    SliceThickness=1.5,
  )
  d.Modality = 'MR'
  groups = d.SharedFunctionalGroupsSequence
  if per_frame:
    groups = d.PerFrameFunctionalGroupsSequence
  for group, item in zip(groups, items, strict=False):
    group.RealWorldValueMappingSequence = [item]
  return d


@pytest.mark.parametrize('kind', ['whole', 'float', 'by frame'])
def test_parametric_maps_have_real_world_values(kind, tmp_path):
  slopes = (
    np.array([0.5, 1.5, 2.5, 4]) if kind == 'by frame' else np.ones(4) / 2
  )
  d = parametric(*map(mapping, slopes), per_frame=kind == 'by frame')
  stored = FRAMES.astype(np.float32) + (0.25 if kind == 'float' else 0)
  if kind == 'float':
    del d.PixelData, d.BitsStored, d.HighBit, d.PixelRepresentation
    d.FloatPixelData, d.BitsAllocated = stored.tobytes(), 32
  found = read(d, tmp_path)
  want = stored * slopes[:, None, None] - 1
  np.testing.assert_allclose(found.array[..., 0].T, want)
  assert found.meta['notes'][0].startswith('real-world values: 0.5 times')
  if kind != 'whole':
    return
  hd = pytest.importorskip('highdicom')
  theirs = hd.imread(tmp_path / 'a.dcm').get_volume()
  np.testing.assert_allclose(
    np.sort(theirs.array.ravel()), np.sort(want.ravel())
  )


def test_a_series_of_floats_keeps_them(tmp_path):
  folder = slices(tmp_path / 'a')
  for path in folder.iterdir():
    d = pydicom.dcmread(path)
    d.FloatPixelData = (d.pixel_array + np.float32(0.25)).tobytes()
    del d.PixelData, d.BitsStored, d.HighBit, d.PixelRepresentation
    d.BitsAllocated = 32
    d.save_as(path)
  found = formats.read(folder)
  np.testing.assert_array_equal(found.array[..., 0].T, FRAMES + 0.25)


def test_bright_and_dark_slices_are_not_mixed(tmp_path):
  kinds = {'PhotometricInterpretation': lambda k: f'MONOCHROME{1 + k // 2}'}
  with pytest.raises(ValueError, match='MONOCHROME1 and MONOCHROME2 in one'):
    formats.read(slices(tmp_path / 'a', **kinds))


def test_the_first_value_of_a_table_has_the_sign_of_the_pixels(tmp_path):
  d = dataset(PIXELS - np.int16(10), modality='CR')
  table(d, np.arange(30) * 7, [30, 65526, 16])  # -10, as unsigned
  found = read(d, tmp_path)
  np.testing.assert_array_equal(found.array[..., 0], PIXELS * 7)


def test_real_world_values_that_are_not_applied_are_said(tmp_path):
  both = parametric(mapping(0.5))
  both.RescaleSlope, both.RescaleIntercept = 2, 0
  found = read(both, tmp_path)
  np.testing.assert_array_equal(found.array[..., 0].T, FRAMES * 2)
  assert 'a real-world value mapping is not applied' in found.meta['notes'][0]
  two = parametric(mapping(0.5))
  shared = two.SharedFunctionalGroupsSequence[0]
  shared.RealWorldValueMappingSequence.append(mapping(3))
  found = read(two, tmp_path)
  np.testing.assert_array_equal(found.array[..., 0].T, FRAMES)
  assert 'values are as stored: several' in found.meta['notes'][0]
