"""From files to cases, and from predictions to files."""

import collections
import functools
import hashlib
import pathlib
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from medjax import files
from medjax.data import folder, formats, walk
from medjax.prediction import ensemble

# Okabe-Ito colours, told apart by colour-blind readers too.
COLOURS = np.array(
  [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
   (0, 114, 178), (213, 94, 0), (204, 121, 167)],
  np.float32,
)  # fmt: skip


class Source(NamedTuple):
  """What a case is read from.

  id: what its results are called. line: what predictions.csv calls it. paths,
  stamp: by which it is known again, JSON-able; the stamp changes with the file,
  None where there is none. read: () → the raw case.
  """

  id: str
  line: str
  paths: list
  stamp: list
  read: Callable


def input_files(paths, image='', numbered=0):
  """The images among `paths` and, sorted, those in its folders.

  A folder of DICOM files is one image; one of patients' folders has the image
  of each, called as its folder. `image`: the run's data.fields.image; if it has
  a file for each channel, paths are folders of such files, and each image is a
  `folder.Found`. So it is where the run's data were one of nnU-Net's
  folders, whose files are numbered by channel: then `numbered` is their number.
  """
  found = []
  for path in map(pathlib.Path, paths):
    files.check_kind(path)
    if len(folder.channels(image)) > 1:
      found += folder.find_channels(path, image)
    elif numbered and path.is_dir() and not formats.is_image(path):
      found += folder.find_numbered(path, numbered)
    elif path.is_dir() and not formats.is_image(path):
      inside = sorted(p for p in path.iterdir() if formats.is_image(p))
      found += inside or folder.find_in_folders(path)
      if inside and (left := [p for p in path.iterdir() if _holds_images(p)]):
        print(
          f'note: {path} holds images itself, so {len(left)} of its folders '
          f'are left out, as {min(left).name}: name them too'
        )
    else:
      found.append(path)
  stems = collections.Counter(map(_id, found))
  twice = [stem for stem, n in stems.items() if n > 1]
  if twice:
    raise ValueError(
      f'two inputs are called {twice[0]!r}; their results would overwrite '
      'each other: predict them into two --out folders'
    )
  return found


def _holds_images(path):
  """Whether a folder, which is no image itself, has some in it."""
  if not path.is_dir() or formats.is_image(path) or path.name[0] == '.':
    return False
  return any(formats.is_image(p) for p in path.iterdir())


def inputs_of(run, paths):
  """`input_files` for a trained run, by the pattern that it was told."""
  fields = run.experiment.config['data'].get('fields', {})
  numbered = len(run.experiment.facts.channel_names)
  return input_files(paths, fields.get('image', ''), numbered)


def paths_of(file):
  """The files of an image: one for each channel, or the one."""
  return file.images if isinstance(file, folder.Found) else (file,)


def _id(file):
  """Name of the results of an image."""
  return file.id if isinstance(file, folder.Found) else formats.stem(file)


def source(file):
  """The `Source` of one of `input_files`."""
  paths = paths_of(file)
  return Source(
    _id(file),
    str(paths[0]),
    [str(p.resolve()) for p in paths],
    [stamp(p) for p in paths],
    functools.partial(read_case, file),
  )


def stamp(path):
  """Size and time of a file, by which one sees that it was changed.

  Of a folder a digest of those of all its files.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return None
  if path.is_dir():
    below = walk.files_below(path)
    inside = sorted((str(p.relative_to(path)), stamp(p)) for p in below)
    return [len(inside), hashlib.sha256(repr(inside).encode()).hexdigest()[:16]]
  status = path.stat()
  return [status.st_size, status.st_mtime_ns]


def read_case(file):
  """A raw case without reference of one of `input_files`."""
  paths = paths_of(file)
  for path in paths:
    files.check_kind(path)
  volume = folder.read_image(paths)
  return {
    'image': volume.array,
    'affine': volume.affine,
    'spacing': volume.spacing,
    'id': _id(file),
    'patient': _id(file),
    'path': paths[0],
    'inputs': paths,
    'place': _place(volume),
    'slice_place': _slice_place(volume),
    'x_first': volume.x_first,
    'notes': tuple(volume.meta.get('notes', ())),
  }


def _place(volume):
  """Voxel → mm (4, 4), if a NIfTI can hold the mask; None for pictures."""
  if volume.affine.shape == (4, 4):
    return volume.affine
  # A DICOM slice is looked at as a picture.
  if volume.meta['format'] == 'dicom':
    return None
  return volume.meta.get('affine')


def _slice_place(volume):
  """(column, row, 1) → mm (4, 4) of a DICOM slice that says where it lies."""
  place = volume.meta.get('affine')
  if volume.affine.shape == (4, 4) or volume.meta['format'] != 'dicom':
    return None
  return None if place is None else place[:, [1, 0, 2, 3]]


def overlay(image, labels, *, alpha=0.45):
  """The picture (h, w, C) in grey or colour with labels over it, uint8 RGB."""
  image = image.astype(np.float32)
  low, high = image.min(), image.max()
  image = (image - low) / max(high - low, 1e-6) * 255
  rgb = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, -1)
  tint = COLOURS[(labels.astype(int) - 1) % len(COLOURS)]
  blend = (1 - alpha) * rgb + alpha * tint
  return np.where(labels[..., None] > 0, blend, rgb).astype(np.uint8)


def write(
  out, case, prediction, *, segments=None, most=None, probabilities=None
):
  """Writes what is a map of a case; returns the path of the label map.

  On the input's own grid: a NIfTI for volumes and NIfTI slices; for pictures a
  PNG and an overlay. segments: names of the classes: a DICOM SEG that refers to
  the input, which must be DICOM. most: the largest entropy there can be, nats:
  maps of uncertainty are written too, PNGs with 255 where a map holds that.
  probabilities: names of the channels: those of the prediction are written, as
  NIfTI (*s, K) of a volume, else as NPZ.
  """
  if most is not None:
    for name in ensemble.MEASURES:
      _write_map(out, case, name, prediction.uncertainty[name], most)
  if probabilities:
    _write_probabilities(out, case, prediction.probabilities, probabilities)
  return _write_mask(out, case, prediction.labels, segments)


def is_written(out, name, *, segments=False):
  """Whether `out` holds the label map of a case of this id."""
  endings = ('.dcm',) if segments else ('.nii.gz', '.png')
  return any((out / f'{name}{ending}').exists() for ending in endings)


def _write_mask(out, case, labels, segments):
  if segments:
    path = out / f'{case["id"]}.dcm'
    formats.write_segmentation(path, labels, case['path'], class_names=segments)
    return path
  if case['place'] is not None:
    path = out / f'{case["id"]}.nii.gz'
    formats.write(path, labels, case['place'])
    return path
  if case.get('slice_place') is not None:  # of which a PNG knows nothing
    placed = labels.T[:, :, None]
    formats.write(out / f'{case["id"]}.nii.gz', placed, case['slice_place'])
  path = out / f'{case["id"]}.png'
  image, labels = _rows(case, case['image']), _rows(case, labels)
  picture = overlay(image, labels)
  with files.replacing(out / f'{case["id"]}_overlay.png', 'wb') as f:
    Image.fromarray(picture).save(f, 'png')
  if labels.dtype != np.uint8:
    formats.write(path, labels, case['affine'])
    return path
  # As values 0, 1, … a mask looks black: a palette keeps them and shows them.
  coloured = Image.fromarray(labels)
  coloured.putpalette(palette().tobytes())
  with files.replacing(path, 'wb') as f:
    coloured.save(f, 'png')
  return path


def _rows(case, array):
  """An array of a case as (row, column), which its file may have as (x, y)."""
  swapped = case.get('x_first')
  return np.ascontiguousarray(array.swapaxes(0, 1)) if swapped else array


def palette():
  """Colours (256, 3) uint8 of the labels: black, then COLOURS over again."""
  found = COLOURS[(np.arange(256) - 1) % len(COLOURS)].astype(np.uint8)
  found[0] = 0
  return found


def _write_probabilities(out, case, array, names):
  stem, array = f'{case["id"]}_probabilities', array.astype(np.float32)
  if case['place'] is not None and array.ndim == 4:
    formats.write(out / f'{stem}.nii.gz', array, case['place'])
    return
  with files.replacing(out / f'{stem}.npz', 'wb') as f:
    np.savez_compressed(f, probabilities=array, names=np.array(names))


def _write_map(out, case, name, array, most):
  array, stem = array.astype(np.float32), f'{case["id"]}_{name}'
  if case['place'] is not None:
    formats.write(out / f'{stem}.nii.gz', array, case['place'])
    return
  array = np.rint(255 * np.clip(array / most, 0, 1)).astype(np.uint8)
  array = _rows(case, array)
  formats.write(out / f'{stem}.png', array, case['affine'])


def read_table(out, key='file'):
  """{file: its line} of predictions.csv; {} where there is none.

  `key` is 'id' where cases are rows of a table.
  """
  path = out / 'predictions.csv'
  if not path.exists():
    return {}
  rows, _ = files.read_csv(path, mend='delete it')
  return {row[key]: row for row in rows}


def write_table(out, predictions, before=(), key='file'):
  """predictions.csv: a line per file, a column per value; returns its path.

  `predictions` are (path, Prediction) of cases, with the numbers and the
  judgement of each, and `before` lines that are there already.
  """
  rows = [
    {key: path, **{k: _rounded(v) for k, v in _numbers(p).items()}}
    for path, p in predictions
  ]
  rows = [*before, *rows]
  files.write_csv(out / 'predictions.csv', rows)
  return out / 'predictions.csv'


def _numbers(prediction):
  """What a table says of a prediction: of a label map its judgement only."""
  if prediction.labels is not None:
    return prediction.judgement
  return {
    **prediction.values, **prediction.uncertainty, **prediction.judgement
  }  # fmt: skip


def _rounded(value):
  return value if isinstance(value, str | int) else round(float(value), 6)


def write_within(out, case, masks, level):
  """Writes masks {class: (*s,) bool} that find `level` of each class.

  ID_CLASS_at_0.9 as NIfTI of volumes, else PNGs of 0 and 255.
  """
  for name, mask in masks.items():
    name = re.sub(r'[^\w.-]+', '_', name)
    stem = f'{case["id"]}_{name}_at_{level:g}'
    if case['place'] is not None:
      mask, path = mask.astype(np.uint8), out / f'{stem}.nii.gz'
      formats.write(path, mask, case['place'])
      continue
    mask = 255 * _rows(case, mask.astype(np.uint8))
    formats.write(out / f'{stem}.png', mask, case['affine'])
