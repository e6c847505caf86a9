"""What a service's processes write to their log: nothing of a patient."""

import os
import subprocess
import sys

import hospital
import pytest
import sqlalchemy as sa

from medjax.service import complete, intake, models, tables

NAME = 'Hans Mustermann'  # without a caret, which highdicom doubts aloud
NUMBER = 'A-number-of-more-than-16'  # which pydicom doubts twice


def states(store):
  with store.read() as c:
    return [job.state for job in c.execute(sa.select(tables.jobs))]


@pytest.fixture
def worker(store, tmp_path):
  """Starts a worker as `run` does; its log is the path that it returns."""
  started, path = [], tmp_path / 'log.txt'

  def start():
    command = [sys.executable, '-m', 'medjax.service.child', 'worker-0']
    with path.open('wb') as out:
      started.append(
        subprocess.Popen(
          [*command, str(store.settings.home)],
          stdin=subprocess.PIPE,
          stdout=out,
          stderr=out,
          env={**os.environ, 'PYTHONPATH': str(hospital.ROOT)},
        )
      )
    return path

  (store.settings.home / 'run').mkdir(exist_ok=True)
  yield start
  for process in started:
    process.kill()
    process.wait()


def test_a_report_names_no_patient_in_the_log(
  store, worker, workdir, images, tmp_path
):
  models.install(store, workdir, when='Modality=MR')
  named = dict(PatientName=NAME, AccessionNumber=NUMBER)
  for number, left_out in ((1, None), (2, 7)):  # a finding, an abstention
    files = hospital.mr_series(
      images[0], tmp_path / str(number), number, **named
    )
    for k, path in enumerate(files):
      if k != left_out:
        intake.receive(store, path.read_bytes())
  complete.complete_studies(store)
  log = worker()
  hospital.wait(lambda: states(store) == ['written'] * 2, 240)
  assert log.read_text() == ''


def test_send_names_no_patient(images, tmp_path):
  home = hospital.Service(tmp_path / 'home').init()
  files = hospital.mr_series(images[0], tmp_path / 'd', SOPClassUID='Müller 1')
  done = home.call('send', files[0], check=False)
  assert 'UID is missing or no UID' in done.stderr
  assert 'ller' not in done.stdout + done.stderr


LOUD = f"""
import logging, threading, warnings
from medjax.service import quiet
quiet.begin('worker-0')
import pydicom
from pydicom import misc
misc.warn_and_log('{NAME}')  # at import pydicom sets a level of its own
warnings.warn('{NAME}')
logging.warning('{NAME}')
logging.getLogger('sqlalchemy.pool').error('{NAME}')
logging.getLogger('medjax.service').info('ours')
def fail():
  raise ValueError('{NAME}')
thread = threading.Thread(target=fail)
thread.start()
thread.join()
raise KeyError('{NAME}')
"""


def test_only_our_own_lines_are_logged():
  done = subprocess.run(
    [sys.executable, '-c', LOUD],
    capture_output=True, text=True, check=False,
  )  # fmt: skip
  said = [line.partition(' worker-0: ')[2] for line in done.stderr.splitlines()]
  assert said == [
    'ours',
    'stopped by ValueError in <string>, line 13',
    'stopped by KeyError in <string>, line 17',
  ]
  assert done.returncode == 1
