import hashlib
import http.server
import importlib.util
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from medjax import prepare
from medjax.data import builders, download, records, remote

ROOT = pathlib.Path(prepare.__file__).resolve().parents[1]

SLOW = """
import os
import time
import numpy as np
import tensorflow_datasets as tfds
from medjax.data import download, records
from medjax.data.builders import Split

class Slow(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return records.dataset_info(
      self, features=records.features(2, mask=True), class_names=('a', 'b'))

  def _split_generators(self, dl_manager):
    return {
      s: Split(self._generate_examples, range(20)) for s in ('train', 'test')}

  def _generate_examples(self, i):
    time.sleep(float(os.environ.get('SECONDS', 0)))
    yield records.example(dict(
      id=f'{i}', image=np.full((4, 4, 1), i, np.uint8),
      mask=np.zeros((4, 4), np.uint8)))
"""


def run(*arguments, **environment):
  return subprocess.Popen(
    [sys.executable, '-m', 'medjax.prepare', *map(str, arguments)],
    cwd=ROOT,
    env={**os.environ, **environment},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def contents(folder):
  return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_killed_and_taken_up_again(tmp_path):
  builder = tmp_path / 'slow.py'
  builder.write_text(SLOW)
  whole = prepare.prepare(str(builder), tmp_path / 'whole', shard_mb=1e-3)
  assert len(list(whole.glob('*.array_record-*'))) == 8

  home = tmp_path / 'data'
  small = ('--shard_mb=1e-3', f'--data_dir={home}')
  process = run(builder, *small, '--jobs=2', SECONDS='0.2')
  incomplete = home / 'slow' / '1.0.0.incomplete'
  for _ in range(1200):
    if len(list(incomplete.glob('*.array_record-*.json'))) >= 2:
      break
    time.sleep(0.05)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert not (home / 'slow' / '1.0.0').exists()
  with pytest.raises(FileNotFoundError, match='not prepared'):
    records.open_split('slow', 'train', home)

  both = [run(builder, *small) for _ in range(2)]
  outputs = [p.communicate()[0] for p in both]
  assert [p.returncode for p in both] == [0, 0]
  assert sum('prepared slow: train 20, test 20' in o for o in outputs) == 1
  taken_up = re.search(r'earlier run: (\d+) shards', ''.join(outputs))
  assert int(taken_up.group(1)) >= 2
  assert contents(home / 'slow' / '1.0.0') == contents(whole)
  assert not incomplete.exists()


def test_another_plan_starts_afresh(tmp_path, capsys):
  builder = tmp_path / 'slow.py'
  builder.write_text(SLOW + '    raise ValueError("stop")\n')
  with pytest.raises(ValueError, match='stop'):
    prepare.prepare(str(builder), tmp_path)
  builder.write_text(SLOW)
  prepare.prepare(str(builder), tmp_path)
  assert 'taking up' not in capsys.readouterr().out


FROM_FILES = """
import dataclasses
import pathlib
import numpy as np
import tensorflow_datasets as tfds
from medjax.data import records
from medjax.data.builders import Split

@dataclasses.dataclass(frozen=True)
class Item:
  path: pathlib.Path
  tags: frozenset = frozenset(('a', 'b', 'c'))  # in another order each time

class Made(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return records.dataset_info(
      self, features=records.features(2, label=('a', 'b')),
      class_names=('a', 'b'))

  def _split_generators(self, dl_manager):
    home = pathlib.Path(FOLDER)
    return {'train': Split(
      self._generate_examples, [Item(p) for p in sorted(home.glob('*.txt'))])}

  def _generate_examples(self, item):
    value = int(item.path.read_text())
    yield records.example(dict(
      id=item.path.stem, label=0, image=np.full((4, 4, 1), value, np.uint8)))
"""


def export(tmp_path, last='x'):
  """A builder of six files of which the last cannot be read."""
  home = tmp_path / 'export'
  home.mkdir(exist_ok=True)
  for i in range(6):
    (home / f'{i}.txt').write_text(last if i == 5 else f'{i}')
  builder = tmp_path / 'made.py'
  builder.write_text(FROM_FILES.replace('FOLDER', repr(str(home))))
  return builder, home


def prepared(tmp_path, builder):
  """The values of its cases; shards of one case each."""
  prepare.prepare(str(builder), tmp_path, shard_mb=1e-5, jobs=1)
  cases = records.open_split('made', 'train', tmp_path)
  return [int(case['image'].max()) for case in cases]


def test_an_earlier_run_is_taken_up_only_if_its_files_are_the_same(
  tmp_path, capsys
):
  builder, home = export(tmp_path)
  with pytest.raises(ValueError, match='invalid literal'):
    prepared(tmp_path, builder)
  # The export is made again: same names, other values.
  for i in range(6):
    (home / f'{i}.txt').write_text(f'{i + 10}')
  assert prepared(tmp_path, builder) == [10, 11, 12, 13, 14, 15]
  said = capsys.readouterr().out
  assert 'taking up' not in said
  assert 'beginning anew: inputs changed' in said


@pytest.mark.parametrize('how', ['time', 'one more', 'manual_dir'])
def test_what_counts_as_a_change(tmp_path, capsys, how):
  builder, home = export(tmp_path)
  options = {'shard_mb': 1e-5, 'jobs': 1}
  if how == 'manual_dir':  # files that no item names
    options['manual_dir'] = tmp_path / 'hand'
    options['manual_dir'].mkdir()
    (tmp_path / 'hand/table.csv').write_text('1')
  with pytest.raises(ValueError, match='invalid literal'):
    prepare.prepare(str(builder), tmp_path, **options)
  if how == 'time':
    about = (home / '0.txt').stat()
    (home / '0.txt').write_text('9')  # as long as before
    os.utime(home / '0.txt', ns=(about.st_atime_ns, about.st_mtime_ns + 1))
  elif how == 'one more':
    (home / '0b.txt').write_text('9')
  else:
    (tmp_path / 'hand/table.csv').write_text('22')
  with pytest.raises(ValueError, match='invalid literal'):
    prepare.prepare(str(builder), tmp_path, **options)
  assert 'taking up' not in capsys.readouterr().out
  with pytest.raises(ValueError, match='invalid literal'):
    prepare.prepare(str(builder), tmp_path, **options)
  done = 6 if how == 'one more' else 5
  assert f'taking up an earlier run: {done} ' in capsys.readouterr().out


@pytest.mark.parametrize('text', ['', '{', '[]', 'null'])
def test_a_damaged_note_is_no_dead_end(tmp_path, text):
  builder, home = export(tmp_path)
  with pytest.raises(ValueError, match='invalid literal'):
    prepared(tmp_path, builder)
  (note,) = tmp_path.glob('made/*.incomplete/made_of.json')
  note.write_text(text)
  (home / '5.txt').write_text('5')
  assert prepared(tmp_path, builder) == [0, 1, 2, 3, 4, 5]


def test_a_damaged_note_of_a_shard_is_no_dead_end(tmp_path, capsys):
  builder, _ = export(tmp_path, last='5')
  text = builder.read_text()
  broken = text.replace('yield', 'assert value < 5, "stop"; yield')
  builder.write_text(broken)
  with pytest.raises(AssertionError, match='stop'):
    prepared(tmp_path, builder)
  (incomplete,) = tmp_path.glob('made/*.incomplete')
  sidecars = sorted(incomplete.glob('*.array_record-*.json'))
  sidecars[0].write_text('')
  (incomplete / 'made.array_record-00001-of-00006.partial-1').write_text('x')
  (incomplete / '.made_of.json.1.partial').write_text('x')
  with pytest.raises(AssertionError, match='stop'):
    prepared(tmp_path, builder)
  assert 'taking up an earlier run: 5' in capsys.readouterr().out
  assert json.loads(sidecars[0].read_text())['keys'] == ['0']
  assert not [p for p in incomplete.iterdir() if 'partial' in p.name]


def test_downloads_that_nobody_writes_are_swept(tmp_path):
  builder, _ = export(tmp_path, last='5')
  (tmp_path / 'downloads').mkdir()
  old, new = (tmp_path / f'downloads/{k}.zip.partial-{k}' for k in (1, 2))
  for path in (old, new):
    path.write_text('x')
  yesterday = time.time() - 2 * 24 * 3600
  os.utime(old, (yesterday, yesterday))
  assert prepared(tmp_path, builder) == [0, 1, 2, 3, 4, 5]
  assert new.exists()
  assert not old.exists()


AT_HAND = FROM_FILES.replace('pathlib.Path(FOLDER)', 'self.manual_dir')


def hospital(folder, values):
  """Files of one name and size in each."""
  folder.mkdir(parents=True)
  for name, value in zip('abc', values, strict=True):
    (folder / f'{name}.txt').write_text(str(value))
  return folder


def of_hand(tmp_path, folder):
  builder = tmp_path / 'made.py'
  if not builder.exists():
    builder.write_text(AT_HAND)
  prepare.prepare(str(builder), tmp_path / 'home', folder)
  cases = records.open_split('made', 'train', tmp_path / 'home')
  return [int(case['image'].max()) for case in cases]


@pytest.mark.parametrize('other', [(1, 2, 4), (1, 2, 33)])
def test_a_set_of_other_files_is_refused(tmp_path, other):
  one = hospital(tmp_path / 'one', (1, 2, 3))
  two = hospital(tmp_path / 'two', other)
  assert of_hand(tmp_path, one) == [1, 2, 3]
  with pytest.raises(ValueError, match=r'1\.0\.0: was made from other') as e:
    of_hand(tmp_path, two)
  assert '\n' not in str(e.value)
  # Moved, or without a folder, it is what it was.
  (one / '.DS_Store').write_text('of a viewer')
  moved = shutil.copytree(one, tmp_path / 'moved')
  shutil.rmtree(one)
  assert of_hand(tmp_path, moved) == of_hand(tmp_path, None) == [1, 2, 3]
  # A set of an earlier version kept nothing of its files.
  (note,) = tmp_path.glob('home/made/*/builder.json')
  kept = json.loads(note.read_text())
  note.write_text(json.dumps({'source': kept['source']}))
  assert of_hand(tmp_path, two) == [1, 2, 3]


def test_a_file_more_is_another_folder_but_for_a_set_of_one_file(tmp_path):
  folder = hospital(tmp_path / 'one', (1, 2, 3))
  of_hand(tmp_path, folder)
  (folder / 'd.txt').write_text('4')
  with pytest.raises(ValueError, match='was made from other files'):
    of_hand(tmp_path, folder)
  shutil.rmtree(tmp_path / 'home')
  (tmp_path / 'made.py').write_text(AT_HAND.replace('*.txt', 'b.txt'))
  assert of_hand(tmp_path, folder) == [2]
  (folder / 'e.txt').write_text('5')
  assert of_hand(tmp_path, folder) == [2]
  (folder / 'b.txt').write_text('7')
  with pytest.raises(ValueError, match='was made from other files'):
    of_hand(tmp_path, folder)


def test_sets_that_are_prepared_into_the_folder_do_not_count(tmp_path):
  hospital(tmp_path / 'in', (1, 2, 3))
  builder = tmp_path / 'made.py'
  builder.write_text(AT_HAND.replace('home.glob', 'home.rglob'))
  for _ in range(2):
    assert of_hand(tmp_path, tmp_path) == [1, 2, 3]


def test_processes_and_beam_write_the_same(tmp_path):
  builder = tmp_path / 'slow.py'
  builder.write_text(SLOW)
  one, two = (
    prepare.prepare(str(builder), tmp_path / str(n), jobs=n, shard_mb=1e-3)
    for n in (1, 2)
  )
  assert contents(one) == contents(two)
  pytest.importorskip('apache_beam', reason='its environment is its own')
  options = '--runner=DirectRunner --direct_num_workers=2'
  options += ' --direct_running_mode=multi_processing'
  beam = prepare.prepare(
    str(builder), tmp_path / 'beam', beam=options, shard_mb=1e-3
  )
  assert contents(one) == contents(beam)


def test_beam_that_is_not_there(tmp_path):
  if importlib.util.find_spec('apache_beam'):
    pytest.skip('it is')
  builder = tmp_path / 'slow.py'
  builder.write_text(SLOW)
  with pytest.raises(ValueError, match=r'medjax\[beam\]'):
    prepare.prepare(str(builder), tmp_path, beam='--runner=DirectRunner')


def test_the_same_id_twice(tmp_path):
  builder = tmp_path / 'slow.py'
  builder.write_text(SLOW.replace("id=f'{i}'", "id=f'{i % 19}'"))
  with pytest.raises(ValueError, match="two cases of train have id '0'"):
    prepare.prepare(str(builder), tmp_path)


@pytest.fixture
def store():
  """An empty object store for s3://."""
  fsspec = pytest.importorskip('fsspec')
  from fsspec.implementations.memory import MemoryFileSystem

  class Store(MemoryFileSystem):
    protocol = 's3'
    store, pseudo_dirs = {}, ['']

  fsspec.register_implementation('s3', Store, clobber=True)


def test_a_set_of_other_files_in_a_store_is_refused(
  tmp_path, monkeypatch, store
):
  one = hospital(tmp_path / 'one', (1, 2, 3))
  two = hospital(tmp_path / 'two', (1, 2, 4))
  builder, url = tmp_path / 'made.py', 's3://bucket/data'
  builder.write_text(AT_HAND)
  for user in ('maker', 'reader'):
    monkeypatch.setenv('MEDJAX_DATA_DIR', str(tmp_path / user))
    assert prepare.prepare(str(builder), url, one) == f'{url}/made/1.0.0'
    with pytest.raises(ValueError, match=r'^s3://.*made from other files'):
      prepare.prepare(str(builder), url, two)


def test_an_object_store(tmp_path, monkeypatch, capsys, store):
  builder = tmp_path / 'slow.py'
  builder.write_text(SLOW)
  url = 's3://bucket/data'
  for user in ('maker', 'reader'):
    monkeypatch.setenv('MEDJAX_DATA_DIR', str(tmp_path / user))
    if user == 'maker':
      with pytest.raises(FileNotFoundError, match=r's3://.*not prepared'):
        records.open_split('slow', 'test', url)
    assert prepare.prepare(str(builder), url) == f'{url}/slow/1.0.0'
    assert len(records.open_split('slow', 'test', url)) == 20
  out = capsys.readouterr().out
  assert out.count('preparing') == 1
  assert 'copying s3://bucket/data/slow/1.0.0 to' in out
  folders = (tmp_path / user / 'slow' / '1.0.0' for user in ('maker', 'reader'))
  assert len({frozenset(contents(f)) for f in folders}) == 1


def test_an_edited_builder_leaves_what_is_in_a_store(
  tmp_path, monkeypatch, store
):
  """Others read it too; under another version, or where it was, it goes in."""
  builder, url = tmp_path / 'slow.py', 's3://edited/data'

  def first_of(user, text=None):
    monkeypatch.setenv('MEDJAX_DATA_DIR', str(tmp_path / user))
    if text:
      builder.write_text(text)
      prepare.prepare(str(builder), url)
    return int(records.open_split('slow', 'test', url)[0]['image'].max())

  assert first_of('maker', SLOW) == first_of('reader') == 0
  edited = SLOW.replace('(4, 4, 1), i,', '(4, 4, 1), i + 9,')
  with pytest.raises(ValueError, match=r'^s3:.*made by another .*VERSION'):
    first_of('maker', edited)
  assert first_of('another') == 0
  remote._path(f'{url}/slow/1.0.0').rmtree()
  assert first_of('maker', edited) == first_of('yet another') == 9
  with pytest.raises(
    ValueError, match=r'reader.*is another than s3:.*; delete'
  ):
    first_of('reader')


def test_jobs_that_publish_one_set_together(tmp_path, monkeypatch, store):
  """The one that comes last leaves what others read by now."""
  builder, url = tmp_path / 'slow.py', 's3://jobs/data'
  monkeypatch.setenv('MEDJAX_DATA_DIR', str(tmp_path / 'home'))
  builder.write_text(SLOW)
  publish = remote.publish
  published = []
  monkeypatch.setattr(
    remote, 'publish', lambda *a: published.append(a) or publish(*a)
  )
  versions, first = remote.versions, []

  def of_two(*args):
    if not first:  # what another job begins before this one has seen a set
      first.append(True)
      prepare.prepare(str(builder), url)
      return []
    return versions(*args)

  monkeypatch.setattr(remote, 'versions', of_two)
  prepare.prepare(str(builder), url)
  assert len(published) == 1


def test_stores_with_a_set_of_one_name(tmp_path, monkeypatch, store):
  """Of two sites: what was copied from the one is not taken for the other's."""
  builder = tmp_path / 'made.py'
  builder.write_text(AT_HAND)
  for site, last in (('a', 3), ('b', 4)):
    monkeypatch.setenv('MEDJAX_DATA_DIR', str(tmp_path / site))
    files = hospital(tmp_path / f'of_{site}', (1, 2, last))
    prepare.prepare(str(builder), f's3://{site}', files)
  monkeypatch.setenv('MEDJAX_DATA_DIR', str(tmp_path / 'reader'))
  records.dataset_dir('made', 's3://a')
  assert records.dataset_dir('made', 's3://a').is_dir()
  with pytest.raises(ValueError, match=r'is another than s3://b/made/1\.0\.0'):
    records.dataset_dir('made', 's3://b')


def test_a_store_of_an_unknown_kind():
  with pytest.raises(ValueError, match=r'^hdfs://a: no object store that is'):
    records.dataset_dir('made', 'hdfs://a')


@pytest.mark.parametrize('at', ['sidecars', 'old', 'new', 'rest'])
def test_killed_while_a_set_is_put_in_place(tmp_path, capsys, monkeypatch, at):
  builder = tmp_path / 'slow.py'
  builder.write_text(SLOW)
  target = prepare.prepare(str(builder), tmp_path)
  builder.write_text(SLOW + '  # edited\n')

  def killed(*args, **kwargs):
    raise KeyboardInterrupt

  with monkeypatch.context() as m:
    replace, count = os.replace, {'old': 0, 'new': 1}.get(at)
    moved = []

    def moving(source, to):
      if pathlib.Path(to).parent == target.parent:
        if len(moved) == count:
          killed()
        moved.append(to)
      replace(source, to)

    m.setattr(os, 'replace', moving)
    if at == 'sidecars':
      m.setattr(prepare, '_put_in_place', killed)
    rmtree = shutil.rmtree
    m.setattr(
      shutil,
      'rmtree',
      lambda p, **k: (
        killed()
        if at == 'rest' and len(moved) == 2 and str(p).endswith('.old')
        else rmtree(p, **k)
      ),
    )
    with pytest.raises(KeyboardInterrupt):
      prepare.prepare(str(builder), tmp_path)
  if at != 'new':  # between two names there is none
    assert len(records.open_split('slow', 'test', tmp_path)) == 20
  monkeypatch.setattr(builders, 'write_shard', killed)  # all is written
  assert prepare.prepare(str(builder), tmp_path) == target
  assert len(records.open_split('slow', 'test', tmp_path)) == 20
  assert 'made_of.json' not in contents(target)
  beside = {p.name for p in target.parent.iterdir()} - {'.lock'}
  assert beside == {'1.0.0', *(['1.0.0.old'] if at == 'rest' else ())}


def test_a_second_time_does_nothing(tmp_path, capsys):
  builder = tmp_path / 'slow.py'
  builder.write_text(SLOW)
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
    ('mni152_tissue --shard_mb=0', '--shard_mb=0: a file has more than 0 MB'),
    ('mni152_tissue --shard_mb=nan', '--shard_mb=nan: a file has more than 0'),
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
  bad = SLOW.replace('(4, 4), np.uint8)', '(4, 5), int)')
  builder.write_text(bad)
  with pytest.raises(ValueError, match='0: mask has shape') as e:
    prepare.prepare(str(builder), tmp_path)
  assert '\n' not in str(e.value)
  assert not (tmp_path / 'slow' / '1.0.0').exists()
  assert not list(tmp_path.glob('slow/*/*.array_record*'))


def test_unwritable(tmp_path):
  (tmp_path / 'file').write_text('in the way')
  builder = tmp_path / 'slow.py'
  builder.write_text(SLOW)
  with pytest.raises(OSError, match='could not prepare') as e:
    prepare.prepare(str(builder), tmp_path / 'file')
  assert '\n' not in str(e.value)


def test_full_disk(tmp_path):
  builder = tmp_path / 'slow.py'
  builder.write_text(SLOW)
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
    download.fetch(f'{url}/a.npz', md5='0' * 32, folder=here)
  assert not list(here.iterdir())
  path = download.fetch(f'{url}/a.npz?download=1', md5=md5, folder=here)
  assert path.read_bytes() == b'content'
  (folder / 'a.npz').unlink()  # it is not asked for again
  assert download.fetch(f'{url}/a.npz', md5=md5, folder=here) == path
  (folder / 'other').mkdir()
  (folder / 'other' / 'a.npz').write_bytes(b'of another set')
  other = hashlib.md5(b'of another set').hexdigest()
  download.fetch(f'{url}/other/a.npz', md5=other, folder=here)
  assert path.read_bytes() == b'of another set'
  path.write_bytes(b'content')
  for bad in (f'{url}/b.npz', 'http://127.0.0.1:9/b.npz'):
    with pytest.raises(FileNotFoundError, match='could not download') as e:
      download.fetch(bad, md5=md5, folder=here)
    assert '--manual_dir=' in str(e.value)
    assert '\n' not in str(e.value)
  capsys.readouterr()
  at_hand = download.fetch(f'{url}/a.npz', md5=md5, folder='', manual_dir=here)
  assert at_hand == path
  assert capsys.readouterr().out == ''
  download.fetch(f'{url}/a.npz', md5='0' * 32, folder='', manual_dir=here)
  assert capsys.readouterr().out.startswith('note: ')


def test_finds_builders_in_the_working_directory(tmp_path, monkeypatch):
  (tmp_path / 'datasets').mkdir()
  (tmp_path / 'datasets' / 'mine.py').write_text(SLOW)
  monkeypatch.chdir(tmp_path)
  assert builders.find('mine/x') == (pathlib.Path('datasets/mine.py'), 'x')
  assert os.path.isabs(builders.find('msd')[0])
