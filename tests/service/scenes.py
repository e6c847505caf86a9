"""Scenes that tests play in a network namespace."""

import contextlib
import email
import http.client
import json
import os
import pathlib
import signal
import sqlite3
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
import hospital
import pydicom

from medjax.service import supervise


def there_and_back(tmp, workdir, image, count):
  """A study goes from Orthanc to the service, and its results come back."""
  service = hospital.Service(tmp / 'home').init()
  pacs = hospital.Pacs(tmp / 'pacs', service.dicom).start()
  service.set('quiet_seconds', 300.0).peer(pacs, count=count)
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
  hospital.wait(state, 200)
  complete = time.monotonic() - began
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
    'seconds until complete': complete,
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


def full_disk(tmp):
  """The disk fills up while images come, and has room again later."""
  home = tmp / 'home'
  home.mkdir()

  def disk(options):
    command = ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(home)]
    subprocess.run(command, check=True)

  disk('size=16m')
  service = hospital.Service(home).init()
  service.start(parts='intake,web', log=tmp / 'log.txt')
  slices = hospital.ct_slices(tmp / 'ct', 60)  # 30 MB
  first = hospital.storescu(service.dicom, slices)
  database = sqlite3.connect(home / 'service.sqlite')
  count = lambda: database.execute('select count(*) from instances').fetchone()
  found = {
    'first': first.returncode,
    'kept': count()[0],
    'page': page(f'{service.url}/healthz')[0],
    'half files': [p.name for p in home.rglob('.*') if p.is_file()],
  }
  disk('remount,size=200m')
  found['again'] = hospital.storescu(service.dicom, slices).returncode
  found['all'] = count()[0]
  found['said'] = service.call('status')
  text = service.log.read_text()
  found['tracebacks'] = text.count('Traceback')
  found['lines'] = [s for s in text.splitlines() if 'No space' in s][:1]
  service.stop()
  return found


def large_body(tmp):
  """Requests of 1 GB, honest and not, while images come by C-STORE."""
  service = hospital.Service(tmp / 'home').init()
  token = service.call('user', 'add', 'scanner', '--role=machine')
  token = token.split('token ')[1].split()[0]
  service.start(parts='intake,web')
  slices, most = hospital.ct_slices(tmp / 'ct', 20), []

  def post(length, claimed):
    """The status of a body of one part; it may be cut short."""
    c = http.client.HTTPConnection('127.0.0.1', service.http, timeout=120)
    c.putrequest('POST', '/dicomweb/studies')
    c.putheader('Authorization', f'Bearer {token}')
    c.putheader('Content-Type', 'multipart/related; boundary=XX')
    c.putheader('Content-Length', str(claimed))
    c.endheaders()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
      c.send(b'--XX\r\n\r\n')
      for _ in range(length // 2**20):
        c.send(bytes(2**20))
      c.send(b'\r\n--XX--\r\n')
    most.append(supervise.resident(service.pids()['web']))
    return c.getresponse().status

  framing = len('--XX\r\n\r\n') + len('\r\n--XX--\r\n')
  found = {
    'one GB': post(2**30, 2**30 + framing),
    'images': hospital.storescu(service.dicom, slices).returncode,
    'five GB': post(2**20, 5 * 2**30),
    'page': page(f'{service.url}/healthz')[0],
  }
  found['MB of the server'] = max(most) / 2**20
  found['tracebacks'] = (
    (service.home / 'log.txt').read_text().count('Traceback')
  )
  service.stop()
  return found


def page(url):
  """(status, text) of a page."""
  try:
    with urllib.request.urlopen(url, timeout=30) as reply:
      return reply.status, reply.read().decode()
  except urllib.error.HTTPError as e:
    return e.code, e.read().decode()


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
