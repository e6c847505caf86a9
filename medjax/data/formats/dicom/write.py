"""Label maps as DICOM SEG: `write_segmentation(path, labels, source)`."""

import pathlib

import numpy as np
import pydicom

from medjax import __version__
from medjax.data.formats.dicom import header
from medjax.data.formats.dicom.errors import DicomError, quiet
from medjax.data.formats.dicom.find import list_series
from medjax.data.formats.dicom.frames import frames_of
from medjax.data.formats.dicom.series import distinct
from medjax.data.formats.dicom.stack import stack

# SNOMED CT codes of a segment's category and type: that it is tissue is all
# that a class name tells for sure.
_TISSUE = ('85756007', 'SCT', 'Tissue')


@quiet()
def write_segmentation(path, labels, source, *, class_names):
  """Writes a label map as a DICOM SEG that refers to its source images.

  labels: (*spatial,) on the grid of `read(source)`. source: the file, or the
  folder of the series, that was read. class_names: background first; segment k
  is called `class_names[k]`. The SEG repeats patient and study of its source,
  as the standard demands. Needs highdicom. Raises ValueError for labels off the
  grid or without a name, and sources that are no whole DICOM.
  """
  try:
    import highdicom as hd
  except ImportError:
    raise DicomError(
      f'{path}: writing a DICOM SEG needs highdicom; pip install medjax[dicom]'
    ) from None
  labels = np.asarray(labels)
  highest = int(labels.max())
  if highest >= len(class_names) or labels.min() < 0 or len(class_names) < 2:
    raise DicomError(
      f'{path}: labels go to {highest}, but there are {len(class_names)} '
      'classes'
    )
  datasets, array = _on_frames(labels, pathlib.Path(source))
  description = [_segment(hd, n, class_names[n])
                 for n in range(1, len(class_names))]  # fmt: skip
  try:
    number = int(datasets[0].get('SeriesNumber') or 0)
    seg = hd.seg.Segmentation(
      source_images=datasets,
      pixel_array=array.astype(np.uint8 if highest < 256 else np.uint16),
      segmentation_type='BINARY',
      segment_descriptions=description,
      series_instance_uid=pydicom.uid.generate_uid(),
      series_number=number + 100,
      sop_instance_uid=pydicom.uid.generate_uid(),
      instance_number=1,
      manufacturer='medjax',
      manufacturer_model_name='medjax',
      software_versions=__version__,
      device_serial_number='0',
      content_label='SEGMENTATION',
      series_description='Segmentation by medjax',
    )
    _drop_half_measures(seg)
    seg.save_as(path)
  except (AttributeError, KeyError, TypeError, ValueError) as e:
    # The text may quote the header.
    raise DicomError(
      f'{source}: its headers lack what a DICOM SEG repeats of its source '
      f'({type(e).__name__}); write .nii.gz'
    ) from None


def _drop_half_measures(seg):
  """Of an X-ray, which has no thickness; highdicom would not read it back."""
  shared = seg.SharedFunctionalGroupsSequence[0]
  for measures in shared.get('PixelMeasuresSequence') or ():
    if 'SliceThickness' not in measures:
      del shared.PixelMeasuresSequence


def _segment(hd, number, name):
  tissue = hd.sr.CodedConcept(*_TISSUE)
  return hd.seg.SegmentDescription(
    segment_number=number,
    segment_label=name[:64],
    segmented_property_category=tissue,
    segmented_property_type=tissue,
    algorithm_type='AUTOMATIC',
    algorithm_identification=hd.AlgorithmIdentificationSequence(
      name='medjax',
      family=hd.sr.CodedConcept('123110', 'DCM', 'Artificial Intelligence'),
      version=__version__,
    ),
  )


def _on_frames(labels, source):
  """The source's data sets, and labels (frames, rows, columns) in their order.

  The inverse of how `read` turns frames into voxels.
  """
  if source.is_dir():
    found = list_series(source)
    if len(found) > 1:
      raise DicomError(f'{source}: holds {len(found)} series; name one')
    files, _, _ = distinct(found[0])
  else:
    files = (source,)
  datasets = {f: header.load(f, pixels=False) for f in files}
  frames = [f for path, d in datasets.items() for f in frames_of(d, path)]
  if labels.ndim == 3:
    array = labels.transpose(2, 1, 0)
    if any(f.position for f in frames):
      frames, _, _ = stack(frames, source)
  else:
    array = labels[None]
  if array.shape != (len(frames), *frames[0].size):
    raise DicomError(
      f'{source}: has {len(frames)} frames of {frames[0].size}, the labels '
      f'{array.shape[0]} of {array.shape[1:]}; give the image they belong to'
    )
  if len(datasets) > 1:
    return [datasets[f.path] for f in frames], array
  order = np.argsort([f.index for f in frames])
  return list(datasets.values()), array[order]
