"""Predicts with the files beside this one: python run.py IMAGE… OUT [--NAME=…].

IMAGE is what image_files.py reads. NAME is a further input of the model:
numbers with commas, or an image. Needs numpy, and onnxruntime for model.onnx,
or else jax and flatbuffers.
"""

import itertools
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import image_files
import programs


def predict(model, image, affine, **others):
  """{output: array} of an image (*s, C) and its voxel → mm, on its own grid.

  A map comes with its 'labels'. `others` are further inputs.
  """
  info, rank = model.info, len(model.info['shape'])
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
    k: image_files.prepare(v, affine, info['outside'])[0] if v.ndim > 1 else v
    for k, v in others.items()
  }
  found = infer(model, prepared, **others)
  for name, array in found.items():
    if array.ndim > 1:
      found[name] = image_files.to_grid(array, grid, affine, image.shape[:-1])
  if 'prediction' in found and found['prediction'].ndim > 1:
    found['labels'] = labels(info, found['prediction'])
  return found


def _images(others, rank):
  return [x for x in others.values() if x.ndim > rank]


def infer(model, image, **others):
  """{output: array} of a prepared image, by windows where the model has any."""
  info = model.info
  more = {k: np.asarray(v, np.float32) for k, v in others.items()}
  fill = np.zeros(image.shape[-1], np.float32)
  if info['measured']:
    more['statistics'] = image_files.statistics(image, info['measured'])
    shift, scale = more['statistics']
    scale = np.where(np.isfinite(scale), scale, 0)
    fill = np.asarray(info['fill']) * scale + shift
    fill = fill * (not info['measured'].get('nonzero'))
  elif info['inside']:
    fill = np.asarray(info['fill'])
  size = tuple(info['shape'])
  if not info['windows'] and image.shape[:-1] != size:
    raise ValueError(
      f'the model takes images of {size}, not {image.shape[:-1]}'
    )
  padded = [max(n, m) for n, m in zip(image.shape, size, strict=False)]
  whole = np.empty((*padded, image.shape[-1]), np.float32)
  whole[:] = fill
  whole[tuple(map(slice, image.shape[:-1]))] = image
  starts = [
    _starts(n, m, info['overlap']) for n, m in zip(padded, size, strict=True)
  ]
  weight, found = _weight(size), {}
  for start in itertools.product(*starts):
    place = tuple(slice(i, i + n) for i, n in zip(start, size, strict=True))
    inputs = {k: v[None] for k, v in {'image': whole[place], **more}.items()}
    for name, (block,) in model(inputs).items():
      dense = block.ndim > 1
      if name not in found:
        shape = (*padded, block.shape[-1]) if dense else block.shape
        found[name] = (
          np.zeros(shape, np.float32),
          np.zeros(shape[:-1] if dense else (), np.float32),
        )
      total, norm = found[name]
      where = place if dense else ...
      total[where] += block * weight[..., None] if dense else block
      norm[where] += weight if dense else 1
  crop = tuple(map(slice, image.shape[:-1]))
  return {
    name: (total / np.maximum(norm, 1e-8)[..., None])[crop]
    if total.ndim > 1
    else total / norm
    for name, (total, norm) in found.items()
  }


def _starts(size, window, overlap):
  """Where windows begin along an axis: evenly, and sharing `overlap`."""
  if size <= window:
    return [0]
  step = max(window * (1 - overlap), 1)
  count = int(np.ceil((size - window) / step)) + 1
  return [round(i * (size - window) / (count - 1)) for i in range(count)]


def _weight(size):
  """What a voxel of a window counts: a Gaussian of an eighth of the window."""
  weight = np.ones((), np.float32)
  for n in size:
    place = (np.arange(n) - (n - 1) / 2) / (n / 8)
    weight = weight[..., None] * np.exp(-0.5 * place**2)
  return np.maximum(weight / weight.max(), 1e-4).astype(np.float32)


def labels(info, probabilities):
  """The label map of a map of probabilities (*s, K)."""
  if not info['regions']:
    return probabilities.argmax(-1).astype(np.uint8)
  found = np.zeros(probabilities.shape[:-1], np.uint8)
  for i, label in enumerate(info['regions']):
    found[probabilities[..., i] > 0.5] = label
  return found


def main():
  """Command line entry point."""
  given = dict(x[2:].split('=', 1) for x in sys.argv[1:] if x[:2] == '--')
  *paths, out = [x for x in sys.argv[1:] if x[:2] != '--'] or ['']
  if not paths:
    sys.exit(__doc__)
  model, out = programs.Model(pathlib.Path(__file__).parent), pathlib.Path(out)
  if model.info['unsupported']:
    sys.exit(f'run.py cannot prepare: {model.info["unsupported"]}')
  others = {
    k: image_files.read(v)[0]
    if pathlib.Path(v).exists()
    else np.array(v.split(','), np.float32)
    for k, v in given.items()
  }
  out.mkdir(parents=True, exist_ok=True)
  for path in paths:
    try:
      image, affine, write = image_files.read(path)
      found = predict(model, image, affine, **others)
    except (ValueError, OSError) as e:
      sys.exit(f'{path}: {e}')
    if 'labels' in found:
      write(out / image_files.stem(path), found['labels'])
      continue
    for name, vector in found.items():
      names = model.info['names'] if name == 'prediction' else range(99)
      for label, value in zip(names, vector, strict=False):
        print(f'{path},{name},{label},{value:.6f}')


if __name__ == '__main__':
  main()
