import hashlib
import http.server
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from medjax import prepare
from medjax.data import records

ROOT = pathlib.Path(prepare.__file__).resolve().parents[1]

SLOW = """
import time
import numpy as np
import tensorflow_datasets as tfds
from medjax.data import records

class Slow(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return records.dataset_info(
      self, features=records.features(2, mask=True), class_names=('a', 'b'))

  def _split_generators(self, dl_manager):
    return {s: self._generate_examples() for s in ('train', 'test')}

  def _generate_examples(self):
    for i in range(20):
      time.sleep(SECONDS)
      yield records.example(dict(
        id=f'{i}', image=np.full((4, 4, 1), i, np.uint8),
        mask=np.zeros((4, 4), np.uint8)))
"""


def run(*arguments):
  return subprocess.Popen(
    [sys.executable, '-m', 'medjax.prepare', *map(str, arguments)],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_killed_and_run_again(tmp_path):
  builder = tmp_path / 'slow.py'
  builder.write_text(SLOW.replace('SECONDS', '0.2'))
  home = tmp_path / 'data'
  process = run(builder, f'--data_dir={home}')
  for _ in range(600):
    if list(home.glob('slow/incomplete.*')):
      break
    time.sleep(0.05)
  time.sleep(0.5)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert list(home.glob('slow/incomplete.*'))
  assert not (home / 'slow' / '1.0.0').exists()
  with pytest.raises(FileNotFoundError, match='not prepared'):
    records.open_split('slow', 'train', home)

  builder.write_text(SLOW.replace('SECONDS', '0'))
  both = [run(builder, f'--data_dir={home}') for _ in range(2)]
  outputs = [p.communicate()[0] for p in both]
  assert [p.returncode for p in both] == [0, 0]
  assert sum('prepared slow: train 20, test 20' in o for o in outputs) == 1
  assert len(records.open_split('slow', 'train', home)) == 20
  assert not list(home.glob('slow/incomplete.*'))


def test_a_second_time_does_nothing(tmp_path, capsys):
  builder = tmp_path / 'slow.py'
  builder.write_text(SLOW.replace('SECONDS', '0'))
  target = prepare.prepare(str(builder), tmp_path)
  before = {p: p.stat().st_mtime_ns for p in target.iterdir()}
  capsys.readouterr()
  assert prepare.prepare(str(builder), tmp_path) == target
  assert before == {p: p.stat().st_mtime_ns for p in target.iterdir()}
  assert capsys.readouterr().out == ''


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    (
      'mni152_tisue',
      "no data set 'mni152_tisue'; did you mean 'mni152_tissue'",
    ),
    ('msd/hipocampus', "msd has no 'hipocampus'; did you mean 'hippocampus'"),
    ('medmnist', 'medmnist needs a configuration, as in medmnist/pathmnist'),
    ('medmnist/pneumonia', "did you mean 'pneumoniamnist'"),
    ('nowhere/foo.py', 'nowhere/foo.py: no such builder file'),
    ('msd/hippocampus --manual_dir=nowhere', 'nowhere: --manual_dir is no'),
    ('msd/hippocampus --manual_dir=tests', 'tests: holds no imagesTr'),
    (
      'medmnist/breastmnist --manual_dir=tests',
      'no such file; download https://zenodo.org/records/10519652/files/'
      'breastmnist.npz',
    ),
  ],
)
def test_bad_requests_get_one_line(
  tmp_path, capsys, monkeypatch, name, message
):
  monkeypatch.chdir(ROOT)
  arguments = ['prepare', *name.split(), f'--data_dir={tmp_path}']
  monkeypatch.setattr(sys, 'argv', arguments)
  with pytest.raises(SystemExit, match='1'):
    prepare.main()
  error = capsys.readouterr().err.replace('\r', '\n').strip().splitlines()
  assert message in error[-1]
  assert sum(line.startswith('medjax:') for line in error) == 1


def test_a_failing_case_leaves_nothing(tmp_path):
  builder = tmp_path / 'slow.py'
  bad = SLOW.replace('SECONDS', '0').replace(
    '(4, 4), np.uint8)', '(4, 5), int)'
  )
  builder.write_text(bad)
  with pytest.raises(ValueError, match='0: mask has shape') as e:
    prepare.prepare(str(builder), tmp_path)
  assert '\n' not in str(e.value)
  assert not (tmp_path / 'slow' / '1.0.0').exists()
  assert not list(tmp_path.glob('slow/incomplete.*'))


def test_unwritable(tmp_path):
  (tmp_path / 'file').write_text('in the way')
  builder = tmp_path / 'slow.py'
  builder.write_text(SLOW.replace('SECONDS', '0'))
  with pytest.raises(OSError, match='could not prepare') as e:
    prepare.prepare(str(builder), tmp_path / 'file')
  assert '\n' not in str(e.value)


def test_full_disk(tmp_path):
  builder = tmp_path / 'slow.py'
  builder.write_text(SLOW.replace('SECONDS', '0'))
  home = tmp_path / 'data'
  process = subprocess.run(
    [
      'sh',
      '-c',
      f'ulimit -f 1; exec {sys.executable} -B -m medjax.prepare {builder} '
      f'--data_dir={home}',
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert process.returncode == 1
  error = process.stderr.strip()
  assert error.startswith('medjax: could not prepare')
  assert '\n' not in error
  assert not (home / 'slow' / '1.0.0').exists()


@pytest.fixture
def server(tmp_path):
  folder = tmp_path / 'served'
  folder.mkdir()

  class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args):
      super().__init__(*args, directory=str(folder))

    def log_message(self, *args):
      pass

  httpd = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  threading.Thread(target=httpd.serve_forever, daemon=True).start()
  yield folder, f'http://127.0.0.1:{httpd.server_port}'
  httpd.shutdown()


def test_fetch(tmp_path, server, capsys):
  folder, url = server
  (folder / 'a.npz').write_bytes(b'content')
  md5 = hashlib.md5(b'content').hexdigest()
  here = tmp_path / 'downloads'
  with pytest.raises(ValueError, match='has MD5'):
    records.fetch(f'{url}/a.npz', md5='0' * 32, folder=here)
  assert not list(here.iterdir())
  path = records.fetch(f'{url}/a.npz?download=1', md5=md5, folder=here)
  assert path.read_bytes() == b'content'
  (folder / 'a.npz').unlink()  # it is not asked for again
  assert records.fetch(f'{url}/a.npz', md5=md5, folder=here) == path
  for bad in (f'{url}/b.npz', 'http://127.0.0.1:9/b.npz'):
    with pytest.raises(FileNotFoundError, match='could not download') as e:
      records.fetch(bad, md5=md5, folder=here)
    assert '--manual_dir=' in str(e.value)
    assert '\n' not in str(e.value)
  capsys.readouterr()
  at_hand = records.fetch(f'{url}/a.npz', md5=md5, folder='', manual_dir=here)
  assert at_hand == path
  assert capsys.readouterr().out == ''
  records.fetch(f'{url}/a.npz', md5='0' * 32, folder='', manual_dir=here)
  assert capsys.readouterr().out.startswith('note: ')


def test_finds_builders_in_the_working_directory(tmp_path, monkeypatch):
  (tmp_path / 'datasets').mkdir()
  (tmp_path / 'datasets' / 'mine.py').write_text(SLOW)
  monkeypatch.chdir(tmp_path)
  assert prepare.find('mine/x') == (pathlib.Path('datasets/mine.py'), 'x')
  assert os.path.isabs(prepare.find('msd')[0])
