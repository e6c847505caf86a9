"""PET: from stored activity to body-weight SUV: `suv_factor(dataset)`."""

import datetime
import math
import re

from medjax.data.formats.dicom.errors import DicomError, parsing
from medjax.data.formats.dicom.header import first, number

# What `suv_factor` reads of the other images of a series.
SUV_TIMES = (
  'SeriesDate', 'AcquisitionDate', 'AcquisitionTime', 'AcquisitionDateTime',
  'FrameReferenceTime', 'ActualFrameDuration',
)  # fmt: skip
_PHILIPS_SUV = (0x7053, 0x1000)
_PHILIPS_ACTIVITY = (0x7053, 0x1009)
_GE_SCAN_TIME = (0x0009, 0x100D)
# Longer than a day and this many half-lives, a wait is a mistake in the times.
_LONGEST_WAIT = 24 * 3600.0
_HALF_LIVES = 10
_LONG_LIVED = 12 * 3600.0  # imaged days after the injection


def suv_factor(dataset, path='PET', *, series=()):
  """What rescaled PET values are multiplied by to give SUV, body weight.

  SUV = activity (Bq/mL) * weight (g) / dose at the scan (Bq), 1 mL being 1 g.
  By Units: BQML as above; GML is SUV already (1.0, if SUVType is BW); CNTS
  with Philips' private factor, else with its activity factor and as BQML.
  Decay: ADMIN: the dose as injected; START: the dose decayed from injection to
  the start of the scan, which is the series time, unless that is later than
  the earliest acquisition (a derived series): then GE's private scan time, else
  that acquisition's time, corrected by FrameReferenceTime where it is over 0.

  series: the headers of the series that the image is of; without them the
  image's own acquisition counts as the earliest.

  Raises ValueError where units, dose, weight, half-life, a time, attenuation
  or decay correction is missing or absurd. After the QIBA FDG-PET profile's
  vendor-neutral pseudo-code (Kinahan, Clunie et al.).
  """
  with parsing(path):
    if str(dataset.get('Modality') or '') != 'PT':
      raise DicomError(f'{path}: is no PET image, so it has no SUV')
    units = str(dataset.get('Units') or '').strip()
    if units == 'GML':
      kind = str(dataset.get('SUVType') or 'BW').strip()
      if kind != 'BW':
        raise DicomError(f'{path}: holds SUV by {kind}, not by body weight')
      return 1.0
    if units == 'CNTS':
      factor = _private(dataset, _PHILIPS_SUV)
      if factor:
        return factor
      activity = _private(dataset, _PHILIPS_ACTIVITY)
      if not activity:
        raise DicomError(
          f'{path}: units are counts and the Philips scale factors '
          '(7053,1000), (7053,1009) are missing; no SUV'
        )
    elif units == 'BQML':
      activity = 1.0
    else:
      raise DicomError(
        f'{path}: units are {units or "missing"}, not BQML, CNTS or GML; no SUV'
      )
    _check_corrected(dataset, path)
    weight = number(dataset, 'PatientWeight', path)
    if not weight or not 0.5 <= weight <= 500:
      raise DicomError(
        f'{path}: PatientWeight is missing or no weight in kg; no SUV'
      )
    return activity * weight * 1000.0 / _dose(dataset, path, series)


def _check_corrected(dataset, path):
  corrected = dataset.get('CorrectedImage') or ()
  corrected = [corrected] if isinstance(corrected, str) else list(corrected)
  for code, name in (('ATTN', 'attenuation'), ('DECY', 'decay')):
    if code not in corrected:
      raise DicomError(
        f'{path}: CorrectedImage does not name {name} ({code}); no SUV'
      )


def _dose(dataset, path, series):
  """Injected activity in Bq, decayed to the time the values refer to."""
  tracer = first(dataset.get('RadiopharmaceuticalInformationSequence'))
  dose = number(tracer, 'RadionuclideTotalDose', path)
  if not dose or dose <= 0:
    raise DicomError(f'{path}: RadionuclideTotalDose is missing; no SUV')
  if dose < 1e5:
    raise DicomError(
      f'{path}: RadionuclideTotalDose is {dose:g}, which is MBq rather than '
      'Bq; mend the header'
    )
  correction = str(dataset.get('DecayCorrection') or '').strip()
  if correction == 'ADMIN':
    return dose
  if correction != 'START':
    raise DicomError(
      f'{path}: DecayCorrection is {correction or "missing"}, not START or '
      'ADMIN; no SUV'
    )
  half_life = number(tracer, 'RadionuclideHalfLife', path)
  if not half_life or half_life <= 0:
    raise DicomError(f'{path}: RadionuclideHalfLife is missing; no SUV')
  start = _scan_start(dataset, series, half_life, path)
  injected = _injection(dataset, tracer, start, half_life, path)
  wait = (start - injected).total_seconds()
  if not 0 <= wait < max(_LONGEST_WAIT, _HALF_LIVES * half_life):
    raise DicomError(
      f'{path}: the scan starts {wait / 60:.0f} min after the injection; mend '
      'the times'
    )
  return dose * 2.0 ** (-wait / half_life)


def _scan_start(dataset, series, half_life, path):
  start = _moment(dataset, 'Series', path)
  own = _moment(dataset, 'Acquisition', path)
  others = ((_moment(d, 'Acquisition', path), d) for d in series)
  known = [(m, d) for m, d in [(own, dataset), *others] if m]
  acquired, earliest = min(known, key=lambda k: k[0], default=(None, dataset))
  if start and (not acquired or start <= acquired):
    return start
  scan = dataset.get(_GE_SCAN_TIME)
  if scan is not None and scan.value:
    return _parse_moment(_text(scan.value), 'the GE scan time', path)
  if not acquired:
    raise DicomError(f'{path}: SeriesTime and AcquisitionTime are missing')
  reference = number(earliest, 'FrameReferenceTime', path)
  duration = number(earliest, 'ActualFrameDuration', path)
  if not reference or reference < 0 or not duration or duration < 0:
    return acquired
  # The frame's values refer to the moment of its mean activity, which lies
  # FrameReferenceTime after the start.
  decay = math.log(2) / half_life
  seconds = duration / 1000.0
  mean = math.log(decay * seconds / -math.expm1(-decay * seconds)) / decay
  return acquired - datetime.timedelta(seconds=reference / 1000.0 - mean)


def _injection(dataset, tracer, start, half_life, path):
  text = _text(tracer.get('RadiopharmaceuticalStartDateTime'))
  if text:
    moment = _parse_moment(text, 'RadiopharmaceuticalStartDateTime', path)
    return moment + _to_local(text, dataset, tracer, path)
  text = _text(tracer.get('RadiopharmaceuticalStartTime'))
  if not text:
    raise DicomError(f'{path}: RadiopharmaceuticalStartTime is missing; no SUV')
  if half_life > _LONG_LIVED:
    raise DicomError(
      f'{path}: RadiopharmaceuticalStartTime names no day, which a half-life '
      f'of {half_life / 3600:.0f} h needs; add RadiopharmaceuticalStartDateTime'
    )
  day = start.strftime('%Y%m%d')
  moment = _parse_moment(day + text, 'RadiopharmaceuticalStartTime', path)
  if moment > start and moment - start > datetime.timedelta(hours=12):
    moment -= datetime.timedelta(days=1)  # injected before midnight
  return moment


def _to_local(text, dataset, tracer, path):
  """From a DT's zone to that of the dates and times of the series."""
  own = _offset(text)
  local = _offset(_text(dataset.get('TimezoneOffsetFromUTC')))
  if own is not None and local is not None:
    return local - own
  # With an offset other than 0 it is the wall clock's time.
  time = _text(tracer.get('RadiopharmaceuticalStartTime'))
  if own == datetime.timedelta(0) and time[:4] != text[8:12]:
    raise DicomError(
      f'{path}: RadiopharmaceuticalStartDateTime is of UTC, and it is not said '
      'whether SeriesTime is too; add TimezoneOffsetFromUTC'
    )
  return datetime.timedelta(0)


def _offset(text):
  """The offset from UTC that a time ends in, or None."""
  found = re.search(r'([+-])(\d\d)(\d\d)$', text)
  if not found:
    return None
  sign, hours, minutes = found.groups()
  offset = datetime.timedelta(hours=int(hours), minutes=int(minutes))
  return -offset if sign == '-' else offset


def _moment(dataset, kind, path):
  day = _text(dataset.get(f'{kind}Date')) or _text(dataset.get('SeriesDate'))
  time = _text(dataset.get(f'{kind}Time'))
  both = day + time if day and time else _text(dataset.get(f'{kind}DateTime'))
  return _parse_moment(both, f'{kind}Time', path) if both else None


def _parse_moment(text, name, path):
  """A DT without its offset from UTC, or DA and TM joined."""
  digits = text.split('+')[0].split('-')[0].strip()
  whole, _, fraction = digits.partition('.')
  try:
    moment = datetime.datetime.strptime(
      whole[:14].ljust(14, '0'), '%Y%m%d%H%M%S'
    )
    return moment + datetime.timedelta(seconds=float(f'0.{fraction or 0}'))
  except ValueError:
    raise DicomError(f'{path}: {name} is no time; no SUV') from None


def _text(value):
  if isinstance(value, bytes):
    value = value.decode('ascii', 'ignore')
  return str(value or '').strip().strip('\0')


def _private(dataset, tag):
  """A private number > 0, whatever its VR was read as; None without one."""
  element = dataset.get(tag)
  try:
    value = float(_text(element.value))
  except (AttributeError, TypeError, ValueError):
    return None
  return value if math.isfinite(value) and value > 0 else None
