import collections
import io
import os
import pathlib
import pickle
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from medjax.finetune import files


def test_torch_files_hold_what_torch_saved(tmp_path):
  torch = pytest.importorskip('torch')
  base = torch.arange(24.0)
  tensors = {
    'float': torch.randn(2, 3, 4),
    'half': torch.randn(3).half(),
    'bfloat': torch.randn(3).bfloat16(),
    'long': torch.tensor(7),
    'bool': torch.tensor([True, False]),
    'transposed': torch.randn(4, 5).T,
    'view': base[5:].reshape(-1)[:6].view(2, 3),  # within another's storage
    'parameter': torch.nn.Parameter(torch.ones(2)),
    'empty': torch.zeros(0, 3),
  }
  states = {
    'plain.pth': tensors,
    'nested.pt': {
      'epoch': 3,
      'state_dict': {f'module.{k}': v for k, v in tensors.items()},
    },
    'module.pth': None,
  }
  net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
  for name, state in states.items():
    state = net.state_dict() if state is None else state
    torch.save(state, tmp_path / name)
    found = files.read(tmp_path / name)
    expected = net.state_dict() if name == 'module.pth' else tensors
    assert list(found) == list(expected)
    for key, value in expected.items():
      value = value.detach()
      assert found[key].shape == tuple(value.shape)
      exact = found[key].astype(np.float64)
      np.testing.assert_array_equal(exact, value.double().numpy())


def test_what_nnunet_keeps_beside_weights_is_passed_over(tmp_path):
  torch = pytest.importorskip('torch')
  weights = {'layer.weight': torch.ones(2, 3)}
  whole = {
    'network_weights': weights,
    'optimizer_state': {'state': {0: {'momentum_buffer': torch.ones(2, 3)}}},
    'logging': {'mean_fg_dice': [np.float64(0.5), np.float32(0.25)]},
    'init_args': {'device': torch.device('cpu'), 'fold': 0},
    'current_epoch': 1000,
  }
  torch.save(whole, tmp_path / 'checkpoint_final.pth')
  found = files.read(tmp_path / 'checkpoint_final.pth')
  assert list(found) == ['layer.weight']


def test_safetensors(safetensors):
  weights = {
    'layer.weight': np.arange(6, dtype='f').reshape(2, 3),
    'layer.bias': np.array([0.5, -2], jnp.bfloat16),
    'half': np.ones((1, 2), np.float16),
    'count': np.array(3),
  }
  found = files.read(safetensors(weights))
  assert list(found) == list(weights)
  for name, value in weights.items():
    assert found[name].dtype == value.dtype
    np.testing.assert_array_equal(found[name], value)


def zipped(path, pickled, data=b''):
  """A file as torch writes it."""
  with zipfile.ZipFile(path, 'w') as file:
    file.writestr('archive/data.pkl', pickled)
    file.writestr('archive/data/0', data)
  return path


class Call:
  """Pickles as a call of `function`."""

  def __init__(self, function, *args):
    self.reduced = function, args

  def __reduce__(self):
    return self.reduced


@pytest.mark.parametrize(
  'call',
  [
    lambda mark: Call(os.system, f'touch {mark}'),
    lambda mark: Call(pathlib.Path.touch, mark),
    lambda mark: Call(eval, f'open({str(mark)!r}, "w")'),
    lambda mark: Call(getattr, (), '__class__'),
  ],
)
def test_code_is_not_run(tmp_path, call):
  mark = tmp_path / 'mark'
  state = {'weight': call(mark)}
  path = zipped(tmp_path / 'a.pth', pickle.dumps(state))
  with pytest.raises(ValueError, match='medjax runs no code from a file'):
    files.read(path)
  assert not mark.exists()


class Tensor(pickle.Pickler):
  """Pickles the words that torch's storages are."""

  def persistent_id(self, value):
    return value.pid if isinstance(value, Storage) else None


class Storage:
  def __init__(self, *pid):
    self.pid = pid


def handmade(path, *, offset=0, shape=(2,), stride=(1,), count=4):
  """A torch file of one tensor of a storage of four numbers."""
  torch = pytest.importorskip('torch')
  storage = Storage('storage', torch.FloatStorage, '0', 'cpu', count)
  tensor = Call(
    torch._utils._rebuild_tensor_v2, storage, offset, shape, stride, False,
    collections.OrderedDict(),
  )  # fmt: skip
  text = io.BytesIO()
  Tensor(text, 2).dump({'weight': tensor})
  return zipped(path, text.getvalue(), np.arange(4, dtype='f').tobytes())


def test_a_tensor_stays_within_its_storage(tmp_path):
  path = handmade(tmp_path / 'a.pth', offset=1, shape=(2,), stride=(2,))
  np.testing.assert_array_equal(files.read(path)['weight'], [1, 3])
  for wrong in (
    dict(offset=3),
    dict(offset=-1),
    dict(shape=(2,), stride=(-1,), offset=1),
    dict(shape=(3, 2), stride=(2, 1)),
    dict(shape=(10**6, 10**6), stride=(0, 0)),
    dict(shape=(2, 2)),
    dict(count=5),
  ):
    with pytest.raises(ValueError, match=r'a\.pth: '):
      files.read(handmade(tmp_path / 'a.pth', **wrong))


def test_other_files_are_refused_in_one_line(tmp_path, safetensors):
  whole = safetensors({'weight': (3, 4)}).read_bytes()
  header = int.from_bytes(whole[:8], 'little')
  wrong = {
    'cut.safetensors': (whole[:-1], 'does not lie within the file'),
    'short.safetensors': (whole[:5], 'header is cut off'),
    'beyond.safetensors': (
      whole.replace(b'[3, 4]', b'[9, 4]'), 'does not lie within'
    ),
    'type.safetensors': (whole.replace(b'"F32"', b'"F99"'), 'weight is F99'),
    'text.safetensors': (whole[:8] + b'x' * header, 'text.safetensors'),
    'old.pth': (pickle.dumps({'weight': 1}), 'torch.save.torch.load.old'),
    'notes.pth': (b'nothing', 'neither .safetensors nor a zip'),
  }  # fmt: skip
  for name, (data, message) in wrong.items():
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
      files.read(tmp_path / name)
    assert name in str(error.value)
    assert '\n' not in str(error.value)
  zipped(tmp_path / 'list.pth', pickle.dumps([1, 2]))
  with pytest.raises(ValueError, match='holds a list, not a state dict'):
    files.read(tmp_path / 'list.pth')
  zipped(tmp_path / 'empty.pth', pickle.dumps({'epoch': 2, 'best': 0.5}))
  with pytest.raises(ValueError, match='no tensors but epoch, best'):
    files.read(tmp_path / 'empty.pth')
  with zipfile.ZipFile(tmp_path / 'other.pth', 'w') as file:
    file.writestr('a.txt', 'text')
  with pytest.raises(ValueError, match='torch did not write it'):
    files.read(tmp_path / 'other.pth')
  with pytest.raises(FileNotFoundError, match='no such file'):
    files.read(tmp_path / 'nothing.pth')


def _word(text):
  return b'X' + len(text).to_bytes(4, 'little') + text


_DOUBLED = b'q\x00h\x00\x86' * 60  # a pair of a pair of … of itself


@pytest.mark.parametrize(
  ('pickled', 'line'),
  [
    (b'\x80\x02})' + _DOUBLED + b'K\x01s.', 'keys that are no names'),
    (b'\x80\x02}()' + _DOUBLED + b'K\x01u.', 'keys that are no names'),
    (b'\x80\x02)' + _DOUBLED + b'Q.', 'expected 5'),
    (b'\x80\x02}r\xff\xff\xff\x7f.', 'no tensors but nothing'),
    (b'\x80\x05\x96' + (2**40).to_bytes(8, 'little') + b'.', 'damaged'),
    (b'\x80\x02}q\x00' + _word(b'net') + b'h\x00s.', 'no tensors but net'),
    (pickle.dumps({'x' * 10**6: 1}, 2), 'xxx…'),
    (pickle.dumps({1: {2: 3}}, 2), 'no tensors but 1'),
    (pickle.dumps({frozenset({1}): 1}, 4), 'damaged, or more'),
    (b'\x80\x02' + b')' * (2**22 + 1) + b'.', 'larger than that of any'),
  ],
)
def test_no_pickle_takes_all_time_or_memory(tmp_path, pickled, line):
  with pytest.raises(ValueError, match=line) as e:
    files.read(zipped(tmp_path / 'a.pth', pickled, bytes(8)))
  assert len(str(e.value)) < 600


def test_what_may_unpack_to_any_size_is_not_unpacked(tmp_path):
  path = tmp_path / 'a.pth'
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
    file.writestr('archive/data.pkl', pickle.dumps({}, 2))
    file.writestr('archive/data/0', bytes(10**6))
  with pytest.raises(ValueError, match='compressed parts'):
    files.read(path)


def test_weights_that_share_a_storage_share_its_bytes(tmp_path):
  torch = pytest.importorskip('torch')
  base = torch.arange(1000.0)
  torch.save({f'w{i}': base for i in range(50)}, tmp_path / 'a.pth')
  found = files.read(tmp_path / 'a.pth')
  assert all(np.shares_memory(found['w0'], w) for w in found.values())
  np.testing.assert_array_equal(found['w7'], base.numpy())
