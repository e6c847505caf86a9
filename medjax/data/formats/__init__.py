"""Medical image files: `read(path) → Volume`, `write(path, array, affine)`.

A format is a module with SUFFIXES, `matches(head)`, `read(path)` and, unless it
is read-only, `write(path, array, affine)`, and one entry in `_FORMATS`. DICOM,
the only one whose images may be folders, has a package of its own.
"""

import contextlib
import os
import pathlib
import stat

import numpy as np

from medjax.data.formats import (
  arrays,
  dicom,
  dicom_headers,
  image,
  labels,
  metaimage,
  mgh,
  nifti,
  nrrd,
  tiff,
)
from medjax.data.formats.dicom import (
  TISSUE,
  Identity,
  patient,
  read_labels,
  take_patient,
)
from medjax.data.formats.dicom.segments import plain as plain_name
from medjax.data.formats.dicom.segments import told_apart
from medjax.data.formats.volume import (
  Volume,
  check_finite,
  is_invertible,
  spacing_of,
)

__all__ = [
  'COMPANIONS',
  'SUFFIXES',
  'TISSUE',
  'Identity',
  'Volume',
  'check_finite',
  'dicom_images',
  'holds_image',
  'is_dicom',
  'is_image',
  'is_invertible',
  'is_segmentation',
  'label_map',
  'patient_digest',
  'patient_of',
  'picture_form',
  'plain_name',
  'read',
  'read_labels',
  'read_mask',
  'read_segmentation',
  'segment_names',
  'spacing_of',
  'take_patient',
  'told_apart',
  'write',
  'write_segmentation',
]

_FORMATS = (dicom, nifti, nrrd, metaimage, mgh, arrays, tiff, image)
SUFFIXES = tuple(s for module in _FORMATS for s in module.SUFFIXES)
_KNOWN = frozenset(SUFFIXES)
# Files that belong to another, which names them or is called alike.
COMPANIONS = ('.img', '.img.gz', '.raw', '.zraw', '.raw.gz')
_PICTURES = ('image', 'array')  # whose values may be greys


def suffix(path):
  """The suffix that names a format ('.nii.gz' counts as one), or ''."""
  parts = os.path.basename(path).lower().split('.')
  for count in (2, 1):
    ending = '.' + '.'.join(parts[-count:])
    if len(parts) > count and ending in _KNOWN:
      return ending
  return ''


def stem(path):
  """A file's name without its format's suffix."""
  name = os.path.basename(path)
  return name[: len(name) - len(suffix(name))]


def read(path):
  """Reads one image: a file, or the folder of a DICOM series.

  Returns a `Volume`: array (*spatial, C), affine in mm (RAS), modality, meta.
  Raises FileNotFoundError if there is none, ValueError naming the file for an
  empty or damaged file, an unknown format, NaN voxels or a degenerate affine.
  """
  path = pathlib.Path(path)
  return _read(_module(path), path)


def read_mask(path, *, ignore=None, values=()):
  """Reads a label map: a `Volume` whose array is (*spatial,) integers.

  A palette's indices are the classes where black is the first, two greys or 0
  and 255 (65535, …) are 0 and 1, three equal channels count as one, an alpha
  channel that is all there is counts as the mask. Floats must be whole numbers.
  `ignore` is a value that stays; `values` {value: class} decides by itself.
  What was taken for what is in `meta['notes']`, names of labels that the file
  gives in `meta['segments']` {label: name}, the brighter of a picture's two
  greys in `meta['bright']`.
  """
  path = pathlib.Path(path)
  module = _module(path)
  options = {'labels': True} if module in (image, tiff, arrays) else {}
  volume = _read(module, path, **options)
  if 'layers' in volume.meta:
    return _segments(path, volume)
  array = volume.array
  if not all(
    np.array_equal(array[..., 0], array[..., c])
    for c in range(1, array.shape[-1])
  ):
    raise ValueError(
      f'{path}: a label map has one channel, not {array.shape[-1]} that '
      'differ; save class indices'
    )
  array, meta = array[..., 0], volume.meta
  picture, lossy = meta.get('format') in _PICTURES, meta.get('lossy', False)
  found, notes = labels.settled(
    array, path, picture=picture, lossy=lossy, ignore=ignore, values=values
  )
  if notes:
    meta = {**meta, 'notes': (*meta.get('notes', ()), *notes)}
  if picture and not lossy and not values:
    bright = labels.brightest(array, found, ignore)
    meta = {**meta, 'bright': bright} if bright else meta
  return Volume(found, volume.affine, 'label', meta)


def _segments(path, volume):
  """The label map of a file that names its segments and where they are."""
  layers = volume.meta['layers']
  last = volume.array.shape[-1]
  if any(layer >= last for _, layer, _ in layers):
    raise ValueError(f'{path}: names a layer that it lacks; save it again')
  if last == 1:
    segments = {value: name for name, _, value in layers}
    array = volume.array[..., 0]
  else:
    segments = {i: name for i, (name, _, _) in enumerate(layers, start=1)}
    names = told_apart(segments, 'segment')
    pairs = zip(names.values(), layers, strict=True)
    try:
      array, _ = label_map(
        {n: volume.array[..., at] == value for n, (_, at, value) in pairs}
      )
    except ValueError as e:
      raise ValueError(f'{path}: {e}') from None
  array, _ = labels.settled(array, path)
  meta = {**volume.meta, 'segments': segments}
  return Volume(array, volume.affine, 'label', meta)


def segment_names(path):
  """The names of the structures in a file, by its header; () if unnamed.

  Those of a DICOM SEG or RTSTRUCT and of Slicer's .seg.nrrd.
  """
  path = pathlib.Path(path)
  module = _module(path)
  if module is nrrd:
    return tuple(dict.fromkeys(name for name, _, _ in nrrd.segments_of(path)))
  if module is dicom and is_segmentation(path):
    return tuple(dicom.segment_names(path))
  return ()


def is_image(path):
  """Whether a path looks like an image: by suffix, or a DICOM folder."""
  if os.path.basename(path).startswith('.'):  # ._x beside x, of macOS
    return False
  return (
    dicom.is_series_folder(path) if os.path.isdir(path) else bool(suffix(path))
  )


def dicom_images(folder):
  """The images that the DICOM files in a folder are: itself, files, or none."""
  return dicom_headers.images_of(folder)


def picture_form(path):
  """(channels, bits) of a picture, by its header; None if unknown."""
  return image.form_of(path)


def holds_image(path):
  """Whether the DICOM of a file or folder is an image, by its header."""
  return patient.holds_image(path)


def patient_of(path):
  """The patient of a DICOM file or folder, as `patient_digest` of its id."""
  if _module(path) is not dicom:
    raise ValueError(f'{path}: is no DICOM, so it has no PatientID')
  return patient.patient_of(path)


def patient_digest(text):
  """A digest of a patient's id, to compare ids without keeping them."""
  return patient.digest(text)


def is_dicom(path):
  """Whether a path is a DICOM file, or a folder that holds one."""
  path = pathlib.Path(path)
  return dicom.is_series_folder(path) or dicom.is_dicom(path)


def is_segmentation(path):
  """Whether a path is DICOM whose masks need an image's grid."""
  return dicom.is_segmentation(path)


def read_segmentation(path, reference):
  """{name: mask (*spatial,) bool} of a DICOM SEG or RTSTRUCT.

  `reference` is the `Volume` whose grid the masks are put on.
  """
  return dicom.read_segmentation(path, reference)


def label_map(masks):
  """{name: mask} as one label map (*spatial,) and its class names.

  Class 0 is the background, the others follow the order of `masks`. Raises
  ValueError where masks overlap: a label map cannot hold both.
  """
  names = ('background', *masks)
  labels = None
  for index, (name, mask) in enumerate(masks.items(), start=1):
    if labels is None:
      labels = np.zeros(mask.shape, np.uint8 if len(names) < 257 else np.uint16)
    both = np.unique(labels[mask])
    if both.any():
      raise ValueError(
        f'masks {names[both[both > 0][0]]!r} and {name!r} overlap; keep them '
        'apart'
      )
    labels[mask] = index
  return labels, names


def write(path, array, affine):
  """Writes voxels (*spatial[, C]) so that a reader never sees half a file.

  `affine` (n+1, n+1) is voxel → mm, RAS. NIfTI keeps it; PNG cannot.
  """
  path = pathlib.Path(path)
  ending = suffix(path)
  for module in _FORMATS:
    if ending in module.SUFFIXES:
      break
  else:
    raise ValueError(f'{path}: cannot write this format; use .nii.gz or .png')
  if not hasattr(module, 'write'):
    raise ValueError(f'{path}: {ending} is only read; write .nii.gz')
  with _whole(path) as partial:
    module.write(partial, array, affine)


def write_segmentation(path, labels, source, *, class_names, identity=None):
  """Writes a label map (*spatial,) as a DICOM SEG (.dcm), whole or not at all.

  source: the DICOM file or folder whose grid (that of `read`) the labels have;
  the SEG refers to it. class_names: background first. identity: an `Identity`,
  by which the same labels give the same bytes.
  """
  path = pathlib.Path(path)
  if suffix(path) not in dicom.SUFFIXES:
    raise ValueError(f'{path}: a DICOM SEG is called .dcm')
  with _whole(path) as partial:
    dicom.write_segmentation(
      partial, labels, source, class_names=class_names, identity=identity
    )


@contextlib.contextmanager
def _whole(path):
  """A place to write to, which becomes `path` if all goes well."""
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f'.partial-{os.getpid()}-{path.name}')
  try:
    yield partial
    os.replace(partial, path)
  except ValueError as e:
    raise ValueError(str(e).replace(str(partial), str(path))) from None
  finally:
    partial.unlink(missing_ok=True)


def _module(path):
  try:
    mode = os.stat(path).st_mode
  except FileNotFoundError:
    raise FileNotFoundError(f'{path}: no such file') from None
  if stat.S_ISDIR(mode):
    if path.suffix.lower() == '.zarr':
      raise ValueError(
        f'{path}: is OME-Zarr, which is not read; save it as OME-TIFF or NIfTI'
      )
    return dicom
  if not stat.S_ISREG(mode):  # a pipe would keep its reader waiting
    raise ValueError(f'{path}: is no regular file')
  with open(path, 'rb', buffering=0) as f:
    head = f.read(352)
  if not head:
    raise ValueError(f'{path}: the file is empty; copy it again')
  if dicom.matches(head):  # its files often have no suffix, or another's
    return dicom
  known = suffix(path)
  if path.name.lower().endswith(('.img', '.img.gz')):
    known = '.hdr'
  for module in _FORMATS:
    if known in module.SUFFIXES:
      return module
  for module in _FORMATS:
    if module.matches(head):
      return module
  raise ValueError(f'{path}: unknown format; known: {", ".join(SUFFIXES)}')


def _read(module, path, **options):
  """Reads, and refuses what no format's reader may return."""
  try:
    with np.errstate(all='ignore'):  # of numbers that are refused below
      volume = module.read(path, **options)
  except MemoryError:
    raise ValueError(
      f'{path}: does not fit into memory; crop or resample it elsewhere'
    ) from None
  array, affine = volume.array, volume.affine
  if array.size == 0:
    raise ValueError(
      f'{path}: has shape {array.shape}, so no voxels; export it again'
    )
  check_finite(path, array)
  if volume.meta.get('unit') != 'pixel' and not is_invertible(affine):
    raise ValueError(
      f'{path}: its affine cannot be inverted (a voxel size of 0?); mend the '
      'header'
    )
  return volume
