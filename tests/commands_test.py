"""`python -m medjax`, which is the command `medjax` too."""

import importlib
import pathlib
import subprocess
import sys

import pytest

from medjax import __main__ as program
from medjax import __version__

ROOT = pathlib.Path(__file__).resolve().parents[1]
SPINE = {
  'main', 'predict', 'prepare', 'convert', 'inspect', 'plan', 'compare',
  'report', 'models',
}  # fmt: skip


def call(monkeypatch, *arguments):
  monkeypatch.setattr(sys, 'argv', ['medjax', *arguments])
  program.main()


def test_every_program_is_listed_with_what_it_does():
  found = program.commands()
  assert {*found} >= SPINE
  for name, about in found.items():
    assert 5 < len(about) < 70, name
    assert 'python -m' not in about
    assert callable(importlib.import_module(_module(name)).main)


def _module(name):
  is_room = (ROOT / 'medjax' / name).is_dir()
  return f'medjax.{name}.__main__' if is_room else f'medjax.{name}'


@pytest.mark.parametrize('arguments', [(), ('--help',), ('help',)])
def test_without_a_command_it_lists_them(arguments, monkeypatch, capsys):
  call(monkeypatch, *arguments)
  text = capsys.readouterr().out
  for name in SPINE:
    assert f'\n{name} ' in text


def test_it_says_its_version(monkeypatch, capsys):
  call(monkeypatch, '--version')
  assert capsys.readouterr().out == f'{__version__}\n'


def test_a_misspelt_command_is_one_line(monkeypatch, capsys):
  with pytest.raises(SystemExit) as e:
    call(monkeypatch, 'preidct')
  assert e.value.code == 1
  said = capsys.readouterr().err
  assert said == "medjax: no command 'preidct'; did you mean 'predict'?\n"


def test_a_command_is_run_with_its_own_arguments(monkeypatch, capsys):
  modules = dict(sys.modules)
  with pytest.raises(SystemExit) as e:
    call(monkeypatch, 'report', '--help')
  assert e.value.code == 0
  assert 'workdir' in capsys.readouterr().out
  assert sys.modules['__main__'] is modules['__main__']


def test_listing_and_import_are_instant():
  code = (
    'import sys, medjax, medjax.__main__ as m; m.listing(); '
    'print([k for k in ("jax", "numpy", "flax") if k in sys.modules])'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT
  )
  assert done.stdout.strip() == '[]'
