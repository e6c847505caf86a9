"""One image under two names: in two splits, or with two labels."""

import numpy as np
import pytest

from medjax.data.folder import open_folder


def array(path, end):
  """A file of 2 MiB that differs from others of its size only at its end."""
  path.parent.mkdir(parents=True, exist_ok=True)
  values = np.zeros((1024, 2048), np.uint8)
  values[-1] = end
  np.save(path, values)


def test_a_copy_behind_others_that_begin_alike(tmp_path):
  array(tmp_path / 'train' / 'a' / '1.npy', 1)
  array(tmp_path / 'train' / 'a' / '2.npy', 2)
  array(tmp_path / 'train' / 'b' / '3.npy', 3)
  array(tmp_path / 'test' / 'b' / '4.npy', 4)
  assert len(open_folder(tmp_path, 'train')) == 3
  array(tmp_path / 'test' / 'a' / '5.npy', 2)
  with pytest.raises(ValueError, match=r'2\.npy and .*5\.npy are the same'):
    open_folder(tmp_path, 'train')


def test_copies_of_one_split_and_label_are_let_be(tmp_path):
  for name in ('1', '2'):
    array(tmp_path / 'train' / 'a' / f'{name}.npy', 1)
  array(tmp_path / 'train' / 'b' / '3.npy', 3)
  array(tmp_path / 'test' / 'b' / '4.npy', 4)
  options = {'fractions': (1, 0, 0)}
  assert len(open_folder(tmp_path, 'train', **options)) == 3
