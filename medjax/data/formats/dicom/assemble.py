"""Decoded planes become voxels, headers become `meta`."""

import numpy as np

from medjax.data.formats.dicom import header, pixels


def voxels(planes, frames, shape, stored):
  """Rescaled planes as (column, row, slice, C), and notes.

  Filled slice by slice, so that only one decoded slice is held beside it.
  """
  slopes = [f.slope for f in frames]
  intercepts = [f.intercept for f in frames]
  dtype = pixels.rescaled_dtype(stored, slopes, intercepts)
  array = None
  for k, (values, frame) in enumerate(planes):
    if array is None:  # after the first is decoded: a header may lie
      array = np.empty(shape, dtype)
    array[k] = pixels.rescale(values, frame.slope, frame.intercept, dtype)
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


def shown_inverted(dataset):
  """A note that low values are bright in these pixels, if they are."""
  if pixels.inverted(dataset):
    return ['MONOCHROME1: values are as stored; low is bright']
  return []
