"""The wheel: what an installed medjax has, and finds from anywhere."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
  """A folder with the unpacked wheel, built of a copy of the checkout."""
  pytest.importorskip('setuptools', minversion='77')
  source, target = (tmp_path_factory.mktemp(n) for n in ('source', 'site'))
  for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE'):
    shutil.copy(ROOT / name, source)
  hidden = shutil.ignore_patterns('__pycache__')
  for name in ('medjax', 'configs', 'datasets'):
    shutil.copytree(ROOT / name, source / name, ignore=hidden)
  build = 'from setuptools import build_meta; build_meta.build_wheel("dist")'
  subprocess.run(
    [sys.executable, '-W', 'ignore', '-c', build],
    cwd=source, check=True, capture_output=True,
  )  # fmt: skip
  (wheel,) = (source / 'dist').glob('*.whl')
  with zipfile.ZipFile(wheel) as archive:
    archive.extractall(target)
  return target


def run(installed, folder, *arguments):
  """What a command of the installed medjax says, called from `folder`."""
  environment = {**os.environ, 'PYTHONPATH': str(installed)}
  return subprocess.run(
    [sys.executable, *arguments],
    cwd=folder, env=environment, capture_output=True, text=True,
  )  # fmt: skip


def test_every_file_is_in_the_wheel(installed):
  for folder, target in (
    ('medjax', 'medjax'),
    ('configs', 'medjax/configs'),
    ('datasets', 'medjax/datasets'),
  ):
    for path in (ROOT / folder).rglob('*'):
      if path.is_file() and path.suffix != '.pyc':
        inside = installed / target / path.relative_to(ROOT / folder)
        assert inside.read_bytes() == path.read_bytes()


def test_the_console_script_is_declared(installed):
  (scripts,) = installed.glob('medjax-*.dist-info/entry_points.txt')
  assert 'medjax = medjax.__main__:main' in scripts.read_text()


def test_a_service_reads_what_its_intake_takes(installed):
  (about,) = installed.glob('medjax-*.dist-info/METADATA')
  wants = {
    extra: {
      line.partition(';')[0]
      for line in about.read_text().splitlines()
      if line.startswith('Requires-Dist:')
      and re.search(rf'extra == .{extra}.$', line)
    }
    for extra in ('dicom', 'service')
  }
  assert len(wants['dicom']) >= 5
  assert wants['dicom'] <= wants['service']


@pytest.mark.parametrize('left', ['', '#!/bin/sh\nexit 1\n'])
def test_make_begins_anew_where_an_environment_is_no_good(tmp_path, left):
  """Half of one, as of Debian without python3-venv; or of an old Python."""
  home = tmp_path / 'venv'
  (home / 'bin').mkdir(parents=True)
  if left:
    (home / 'bin/python').write_text(left)
    (home / 'bin/python').chmod(0o755)
  python = tmp_path / 'python'
  python.write_text(
    f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nmkdir -p {home}/bin\n'
    f'printf "#!/bin/sh\\n" > {home}/bin/python\nchmod +x {home}/bin/python\n'
  )
  python.chmod(0o755)
  command = ['make', '-s', '-C', ROOT, f'VENV={home}', f'PYTHON={python}']
  subprocess.run([*command, f'{home}/.installed-demo'], check=True)
  assert (tmp_path / 'asked').read_text() == f'-m venv --clear {home}\n'


def test_configs_are_found_from_anywhere(installed, tmp_path):
  done = run(
    installed, tmp_path, '-m', 'medjax', 'main',
    '--config=configs/unet.py:hipocampus', '--workdir=w',
  )  # fmt: skip
  assert done.returncode == 1
  assert done.stderr.startswith('medjax: unet.py has mni152_tissue')


def test_data_sets_are_found_and_a_file_of_ones_own_wins(installed, tmp_path):
  (tmp_path / 'datasets').mkdir()
  (tmp_path / 'datasets' / 'drive.py').touch()
  code = (
    'from medjax.data import builders\n'
    'for name in ("msd/liver", "drive"): print(builders.find(name)[0])'
  )
  done = run(installed, tmp_path, '-c', code)
  assert done.stdout.splitlines() == [
    str(installed / 'medjax/datasets/msd.py'),
    'datasets/drive.py',
  ]
