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
NAMESPACE = ['unshare', '-rn', 'sh', '-c', 'ip link set lo up; exec "$@"', 'sh']


@pytest.fixture
def scene(workdir, images, tmp_path):
  """Plays a scene; returns what it found."""
  if shutil.which('Orthanc') is None:
    pytest.skip('Orthanc is not installed (orthanc, orthanc-dicomweb)')
  if hospital.dcmtk('storescu') is None:
    pytest.skip('storescu is not installed (dcmtk)')
  test = subprocess.run([*NAMESPACE, 'true'], capture_output=True, check=False)
  if test.returncode:
    pytest.skip('no network namespace can be made here (unshare -rn)')

  def play(name):
    done = subprocess.run(
      [*NAMESPACE, sys.executable, str(SCENES), name, str(tmp_path),
       str(workdir), str(images[0])],
      capture_output=True, text=True, check=False, timeout=600,
      env={**os.environ, 'PYTHONPATH': str(SCENES.parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])

  return play


def test_from_orthanc_and_back(scene):
  """C-STORE in; SEG and SR back by C-STORE and by STOW, once each."""
  found = scene('there_and_back')
  assert found['series'] == ['MR', 'SEG', 'SR']  # QIDO, in the same study
  assert found['objects'] == {'SEG': 1, 'SR': 1}
  assert found['same bytes'] == [True, True]  # WADO
  assert found['ways'] == ['c-store sent', 'stow sent']
  # At once, by the count of C-FIND: the quiet seconds are 300.
  assert found['seconds'] < 200
  assert found['secrets in logs'] == []
  assert (found['known'], found['stranger'] != 0) == (0, True)
  assert 'rows, whole' in found['audit']
  assert found['after a second send'] == {'SEG': 1, 'SR': 1}
  assert found['ended'] == []  # all children, with the supervisor killed
