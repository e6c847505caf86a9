"""The same numbers by 2-D convolutions as by 3-D ones."""

import numpy as np
import pytest

from medjax.compress import planes

onnx = pytest.importorskip('onnx')
ort = pytest.importorskip('onnxruntime')
CONVOLUTIONS = {
  'as a U-Net has it': ((3, 3, 3), dict(pads=[1] * 6)),
  'strided, padding on one side': (
    (3, 2, 3),
    dict(pads=[1, 0, 1, 0, 1, 1], strides=[2, 1, 2]),
  ),
  'no padding, two taps': ((2, 1, 1), dict(strides=[2, 2, 2])),
}


def quantised(kernel, options, tmp_path):
  """A QDQ model of a convolution of 3 channels to 4, and an input."""
  from onnxruntime import quantization as q

  h, rng = onnx.helper, np.random.default_rng(0)
  w = rng.normal(size=(4, 3 // options.get('group', 1), *kernel))
  info = lambda name, shape: h.make_tensor_value_info(name, 1, shape)
  graph = h.make_graph(
    [
      h.make_node(
        'Conv', ['x', 'w', 'b'], ['c'], name='conv', kernel_shape=kernel,
        **options,
      ),
      h.make_node('Relu', ['c'], ['y'], name='relu'),
    ],
    'g',
    [info('x', ['batch', 3, 6, 7, 8])],
    [info('y', None)],
    [
      onnx.numpy_helper.from_array(w.astype(np.float32), 'w'),
      onnx.numpy_helper.from_array(rng.normal(size=4).astype('f4'), 'b'),
    ],
  )  # fmt: skip
  model = h.make_model(
    graph, opset_imports=[h.make_opsetid('', 18)], ir_version=9
  )
  x = rng.normal(0.3, 1, size=(2, 3, 6, 7, 8)).astype(np.float32)
  given = iter([{'x': x}])

  class Reader:
    def get_next(self):
      return next(given, None)

  model = onnx.shape_inference.infer_shapes(model)
  q.quantize_static(
    model, tmp_path / 'q.onnx', Reader(), quant_format=q.QuantFormat.QDQ,
    per_channel=True, op_types_to_quantize=['Conv'],
    reduce_range=True, activation_type=q.QuantType.QUInt8,
  )  # fmt: skip
  return onnx.load(tmp_path / 'q.onnx'), x


def run(model, x):
  session = ort.InferenceSession(
    model.SerializeToString(), providers=['CPUExecutionProvider']
  )
  return session.run(None, {'x': x})[0]


def kernels(model):
  return [len(x.dims) for x in model.graph.initializer if len(x.dims) > 3]


@pytest.mark.parametrize('name', CONVOLUTIONS)
def test_the_result_is_the_same_to_the_bit(name, tmp_path):
  model, x = quantised(*CONVOLUTIONS[name], tmp_path)
  wanted = run(model, x)
  assert wanted.std() > 0
  flat = planes.flattened(model)
  onnx.checker.check_model(flat)
  assert kernels(flat) == [4]
  np.testing.assert_array_equal(run(flat, x), wanted)


@pytest.mark.parametrize(
  ('kernel', 'options'),
  [((1, 3, 3), {}), ((3, 3, 3), dict(dilations=[2, 1, 1]))],
)
def test_other_convolutions_stay(kernel, options, tmp_path):
  model, x = quantised(kernel, options, tmp_path)
  wanted = run(model, x)
  flat = planes.flattened(model)
  assert kernels(flat) == [5]
  np.testing.assert_array_equal(run(flat, x), wanted)
