"""Each file once, whatever links there are, and nothing that waits."""

import os
import socket

import pytest

from medjax import convert
from medjax.data import formats, walk


def tree(root, *names):
  for name in names:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name)


def names(root, passed=None, **options):
  return [
    p.relative_to(root).as_posix()
    for p in walk.files_below(root, passed, **options)
  ]


def test_order_hidden_and_thumbnails(tmp_path):
  tree(
    tmp_path, 'b/2', 'b/1', 'a', '.hidden', '.git/x', 'b/@eaDir/1/t.png',
    '__MACOSX/._a', '.thumbs/a', 'b/.DS_Store', 'b/Thumbs.db', 'c/._1',
  )  # fmt: skip
  passed = walk.Passed()
  assert names(tmp_path, passed) == ['a', 'b/1', 'b/2']
  assert passed == {walk.HIDDEN: 3, walk.THUMBNAILS: 3}
  assert passed.lines() == (
    'passed over: 3 folders of thumbnails or deleted files',
    'passed over: 3 hidden files or folders',
  )


def test_links_to_folders(tmp_path):
  tree(tmp_path, 'in/real/1', 'in/real/2', 'out/3', 'out/deep/4')
  root = tmp_path / 'in'
  (root / 'linked').symlink_to(tmp_path / 'out')
  (root / 'again').symlink_to(tmp_path / 'out')
  (root / 'real' / 'loop').symlink_to(root)
  (root / 'inner').symlink_to(root / 'real')
  (root / 'around').symlink_to(tmp_path)
  (tmp_path / 'out' / 'back').symlink_to(root)
  (root / 'nowhere').symlink_to(tmp_path / 'gone')
  (root / 'self').symlink_to(root / 'self')
  passed = walk.Passed()
  found = names(root, passed)
  assert sorted(os.path.basename(n) for n in found) == ['1', '2', '3', '4']
  assert passed[walk.LOOPS] == 5
  assert passed[walk.BROKEN] == 2


def test_a_link_is_where_the_walk_begins(tmp_path):
  tree(tmp_path, 'store/1')
  (tmp_path / 'data').symlink_to(tmp_path / 'store')
  assert names(tmp_path / 'data') == ['1']


def test_further_names_of_a_file(tmp_path):
  tree(tmp_path, 'a/1', 'b/other')
  os.link(tmp_path / 'a' / '1', tmp_path / 'b' / 'copy')
  (tmp_path / 'b' / 'link').symlink_to(tmp_path / 'a' / '1')
  passed = walk.Passed()
  assert names(tmp_path, passed) == ['a/1', 'b/other']
  assert passed == {walk.COPIES: 2}


def test_files_of_an_annex_are_links_and_are_there(tmp_path):
  tree(tmp_path, '.git/annex/k1', '.git/annex/k2')
  for i in (1, 2):
    (tmp_path / f'x{i}.nii').symlink_to(tmp_path / '.git' / 'annex' / f'k{i}')
  assert names(tmp_path) == ['x1.nii', 'x2.nii']


def test_what_would_wait_is_never_opened(tmp_path, monkeypatch):
  tree(tmp_path, 'a')
  os.mkfifo(tmp_path / 'pipe.nii')
  monkeypatch.chdir(tmp_path)
  with socket.socket(socket.AF_UNIX) as s:
    s.bind('sock.nii')
    passed = walk.Passed()
    assert names(tmp_path, passed) == ['a']
  assert passed == {walk.SPECIAL: 2}


def test_folders_that_may_not_be_read(tmp_path, monkeypatch):
  tree(tmp_path, 'a/1', 'b/2')
  whole = os.scandir

  def denied(path):
    if os.path.basename(path) == 'a':
      raise PermissionError(13, 'Permission denied', str(path))
    return whole(path)

  monkeypatch.setattr(os, 'scandir', denied)
  with pytest.raises(PermissionError, match='a: this folder may not be read'):
    names(tmp_path)
  unreadable = {}
  assert names(tmp_path, unreadable=unreadable) == ['b/2']
  assert list(unreadable) == [tmp_path / 'a']


def test_ome_zarr_is_refused_by_its_name(tmp_path):
  tree(tmp_path, 'a.png', 'x.ome.zarr/0/.zarray', 'x.ome.zarr/0/0.0')
  passed = walk.Passed()
  assert names(tmp_path, passed) == ['a.png']
  assert 'passed over: 1 folders of OME-Zarr' in passed.lines()[0]
  with pytest.raises(ValueError, match=r'x\.ome\.zarr: .*save it as OME-TIFF'):
    formats.read(tmp_path / 'x.ome.zarr')
  errors = convert.convert_all(tmp_path / 'x.ome.zarr', tmp_path / 'out')
  assert 'is OME-Zarr, which is not read' in errors[0]
