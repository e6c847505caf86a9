"""What the structures in a DICOM SEG or RTSTRUCT are called, by the header."""

import collections

from medjax.data.formats.dicom import header
from medjax.data.formats.dicom.errors import parsing

_TAGS = [
  'SOPClassUID',
  'Modality',
  'SegmentSequence',
  'StructureSetROISequence',
]


def names_of(path):
  """The names, as `read_segmentation` gives them: distinct, in order."""
  dataset = header.load(path, pixels=False, tags=_TAGS)
  with parsing(path):
    if header.modality_of(dataset) == 'RTSTRUCT':
      kind = 'structure'
      found = {
        int(r.ROINumber): str(r.get('ROIName') or '').strip()
        for r in dataset.get('StructureSetROISequence') or ()
      }
    else:
      kind = 'segment'
      found = {
        int(s.SegmentNumber): str(s.get('SegmentLabel') or '').strip()
        for s in dataset.get('SegmentSequence') or ()
      }
      found.pop(0, None)  # the background of a label map
  counts = collections.Counter(found.values())
  return tuple(
    name if name and counts[name] == 1 else f'{name or kind} {number}'
    for number, name in found.items()
  )
