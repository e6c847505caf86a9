"""Structures as a label map, by name: `read_labels(path, reference)`."""

import collections
import re

import numpy as np

from medjax.data.formats.dicom import header, rtstruct, segmentation
from medjax.data.formats.dicom.errors import DicomError, parsing
from medjax.data.formats.dicom.masks import read_segmentation, single
from medjax.data.formats.dicom.segments import classes_of, plain
from medjax.data.formats.volume import Volume

_SAYS_NOTHING = re.compile(r'(segment|label|structure|roi)?[\s_-]*\d*', re.I)


def read_labels(path, reference, *, class_names=None, threshold=0.5):
  """Reads a DICOM SEG or RTSTRUCT as a label map on the grid of an image.

  class_names: background first; structures go by name (see
  `segments.classes_of`), those of no class become background. Without it they
  are numbered in the order of the file. Returns a `Volume` (*spatial,) whose
  `meta['segments']` is {label: name} and whose notes say what was left out.
  Raises ValueError as `read_segmentation` does, and where structures of two
  classes overlap.
  """
  masks = read_segmentation(path, reference, threshold=threshold)
  notes = masks.notes
  if class_names is None:
    class_names = ('background', *masks)
    index = {name: i for i, name in enumerate(masks, start=1)}
  else:
    index, more = classes_of(masks, class_names, path)
    notes += more
  shape = reference.array.shape[: len(reference.affine) - 1]
  labels = np.zeros(shape, np.uint8 if len(class_names) < 257 else np.uint16)
  for name, label in index.items():
    there = labels[masks[name]]
    other = there[(there > 0) & (there != label)]
    if other.size:
      raise DicomError(
        f'{path}: {class_names[other[0]]!r} and {name!r} overlap; a label map '
        'cannot hold both: keep them apart'
      )
    labels[masks[name]] = label
  meta = {
    'format': 'dicom',
    'unit': reference.meta.get('unit', 'mm'),
    'segments': {i: class_names[i] for i in sorted(set(index.values()))},
    'notes': notes,
  }
  return Volume(labels, reference.affine, 'label', meta)


def segment_names(path):
  """Names of the structures of an RTSTRUCT, or of the segments of a SEG.

  In the order of the file, from its header alone: the label, or, where that
  says nothing ('Segment 1') and a coded meaning does, the coded meaning.
  """
  path = single(path)
  tags = [
    'SOPClassUID', 'Modality', 'SegmentSequence', 'StructureSetROISequence',
    'RTROIObservationsSequence',
  ]  # fmt: skip
  dataset = header.load(path, pixels=False, tags=tags)
  with parsing(path):
    labels, codes, default = (
      (*rtstruct.labels_of(dataset), 'structure')
      if 'StructureSetROISequence' in dataset
      else (*segmentation.labels_of(dataset), 'segment')
    )
  shared = collections.Counter(codes.values())
  names = []
  for number, label in labels.items():
    code = codes.get(number, '')
    if code and shared[code] == 1 and _SAYS_NOTHING.fullmatch(label):
      label = code
    names.append(label or default)
  return list(dict.fromkeys(names))


def class_names_of(paths):
  """('background', …): the structures of several files, in order of names.

  Names that differ by case, blanks or underscores only are one class.
  """
  found = {}
  for name in sorted(n for path in paths for n in segment_names(path)):
    found.setdefault(plain(name), name)
  return ('background', *(found[k] for k in sorted(found)))
