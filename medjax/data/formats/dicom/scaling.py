"""From stored to real values: `scaling(values, real_world, path)`."""

from medjax.data.formats.dicom.errors import DicomError
from medjax.data.formats.dicom.header import first, number


def scaling(values, real_world, path):
  """(slope, intercept, notes) that a header states.

  Args:
    values: data sets that may hold RescaleSlope and RescaleIntercept; the first
      that has one counts. DoseGridScaling goes before both.
    real_world: the items of a RealWorldValueMappingSequence, which count where
      there is no rescaling (parametric maps, PS3.3 C.7.6.16.2.11).

  A slope of 0, which would make an empty image, counts as 1, as GDCM has it.
  """
  for dataset in values:
    dose = number(dataset, 'DoseGridScaling', path)
    if dose == 0:
      raise DicomError(f'{path}: DoseGridScaling is 0; mend the header')
    if dose:
      return dose, 0.0, ()
    slope = number(dataset, 'RescaleSlope', path)
    intercept = number(dataset, 'RescaleIntercept', path)
    if slope is None and intercept is None:
      continue
    notes = ()
    if slope == 0:
      slope, notes = 1.0, ('RescaleSlope is 0: taken as 1',)
    slope = 1.0 if slope is None else slope
    intercept = intercept or 0.0
    lines, _ = _linear(real_world, path)
    if len(lines - {(slope, intercept)}):
      notes += ('rescaled; a real-world value mapping is not applied',)
    return slope, intercept, notes
  return _real_world(real_world, path)


def _real_world(items, path):
  if not items:
    return 1.0, 0.0, ()
  lines, unit = _linear(items, path)
  if len(lines) != 1:
    why = 'several real-world value mappings' if lines else 'a look-up table'
    return 1.0, 0.0, (f'values are as stored: {why} of real-world values',)
  (slope, intercept), *_ = lines
  if slope == 0:
    return 1.0, 0.0, ('RealWorldValueSlope is 0: values are as stored',)
  said = f'real-world values: {slope:g} times the stored, plus {intercept:g}'
  return slope, intercept, (said + (f' ({unit})' if unit else ''),)


def _linear(items, path):
  """{(slope, intercept)} of the mappings that are lines, and their unit."""
  lines, unit = set(), ''
  for item in items or ():
    slope = number(item, 'RealWorldValueSlope', path)
    if slope is None:
      continue
    lines.add(
      (slope, number(item, 'RealWorldValueIntercept', path, default=0.0))
    )
    code = first(item.get('MeasurementUnitsCodeSequence')).get('CodeValue')
    unit = str(code or '')[:16]
  return lines, unit
