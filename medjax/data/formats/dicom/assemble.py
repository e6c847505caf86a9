"""Decoded planes become voxels, headers become `meta`."""

import numpy as np

from medjax.data.formats.dicom import header, lut, pixels
from medjax.data.formats.dicom.errors import parsing


def voxels(planes, frames, shape, stored):
  """Rescaled planes as (column, row, slice, C), and notes.

  Filled slice by slice, so that only one decoded slice is held beside it.
  """
  slopes = [1.0 if f.table else f.slope for f in frames]
  intercepts = [0.0 if f.table else f.intercept for f in frames]
  if any(f.table for f in frames):
    stored = np.result_type(stored, np.uint16)
  dtype = pixels.rescaled_dtype(stored, slopes, intercepts)
  array = None
  for k, values in enumerate(planes):
    if array is None:  # after the first is decoded: a header may lie
      array = np.empty(shape, dtype)
    array[k] = pixels.rescale(values, slopes[k], intercepts[k], dtype)
  notes = []
  if len(set(zip(slopes, intercepts, strict=True))) > 1:
    spread = [
      f'{name} {min(values):g} to {max(values):g}'
      for name, values in (('slope', slopes), ('intercept', intercepts))
      if min(values) < max(values)
    ]
    notes.append(f'rescaled slice by slice: {", ".join(spread)}')
  return pixels.shrink(array).transpose(2, 1, 0, 3), notes


def meta(dataset, unit, window, notes):
  """A `Volume`'s meta: facts of the header, the window if any, and notes."""
  found = {'format': 'dicom', 'unit': unit, **header.facts(dataset)}
  if window:
    found['window'] = window
  found['notes'] = tuple(notes)
  return found


def remarks(dataset, path):
  """Notes of a volume's first file: low values are bright; an odd palette."""
  notes = []
  if pixels.inverted(dataset):
    notes.append('MONOCHROME1: values are as stored; low is bright')
  return [*notes, *palette_notes(dataset, path)]


def palette_notes(dataset, path):
  """What is odd about the palette of a picture that has one."""
  if dataset.get('PhotometricInterpretation') != 'PALETTE COLOR':
    return ()
  with parsing(path, 'palette'):
    return lut.palette_notes(dataset)
