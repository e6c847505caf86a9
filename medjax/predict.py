"""Predicts on files: python -m medjax.predict --workdir=… FILES… --out=…"""

import argparse
import collections
import csv
import json
import os
import pathlib

import numpy as np
from PIL import Image

from medjax import cli, config, experiment
from medjax.data import folder, formats
from medjax.evaluate import EnsemblePredictor, load_predictor
from medjax.metrics import calibration
from medjax.prediction.ensemble import MEASURES

# Okabe-Ito colours, told apart by colour-blind readers too.
COLOURS = np.array(
  [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
   (0, 114, 178), (213, 94, 0), (204, 121, 167)],
  np.float32,
)  # fmt: skip


def input_files(paths, image=''):
  """The images among `paths` and, sorted, those in its folders.

  A folder of DICOM files is one image. `image`: the run's data.fields.image;
  if it has a file for each channel, paths are folders of such files, and each
  image is a `folder.Found`.
  """
  files = []
  for path in map(pathlib.Path, paths):
    if len(folder.channels(image)) > 1:
      files += folder.find_channels(path, image)
    elif path.is_dir() and not formats.is_image(path):
      inside = sorted(p for p in path.iterdir() if formats.is_image(p))
      if not inside:
        raise FileNotFoundError(f'{path} holds no image file')
      files += inside
    else:
      files.append(path)
  stems = collections.Counter(map(_id, files))
  twice = [stem for stem, n in stems.items() if n > 1]
  if twice:
    raise ValueError(
      f'two inputs are called {twice[0]!r}; their results would overwrite '
      'each other: predict them into two --out folders'
    )
  return files


def _paths(file):
  """The files of an image: one for each channel, or the one."""
  return file.images if isinstance(file, folder.Found) else (file,)


def _id(file):
  """What the results of an image are called."""
  return file.id if isinstance(file, folder.Found) else formats.stem(file)


def read_case(file, data):
  """A raw case without reference, checked against what the model takes.

  `file` is one of `input_files`, `data` the `data` part of the run's config.
  """
  path = _paths(file)[0]
  volume = folder.read_image(_paths(file))
  *shape, channels = volume.array.shape
  if len(shape) != data.rank:
    raise ValueError(
      f'{path} has {len(shape)} spatial axes, the model was trained on '
      f'{data.rank}'
    )
  if channels != data.channels:
    raise ValueError(
      f'{path} has {channels} channels, the model was trained on '
      f'{data.channels}; convert the file'
    )
  return {
    'image': volume.array,
    'affine': volume.affine,
    'spacing': volume.spacing,
    'id': _id(file),
    'patient': _id(file),
    'path': path,
    'place': _place(volume),
  }


def _place(volume):
  """Voxel → mm (4, 4), if a NIfTI can hold the mask; None for pictures."""
  if volume.affine.shape == (4, 4):
    return volume.affine
  # A DICOM slice knows its place too, but is looked at as a picture.
  if volume.meta['format'] == 'dicom':
    return None
  return volume.meta.get('affine')


def overlay(image, labels, *, alpha=0.45):
  """The picture (h, w, C) in grey or colour with labels over it, uint8 RGB."""
  image = image.astype(np.float32)
  low, high = image.min(), image.max()
  image = (image - low) / max(high - low, 1e-6) * 255
  rgb = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, -1)
  tint = COLOURS[(labels.astype(int) - 1) % len(COLOURS)]
  blend = (1 - alpha) * rgb + alpha * tint
  return np.where(labels[..., None] > 0, blend, rgb).astype(np.uint8)


def write_mask(out, case, labels, *, segments=None):
  """The label map on the input's own grid; returns its path.

  A NIfTI for volumes and NIfTI slices; for pictures a PNG and an overlay.
  segments: names of the classes: a DICOM SEG that refers to the input, which
  must be DICOM.
  """
  if segments:
    path = out / f'{case["id"]}.dcm'
    formats.write_segmentation(path, labels, case['path'], class_names=segments)
    return path
  if case['place'] is not None:
    path = out / f'{case["id"]}.nii.gz'
    formats.write(path, labels, case['place'])
    return path
  path = out / f'{case["id"]}.png'
  formats.write(path, labels, case['affine'])
  picture = overlay(case['image'], labels)
  Image.fromarray(picture).save(out / f'{case["id"]}_overlay.png')
  return path


def write_maps(out, case, measures, *, most):
  """Uncertainty maps on the input's own grid, in nats; returns their paths.

  A NIfTI where the mask is one; a PNG holds 255 where a map holds `most`.
  """
  paths = []
  for name in MEASURES:
    array, stem = measures[name].astype(np.float32), f'{case["id"]}_{name}'
    if case['place'] is not None:
      path, place = out / f'{stem}.nii.gz', case['place']
    else:
      path, place = out / f'{stem}.png', case['affine']
      array = np.rint(255 * np.clip(array / most, 0, 1)).astype(np.uint8)
    formats.write(path, array, place)
    paths.append(path)
  return paths


def write_probabilities(out, rows, names):
  """predictions.csv: a line per file, a column per class."""
  path = out / 'predictions.csv'
  temporary = path.with_name('predictions.csv.tmp')
  with temporary.open('w', newline='') as f:
    writer = csv.writer(f)
    writer.writerow(['file', *names])
    writer.writerows([p, *(f'{x:.6f}' for x in row)] for p, row in rows)
  os.replace(temporary, path)
  return path


def _temperature(workdir):
  """What validation chose, of a classifier that is evaluated."""
  path = pathlib.Path(workdir) / 'metrics.json'
  results = json.loads(path.read_text()) if path.exists() else {}
  value = results.get('validation', {}).get('temperature')
  if value is None:
    raise ValueError(
      f'{path} says no temperature: only evaluated classifiers have one, and '
      'of a cross-validation each fold'
    )
  return value


def predict(
  workdir, files, out, *, seg=False, uncertainty=False, calibrated=False
):
  """Predicts `files` with the best checkpoint of `workdir` into `out`.

  Segmentation: a mask per file, on its own grid (volumes → NIfTI with the same
  affine, pictures → PNG and an overlay; `seg`: DICOM → DICOM SEG).
  Classification: predictions.csv.

  Of several members, the mean of their probabilities counts. predictions.csv
  then says how sure it is; with `uncertainty` maps say so beside a mask.
  `calibrated` probabilities of a classifier are those after temperature scaling
  (medjax.metrics.calibration); the measures of uncertainty stay as they are.
  """
  settings = config.load(workdir)
  task = experiment.make_task(settings)
  predictor, variables, _ = load_predictor(settings, task, workdir)
  several = isinstance(predictor, EnsemblePredictor)
  out = pathlib.Path(out)
  out.mkdir(parents=True, exist_ok=True)
  if any(out.samefile(q.parent) for p in files for q in _paths(p)):
    raise ValueError(f'{out} holds an input; results need another folder')
  if seg and not task.dense:
    raise ValueError(f'{workdir} holds a classifier, which writes no DICOM SEG')
  if uncertainty and not (several and task.dense):
    raise ValueError(
      f'{workdir} holds no members that segment, so there are no maps of '
      'uncertainty'
    )
  temperature = _temperature(workdir) if calibrated else None
  sources = [_paths(p)[0] for p in files] if seg else ()
  odd = [p for p in sources if not formats.is_dicom(p)]
  if odd:
    raise ValueError(f'{odd[0]} is not DICOM, so no DICOM SEG can refer to it')
  cases = (read_case(p, settings.data) for p in files)
  rows = []
  for i, (case, prediction, *found) in enumerate(predictor(variables, cases)):
    if task.dense:
      segments = task.label_names if seg else None
      result = write_mask(out, case, prediction, segments=segments)
      if uncertainty:
        most = np.log(task.num_outputs if task.exclusive else 2)
        write_maps(out, case, *found, most=most)
    else:
      if calibrated:
        (prediction,) = calibration.scaled(
          prediction[None], temperature, exclusive=task.exclusive
        )
      sure = [float(v) for measures in found for v in measures.values()]
      rows.append((case['path'], [*prediction, *sure]))
      result = task.names[int(np.argmax(prediction))]
    print(f'{i + 1}/{len(files)} {case["path"]} → {result}')
  if rows:
    names = (*task.names, *(MEASURES if several else ()))
    print(write_probabilities(out, rows, names))


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--workdir', required=True, help='a trained workdir')
  parser.add_argument('--out', required=True, help='folder for the results')
  parser.add_argument(
    '--seg', action='store_true', help='write DICOM SEG, for DICOM inputs'
  )
  parser.add_argument(
    '--uncertainty', action='store_true', help="maps of it, an ensemble's"
  )
  parser.add_argument(
    '--calibrated', action='store_true', help='after temperature scaling'
  )
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  parser.add_argument('inputs', nargs='+', help='image files or folders')
  args = parser.parse_args()
  with cli.one_line_errors():
    data = config.load(args.workdir).data
    image = data.get('fields', {}).get('image', '')
    files = input_files(args.inputs, image)
    predict(
      args.workdir,
      files,
      args.out,
      seg=args.seg,
      uncertainty=args.uncertainty,
      calibrated=args.calibrated,
    )


if __name__ == '__main__':
  main()
