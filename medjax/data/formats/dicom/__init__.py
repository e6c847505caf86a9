"""DICOM images: `read(path) → Volume` for a file or the folder of a series.

A folder, or a multi-frame file with positions, becomes a volume with axes
(column, row, slice), as ITK and NIfTI count them; slices are sorted by position
along their normal. A file of one frame becomes a picture with axes (row,
column), as PNG does; where the frame lies is in `meta['affine']`.

What is refused, with one ValueError: damaged or absent pixels, several series,
mixed sizes, orientations, frames of reference or pixel spacings, mosaics, two
images at one place, missing or unevenly spaced slices, images without a place.
What is applied or assumed is said in `meta['notes']`: rescaling that varies,
look-up tables, gantry tilt, rounded positions, distances that the header does
not state, copies of a file, MONOCHROME1.

`meta` holds codes and numbers of the acquisition, and nothing that identifies:
no name, id, date, age, sex, free text or UID (see header.facts).
"""

import pathlib

from medjax.data.formats.dicom.errors import DicomError, quiet
from medjax.data.formats.dicom.find import (
  NoImagesError,
  Series,
  is_dicom,
  is_series_folder,
  list_series,
  series_of,
)
from medjax.data.formats.dicom.header import SUFFIXES, matches
from medjax.data.formats.dicom.labels import (
  class_names_of,
  read_labels,
  segment_names,
)
from medjax.data.formats.dicom.masks import is_segmentation, read_segmentation
from medjax.data.formats.dicom.pet import suv_factor
from medjax.data.formats.dicom.series import read_whole
from medjax.data.formats.dicom.single import read_file
from medjax.data.formats.dicom.write import (
  TISSUE,
  Identity,
  take_patient,
  write_segmentation,
)

__all__ = [
  'SUFFIXES',
  'TISSUE',
  'Identity',
  'NoImagesError',
  'Series',
  'class_names_of',
  'is_dicom',
  'is_segmentation',
  'is_series_folder',
  'list_series',
  'matches',
  'read',
  'read_files',
  'read_labels',
  'read_segmentation',
  'read_series',
  'segment_names',
  'series_of',
  'suv_factor',
  'take_patient',
  'write_segmentation',
]


@quiet()
def read_series(folder, *, voi=False, suv=False):
  """{series uid: Volume} of all image series below a folder."""
  return {
    s.uid: read_whole(s, folder, voi=voi, suv=suv and s.modality == 'PT')
    for s in list_series(folder)
  }


@quiet()
def read(path, *, series=None, voi=False, suv=False):
  """Reads a file, or the one series in a folder; `series`: its uid.

  Args:
    path: a DICOM file, or a folder (looked through with its subfolders).
    series: which series of the folder, by uid.
    voi: pictures: apply the VOI look-up table or window.
    suv: PET: values as body-weight SUV (see `suv_factor`).

  Values are rescaled (Hounsfield units, Bq/mL, …); integers stay integers
  where slope and intercept are whole. Raises ValueError, FileNotFoundError.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    return read_file(path, voi=voi, suv=suv)
  found = list_series(path)
  if series is not None:
    chosen = [s for s in found if s.uid == series]
    if not chosen:
      shared = [s.uid for s in found if s.uid.startswith(f'{series}#')]
      hint = f', but several of that uid; say {shared[0]}' if shared else ''
      raise DicomError(f'{path}: has no series {series}{hint}')
  elif len(found) > 1:
    listed = '; '.join(map(str, found[:8]))
    more = f'; and {len(found) - 8} more' if len(found) > 8 else ''
    raise DicomError(
      f'{path}: holds {len(found)} series ({listed}{more}); give the folder '
      'of one, or read(path, series=uid)'
    )
  else:
    chosen = found
  return read_whole(chosen[0], path, voi=voi, suv=suv)


@quiet()
def read_files(files, *, voi=False, suv=False):
  """Reads the files of one series, as `read` does those of a folder.

  Raises ValueError where they are of several series.
  """
  files = [pathlib.Path(f) for f in files]
  where = files[0] if len(files) == 1 else files[0].parent
  found = series_of(files, where)
  if len(found) > 1:
    raise DicomError(
      f'{where}: {len(found)} series among {len(files)} files; read them one '
      'by one'
    )
  return read_whole(found[0], where, voi=voi, suv=suv)
