"""The objects that an analysis becomes: a DICOM SEG and an SR, as bytes.

They are a function of the images and the model: made again, on this machine or
another, they are the same bytes with the same UIDs. So their dates are those of
the images; when they were really made is in the audit log.
"""

import dataclasses
import datetime
import io
import pathlib
import tempfile

import pydicom

from medjax.data import formats
from medjax.service import outcome, report, uids

TEMPLATE = '3'  # changes whenever the same inputs give other bytes
_TAKEN = (
  'SOPClassUID', 'SOPInstanceUID', 'StudyInstanceUID', 'SeriesInstanceUID',
  'Modality', 'SeriesNumber', 'Rows', 'Columns', 'SpecificCharacterSet',
)  # fmt: skip
_DATES = (
  ('AcquisitionDate', 'AcquisitionTime'), ('ContentDate', 'ContentTime'),
  ('SeriesDate', 'SeriesTime'), ('StudyDate', 'StudyTime'),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Identity:
  """UIDs, dates and names of the results of one job."""

  key: str
  algorithm: tuple[str, str]
  device: str
  moment: datetime.datetime
  number: int

  @property
  def seg(self):
    """The UID of the segmentation."""
    return uids.uid('seg', self.key)

  @property
  def seg_series(self):
    """That of its series."""
    return uids.uid('seg series', self.key)

  @property
  def report(self):
    """The UID of the report."""
    return uids.uid('sr', self.key)

  @property
  def report_series(self):
    """That of its series."""
    return uids.uid('sr series', self.key)

  def tracking_of(self, name):
    """The UID by which a finding is followed."""
    return uids.uid('tracking', self.key, name)


def identity(inputs, model_name, model_digest, sources, *, facts, round_=0):
  """The `Identity` of the results of SOP Instance UIDs and a model.

  facts: of the model, as it was installed. round_: how often an administrator
  asked for it again after results.
  """
  key = uids.digest(
    'result',
    *sorted(inputs),
    uids.installed(model_digest, facts),
    TEMPLATE,
    *([round_] if round_ else ()),
  )
  # LO of 64 characters; a name of the user's is kept in them.
  return Identity(
    key=key,
    algorithm=(model_name[:64], model_digest[:16]),
    device=report.device(model_digest),
    moment=_moment(sources),
    number=_number(sources) + 100,
  )


def sources_of(paths):
  """Data sets of images with what results repeat of them, no pixels."""
  found = []
  for path in paths:
    d = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    kept = pydicom.Dataset()
    kept.file_meta = d.file_meta
    for keyword in (*_TAKEN, *(k for pair in _DATES for k in pair)):
      if keyword in d:
        kept[keyword] = d[keyword]
    formats.take_patient(kept, d)
    found.append(kept)
  return sorted(found, key=lambda d: str(d.SOPInstanceUID))


def _moment(sources):
  """The latest date of the images; the first day of 1970 of those without."""
  found = []
  for d in sources:
    for date, time in _DATES:
      day, moment = str(d.get(date) or ''), str(d.get(time) or '')
      try:
        text = f'{day}{(moment.partition(".")[0] + "000000")[:6]}'
        found.append(datetime.datetime.strptime(text, '%Y%m%d%H%M%S'))
      except ValueError:
        continue
  return max(found, default=datetime.datetime(1970, 1, 1))


def _number(sources):
  try:
    return min(max(int(sources[0].get('SeriesNumber') or 0), 0), 99999)
  except (TypeError, ValueError):
    return 0


def write_seg(labels, source, names, codes, identity_):
  """The bytes of a DICOM SEG of a label map, on the grid of `source`.

  names: of the segments, in order. codes: {name: (value, scheme, meaning)} of
  their types.
  """
  who = formats.Identity(
    uid=identity_.seg,
    series=identity_.seg_series,
    dimensions=uids.uid('dimensions', identity_.key),
    tracking=tuple(identity_.tracking_of(n) for n in names),
    moment=identity_.moment,
    algorithm=identity_.algorithm,
    codes=tuple((formats.TISSUE, _type(codes[n])) for n in names),
  )
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'seg.dcm'
    formats.write_segmentation(
      path, labels, source, class_names=('background', *names), identity=who
    )
    return path.read_bytes()


def _type(code):
  """A type of what is segmented: never 'a finding', which is no property."""
  return formats.TISSUE if code[0] == '121071' else tuple(code)


def rehearse():
  """Writes a report of no image: with the first, highdicom reads its tables."""
  d = pydicom.Dataset()
  d.file_meta = pydicom.dataset.FileMetaDataset()
  d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  d.SOPClassUID, d.Modality = pydicom.uid.MRImageStorage, 'MR'
  for k, level in enumerate(('SOPInstance', 'SeriesInstance', 'StudyInstance')):
    setattr(d, f'{level}UID', f'1.2.{k}')
  d.Rows = d.Columns = 1
  formats.take_patient(d, pydicom.Dataset())
  report.write(
    outcome.abstained('model failed', 'nothing was asked'),
    identity=identity([d.SOPInstanceUID], 'none', '0' * 64, [d], facts={}),
    sources=[d],
    seg=None,
  )


def read(data):
  """The data set of bytes."""
  return pydicom.dcmread(io.BytesIO(data))
