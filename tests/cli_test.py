import io
import os
import signal
import subprocess
import sys

import jax
import pytest
from absl import flags
from ml_collections import config_flags

import medjax
from medjax import cli
from medjax.data import records
from medjax.run.programs import keep_programs


@pytest.mark.parametrize(
  ('error', 'said'),
  [
    (ValueError('two\nlines'), 'two lines'),
    (MemoryError('Unable to allocate'), 'out of memory (Unable to allocate)'),
    (
      jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory'),
      'a smaller data.batch_size',
    ),
    (RuntimeError('Could not determine home directory.'), 'set HOME'),
  ],
)
def test_errors_of_users_are_a_line(error, said, capsys):
  with pytest.raises(SystemExit) as e, cli.one_line_errors():
    raise error
  assert e.value.code == 1
  err = capsys.readouterr().err
  assert err.startswith('medjax: ')
  assert err.count('\n') == 1
  assert said in err


def test_a_config_that_fails_is_no_unknown_field(tmp_path):
  (tmp_path / 'mine.py').write_text(
    'def get_config(name):\n  return {"a": 1}[name]\n'
  )
  values = flags.FlagValues()
  config_flags.DEFINE_config_file('config', flag_values=values)
  with pytest.raises(KeyError) as e:
    values(['main', f'--config={tmp_path}/mine.py:b'])
  assert "mine.py: get_config failed, KeyError: 'b'" in cli._of_config(e.value)


def test_defects_are_not_hidden():
  assert cli.said(TypeError('a defect')) is None
  with pytest.raises(KeyError), cli.one_line_errors():
    raise KeyError('a defect')


def test_after_the_imports_ctrl_c_is_heard_again(capsys):
  before = signal.signal(signal.SIGINT, medjax._interrupted)
  try:
    with pytest.raises(SystemExit) as e, cli.one_line_errors():
      signal.raise_signal(signal.SIGINT)
  finally:
    signal.signal(signal.SIGINT, before)
  assert e.value.code == 130
  assert capsys.readouterr().err == 'medjax: interrupted\n'


def test_nobodys_home(monkeypatch):
  for name in ('HOME', 'MEDJAX_DATA_DIR', 'JAX_COMPILATION_CACHE_DIR'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(os, 'getuid', lambda: 4_000_123)
  keep_programs()
  with pytest.raises(ValueError, match='say where prepared data lie'):
    records.default_data_dir()


def test_help_shows_on_a_terminal_of_ascii(monkeypatch):
  stream = io.TextIOWrapper(io.BytesIO(), 'ascii')
  monkeypatch.setattr(sys, 'stdout', stream)
  parser = cli.parser('Looks: `--spacing=…`.')
  with pytest.raises(SystemExit) as e:
    parser.parse_args(['--help'])
  assert e.value.code == 0
  stream.flush()
  assert rb'--spacing=\u2026' in stream.buffer.getvalue()


def test_home_is_known_where_the_shell_leaves_it(monkeypatch):
  monkeypatch.setenv('HOME', '/home/anna')
  parser = cli.parser('Looks.')
  parser.add_argument('path')
  parser.add_argument('--out')
  monkeypatch.setattr(sys, 'argv', ['look', '~/a', '--out=~/b=~/c'])
  args = parser.parse_args()
  assert (args.path, args.out) == ('/home/anna/a', '/home/anna/b=~/c')
  words = ['--workdir=~/x', '--config.data.path=~/d', '--a=b~/c', '-1', '']
  assert cli.at_home(words) == ['--workdir=/home/anna/x', *words[1:]]


@pytest.mark.parametrize('platform', ['cuda', 'abacus'])
def test_a_platform_that_is_not_here_is_one_line(platform):
  """As where a cluster's profile sets it, and the node has no GPU."""
  code = (
    'from medjax import cli\nimport jax\n'
    'with cli.one_line_errors(): assert not jax.devices("cpu")'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, 'JAX_PLATFORMS': platform, 'CUDA_VISIBLE_DEVICES': ''},
    capture_output=True,
    text=True,
  )
  last = done.stderr.splitlines()[-1]
  assert last.startswith(f'medjax: JAX_PLATFORMS={platform}, but jax')


def test_a_file_that_the_locale_cannot_name(monkeypatch):
  monkeypatch.setattr(sys, 'getfilesystemencoding', lambda: 'ascii')
  with pytest.raises(UnicodeEncodeError) as e:
    'Jürgen.png'.encode('ascii')
  assert cli.said(e.value).startswith('a file is called Jürgen.png, which is')
  assert 'LC_ALL=C.UTF-8' in cli.said(e.value)
