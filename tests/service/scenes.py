"""Scenes that tests play in a network namespace."""

import contextlib
import email
import json
import os
import pathlib
import signal
import sqlite3
import struct
import sys
import time
import urllib.request

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
import hospital
import pydicom


def there_and_back(tmp, workdir, image):
  """A study goes from Orthanc to the service, and its results come back."""
  service = hospital.Service(tmp / 'home').init()
  pacs = hospital.Pacs(tmp / 'pacs', service.dicom).start()
  service.set('quiet_seconds', 300.0).peer(pacs)
  service.call('model', f'--workdir={workdir}', '--when=Modality=MR')
  service.start()
  files = hospital.mr_series(image, tmp / 'd')
  for path in files:
    pacs.upload(path)
  (study,) = pacs.get('/studies')
  pacs.get('/modalities/medjax/store', [study])
  began = time.monotonic()
  counts = lambda: {m: len(pacs.objects(m)) for m in ('SEG', 'SR')}
  database = sqlite3.connect(service.home / 'service.sqlite')
  state = lambda: [r[0] for r in database.execute('select state from jobs')]
  hospital.wait(lambda: state() == ['done'], 200)
  seconds = time.monotonic() - began
  uid = pydicom.dcmread(files[0]).StudyInstanceUID
  series = pacs.get(f'/dicom-web/studies/{uid}/series')
  rows = list(database.execute('select sop_uid, digest, series from results'))
  same = [
    dataset_of(wado(pacs, uid, series, sop))
    == dataset_of((service.home / 'files' / digest[:2] / digest).read_bytes())
    for sop, digest, series in rows
  ]
  objects = counts()
  # A second time, and from somebody whom nobody knows.
  pacs.get('/modalities/medjax/store', [study])
  known, stranger = (
    hospital.storescu(service.dicom, tmp / 'd', calling=who).returncode
    for who in ('STORESCU', 'STRANGER')
  )
  time.sleep(2)
  log = (service.home / 'log.txt').read_text()
  secrets = [hospital.NAME.split('^')[1], hospital.BORN, hospital.MRN]
  found = {
    'series': sorted(s['00080060']['Value'][0] for s in series),
    'objects': objects,
    'same bytes': same,
    'ways': sorted(
      ' '.join(r) for r in database.execute('select way, state from deliveries')
    ),
    'seconds': seconds,
    'secrets in logs': [s for s in secrets if s in log],
    'known': known,
    'stranger': stranger,
    'audit': service.call('audit', 'verify'),
    'after a second send': counts(),
  }
  children = [p for n, p in service.pids().items() if n != 'run']
  os.kill(service.process.pid, signal.SIGKILL)
  service.process.wait()
  with contextlib.suppress(TimeoutError):
    hospital.wait(lambda: not alive(children), 10)
  found['ended'] = alive(children)
  pacs.stop()
  return found


def alive(pids):
  return [p for p in pids if pathlib.Path(f'/proc/{p}').exists()]


def dataset_of(data):
  """The bytes of a file behind its meta information.

  That is the receiver's own of what comes by C-STORE (PS3.10, 7.1).
  """
  (length,) = struct.unpack('<I', data[140:144])
  return data[144 + length :]


def wado(pacs, study, series, sop):
  """The bytes of an object by WADO-RS."""
  request = urllib.request.Request(
    f'{pacs.url}/dicom-web/studies/{study}/series/{series}/instances/{sop}',
    headers={'Accept': 'multipart/related; type="application/dicom"'},
  )
  with urllib.request.urlopen(request, timeout=60) as reply:
    kind, body = reply.headers['Content-Type'], reply.read()
  whole = email.message_from_bytes(f'Content-Type: {kind}\n\n'.encode() + body)
  boundary = whole.get_boundary().encode()
  start = body.index(b'\r\n\r\n') + 4
  return body[start : body.rindex(b'\r\n--' + boundary)]


if __name__ == '__main__':
  name, tmp, *rest = sys.argv[1:]
  found = globals()[name](pathlib.Path(tmp), *rest)
  print(json.dumps(found))
