"""Outcomes as DICOM SR, TID 1500: coded findings, measures and abstentions."""

import io

import highdicom as hd
import pydicom
from highdicom.sr import CodedConcept, templates
from highdicom.sr import content as sr

from medjax import __version__
from medjax.service import uids

# CID 100 has these of the whole of a modality; PS3.16 TID 1500 row 9.
_PROCEDURES = {
  'CT': ('25045-6', 'LN', 'CT unspecified body region'),
  'MR': ('25056-3', 'LN', 'MRI unspecified body region'),
  'PT': ('44136-0', 'LN', 'PET unspecified body region'),
  'NM': ('49118-3', 'LN', 'NM unspecified body region'),
}
_OTHERS = ('363679005', 'SCT', 'Imaging procedure')
_SUMMARY = ('111017', 'DCM', 'CAD Processing and Findings Summary')
_SUMMARIES = {
  'finding': ('111242', 'DCM', 'All algorithms succeeded; with findings'),
  'no finding': ('111241', 'DCM', 'All algorithms succeeded; without findings'),
  'abstained': ('111245', 'DCM', 'No algorithms succeeded; without findings'),
}
_FINDING = ('121071', 'DCM', 'Finding')
_PRESENT = ('52101004', 'SCT', 'Present')
_ABSENT = ('272519000', 'SCT', 'Absent')
_INDETERMINATE = ('82334004', 'SCT', 'Indeterminate')
_CERTAINTY = ('111012', 'DCM', 'Certainty of Finding')
_AI = ('123110', 'DCM', 'Artificial Intelligence')
_PERCENT = ('%', 'UCUM', 'Percent')
_MEASURES = {
  'volume': ('118565006', 'SCT', 'Volume'),
  'area': ('42798000', 'SCT', 'Area'),
}
_UNITS = {
  'mm3': ('mm3', 'UCUM', 'cubic millimeter'),
  'mm2': ('mm2', 'UCUM', 'square millimeter'),
  'px': ('{pixels}', 'UCUM', 'pixels'),
}


def write(outcome, *, identity, sources, seg, predecessor=None):
  """The bytes of a Comprehensive SR of an outcome.

  identity: an `Identity` of results. sources: data sets of the images without
  pixels, of one series. seg: the data set of the DICOM SEG that the findings
  refer to, or None. predecessor: that of the report that this one replaces.
  """
  # DicomSRValidator takes all groups for regions if one of them is: then none
  # is of another kind, and the summary stands in the first.
  regions = seg is not None and outcome['summary'] == 'finding'
  groups = [
    _group(finding, identity, sources, seg if regions else None, summary)
    for finding, summary in zip(
      outcome['findings'],
      [_summary(outcome) if regions else (), *[()] * len(outcome['findings'])],
      strict=False,
    )
  ]
  if not regions:
    groups.append(_summary_group(outcome, identity, sources))
  report = hd.sr.MeasurementReport(
    observation_context=_context(identity),
    procedure_reported=CodedConcept(*_procedure(sources[0])),
    imaging_measurements=groups,
    title=CodedConcept('126000', 'DCM', 'Imaging Measurement Report'),
  )
  made = hd.sr.ComprehensiveSR(
    evidence=[*sources, *([seg] if seg is not None else ())],
    content=report[0],
    series_instance_uid=identity.report_series,
    series_number=identity.number + 1,
    sop_instance_uid=identity.report,
    instance_number=1,
    manufacturer='medjax',
    is_complete=True,
    is_final=False,
    is_verified=False,
    previous_versions=None if predecessor is None else [predecessor],
    series_description='Analysis by medjax, research use',
  )
  return _finished(made, identity)


def _finished(made, identity):
  """The bytes, with all that came from the clock or by chance set."""
  made.Manufacturer, made.ManufacturerModelName = 'medjax', 'medjax.service'
  made.SoftwareVersions = __version__
  made.walk(_drop_frame)
  moment = identity.moment
  made.ContentDate = made.InstanceCreationDate = moment.date()
  made.ContentTime = made.InstanceCreationTime = moment.time()
  made.SeriesDate, made.SeriesTime = moment.date(), moment.time()
  for item in made.get('ContributingEquipmentSequence') or ():
    item.ContributionDateTime = moment
  stream = io.BytesIO()
  made.save_as(stream, enforce_file_format=True)
  return stream.getvalue()


def _drop_frame(dataset, element):
  """A segment is named without its frames: PS3.3 table 10-3, type 1C."""
  if element.keyword == 'ReferencedSegmentNumber':
    dataset.pop('ReferencedFrameNumber', None)


def _procedure(dataset):
  return _PROCEDURES.get(str(dataset.get('Modality')), _OTHERS)


def _context(identity):
  device = templates.ObserverContext(
    observer_type=CodedConcept('121007', 'DCM', 'Device'),
    observer_identifying_attributes=(
      templates.DeviceObserverIdentifyingAttributes(
        uid=identity.device,
        name=identity.algorithm[0],
        manufacturer_name='medjax',
        model_name='medjax.service',
        serial_number=identity.algorithm[1],
      )
    ),
  )
  return templates.ObservationContext(observer_device_context=device)


def _algorithm(identity):
  name, version = identity.algorithm
  return templates.AlgorithmIdentification(
    name=name,
    version=version,
    family=CodedConcept(*_AI),
    manufacturer='medjax',
  )


def _group(finding, identity, sources, seg, summary):
  """The measurement group of a finding; of a region of `seg`, if given."""
  present = _PRESENT if finding['present'] else _ABSENT
  measures = [_measure(m) for m in finding['measures']]
  if finding['probability'] is not None:
    measures.append(_certainty(100 * finding['probability']))
  common = dict(
    tracking_identifier=templates.TrackingIdentifier(
      uid=identity.tracking_of(finding['name']),
      identifier=finding['name'][:64],
    ),
    finding_type=CodedConcept(*finding['code']),
    algorithm_id=_algorithm(identity),
    qualitative_evaluations=[_evaluation(_FINDING, present), *summary],
    measurements=measures or None,
  )
  if seg is None:
    return templates.MeasurementsAndQualitativeEvaluations(
      **common, source_images=_images(sources)
    )
  segment = dict(
    sop_class_uid=seg.SOPClassUID,
    sop_instance_uid=seg.SOPInstanceUID,
    segment_number=finding['segment'],
  )
  if finding['measures'][0]['name'] == 'area':
    one = sources[0]
    image = sr.SourceImageForSegmentation(one.SOPClassUID, one.SOPInstanceUID)
    return templates.PlanarROIMeasurementsAndQualitativeEvaluations(
      **common,
      referenced_segment=sr.ReferencedSegmentationFrame(
        **segment,
        frame_number=1,  # see _finished
        source_image=image,
      ),
    )
  series = sr.SourceSeriesForSegmentation(sources[0].SeriesInstanceUID)
  return templates.VolumetricROIMeasurementsAndQualitativeEvaluations(
    **common,
    referenced_segment=sr.ReferencedSegment(**segment, source_series=series),
  )


def _summary(outcome):
  """How the analysis as a whole went, in DICOM's own words."""
  found = [_evaluation(_SUMMARY, _SUMMARIES[outcome['summary']])]
  if outcome['summary'] == 'abstained':
    found.append(_evaluation(_FINDING, _INDETERMINATE))
  return found


def _summary_group(outcome, identity, sources):
  """The group that says how the analysis as a whole went."""
  measures = None
  if outcome['certainty'] is not None:
    measures = [_certainty(outcome['certainty'])]
  return templates.MeasurementsAndQualitativeEvaluations(
    tracking_identifier=templates.TrackingIdentifier(
      uid=identity.tracking_of('summary'), identifier='summary'
    ),
    finding_type=CodedConcept(*_FINDING),
    algorithm_id=_algorithm(identity),
    qualitative_evaluations=_summary(outcome),
    measurements=measures,
    source_images=_images(sources),
  )


def _measure(measure):
  return templates.Measurement(
    name=CodedConcept(*_MEASURES[measure['name']]),
    value=measure['value'],
    unit=CodedConcept(*_UNITS[measure['unit']]),
  )


def _certainty(value):
  return templates.Measurement(
    name=CodedConcept(*_CERTAINTY),
    value=round(value, 4),
    unit=CodedConcept(*_PERCENT),
  )


def _evaluation(name, value):
  return templates.QualitativeEvaluation(
    CodedConcept(*name), CodedConcept(*value)
  )


def _images(sources):
  return [
    sr.SourceImageForMeasurementGroup(d.SOPClassUID, d.SOPInstanceUID)
    for d in sources
  ]


def predecessor_of(data):
  """What of a report, as bytes, the next one needs to name it."""
  return pydicom.dcmread(io.BytesIO(data))


def device(model_digest):
  """The UID of a model as the observer of a report."""
  return uids.uid('device', model_digest)
