"""The programs of a folder, with their weights, windows over an image, labels.

Beside run.py. ONNX by onnxruntime, StableHLO by jax and flatbuffers.
"""

import hashlib
import importlib.util
import itertools
import json
import pathlib

import image_files
import numpy as np


class Model:
  """What a folder holds: `info`, its model.json; called {input} → {output}."""

  def __init__(self, folder, backend=None):
    self.folder = pathlib.Path(folder)
    self.info = json.loads((self.folder / 'model.json').read_text('utf-8'))
    seal = self.info.pop('sha256')
    text = json.dumps(self.info, sort_keys=True)
    if hashlib.sha256(text.encode()).hexdigest() != seal:
      raise ValueError('model.json was changed: take another copy')
    has = lambda name: importlib.util.find_spec(name) is not None
    onnx = 'model.onnx' in self.info['files']
    kind = backend or ('onnx' if onnx and has('onnxruntime') else 'jax')
    if kind == 'jax' and not (self.info['programs'] and has('jax')):
      raise ValueError(
        'it needs a package: pip install '
        + ('onnxruntime' if onnx else 'jax flatbuffers')
      )
    self._calls = {'onnx': self._onnx, 'jax': self._jax}[kind]()

  def _bytes(self, name):
    data = (self.folder / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != self.info['files'][name]:
      raise ValueError(f'{name} was changed: take another copy')
    return data

  def _onnx(self):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
      self._bytes('model.onnx'), options, providers=['CPUExecutionProvider']
    )
    names = [x.name for x in session.get_outputs()]
    run = lambda x: dict(zip(names, session.run(None, x), strict=True))
    return {0: run}  # of any batch

  def _jax(self):
    import jax

    programs, platform = self.info['programs'], jax.default_backend()
    weights = self._weights()
    names = programs['cpu' if platform == 'cpu' else 'portable']
    return {int(k): self._program(v, weights) for k, v in names.items()}

  def _weights(self):
    data = self._bytes('weights.safetensors')
    start = 8 + int.from_bytes(data[:8], 'little')
    found = {}
    for name, entry in json.loads(data[8:start]).items():
      low, high = (start + n for n in entry['data_offsets'])
      array = np.frombuffer(data[low:high], np.float32)
      found[name] = array.reshape(entry['shape'])
    return found

  def _program(self, name, weights):
    import jax
    from jax import export

    try:
      program = export.deserialize(bytearray(self._bytes(name)))
    except ImportError:
      raise
    except Exception as e:
      if 'was changed' in str(e):
        raise
      raise ValueError(
        f'jax {jax.__version__} cannot read {name}, which jax '
        f'{self.info["jax"]} wrote on {self.info["written"]} and which expires '
        f'on {self.info["expires"]}: medjax export check {self.folder} '
        '--refresh'
      ) from e
    # As constants the weights are transformed once.
    return jax.jit(lambda inputs: program.call(weights, inputs))

  def __call__(self, inputs):
    """The outputs of a batch of any size, by the programs that there are."""
    total, at, found = len(next(iter(inputs.values()))), 0, []
    while at < total:
      fitting = [n for n in self._calls if n <= total - at]
      size = max(fitting) if fitting else min(self._calls)
      take = min(size or total, total - at)
      rows = [*range(at, at + take)] + [at] * (size - take)
      part = {k: v[rows] for k, v in inputs.items()}
      part = {k: np.asarray(v) for k, v in self._calls[size](part).items()}
      found.append({k: v[:take] for k, v in part.items()})
      at += take
    return {k: np.concatenate([x[k] for x in found]) for k in found[0]}


def infer(model, image, **others):
  """{output: array} of a prepared image, by windows where the model has any.

  Of a model of a table the image is None.
  """
  info = model.info
  more = {k: np.asarray(v, np.float32) for k, v in others.items()}
  if image is None:
    found = model({k: v[None] for k, v in more.items()})
    return {k: v[0] for k, v in found.items()}
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
  # A smaller image lies in the middle.
  crop = tuple(
    slice((m - n) // 2, (m - n) // 2 + n)
    for n, m in zip(image.shape[:-1], padded, strict=True)
  )
  whole[crop] = image
  starts = [
    _starts(n, m, info['overlap']) for n, m in zip(padded, size, strict=True)
  ]
  weight, found = _weight(size), {}
  places = [
    tuple(slice(i, i + n) for i, n in zip(start, size, strict=True))
    for start in itertools.product(*starts)
  ]
  most = info['batches'][-1]
  for at in range(0, len(places), most):
    part = places[at : at + most]
    inputs = {k: np.stack([v] * len(part)) for k, v in more.items()}
    inputs['image'] = np.stack([whole[place] for place in part])
    for name, blocks in model(inputs).items():
      for place, block in zip(part, blocks, strict=True):
        _add(found, name, block, place, weight, padded)
  return {
    name: (total / np.maximum(norm, 1e-8)[..., None])[crop]
    if total.ndim > 1
    else total / norm
    for name, (total, norm) in found.items()
  }


def _add(found, name, block, place, weight, padded):
  """Adds what a window gave to the sums of an output."""
  dense = block.ndim > 1
  if name not in found:
    shape = (*padded, block.shape[-1]) if dense else block.shape
    norm = np.zeros(padded if dense else (), np.float32)
    found[name] = [np.zeros(shape, np.float32), norm]
  total, norm = found[name]
  if dense:
    total[place] += block * weight[..., None]
    norm[place] += weight
  else:
    found[name] = [total + block, norm + 1]


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
    few = probabilities.shape[-1] <= 256
    return probabilities.argmax(-1).astype(np.uint8 if few else np.uint16)
  found = np.zeros(probabilities.shape[:-1], np.uint8)
  for i, label in enumerate(info['regions']):
    found[probabilities[..., i] > 0.5] = label
  return found
