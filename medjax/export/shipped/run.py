"""Predicts with the files beside this one: python run.py IMAGE… OUT [--NAME=…].

IMAGE: NIfTI (needs nibabel), PNG or JPEG (pillow), a DICOM file or the folder
of a series (pydicom); of a model of a table a CSV file with its columns. OUT: a
folder for masks, or predictions.csv. NAME: a further input of the model, an
image or numbers with commas. Needs numpy, and onnxruntime or jax.
"""

import csv
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import image_files
import programs


def predict(model, image, affine, *, affines=(), **others):
  """{output: array} of an image (*s, C) and its voxel → mm, on its own grid.

  A map comes with its 'labels'. `others` are further inputs, `affines` of those
  that do not lie as the image does. A model of a table takes image=None.
  """
  info, rank = model.info, len(model.info['shape'])
  if image is None:
    return programs.infer(model, None, **others)
  if image.ndim != rank + 1 or image.shape[-1] != info['channels']:
    raise ValueError(
      f'the model takes {rank} axes and {info["channels"]} channels, not an '
      f'image of {image.shape}'
    )
  if missing := set(info['inputs']) - {'image', 'statistics', *others}:
    raise ValueError(f'the model also takes {", ".join(missing)}: --NAME=VALUE')
  if not all(np.isfinite(x).all() for x in (image, *_images(others, rank))):
    raise ValueError('a voxel is NaN or infinite')
  prepared, grid = image_files.prepare(image, affine, info['outside'])
  for k, v in others.items():
    if v.ndim > 1:
      place = dict(affines).get(k, affine)
      others[k], _ = image_files.prepare(v, place, info['outside'], k)
  found = programs.infer(model, prepared, **others)
  for name, array in found.items():
    if array.ndim > 1:
      found[name] = image_files.to_grid(array, grid, affine, image.shape[:-1])
  if 'prediction' in found and found['prediction'].ndim > 1:
    found['labels'] = programs.labels(info, found['prediction'])
  return found


def _images(others, rank):
  return [x for x in others.values() if x.ndim > rank]


def table_of(path, columns):
  """Yields (file:line, numbers) of the rows of a CSV file; NaN: empty."""
  with open(path, newline='', encoding='utf-8-sig') as f:
    for number, row in enumerate(csv.DictReader(f), 2):
      if missing := [name for name in columns if name not in row]:
        raise ValueError(
          f'the model takes a CSV file with a column {missing[0]}'
        )
      values = [float(row[name] or 'nan') for name in columns]
      yield f'{path}:{number}', np.array(values, np.float32)


def of_file(model, path, affines, others):
  """Yields (name, what is predicted, function that writes a label map)."""
  if 'image' not in model.info['inputs']:
    for name, row in table_of(path, model.info['columns']):
      yield name, predict(model, None, None, covariates=row), None
    return
  image, affine, write = image_files.read(path)
  if said := image_files.other_spacing(affine, model.info):
    print(f'{path}: {said}', file=sys.stderr)
  yield path, predict(model, image, affine, affines=affines, **others), write


def lines_of(info, file, found):
  """A row of predictions.csv for each number that is predicted."""
  for output, vector in found.items():
    names = info['names']
    names = names if len(names) == len(vector) else range(len(vector))
    for name, value in zip(names, vector, strict=True):
      yield file, output, name, f'{value:.6f}'


def arguments(words):
  """(files, folder for the answers, {further input: text}) of a command."""
  given = dict(x[2:].partition('=')[::2] for x in words if x[:2] == '--')
  *paths, out = [x for x in words if x[:2] != '--'] or ['']
  if not paths or 'help' in given:
    sys.exit(__doc__)
  return paths, pathlib.Path(out), given


def said(error):
  """An error in one line; of a package that is missing, how to get it."""
  if isinstance(error, ImportError):
    name = {'PIL': 'pillow'}.get(error.name, error.name)
    return f'reading it needs a package: pip install {name}'
  return ' '.join(str(error).split())


def main():
  """Command line entry point."""
  paths, out, given = arguments(sys.argv[1:])
  folder = pathlib.Path(__file__).parent
  try:
    model = programs.Model(folder)
  except (OSError, ValueError) as e:
    sys.exit(f'{folder}: {e}')
  if model.info['unsupported']:
    sys.exit(f'run.py cannot prepare: {model.info["unsupported"]}')
  further = set(model.info['inputs']) - {'image', 'statistics'}
  if unknown := {*given} - further:
    known = ', '.join(f'--{name}' for name in sorted(further)) or 'files'
    sys.exit(f'the model takes no --{min(unknown)}, only {known}')
  others, affines = {}, {}
  try:
    image_files.check_answers(paths, out, given, model.info)
    for name, value in given.items():
      others[name], affines[name] = image_files.further(name, value)
    out.mkdir(parents=True, exist_ok=True)
  except Exception as e:  # a file may hold anything
    sys.exit(said(e))
  table, failed = [('file', 'output', 'name', 'value')], False
  for path in paths:
    try:
      for name, found, write in of_file(model, path, affines, others):
        if 'labels' in found:
          write(out / image_files.stem(path), found['labels'])
        else:
          table += lines_of(model.info, name, found)
    except Exception as e:  # one bad file is not to lose the others
      print(f'{path}: {said(e)}', file=sys.stderr)
      failed = True
  if table[1:]:
    # Of names: bytes that are no UTF-8, letters that the terminal lacks.
    sys.stdout.reconfigure(errors='backslashreplace')
    how = {'encoding': 'utf-8', 'errors': 'backslashreplace', 'newline': ''}
    with open(out / 'predictions.csv', 'w', **how) as f:
      for stream in (f, sys.stdout):
        csv.writer(stream, lineterminator='\n').writerows(table)
  sys.exit(failed)


if __name__ == '__main__':
  main()
