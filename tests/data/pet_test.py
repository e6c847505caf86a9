"""SUV factors against hand calculation, and what is refused."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from medjax.data.formats import dicom

HALF_LIFE = 6586.2


def pet(**fields):
  d, tracer = Dataset(), Dataset()
  d.Modality, d.Units, d.DecayCorrection = 'PT', 'BQML', 'START'
  d.CorrectedImage = ['ATTN', 'DECY', 'SCAT']
  d.PatientWeight = 70
  d.SeriesDate = d.AcquisitionDate = '20200101'
  d.SeriesTime, d.AcquisitionTime = '120000', '120130'
  tracer.RadionuclideTotalDose = 350e6
  tracer.RadionuclideHalfLife = HALF_LIFE
  tracer.RadiopharmaceuticalStartTime = '110000.00'
  d.RadiopharmaceuticalInformationSequence = [tracer]
  for name, value in fields.items():
    at = d if name not in tracer and not name.startswith('Radio') else tracer
    if value is None:
      delattr(at, name)
    else:
      setattr(at, name, value)
  return d


def expected(seconds, weight=70):
  return weight * 1000 / (350e6 * 2 ** (-seconds / HALF_LIFE))


def test_dose_decays_to_the_start_of_the_scan():
  assert dicom.suv_factor(pet()) == pytest.approx(expected(3600))
  # FDG, 70 kg, 350 MBq, an hour: 1 SUV is about 3.4 kBq/mL.
  assert 1 / dicom.suv_factor(pet()) == pytest.approx(3423, rel=0.001)
  at = pet(RadiopharmaceuticalStartDateTime='20200101103000.5')
  assert dicom.suv_factor(at) == pytest.approx(expected(5399.5))
  assert dicom.suv_factor(
    pet(DecayCorrection='ADMIN', RadionuclideHalfLife=None)
  ) == pytest.approx(expected(0))


def test_an_injection_in_another_zone_than_the_series():
  def at(moment, zone=None, time='110000'):
    found = pet(
      RadiopharmaceuticalStartDateTime=moment,
      RadiopharmaceuticalStartTime=time,
    )
    if zone:
      found.TimezoneOffsetFromUTC = zone
    return found

  hour = pytest.approx(expected(3600))
  assert dicom.suv_factor(at('20200101100000.0+0000', '+0100')) == hour
  assert dicom.suv_factor(at('20200101180000-0530', '-1230')) == hour
  assert dicom.suv_factor(at('20200101110000-0530')) == hour  # the wall clock's
  assert dicom.suv_factor(at('20200101110000+0000')) == hour  # both times are
  for time in ('120000', None):
    with pytest.raises(ValueError, match='add TimezoneOffsetFromUTC'):
      dicom.suv_factor(at('20200101100000+0000', time=time))


def test_injection_before_midnight():
  d = pet(
    SeriesTime='003000',
    AcquisitionTime='003000',
    RadiopharmaceuticalStartTime='233000',
  )
  assert dicom.suv_factor(d) == pytest.approx(expected(3600))


def test_derived_series_uses_the_acquisition():
  late = {'SeriesTime': '150000'}
  assert dicom.suv_factor(pet(**late)) == pytest.approx(expected(3690))
  ge = pet(**late)
  ge.add_new((0x0009, 0x0010), 'LO', 'GEMS_PETD_01')
  ge.add_new((0x0009, 0x100D), 'DT', '20200101120000.00')
  assert dicom.suv_factor(ge) == pytest.approx(expected(3600))
  # Siemens: the frame refers to its mean activity, 75 s into 150 s or so.
  siemens = pet(**late, FrameReferenceTime=165000, ActualFrameDuration=150000)
  assert dicom.suv_factor(siemens) == pytest.approx(expected(3600), rel=1e-4)


def test_the_earliest_acquisition_of_the_series_counts():
  """QIBA: of a series that was sent anew, whose lowest bed came last."""
  late = {'SeriesTime': '123000'}
  times = ('121000', '120500', '120000')
  beds = [pet(**late, AcquisitionTime=t) for t in times]
  for bed in beds:
    assert dicom.suv_factor(bed, series=beds) == pytest.approx(expected(3600))
  assert dicom.suv_factor(beds[0]) == pytest.approx(expected(4200))
  # As one element, where the two are not there.
  joined = pet(**late, AcquisitionTime=None, AcquisitionDate=None)
  joined.AcquisitionDateTime = '20200101120000'
  assert dicom.suv_factor(joined) == pytest.approx(expected(3600))
  # A series that began before every acquisition is believed.
  early = [pet(AcquisitionTime=t) for t in times]
  assert dicom.suv_factor(early[0], series=early) == pytest.approx(
    expected(3600)
  )
  # The frame's reference time is that of the earliest, if it is over 0.
  for reference in (0, -5):
    for bed in beds:
      bed.FrameReferenceTime, bed.ActualFrameDuration = reference, 150000
    found = dicom.suv_factor(beds[0], series=beds)
    assert found == pytest.approx(expected(3600))


def test_long_lived_tracers_wait_for_days():
  zirconium = {
    'RadionuclideHalfLife': 78.41 * 3600,
    'RadiopharmaceuticalStartDateTime': '20191227120000',
  }
  found = dicom.suv_factor(pet(**zirconium))
  decayed = 350e6 * 2 ** (-120 / 78.41)
  assert found == pytest.approx(70000 / decayed)
  zirconium['RadiopharmaceuticalStartDateTime'] = '20191020120000'
  with pytest.raises(ValueError, match=r'starts 105120 min after the inj'):
    dicom.suv_factor(pet(**zirconium))
  # A time without its day may be of any.
  del zirconium['RadiopharmaceuticalStartDateTime']
  with pytest.raises(
    ValueError, match=r'names no day, which a half-life of 78'
  ):
    dicom.suv_factor(pet(**zirconium))
  with pytest.raises(ValueError, match=r'starts 7200 min after the injection'):
    dicom.suv_factor(pet(RadiopharmaceuticalStartDateTime='20191227120000'))


def test_vendor_units(tmp_path):
  assert dicom.suv_factor(pet(Units='GML')) == 1
  philips = pet(Units='CNTS', PatientWeight=None)
  philips.add_new((0x7053, 0x0010), 'LO', 'Philips PET Private Group')
  philips.add_new((0x7053, 0x1000), 'DS', '0.000551')
  assert dicom.suv_factor(philips) == pytest.approx(0.000551)
  counts = pet(Units='CNTS')
  counts.add_new((0x7053, 0x0010), 'LO', 'Philips PET Private Group')
  counts.add_new((0x7053, 0x1000), 'DS', '0')
  counts.add_new((0x7053, 0x1009), 'DS', '1.5')
  assert dicom.suv_factor(counts) == pytest.approx(1.5 * expected(3600))


BAD = {
  'PatientWeight is missing': {'PatientWeight': None},
  'PatientWeight is missing or': {'PatientWeight': 0},
  'RadionuclideTotalDose is missing': {'RadionuclideTotalDose': None},
  'is MBq rather than Bq': {'RadionuclideTotalDose': 350},
  'RadionuclideHalfLife is missing': {'RadionuclideHalfLife': None},
  'RadiopharmaceuticalStartTime is missing': {
    'RadiopharmaceuticalStartTime': None
  },
  'RadiopharmaceuticalStartTime is no time': {
    'RadiopharmaceuticalStartTime': 'noon'
  },
  'SeriesTime and AcquisitionTime are missing': {
    'SeriesTime': None,
    'AcquisitionTime': None,
  },
  'the scan starts -60 min after the injection': {
    'RadiopharmaceuticalStartTime': '130000'
  },
  'CorrectedImage does not name attenuation': {'CorrectedImage': ['DECY']},
  'CorrectedImage does not name decay': {'CorrectedImage': 'ATTN'},
  'DecayCorrection is NONE': {'DecayCorrection': 'NONE'},
  'units are PROPCPS': {'Units': 'PROPCPS'},
  'the Philips scale factors': {'Units': 'CNTS'},
  'holds SUV by LBM': {'Units': 'GML', 'SUVType': 'LBM'},
  'is no PET image': {'Modality': 'CT'},
}


@pytest.mark.parametrize('line', BAD)
def test_what_is_missing_is_named(line):
  with pytest.raises(ValueError, match=line):
    dicom.suv_factor(pet(**BAD[line]), 'a.dcm')


def test_real_pet_is_plausible(shared_data):
  folder = shared_data('dicom_sts025') / 'PET' / 'image'
  volume = dicom.read(folder, suv=True)
  assert volume.array.min() >= 0
  assert 3 < volume.array.max() < 20  # a sarcoma
  # The same activity as the scanner would have stored it, in Bq/mL.
  d = pydicom.dcmread(next(folder.iterdir()), stop_before_pixels=True)
  d.Units = 'BQML'
  dose = 413949888.0
  np.testing.assert_allclose(dicom.suv_factor(d), 66e3 / dose)
