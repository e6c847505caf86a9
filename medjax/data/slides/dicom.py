"""Whole slides in DICOM: a file for each level, in tiles (PS3.3 C.8.12.4)."""

import functools

from medjax.data import walk
from medjax.data.formats.dicom import header, pixels
from medjax.data.formats.dicom.errors import DicomError, parsing, quiet
from medjax.data.slides.level import Level

_SLIDE = '1.2.840.10008.5.1.4.1.1.77.1.6'
_HELD = 64  # decoded tiles of a level
_TAGS = (
  'SOPClassUID', 'SeriesInstanceUID', 'ImageType', 'TotalPixelMatrixRows',
  'TotalPixelMatrixColumns', 'TotalPixelMatrixFocalPlanes',
  'NumberOfOpticalPaths', 'ConcatenationUID', 'Rows', 'Columns',
  'NumberOfFrames', 'DimensionOrganizationType',
  'PhotometricInterpretation', 'SharedFunctionalGroupsSequence',
  'PerFrameFunctionalGroupsSequence',
)  # fmt: skip


def is_slide(path):
  """Whether a file is a level of a slide."""
  try:
    return header.load(path, tags=['SOPClassUID'])['SOPClassUID'].value == (
      _SLIDE
    )
  except (ValueError, KeyError):
    return False


@quiet()
def levels(path):
  """The `Level`s of the series that a file is of, the finest first.

  Those in its folder; of a folder, all below it. Label, overview and
  thumbnail are no levels.
  """
  folder = path if path.is_dir() else path.parent
  files = walk.files_below(folder, unreadable={})
  found = {f: header.load(f, tags=list(_TAGS)) for f in files if is_slide(f)}
  wanted = None if path.is_dir() else found[path].get('SeriesInstanceUID')
  found = {
    f: d
    for f, d in found.items()
    if wanted in (None, d.get('SeriesInstanceUID'))
    and 'VOLUME' in (d.get('ImageType') or ())
  }
  series = {d.get('SeriesInstanceUID') for d in found.values()}
  if len(series) != 1:
    raise DicomError(
      f'{path}: holds {len(series)} slides; give a file, or the folder of one'
    )
  made = sorted(
    (_level(f, d) for f, d in found.items()),
    key=lambda level: -level.shape[0] * level.shape[1],
  )
  if len({level.shape for level in made}) < len(made):
    raise DicomError(
      f'{path}: several files of its series have one size, so that they are no '
      'levels (focal planes, stains?); put those wanted into a folder'
    )
  return made


def _level(path, dataset):
  for keyword, what in (
    ('TotalPixelMatrixFocalPlanes', 'focal planes'),
    ('NumberOfOpticalPaths', 'optical paths'),
  ):
    if int(dataset.get(keyword) or 1) > 1:
      raise DicomError(
        f'{path}: has {dataset.get(keyword)} {what}, of which none is chosen; '
        'export the one wanted'
      )
  kind = str(dataset.get('PhotometricInterpretation') or '')
  if not kind.startswith(('RGB', 'YBR', 'MONOCHROME2')):
    raise DicomError(
      f'{path}: its pixels are {kind or "of no kind"}, not RGB or MONOCHROME2; '
      'export it anew'
    )
  if dataset.get('ConcatenationUID'):
    raise DicomError(
      f'{path}: is a part of a concatenation, which is not read; join its parts'
    )
  with parsing(path):
    shape = tuple(
      int(dataset.get(k))
      for k in ('TotalPixelMatrixRows', 'TotalPixelMatrixColumns')
    )
    tile = int(dataset.Rows), int(dataset.Columns)
    places = _places(dataset, shape, tile)
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    spacing = tuple(float(v) for v in measures[0].PixelSpacing)

  def read(i, j):
    frame = places.get((i, j))
    if frame is None:
      return None
    whole = _held(path)
    with parsing(path, 'pixels'):
      array = pixels.decoded(whole, path, frame).reshape(*tile, -1)
    return array[: shape[0] - i * tile[0], : shape[1] - j * tile[1]]

  return Level(shape, spacing, tile, functools.lru_cache(_HELD)(read))


@functools.lru_cache(1)
def _held(path):
  """The data set with its pixels, as they are stored, checked once."""
  dataset = header.load(path)
  pixels.check(dataset, path)
  return dataset


def _places(dataset, shape, tile):
  """{(i, j): frame}: stated, or row by row (TILED_FULL)."""
  if dataset.get('DimensionOrganizationType') != 'TILED_SPARSE' and (
    'PerFrameFunctionalGroupsSequence' not in dataset
  ):
    across = -(-shape[1] // tile[1])
    count = int(dataset.get('NumberOfFrames') or 1)
    return {divmod(k, across): k for k in range(count)}
  places = {}
  for k, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
    place = group.PlanePositionSlideSequence[0]
    row = int(place.RowPositionInTotalImagePixelMatrix) - 1
    column = int(place.ColumnPositionInTotalImagePixelMatrix) - 1
    if row % tile[0] or column % tile[1]:
      raise ValueError('tiles that overlap')
    places[row // tile[0], column // tile[1]] = k
  return places
