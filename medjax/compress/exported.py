"""A run as its ONNX model: what it predicts of cases, and what it is fed."""

import pathlib

import numpy as np

from medjax import files
from medjax.export import artefact, golden
from medjax.prediction.predictor import Found


class Predictor:
  """Predicts as `prediction.Predictor` does, by the files of a folder."""

  def __init__(self, folder, task):
    self._shipped, self._task = golden.script(), task
    self._model = self._shipped.programs.Model(folder, 'onnx')

  def __call__(self, samples, *, refused=None):
    """Yields (sample, Found) of samples that hold their raw case.

    `refused` is told of none: an exported model says nothing of NaN.
    """
    del refused
    for sample in samples:
      case = sample['raw']
      found = _predict(self._shipped, self._model, case)
      if 'labels' in found:
        yield sample, Found(found['labels'], {}, None)
      else:
        found.pop('calibrated', None)
        one = [*found] == ['prediction']
        yield sample, Found(found['prediction'] if one else found, {}, None)


def _predict(shipped, model, case):
  others = {
    k: np.asarray(case[k])
    for k in model.info['inputs']
    if k not in ('image', 'statistics')
  }
  if 'image' not in model.info['inputs']:  # of a table
    return shipped.predict(model, None, None, **others)
  image = np.asarray(case['image'], np.float32)
  return shipped.predict(model, image, case['affine'], **others)


class _Fed:
  """Stands for a model: keeps what it is fed."""

  def __init__(self, info, outputs):
    self.info, self.inputs, self._outputs = info, [], outputs

  def __call__(self, inputs):
    count = len(next(iter(inputs.values())))
    self.inputs += [
      {k: v[i : i + 1] for k, v in inputs.items()} for i in range(count)
    ]
    return {k: np.repeat(v, count, 0) for k, v in self._outputs.items()}


def fed(folder, cases, most):
  """Up to `most` inputs of batch 1 that cases feed the model of a folder.

  Windows of a case are thinned out, so that many cases have their say.
  """
  shipped, found = golden.script(), []
  info = shipped.programs.Model(folder, 'onnx').info
  for case in cases:
    model = _Fed(info, _zeros(info))
    _predict(shipped, model, case)
    found += model.inputs[:: max(len(model.inputs) // 2, 1)][:2]
    if len(found) >= most:
      break
  return found[:most]


def _zeros(info):
  """Outputs of the right shape."""
  count = max(len(info['names']), 1)
  shape = (*info['shape'], count) if info['windows'] else (count,)
  return {'prediction': np.zeros((1, *shape), np.float32)}


def size(folder):
  """MB of the model that is run."""
  return (pathlib.Path(folder) / 'model.onnx').stat().st_size / 1e6


def seal(folder, out, quantised):
  """Makes of `out`, which holds another model.onnx, an exported folder.

  quantised: what model.json says of that model.
  """
  names = [*artefact.SCRIPTS, artefact.GOLDEN]
  artefact.copy(folder, out, names)
  info = files.read_json(
    pathlib.Path(folder) / artefact.MODEL, mend='export again'
  )
  names.append(artefact.ONNX)
  digests = {name: files.digest_of(out / name) for name in names}
  info |= {'quantised': quantised, 'files': digests}
  files.write_json(out / artefact.MODEL, info, sealed=True)
