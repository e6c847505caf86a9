import json

import jax
import numpy as np
import pytest

from medjax.finetune import adapted, loading


def write_safetensors(path, weights):
  """The format in full: header length, header, arrays one after the other."""
  header, body = {'__metadata__': {'format': 'pt'}}, b''
  names = {
    'float32': 'F32',
    'float16': 'F16',
    'bfloat16': 'BF16',
    'int64': 'I64',
  }
  for name, array in weights.items():
    data = array.tobytes()
    header[name] = {
      'dtype': names[array.dtype.name],
      'shape': array.shape,
      'data_offsets': [len(body), len(body) + len(data)],
    }
    body += data
  text = json.dumps(header).encode()
  path.write_bytes(len(text).to_bytes(8, 'little') + text + body)
  return path


@pytest.fixture
def safetensors(tmp_path):
  """safetensors({name: array or shape}) → path; a shape is noise."""

  def write(weights):
    rng = np.random.default_rng(0)
    arrays = {
      k: rng.normal(size=v).astype('f') if isinstance(v, tuple) else v
      for k, v in weights.items()
    }
    return write_safetensors(tmp_path / 'weights.safetensors', arrays)

  return write


@pytest.fixture
def assert_equal(tmp_path):
  """assert_equal(torch, net, model, size): saved and loaded it gives the same.

  Gives the report. The file is tmp_path / 'net.pth'.
  """

  def check(torch, net, model, size):
    torch.manual_seed(0)
    with torch.no_grad():
      for p in (*net.parameters(), *net.buffers()):
        if p.is_floating_point():
          p.add_(0.1 * torch.rand(p.shape))
    path = tmp_path / 'net.pth'
    torch.save({'state_dict': net.state_dict()}, path)
    x = np.random.default_rng(0).normal(size=(2, *size, 1)).astype('f')
    outline = adapted.outline(model, (jax.ShapeDtypeStruct(x.shape, x.dtype),))
    variables, report = loading.load(path, model, outline)
    with torch.no_grad():
      y = net.eval()(torch.tensor(np.moveaxis(x, -1, 1).copy())).numpy()
    found = jax.jit(model.apply)(variables, x)
    y = np.moveaxis(y, 1, -1)
    np.testing.assert_allclose(found, y, atol=1e-4 * np.abs(y).max())
    return report

  return check
