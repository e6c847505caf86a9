"""Eight bits by ONNX Runtime's static quantisation (QDQ)."""

import contextlib
import io
import logging
import pathlib
import shutil
import tempfile

import numpy as np

from medjax import files
from medjax.compress import exported, planes
from medjax.export import artefact

METHODS = ('MinMax', 'Percentile', 'Entropy')
CALIBRATION = 128  # inputs
# Histograms are of all activations at once, which have to be held: bytes.
_HELD = 2**30
# What has an int8 kernel on a CPU; the rest stays float32.
_QUANTISED = (
  'Conv', 'ConvTranspose', 'MatMul', 'Gemm', 'Add', 'MaxPool',
  'GlobalAveragePool', 'Concat',
)  # fmt: skip


def quantise(folder, out, cases, judge):
  """Writes into `out` the exported folder with a model of eight bits.

  Weights are quantised by channel, to seven bits: a CPU without VNNI adds two
  products in sixteen bits, and those of eight would not fit there, which is an
  error that only shows on that machine. Activations are quantised by what
  drawn `cases` of the training feed the model; the method that `judge(folder) →
  score` likes best is taken. Returns {method: score} and the ops that stay
  float32, {kind: count}.
  """
  # A split may lie in the order of its classes or hospitals.
  order = np.random.default_rng(0).permutation(len(cases))
  drawn = (cases[int(i)] for i in order)
  inputs = exported.fed(folder, drawn, CALIBRATION)
  if not inputs:
    raise ValueError('there is no training case to calibrate by')
  scores, out = {}, pathlib.Path(out)
  with tempfile.TemporaryDirectory() as home:
    for method in METHODS:
      place = pathlib.Path(home) / method
      place.mkdir()
      _quantise(folder, place, inputs, method)
      exported.seal(folder, place, {'bits': 8, 'calibrated_by': method})
      scores[method] = judge(place)
    best = max(scores, key=lambda name: np.nan_to_num(scores[name], nan=-1))
    shutil.copytree(pathlib.Path(home) / best, out, dirs_exist_ok=True)
  return scores, _left(out / artefact.ONNX)


def _quantise(folder, out, inputs, method):
  import onnx
  from onnxruntime import quantization as q

  model = onnx.shape_inference.infer_shapes(
    onnx.load(pathlib.Path(folder) / artefact.ONNX)
  )
  if method != 'MinMax':
    inputs = inputs[: max(4, _HELD // max(_held(model), 1))]
  with _quiet():
    q.quantize_static(
      model,
      out / artefact.ONNX,
      _Reader(inputs),
      quant_format=q.QuantFormat.QDQ,
      op_types_to_quantize=list(_QUANTISED),
      per_channel=True,
      reduce_range=True,
      activation_type=q.QuantType.QUInt8,
      weight_type=q.QuantType.QInt8,
      calibrate_method=getattr(q.CalibrationMethod, method),
    )
  made = planes.flattened(onnx.load(out / artefact.ONNX))
  with files.replacing(out / artefact.ONNX, 'wb') as f:
    f.write(made.SerializeToString())


@contextlib.contextmanager
def _quiet():
  """Without what ONNX Runtime prints and logs of its progress."""
  before = logging.root.manager.disable
  logging.disable(logging.WARNING)
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    logging.disable(before)


class _Reader:
  """Inputs, one after the other, as ONNX Runtime asks for them."""

  def __init__(self, inputs):
    self._left = iter(inputs)

  def get_next(self):
    """The next one, or None."""
    return next(self._left, None)


def _held(model):
  """Bytes of all activations of one input."""
  total = 0
  for info in model.graph.value_info:
    sizes = [max(d.dim_value, 1) for d in info.type.tensor_type.shape.dim]
    total += 4 * int(np.prod(sizes, dtype=np.int64))
  return total


def _left(path):
  """{kind: count} of the heavy operators whose inputs are not quantised."""
  import onnx

  graph, found = onnx.load(path).graph, {}
  made = {name: node for node in graph.node for name in node.output}
  for node in graph.node:
    if node.op_type in ('Conv', 'ConvTranspose', 'MatMul', 'Gemm'):
      source = made.get(node.input[0])
      if source is None or source.op_type != 'DequantizeLinear':
        found[node.op_type] = found.get(node.op_type, 0) + 1
  return found
