"""DICOM headers: opened with care, read by keyword, never quoted.

Error lines and `facts` hold nothing about the patient: no names, ids, dates,
ages, free text or UIDs. A frame of reference is compared by a digest.
"""

import contextlib
import hashlib
import math
import pathlib
import zlib

import pydicom
from pydicom.uid import UID

from medjax.data.formats.dicom.errors import DicomError, parsing

SUFFIXES = ('.dcm', '.dicom', '.ima')
# Objects without pixels of their own, or whose pixels are no picture.
NOT_IMAGES = frozenset(
  ('ANN', 'AU', 'DOC', 'ECG', 'HC', 'KO', 'M3D', 'PLAN', 'PR', 'REG', 'RTPLAN',
   'RTRECORD', 'RTSTRUCT', 'RWV', 'SEG', 'SMR', 'SR', 'STAIN')
)  # fmt: skip
# What goes into a Volume's meta. Codes and numbers of the acquisition only;
# SeriesDescription, ProtocolName and the like are free text that may name the
# patient (PS3.15 table E.1-1 removes or cleans them).
_CODES = {
  'manufacturer': 'Manufacturer',
  'model': 'ManufacturerModelName',
  'image_type': 'ImageType',
  'body_part': 'BodyPartExamined',
  'laterality': 'ImageLaterality',
  'view': 'ViewPosition',
  'patient_position': 'PatientPosition',
  'photometric': 'PhotometricInterpretation',
  'kernel': 'ConvolutionKernel',
  'scanning_sequence': 'ScanningSequence',
  'units': 'Units',
  'rescale_type': 'RescaleType',
  'lossy': 'LossyImageCompression',
}
_NUMBERS = {
  'slice_thickness': 'SliceThickness',
  'kvp': 'KVP',
  'field_strength': 'MagneticFieldStrength',
  'echo_time': 'EchoTime',
  'repetition_time': 'RepetitionTime',
  'inversion_time': 'InversionTime',
  'flip_angle': 'FlipAngle',
}
# Read at once when a file is opened, so that damage shows there: later uses of
# these may rely on them.
_ESSENTIAL = (
  'SOPClassUID', 'SOPInstanceUID', 'SeriesInstanceUID', 'SeriesNumber',
  'Modality', 'Rows', 'Columns', 'NumberOfFrames', 'SamplesPerPixel',
  'BitsAllocated', 'BitsStored', 'HighBit', 'PixelRepresentation',
  'PhotometricInterpretation', 'PlanarConfiguration', 'FrameOfReferenceUID',
  'ImagePositionPatient', 'ImageOrientationPatient', 'PixelSpacing',
  'RescaleSlope', 'RescaleIntercept', 'GridFrameOffsetVector',
  'SharedFunctionalGroupsSequence', 'PerFrameFunctionalGroupsSequence',
  'SegmentationType', 'SegmentSequence', 'StructureSetROISequence',
  'ROIContourSequence', 'ReferencedFrameOfReferenceSequence',
)  # fmt: skip
_DIRECTORY = '1.2.840.10008.1.3.10'
_DEFLATED = b'1.2.840.10008.1.2.1.99'
_INFLATED_LIMIT = 2**26  # bytes that a deflated file may hold …
_INFLATED_RATIO = 100  # … unless it is at most this much smaller


def matches(head):
  """Whether the first bytes of a file are those of DICOM."""
  return head[128:132] == b'DICM'


def load(path, *, pixels=True, tags=None):
  """The data set of a file, whole or (`pixels=False`) without its pixels.

  `tags` are the keywords to keep. Raises ValueError unless the file is DICOM;
  one without the preamble is believed if its suffix says so.
  """
  path = pathlib.Path(path)
  with path.open('rb') as f:
    head = f.read(4096)
  if not head:
    raise DicomError(f'{path}: the file is empty; copy it again')
  named = path.name.lower().endswith(SUFFIXES)
  if not matches(head) and not named:
    raise DicomError(f'{path}: not a DICOM file')
  with parsing(path):
    if _DEFLATED in head:
      _check_inflated(path, head)
    dataset = pydicom.dcmread(
      path,
      force=not matches(head),
      stop_before_pixels=not pixels,
      specific_tags=tags,
    )
    if is_directory(dataset):
      return dataset
    if 'SOPClassUID' not in dataset and 'Rows' not in dataset:
      raise DicomError(
        f'{path}: not a DICOM file, or cut off in its header; copy it again'
      )
    _settle_syntax(dataset)
    for keyword in _ESSENTIAL:
      dataset.get(keyword)
  return dataset


def is_directory(dataset):
  """Whether it is a DICOMDIR, which only lists the files of a medium.

  Its class stands in its file meta alone (PS3.10, 8.6).
  """
  meta = getattr(dataset, 'file_meta', None)
  own = dataset.get('SOPClassUID')
  return _DIRECTORY in (own, meta and meta.get('MediaStorageSOPClassUID'))


def are_words(dataset):
  """Whether pixels are stored as words, of which HighBit says the bits used."""
  syntax = dataset.file_meta.TransferSyntaxUID
  return not syntax.is_encapsulated or syntax == pydicom.uid.RLELossless


def numbers(dataset, keyword, count, path, *, default=None):
  """The `count` finite numbers of an element; `default` where it is absent."""
  with parsing(path):
    value = dataset.get(keyword)
  if value is None or value == '':
    return default
  try:
    values = tuple(float(v) for v in value)
  except TypeError:
    try:
      values = (float(value),)
    except (TypeError, ValueError):
      values = ()
  except ValueError:
    values = ()
  if len(values) != count or not all(map(math.isfinite, values)):
    many = 'a number' if count == 1 else f'{count} numbers'
    raise DicomError(f'{path}: {keyword} is not {many}; mend the header')
  return values


def number(dataset, keyword, path, *, default=None):
  """The one finite number of an element; `default` where it is absent."""
  values = numbers(dataset, keyword, 1, path)
  return default if values is None else values[0]


def first(sequence):
  """The first item of a sequence, or an empty data set."""
  return sequence[0] if sequence else pydicom.Dataset()


def digest(uid):
  """A short one-way digest of a UID, for comparison; '' for none."""
  text = str(uid or '').strip()
  if not text:
    return ''
  return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def facts(dataset):
  """What may be told of an image: codes and numbers, nothing identifying."""
  found = {}
  for name, keyword in _CODES.items():
    with contextlib.suppress(Exception):  # what is damaged is no fact
      value = dataset.get(keyword)
      if isinstance(value, pydicom.multival.MultiValue):
        found[name] = tuple(str(v) for v in value)
      elif value:
        found[name] = str(value)
  for name, keyword in _NUMBERS.items():
    with contextlib.suppress(DicomError):
      value = number(dataset, keyword, '')
      if value is not None:
        found[name] = value
  if 'lossy' in found:
    found['lossy'] = found['lossy'] == '01'
  frame = digest(dataset.get('FrameOfReferenceUID'))
  if frame:
    found['frame_of_reference'] = frame
  return found


def modality_of(dataset):
  """'CT', 'MR', …: the code, or '' where it is missing or no code."""
  code = str(dataset.get('Modality') or '').strip().upper()
  return code if code.isascii() and code.isalnum() and len(code) <= 16 else ''


def _settle_syntax(dataset):
  """Old files state no transfer syntax: it is what pydicom read them as."""
  if not hasattr(dataset, 'file_meta'):
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
  if dataset.file_meta.get('TransferSyntaxUID'):
    return
  implicit, little = dataset.original_encoding
  if implicit:
    syntax = pydicom.uid.ImplicitVRLittleEndian
  elif little:
    syntax = pydicom.uid.ExplicitVRLittleEndian
  else:
    syntax = pydicom.uid.ExplicitVRBigEndian
  dataset.file_meta.TransferSyntaxUID = UID(syntax)


def _check_inflated(path, head):
  """Refuses a deflated file that would fill the memory."""
  limit = max(_INFLATED_LIMIT, _INFLATED_RATIO * path.stat().st_size)
  if head[132:138] != b'\x02\0\0\0UL':
    raise DicomError(f'{path}: damaged DICOM header; copy it again')
  inflate = zlib.decompressobj(-zlib.MAX_WBITS)
  size, pending = 0, b''
  with path.open('rb') as f:
    f.seek(144 + int.from_bytes(head[140:144], 'little'))
    while size <= limit:
      pending = pending or f.read(2**16)
      if not pending:
        return
      size += len(inflate.decompress(pending, 2**22))
      pending = inflate.unconsumed_tail
  raise DicomError(
    f'{path}: inflates to more than {limit >> 20} MiB; save it in '
    'another transfer syntax'
  )
