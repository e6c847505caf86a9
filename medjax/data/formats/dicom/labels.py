"""Structures as a label map, by name: `read_labels(path, reference)`."""

import numpy as np

from medjax.data.formats.dicom import header
from medjax.data.formats.dicom.errors import DicomError, parsing
from medjax.data.formats.dicom.masks import read_segmentation, single
from medjax.data.formats.dicom.segments import classes_of
from medjax.data.formats.volume import Volume


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

  As their file has them, in its order; from the header alone.
  """
  path = single(path)
  dataset = header.load(path, pixels=False)
  with parsing(path):
    names = [
      str(item.get(keyword) or '').strip() or default
      for sequence, keyword, default in (
        ('StructureSetROISequence', 'ROIName', 'structure'),
        ('SegmentSequence', 'SegmentLabel', 'segment'),
      )
      for item in dataset.get(sequence) or ()
      if item.get('SegmentNumber') != 0  # the background of a label map
    ]
  return list(dict.fromkeys(names))
