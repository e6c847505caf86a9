"""Predicts with the files beside this one: python run.py IMAGE… OUT [--NAME=…].

IMAGE is what image_files.py reads; of a model of a table it is a CSV file with
the columns of model.json. NAME is a further input of the model: numbers with
commas, or an image. Needs numpy, and onnxruntime for model.onnx, or else jax
and flatbuffers.
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
  others = {
    k: image_files.prepare(v, dict(affines).get(k, affine), info['outside'], k)[
      0
    ]
    if v.ndim > 1
    else v
    for k, v in others.items()
  }
  found = programs.infer(model, prepared, **others)
  for name, array in found.items():
    if array.ndim > 1:
      found[name] = image_files.to_grid(array, grid, affine, image.shape[:-1])
  if 'prediction' in found and found['prediction'].ndim > 1:
    found['labels'] = labels(info, found['prediction'])
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


def labels(info, probabilities):
  """The label map of a map of probabilities (*s, K)."""
  if not info['regions']:
    few = probabilities.shape[-1] <= 256
    return probabilities.argmax(-1).astype(np.uint8 if few else np.uint16)
  found = np.zeros(probabilities.shape[:-1], np.uint8)
  for i, label in enumerate(info['regions']):
    found[probabilities[..., i] > 0.5] = label
  return found


def lines_of(info, file, found):
  """A line of predictions.csv for each number that is predicted."""
  for output, vector in found.items():
    names = info['names']
    names = names if len(names) == len(vector) else range(len(vector))
    for name, value in zip(names, vector, strict=True):
      yield f'{file},{output},{name},{value:.6f}'


def main():
  """Command line entry point."""
  given = dict(x[2:].split('=', 1) for x in sys.argv[1:] if x[:2] == '--')
  *paths, out = [x for x in sys.argv[1:] if x[:2] != '--'] or ['']
  if not paths:
    sys.exit(__doc__)
  model, out = programs.Model(pathlib.Path(__file__).parent), pathlib.Path(out)
  if model.info['unsupported']:
    sys.exit(f'run.py cannot prepare: {model.info["unsupported"]}')
  others, affines = {}, {}
  for name, value in given.items():
    if pathlib.Path(value).exists():
      others[name], affines[name], _ = image_files.read(value)
    else:
      others[name] = np.array(value.split(','), np.float32)
  out.mkdir(parents=True, exist_ok=True)
  table, failed = [], 0
  for path in paths:
    try:
      for name, found, write in of_file(model, path, affines, others):
        if 'labels' in found:
          write(out / image_files.stem(path), found['labels'])
        else:
          table += lines_of(model.info, name, found)
    except Exception as e:  # one bad file is not to lose the others
      print(f'{path}: {" ".join(str(e).split())}', file=sys.stderr)
      failed += 1
  if table:
    lines = ['file,output,name,value', *table]
    print(*lines, sep='\n')
    (out / 'predictions.csv').write_text('\n'.join(lines) + '\n')
  if failed:
    sys.exit(1)


if __name__ == '__main__':
  main()
