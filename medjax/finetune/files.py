"""Weights from .safetensors and .pth files, as numpy arrays; no code is run."""

import collections
import itertools
import json
import math
import pathlib
import pickle
import struct
import zipfile
from typing import ClassVar

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
# Bytes of what says where the arrays lie. Honest files have a hundredth.
_MOST = 4 * 2**20
_DEPTH = 8  # of dicts around a state dict
# What a pickle of a state dict does; each in time and memory of its length.
_OPERATIONS = (
  pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.NONE,
  pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1,
  pickle.BININT2, pickle.LONG1, pickle.BINFLOAT, pickle.BINUNICODE,
  pickle.SHORT_BINUNICODE, pickle.BINSTRING, pickle.SHORT_BINSTRING,
  pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.EMPTY_DICT, pickle.EMPTY_LIST,
  pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2,
  pickle.TUPLE3, pickle.APPEND, pickle.APPENDS, pickle.BINPUT,
  pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.BINGET, pickle.LONG_BINGET,
  pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BINPERSID,
)  # fmt: skip


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
      weights = _find_weights(_read_torch(path))
    else:
      raise ValueError(
        'neither .safetensors nor a zip file as torch ≥ 1.6 writes it. A file '
        'of an older torch is converted, where torch is, by '
        'torch.save(torch.load(old, weights_only=True), new)'
      )
  except Exception as e:  # Bytes that are no weights can fail in any way.
    raise ValueError(f'{path}: {_short(str(e) or type(e).__name__)}') from None
  for prefix in _PREFIXES:
    if weights and all(name.startswith(prefix) for name in weights):
      weights = {k.removeprefix(prefix): v for k, v in weights.items()}
  return weights


def _short(text, most=400):
  """A text of which names of a file, however long, are a part."""
  return text if len(text) <= most else f'{text[:most]}…'


def _read_safetensors(path):
  """An 8-byte length, a JSON header of that length, the arrays' bytes."""
  data = path.read_bytes()
  size = int.from_bytes(data[:8], 'little')
  if len(data) < 8 or size > len(data) - 8:
    raise ValueError('the header is cut off')
  if size > _MOST:
    raise ValueError(f'a header of {size} bytes, which no model needs')
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
  if _directory_size(path) > _MOST:
    raise ValueError('a zip file of more parts than a model has arrays')
  with zipfile.ZipFile(path) as file:
    if any(part.compress_type != zipfile.ZIP_STORED for part in file.filelist):
      # What is compressed may unpack to any size.
      raise ValueError(
        'a zip file with compressed parts, as torch writes none: unpack it, '
        'and load and save it with torch'
      )
    pickles = [n for n in file.namelist() if n.endswith('data.pkl')]
    if len(pickles) != 1:
      raise ValueError('a zip file, but torch did not write it')
    if file.getinfo(pickles[0]).file_size > _MOST:
      raise ValueError('its list of arrays is larger than that of any model')
    folder = pickles[0].removesuffix('data.pkl')
    order = f'{folder}byteorder'
    if order in file.namelist() and file.read(order) != b'little':
      raise ValueError('written on a big-endian machine')
    try:
      return _Weights(file, folder).load()
    except LookupError:
      raise ValueError(
        'its list of arrays is damaged, or more than a state dict'
      ) from None


def _directory_size(path):
  """Bytes of the list of parts at the end of a zip file, as it says itself."""
  with path.open('rb') as f:
    f.seek(max(0, path.stat().st_size - 2**16 - 98))
    end = f.read()
  place, large = end.rfind(b'PK\x05\x06'), end.rfind(b'PK\x06\x06')
  (size,) = struct.unpack_from('<I', end, place + 12)
  if size == 2**32 - 1 and large >= 0:
    (size,) = struct.unpack_from('<Q', end, large + 40)
  return size


def _is_key(key):
  """Whether it is cheap to use as a key: tuples of tuples of … are not."""
  return key is None or isinstance(key, str | int | float)


def _ordered(items=()):
  items = list(items)
  if not all(_is_key(k) for k, _ in items):
    raise ValueError('holds a dict with keys that are no names')
  return collections.OrderedDict(items)


# What nnU-Net and others keep beside weights: numbers and names, of no use.
_BESIDE = frozenset((
  ('torch', 'device'), ('numpy', 'dtype'), ('_codecs', 'encode'),
  ('numpy.core.multiarray', 'scalar'), ('numpy._core.multiarray', 'scalar'),
))  # fmt: skip


class _Weights(pickle._Unpickler):
  """Reads tensors and plain containers; refuses to call anything else.

  A pickle is a program that may call whatever `find_class` gives it. Here that
  is what makes an OrderedDict and what makes an array of bytes of the file. It
  may also take up all time and memory: this one, of Python's two, is told which
  of the operations there are, those of state dicts.
  """

  def __init__(self, file, folder):
    super().__init__(file.open(f'{folder}data.pkl'))
    self._file, self._folder, self._storages = file, folder, {}

  def find_class(self, module, name):
    if (module, name) == ('collections', 'OrderedDict'):
      return lambda items=(): _ordered(items)
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
    if (module, name) in _BESIDE:
      return lambda *_: None
    raise ValueError(
      f'holds a {module}.{name}, and medjax runs no code from a file. Save '
      'weights only: torch.save(model.state_dict(), path)'
    )

  def persistent_load(self, pid):
    kind, storage, key, _, count = pid
    if kind != 'storage' or storage not in _STORAGES:
      raise ValueError('holds a storage of unknown kind')
    if not isinstance(key, str):
      raise ValueError('holds a storage without a name')
    if key not in self._storages:  # weights may share one
      self._storages[key] = self._file.read(f'{self._folder}data/{key}')
    return np.frombuffer(self._storages[key], _STORAGES[storage], count)

  def _set_item(self):
    if not _is_key(self.stack[-2]):
      raise ValueError('holds a dict with keys that are no names')
    self.load_setitem()

  def _set_items(self):
    if not all(map(_is_key, self.stack[::2])):
      raise ValueError('holds a dict with keys that are no names')
    self.load_setitems()

  def _build(self):
    self.stack.pop()  # metadata of a state dict, which are of no use

  dispatch: ClassVar = {
    **{k: pickle._Unpickler.dispatch[k] for k in b''.join(_OPERATIONS)},
    pickle.SETITEM[0]: _set_item,
    pickle.SETITEMS[0]: _set_items,
    pickle.BUILD[0]: _build,
  }


def _strided(storage, offset, shape, strides):
  """An array of a storage's values, as torch lays them out; not copied."""
  numbers = (offset, *shape, *strides)
  # Few and small: their product, too, is to be quick.
  if len(numbers) > 65 or not all(
    isinstance(n, int) and abs(n) < 2**62 for n in numbers
  ):
    raise ValueError('holds a tensor with a shape that is none')
  last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
  if math.prod(shape) == 0:
    return np.zeros(shape, storage.dtype)
  inside = min(offset, *shape, *strides, 0) >= 0 and last < storage.size
  if not inside or math.prod(shape) > storage.size:
    raise ValueError('a tensor reaches beyond its storage')
  step = storage.dtype.itemsize
  return np.lib.stride_tricks.as_strided(
    storage[offset:], shape, [s * step for s in strides], writeable=False
  )


def _find_weights(tree):
  """The state dict in what a training program saved."""
  for _ in range(_DEPTH):
    if not isinstance(tree, dict):
      raise ValueError(f'holds a {type(tree).__name__}, not a state dict')
    nests = [name for name in _NESTS if isinstance(tree.get(name), dict)]
    if not nests:
      break
    tree = tree[nests[0]]
  weights = {
    k: v
    for k, v in tree.items()
    if isinstance(k, str) and isinstance(v, np.ndarray)
  }
  if not weights:
    few = ', '.join(str(k) for k in itertools.islice(tree, 8))
    raise ValueError(f'holds no tensors but {few or "nothing"}')
  return weights
