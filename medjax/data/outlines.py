"""Files of outlines as masks beside their pictures, for `medjax.convert`.

Read are COCO's .json, a folder of LabelMe's .json or of YOLO's .txt, of which
`classes.txt`, a name a line, says the classes.
"""

import io
import pathlib

import PIL.Image

from medjax import files
from medjax.data import formats, walk
from medjax.data.formats import polygons

_CLASSES = 'classes.txt'
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)


def convert_outlines(source, images, out):
  """Writes a mask NAME.png for each picture that outlines at `source` are of.

  images: the folder of the pictures, NAME.*; each needs outlines of its own
  size, and one without any is left out. Returns (written paths, names of the
  classes, background first, names of pictures without outlines, whether the
  files list their classes; else those drawn here were numbered). Raises
  ValueError, before anything is written, for outlines of no picture, or of
  another size.
  """
  source, out = pathlib.Path(source), pathlib.Path(out)
  if not source.exists():
    raise FileNotFoundError(f'{source}: no such file or folder')
  walk.check_apart(out, images)
  pictures = _pictures(images)
  found = list(_read(source, pictures))
  if not found:
    raise ValueError(f'{source}: holds no outlines (.json, .txt)')
  names, drawings = polygons.class_names([d for _, d in found]), {}
  for path, drawing in found:
    stem = pathlib.PurePosixPath(drawing.image.replace('\\', '/')).stem
    if stem not in pictures:
      raise ValueError(f'{path}: draws on {stem}, which {images} has not')
    if stem in drawings:
      raise ValueError(f'{path}: draws on {stem} a second time; leave one')
    shape = _shape(pictures[stem])
    if drawing.shape != shape:
      raise ValueError(
        f'{path}: is of {drawing.shape[0]} x {drawing.shape[1]} pixels, '
        f'{pictures[stem]} has {shape[0]} x {shape[1]}; export it again'
      )
    drawings[stem] = drawing
  written = [
    _write(out / f'{stem}.png', polygons.label_map(drawing, names))
    for stem, drawing in drawings.items()
  ]
  listed = all(
    name in d.classes for d in drawings.values() for name, _ in d.structures
  )
  return written, names, sorted(set(pictures) - set(drawings)), listed


def _pictures(folder):
  """Name → path of the pictures in a folder."""
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise FileNotFoundError(f'{folder}: no such folder')
  found = {}
  for path in filter(formats.suffix, walk.listed(folder)[1]):
    stem = formats.stem(path)
    if stem in found:
      raise ValueError(f'{path} and {found[stem]} have one name; rename one')
    found[stem] = path
  return found


def _read(source, pictures):
  """(file, `Drawing`) of all outlines."""
  paths = [source]
  if source.is_dir():
    paths = [p for p in walk.listed(source)[1] if p.name != _CLASSES]
  known = source / _CLASSES if source.is_dir() else source.with_name(_CLASSES)
  names = ()
  if known.is_file():
    files.check_text(known)
    names = tuple(known.read_text('utf-8-sig').split('\n'))
    names = tuple(filter(None, map(str.strip, names)))
  for path in paths:
    suffix = path.suffix.lower()
    if suffix not in ('.json', '.txt'):
      continue
    files.check_text(path)
    shape = None
    if suffix == '.txt':
      if path.stem not in pictures:
        raise ValueError(f'{path}: there is no picture of this name')
      shape = _shape(pictures[path.stem])
    for drawing in polygons.read(path, shape=shape, class_names=names):
      yield path, drawing


def _shape(path):
  """(rows, columns) of a picture, from its header where Pillow reads it.

  Outlines are drawn on the picture as viewers and `formats.read` turn it.
  """
  try:
    with PIL.Image.open(path) as image:
      shape = image.height, image.width
      # Pillow has turned the size of a TIFF already.
      turned = image.format != 'TIFF' and (
        image.getexif().get(_ORIENTATION) in _SIDEWAYS
      )
      return shape[::-1] if turned else shape
  except (PIL.UnidentifiedImageError, OSError):
    return formats.read(path).array.shape[:2]


def _write(path, labels):
  buffer = io.BytesIO()
  PIL.Image.fromarray(labels).save(buffer, 'png')
  with files.replacing(path, 'wb') as f:
    f.write(buffer.getvalue())
  return path
