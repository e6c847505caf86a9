"""The files of one series as one volume: `read_whole(series, where)`."""

import filecmp

import numpy as np

from medjax.data.formats.dicom import assemble, header, pixels
from medjax.data.formats.dicom.errors import DicomError
from medjax.data.formats.dicom.frames import frame_count, frames_of
from medjax.data.formats.dicom.pet import suv_factor
from medjax.data.formats.dicom.single import read_file
from medjax.data.formats.dicom.stack import stack
from medjax.data.formats.volume import Volume


def read_whole(series, where, *, voi, suv):
  """The `Volume` of a `Series`; `where` names it in errors."""
  files, headers, copies = distinct(series)
  counts = [frame_count(d, p) for p, d in zip(files, headers, strict=True)]
  if len(files) == 1:
    alone = counts[0] > 1 or not headers[0].get('ImagePositionPatient')
    if alone:
      return read_file(files[0], voi=voi, suv=suv)
  if max(counts) > 1:
    raise DicomError(
      f'{where}: {len(files)} files, some of several frames, in one series; '
      'read them one by one'
    )
  frames = [
    frame
    for path, dataset in zip(files, headers, strict=True)
    for frame in frames_of(dataset, path)
  ]
  samples = _check_alike(headers, where)
  ordered, affine, notes = stack(frames, where)
  kinds = {
    pixels.stored_dtype(d, p) for p, d in zip(files, headers, strict=True)
  }
  rows, columns = ordered[0].size
  shape = (len(ordered), rows, columns, samples)
  datasets = {}

  def planes():
    for frame in ordered:
      dataset = header.load(frame.path)
      datasets.setdefault('first', dataset)
      plane = pixels.stored(dataset, frame.path)[0]
      if plane.shape != shape[1:]:
        raise DicomError(
          f'{frame.path}: has {plane.shape[-1]} channels, others '
          f'{shape[-1]}; separate them'
        )
      if frame.table:
        plane = pixels.through_table(plane, dataset, frame.path)
      yield plane

  array, more = assemble.voxels(
    planes(), ordered, shape, np.result_type(*kinds)
  )
  dataset = datasets['first']
  if suv:
    factor = suv_factor(dataset, ordered[0].path, series=headers)
    array = (array * factor).astype(np.float32)
  window = pixels.window_of(dataset, ordered[0].path)
  notes = (
    *series.notes,
    *notes,
    *more,
    *copies,
    *assemble.remarks(dataset, ordered[0].path),
  )
  meta = assemble.meta(dataset, 'mm', window, notes)
  return Volume(array, affine, series.modality, meta)


def _check_alike(headers, where):
  """How many samples a pixel has; refuses what cannot be one image.

  Positions in two frames of reference cannot be compared, and slices that are
  bright where others are dark have no common values.
  """
  samples = {int(d.get('SamplesPerPixel') or 1) for d in headers}
  if len(samples) > 1:
    raise DicomError(f'{where}: grey and colour in one series; separate them')
  frames = {str(d.get('FrameOfReferenceUID') or '').strip() for d in headers}
  if len(frames - {''}) > 1:
    raise DicomError(
      f'{where}: images of {len(frames - {""})} frames of reference in one '
      'series, so their places cannot be compared; separate them'
    )
  kinds = {str(d.get('PhotometricInterpretation') or '') for d in headers}
  if {'MONOCHROME1', 'MONOCHROME2'} <= kinds:
    raise DicomError(
      f'{where}: MONOCHROME1 and MONOCHROME2 in one series; separate them'
    )
  return samples.pop()


def distinct(series):
  """Files and headers without copies of a file, and a note of how many."""
  kept, notes = {}, 0
  for path, dataset in zip(series.files, series.headers, strict=True):
    uid = str(dataset.get('SOPInstanceUID') or path)
    if uid in kept and filecmp.cmp(path, kept[uid][0], shallow=False):
      notes += 1
      continue
    key = uid if uid not in kept else f'{uid} {path}'
    kept[key] = (path, dataset)
  files, headers = zip(*kept.values(), strict=True)
  return files, headers, [f'{notes} copies of files left out'] if notes else []
