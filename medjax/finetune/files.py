"""Weights from .safetensors and .pth files, as numpy arrays; no code is run."""

import collections
import json
import math
import pathlib
import pickle
import zipfile

import jax.numpy as jnp
import numpy as np

# bfloat16 is jax's own numpy type.
_SAFETENSORS = {
  'F64': np.float64, 'F32': np.float32, 'F16': np.float16,
  'BF16': jnp.bfloat16, 'I64': np.int64, 'I32': np.int32, 'I16': np.int16,
  'I8': np.int8, 'U8': np.uint8, 'BOOL': np.bool_,
}  # fmt: skip
_STORAGES = {
  'DoubleStorage': np.float64, 'FloatStorage': np.float32,
  'HalfStorage': np.float16, 'BFloat16Storage': jnp.bfloat16,
  'LongStorage': np.int64, 'IntStorage': np.int32, 'ShortStorage': np.int16,
  'CharStorage': np.int8, 'ByteStorage': np.uint8, 'BoolStorage': np.bool_,
}  # fmt: skip
# What training programs put around a state dict, and before its names.
_NESTS = ('state_dict', 'model', 'model_state_dict', 'net', 'network_weights')
_PREFIXES = ('module.', '_orig_mod.', 'model.', 'net.')


def read(path):
  """{name: array} of the weights in a .safetensors or torch zip file.

  A state dict that lies in another dict, as training programs save it, is
  found; prefixes that all names share, as torch's wrappers add them, are cut.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is of another kind, damaged, or holds more than weights.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file')
  try:
    if path.suffix == '.safetensors':
      weights = _read_safetensors(path)
    elif zipfile.is_zipfile(path):
      weights = _find_weights(_read_torch(path), path)
    else:
      raise ValueError(
        'neither .safetensors nor a zip file as torch ≥ 1.6 writes it. A file '
        'of an older torch is converted, where torch is, by '
        'torch.save(torch.load(old, weights_only=True), new)'
      )
  except Exception as e:  # Bytes that are no weights can fail in any way.
    raise ValueError(f'{path}: {e}') from None
  for prefix in _PREFIXES:
    if weights and all(name.startswith(prefix) for name in weights):
      weights = {k.removeprefix(prefix): v for k, v in weights.items()}
  return weights


def _read_safetensors(path):
  """An 8-byte length, a JSON header of that length, the arrays' bytes."""
  data = path.read_bytes()
  size = int.from_bytes(data[:8], 'little')
  if len(data) < 8 or size > len(data) - 8:
    raise ValueError('the header is cut off')
  header, body = json.loads(data[8 : 8 + size]), memoryview(data)[8 + size :]
  weights = {}
  for name, entry in header.items():
    if name == '__metadata__':
      continue
    if entry['dtype'] not in _SAFETENSORS:
      raise ValueError(f'{name} is {entry["dtype"]}, which medjax cannot read')
    begin, end = entry['data_offsets']
    dtype = np.dtype(_SAFETENSORS[entry['dtype']])
    count = math.prod(entry['shape'])
    if not 0 <= begin <= end <= len(body) or end - begin != (
      count * dtype.itemsize
    ):
      raise ValueError(f'{name} does not lie within the file')
    array = np.frombuffer(body[begin:end], dtype)
    weights[name] = array.reshape(entry['shape'])
  return weights


def _read_torch(path):
  """Reads a file of torch.save: a zip of a pickle and its arrays' bytes."""
  with zipfile.ZipFile(path) as file:
    pickles = [n for n in file.namelist() if n.endswith('data.pkl')]
    if len(pickles) != 1:
      raise ValueError('a zip file, but torch did not write it')
    folder = pickles[0].removesuffix('data.pkl')
    order = f'{folder}byteorder'
    if order in file.namelist() and file.read(order) != b'little':
      raise ValueError('written on a big-endian machine')
    return _Weights(file, folder).load()


class _Weights(pickle.Unpickler):
  """Reads tensors and plain containers; refuses to call anything else.

  A pickle is a program that may call whatever `find_class` gives it. Here that
  is what makes an OrderedDict and what makes an array of bytes of the file.
  """

  def __init__(self, file, folder):
    super().__init__(file.open(f'{folder}data.pkl'))
    self._file, self._folder = file, folder

  def find_class(self, module, name):
    if (module, name) == ('collections', 'OrderedDict'):
      return collections.OrderedDict
    if module == 'torch._utils':
      # Made for this file: nothing that the pickle could change is ours.
      if name == '_rebuild_tensor_v2':
        return lambda *args: _strided(*args[:4])
      if name == '_rebuild_parameter':
        return lambda data, *_: data
    if (module, name) == ('torch', 'Size'):
      return lambda sizes=(): tuple(sizes)
    if module == 'torch' and name in _STORAGES:
      return name
    raise ValueError(
      f'holds a {module}.{name}, and medjax runs no code from a file. Save '
      'weights only: torch.save(model.state_dict(), path)'
    )

  def persistent_load(self, pid):
    kind, storage, key, _, count = pid
    data = self._file.read(f'{self._folder}data/{key}')
    if kind != 'storage' or storage not in _STORAGES:
      raise ValueError(f'holds a {kind} of unknown kind')
    return np.frombuffer(data, _STORAGES[storage], count)


def _strided(storage, offset, shape, strides):
  """An array of a storage's values, as torch lays them out."""
  last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
  if math.prod(shape) == 0:
    return np.zeros(shape, storage.dtype)
  inside = min(offset, *shape, *strides, 0) >= 0 and last < storage.size
  if not inside or math.prod(shape) > storage.size:
    raise ValueError('a tensor reaches beyond its storage')
  step = storage.dtype.itemsize
  view = np.lib.stride_tricks.as_strided(
    storage[offset:], shape, [s * step for s in strides]
  )
  return view.copy()


def _find_weights(tree, path):
  """The state dict in what a training program saved."""
  if not isinstance(tree, dict):
    raise ValueError(f'holds a {type(tree).__name__}, not a state dict')
  for name in _NESTS:
    if isinstance(tree.get(name), dict):
      return _find_weights(tree[name], path)
  weights = {k: v for k, v in tree.items() if isinstance(v, np.ndarray)}
  if not weights:
    raise ValueError(f'holds no tensors but {", ".join(map(str, tree))}')
  return weights
