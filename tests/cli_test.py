import os
import signal

import jax
import pytest

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
