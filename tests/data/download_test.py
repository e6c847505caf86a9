import os
import tarfile
import zipfile

import pytest

from medjax.data import download


def packed(path, content, seconds):
  """An archive with one file, of a time of change of its own."""
  path.parent.mkdir(exist_ok=True)
  if path.suffix == '.zip':
    with zipfile.ZipFile(path, 'w') as f:
      f.writestr('a.txt', content)
  else:
    source = path.with_name('a.txt')
    source.write_text(content)
    with tarfile.open(path, 'w') as f:
      f.add(source, 'a.txt')
  os.utime(path, (seconds, seconds))
  return path


@pytest.mark.parametrize('name', ['set.zip', 'set.tar'])
def test_what_is_unpacked_belongs_to_its_archive(tmp_path, name):
  archive, home = tmp_path / 'in' / name, tmp_path / 'home'
  home.mkdir()
  first = download.unpacked(packed(archive, 'old', 1e9), home)
  (first / 'mark').touch()
  assert download.unpacked(archive, home) == first
  assert (first / 'mark').exists()  # it was not unpacked again
  second = download.unpacked(packed(archive, 'new', 1.1e9), home)
  assert (second / 'a.txt').read_text() == 'new'
  assert [p.name for p in home.iterdir()] == [second.name]


@pytest.mark.parametrize('name', ['set.zip', 'set.tar'])
def test_a_damaged_archive_leaves_nothing(tmp_path, name):
  archive = packed(tmp_path / 'in' / name, 'text ' * 500, 1e9)
  archive.write_bytes(archive.read_bytes()[:700])
  home = tmp_path / 'home'
  home.mkdir()
  with pytest.raises(ValueError, match=r'truncated or damaged .*; download'):
    download.unpacked(archive, home)
  assert not list(home.iterdir())
