import json

import numpy as np
import pytest


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
