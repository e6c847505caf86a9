"""The whole road, with Orthanc, in a network namespace of its own."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import hospital
import pytest

SCENES = pathlib.Path(__file__).with_name('scenes.py')
NAMESPACE = [
  'unshare', '-rnm', 'sh', '-c', 'ip link set lo up; exec "$@"', 'sh',
]  # fmt: skip


@pytest.fixture
def scene(tmp_path):
  """Plays a scene; returns what it found."""
  if hospital.dcmtk('storescu') is None:
    pytest.skip('storescu is not installed (dcmtk)')
  test = subprocess.run([*NAMESPACE, 'true'], capture_output=True, check=False)
  if test.returncode:
    pytest.skip('no network namespace can be made here (unshare -rnm)')

  def play(name, *arguments):
    done = subprocess.run(
      [*NAMESPACE, sys.executable, str(SCENES), name, str(tmp_path),
       *map(str, arguments)],
      capture_output=True, text=True, check=False, timeout=600,
      env={**os.environ, 'PYTHONPATH': str(SCENES.parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])

  return play


@pytest.mark.parametrize(
  'count', ['c-find', pytest.param('qido', marks=pytest.mark.slow)]
)
def test_from_orthanc_and_back(scene, workdir, images, count):
  """C-STORE in; SEG and SR back by C-STORE and by STOW, once each."""
  if shutil.which('Orthanc') is None:
    pytest.skip('Orthanc is not installed (orthanc, orthanc-dicomweb)')
  found = scene('there_and_back', workdir, images[0], count)
  assert found['series'] == ['MR', 'SEG', 'SR']  # QIDO, in the same study
  assert found['objects'] == {'SEG': 1, 'SR': 1}
  assert found['same bytes'] == [True, True]  # WADO
  assert found['ways'] == ['c-store sent', 'stow sent']
  # At once, by the count of the peer: the quiet seconds are 300.
  assert found['seconds'] < 200
  assert found['seconds until complete'] < 60
  assert found['secrets in logs'] == []
  assert (found['known'], found['stranger'] != 0) == (0, True)
  assert 'rows, whole' in found['audit']
  assert found['after a second send'] == {'SEG': 1, 'SR': 1}
  assert found['ended'] == []  # all children, with the supervisor killed


def test_a_disk_that_is_full_and_has_room_again(scene, tmp_path):
  """What was answered with success is there, and nothing else."""
  mount = [*NAMESPACE, 'mount', '-t', 'tmpfs', 'tmpfs', str(tmp_path)]
  if subprocess.run(mount, capture_output=True, check=False).returncode:
    pytest.skip('no small disk can be made here (mount -t tmpfs)')
  found = scene('full_disk')
  assert found['first'] != 0
  assert 5 < found['kept'] < 60
  assert found['page'] in (200, 503)
  assert (found['again'], found['all']) == (0, 60)
  assert found['half files'] == []
  assert found['tracebacks'] == 0
  assert 'receiving' in found['said']
  assert len(found['lines']) == 1


@pytest.mark.slow
def test_requests_of_a_gigabyte(scene):
  found = scene('large_body')
  assert (found['one GB'], found['five GB']) == (409, 413)
  assert (found['images'], found['page']) == (0, 200)
  assert found['MB of the server'] < 5000
  assert found['tracebacks'] == 0
