"""What tests of the service share: studies, a PACS, a database, clients."""

import contextlib
import datetime
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset

ROOT = pathlib.Path(__file__).resolve().parents[1]
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Seeded so that a search of logs and addresses can find them.
NAME, BORN, MRN = 'SEEDED^SURNAME', '19010203', 'MRN-4711-SEED'


def mr_series(image, folder, number=0, **fields):
  """A NIfTI as an MR series of DICOM, axial slices; returns its files.

  `number` makes UIDs and the patient, so that the same call gives the same
  files. fields: elements that are set otherwise.
  """
  loaded = nibabel.load(image)
  array = np.asarray(loaded.dataobj)
  scale = 4000 / max(float(array.max()), 1)
  array = np.rint(array * scale).astype(np.uint16)
  affine = LPS @ loaded.affine
  steps = np.linalg.norm(affine[:3, :3], axis=0)
  directions = affine[:3, :3] / steps
  root = f'2.25.{10**20 + number}'
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  files = []
  for k in range(array.shape[2]):
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    d.SOPClassUID = pydicom.uid.MRImageStorage
    d.SOPInstanceUID = f'{root}.3.{k + 1}'
    d.StudyInstanceUID, d.SeriesInstanceUID = f'{root}.1', f'{root}.2'
    d.FrameOfReferenceUID, d.PositionReferenceIndicator = f'{root}.4', ''
    d.PatientName, d.PatientID = f'{NAME}{number}', f'{MRN}{number}'
    d.PatientBirthDate, d.PatientSex = BORN, 'O'
    d.StudyDate, d.StudyTime = '20261101', '101500'
    d.SeriesDate, d.SeriesTime = '20261101', '101600'
    d.ContentDate, d.ContentTime = '20261101', '101700'
    d.StudyID, d.AccessionNumber = str(number), f'A{number}'
    d.ReferringPhysicianName = ''
    d.Modality, d.Manufacturer = 'MR', 'Nobody'
    d.StudyDescription, d.SeriesDescription = 'Brain', 'HCrop T1'
    d.SeriesNumber, d.InstanceNumber = 3, k + 1
    d.ScanningSequence, d.SequenceVariant, d.ScanOptions = 'GR', 'NONE', ''
    d.MRAcquisitionType, d.EchoTime, d.EchoTrainLength = '3D', 3, 1
    d.RepetitionTime = 9
    d.PatientPosition, d.Laterality = 'HFS', ''
    d.ImageType = ['ORIGINAL', 'PRIMARY', 'OTHER']
    d.ImagePositionPatient = [
      round(float(x), 6) for x in affine[:3, 3] + k * affine[:3, 2]
    ]
    d.ImageOrientationPatient = [
      round(float(x), 6) for x in (*directions[:, 0], *directions[:, 1])
    ]
    d.PixelSpacing = [float(steps[1]), float(steps[0])]
    d.SliceThickness = float(steps[2])
    d.Rows, d.Columns = array.shape[1], array.shape[0]
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, 'MONOCHROME2'
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit, d.PixelRepresentation = 15, 0
    d.PixelData = np.ascontiguousarray(array[:, :, k].T).tobytes()
    for key, value in fields.items():
      setattr(d, key, value(k) if callable(value) else value)
    path = folder / f'{k:03d}.dcm'
    d.save_as(path, enforce_file_format=True)
    files.append(path)
  return files


def ct_slices(folder, count, size=512, number=900):
  """`count` CT images of size² of noise, 2 bytes a pixel."""
  rng = np.random.default_rng(number)
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  for k in range(count):
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    d.SOPClassUID = pydicom.uid.CTImageStorage
    root = f'2.25.{10**21 + number}'
    d.SOPInstanceUID = f'{root}.3.{k + 1}'
    d.StudyInstanceUID, d.SeriesInstanceUID = f'{root}.1', f'{root}.2'
    d.PatientName, d.PatientID, d.Modality = NAME, f'{MRN}{number}', 'CT'
    d.Rows = d.Columns = size
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, 'MONOCHROME2'
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit, d.PixelRepresentation = 15, 0
    d.PixelData = rng.integers(0, 2000, (size, size), np.uint16).tobytes()
    d.save_as(folder / f'{k:05d}.dcm', enforce_file_format=True)
  return folder


def free_port():
  """A port of the loopback that nobody has."""
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


def wait(condition, seconds=60, every=0.1):
  """What `condition()` gives as soon as it is true; raises TimeoutError."""
  until = time.monotonic() + seconds
  while time.monotonic() < until:
    found = condition()
    if found:
      return found
    time.sleep(every)
  raise TimeoutError(f'nothing after {seconds} s: {condition}')


class Pacs:
  """Orthanc with DICOMweb, in a folder of its own."""

  def __init__(self, folder, service_port=11112):
    self.folder = pathlib.Path(folder).resolve()
    self.folder.mkdir(parents=True, exist_ok=True)
    self.dicom, self.http = free_port(), free_port()
    self.url = f'http://127.0.0.1:{self.http}'
    self.process = None
    config = {
      'Name': 'PACS',
      'DicomAet': 'ORTHANC',
      'DicomPort': self.dicom,
      'HttpPort': self.http,
      'StorageDirectory': str(self.folder / 'db'),
      'IndexDirectory': str(self.folder / 'db'),
      'Plugins': ['/usr/share/orthanc/plugins'],
      'AuthenticationEnabled': False,
      'RemoteAccessAllowed': False,
      'DicomAlwaysAllowStore': True,
      'DicomAlwaysAllowFind': True,
      'OverwriteInstances': False,
      'DicomModalities': {'medjax': ['MEDJAX', '127.0.0.1', service_port]},
      'DicomWeb': {'Enable': True, 'Root': '/dicom-web/'},
    }
    (self.folder / 'orthanc.json').write_text(json.dumps(config))

  def start(self):
    log = (self.folder / 'orthanc.log').open('ab')
    self.process = subprocess.Popen(
      [shutil.which('Orthanc'), str(self.folder / 'orthanc.json')],
      stdout=log,
      stderr=log,
    )
    wait(lambda: self._answers(), 30)
    return self

  def _answers(self):
    with contextlib.suppress(OSError, ValueError):
      return self.get('/system')

  def stop(self):
    if self.process is not None:
      self.process.terminate()
      self.process.wait(20)
      self.process = None

  def get(self, path, data=None, raw=False):
    import urllib.request

    request = urllib.request.Request(
      self.url + path,
      data=None if data is None else json.dumps(data).encode(),
      headers={'Accept': 'application/dicom+json, application/json, */*'},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
      body = reply.read()
    return body if raw else json.loads(body or b'null')

  def upload(self, path):
    import urllib.request

    request = urllib.request.Request(
      self.url + '/instances', data=pathlib.Path(path).read_bytes()
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
      return json.loads(reply.read())

  def objects(self, modality):
    """{SOP Instance UID: bytes} of what it has of a modality."""
    found = {}
    ids = self.get(
      '/tools/find',
      {'Level': 'Instance', 'Query': {'Modality': modality}},
    )
    for one in ids:
      data = self.get(f'/instances/{one}/file', raw=True)
      import io

      d = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
      found.setdefault(str(d.SOPInstanceUID), []).append(data)
    return found


class Service:
  """`medjax service run` of a home, started as a user does."""

  def __init__(self, home, *, env=None):
    self.home = pathlib.Path(home).resolve()
    self.env = {**os.environ, 'PYTHONPATH': str(ROOT), **(env or {})}
    self.dicom, self.http = free_port(), free_port()
    self.url = f'http://127.0.0.1:{self.http}'
    self.process, self.password = None, ''

  def call(self, verb, *arguments, check=True):
    """Runs a verb; returns what it printed."""
    done = subprocess.run(
      [sys.executable, '-m', 'medjax.service', verb, f'--home={self.home}',
       *map(str, arguments)],
      env=self.env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if check and done.returncode:
      raise AssertionError(f'{verb}: {done.stdout}{done.stderr}')
    return done.stdout if check else done

  def init(self, *arguments):
    out = self.call(
      'init', f'--port={self.dicom}', f'--http_port={self.http}', *arguments
    )
    if 'password ' in out:
      self.password = out.split('password ')[1].split()[0]
    return self

  def set(self, name, value):
    """Sets a field of service.toml."""
    path = self.home / 'service.toml'
    lines = path.read_text().splitlines()
    at = next(k for k, v in enumerate(lines) if v.startswith(f'{name} ='))
    lines[at] = f'{name} = {value!r}'
    path.write_text('\n'.join(lines) + '\n')
    return self

  def peer(self, pacs, results=('c-store', 'stow'), count='c-find'):
    """Adds a PACS to service.toml."""
    with (self.home / 'service.toml').open('a') as f:
      f.write(
        f"\n[[peer]]\nname = 'PACS'\nae_title = 'ORTHANC'\nhost = '127.0.0.1'\n"
        f"port = {pacs.dicom}\ndicomweb = '{pacs.url}/dicom-web'\n"
        f'results = {json.dumps(list(results))}\ncount = {count!r}\n'
        "\n[[peer]]\nname = 'storescu'\nae_title = 'STORESCU'\n"
      )
    return self

  def start(self, *, ready=True, parts='', log=None):
    self.log = log or self.home / 'log.txt'
    out = self.log.open('ab')
    self.process = subprocess.Popen(
      [
        sys.executable,
        '-m',
        'medjax.service',
        'run',
        f'--home={self.home}',
        f'--parts={parts}',
      ],
      env=self.env,
      stdout=out,
      stderr=out,
    )
    before = self.log.stat().st_size
    if ready:
      wait(lambda: 'ready after' in self.log.read_text()[max(before, 0) :], 120)
    return self

  def stop(self):
    if self.process is not None and self.process.poll() is None:
      self.process.terminate()
      self.process.wait(30)
    self.process = None

  def pids(self):
    """{name: process id} of its processes, the supervisor as 'run'."""
    found = {'run': self.process.pid}
    for path in (self.home / 'run').glob('*.pid'):
      with contextlib.suppress(ValueError, OSError):
        found[path.stem] = int(path.read_text())
    return found


def make_store(home, database=''):
  """An empty store in a new folder; its studies are complete at once."""
  from medjax.service import settings
  from medjax.service.store import Store

  home.mkdir()
  settings.write(home, database=database, quiet_seconds=0.0)
  made = Store(settings.read(home))
  made.create()
  return made


class Database:
  """A throw-away PostgreSQL, on a socket in a folder of its own."""

  def __init__(self):
    # A path of a socket has at most 107 characters, and everybody may pass.
    self.folder = pathlib.Path(tempfile.mkdtemp(prefix='medjax-', dir='/tmp'))
    self.folder.chmod(0o755)
    found = sorted(pathlib.Path('/usr/lib/postgresql').glob('*/bin'))
    self.bin = found[-1] if found else None
    # initdb refuses root: an ordinary user without any right runs it.
    self._as = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']
    if os.geteuid():
      self._as = []

  @property
  def url(self):
    return f'postgresql+psycopg://medjax@/postgres?host={self.folder}/socket'

  def start(self):
    for name in ('data', 'socket'):
      (self.folder / name).mkdir(parents=True, exist_ok=True)
      if self._as:
        os.chown(self.folder / name, 65534, 65534)
    data = self.folder / 'data'
    self._run('initdb', '-D', data, '-U', 'medjax', '-A', 'trust', '-N')
    options = f'-k {self.folder}/socket -c listen_addresses= -F'
    log = self.folder / 'socket' / 'log'
    self._run('pg_ctl', '-D', data, '-l', log, '-w', '-o', options, 'start')
    return self

  def stop(self):
    self._run('pg_ctl', '-D', self.folder / 'data', '-m', 'immediate', 'stop')
    shutil.rmtree(self.folder, ignore_errors=True)

  def _run(self, name, *arguments):
    subprocess.run(
      [*self._as, str(self.bin / name), *map(str, arguments)],
      check=True,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      cwd='/',
    )


def dcmtk(name):
  """The path of a program of DCMTK, or None.

  pynetdicom puts others of the same names, but not the same options, beside
  Python.
  """
  own = pathlib.Path(sysconfig.get_path('scripts'))
  folders = os.environ.get('PATH', os.defpath).split(os.pathsep)
  others = [f for f in folders if pathlib.Path(f) != own]
  return shutil.which(name, path=os.pathsep.join(others))


def storescu(port, *paths, called='MEDJAX', calling='STORESCU'):
  """Sends files and folders by DCMTK's storescu."""
  return subprocess.run(
    [dcmtk('storescu'), '-aet', calling, '-aec', called, '+sd', '+r',
     '127.0.0.1', str(port), *map(str, paths)],
    capture_output=True, text=True, check=False,
  )  # fmt: skip


def today():
  return datetime.date.today().strftime('%Y%m%d')


def x_ray(array, path, **fields):
  """A picture as an X-ray of DICOM (DX); returns its path."""
  d = Dataset()
  d.file_meta = FileMetaDataset()
  d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  d.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
  d.StudyInstanceUID, d.SeriesInstanceUID = '2.25.71', '2.25.72'
  d.SOPInstanceUID = '2.25.73'
  d.PatientName, d.PatientID, d.Modality = NAME, MRN, 'DX'
  d.PatientBirthDate, d.PatientSex, d.StudyID = BORN, '', '1'
  d.StudyDate, d.StudyTime, d.AccessionNumber = '20261101', '101500', ''
  d.ReferringPhysicianName, d.SeriesNumber, d.InstanceNumber = '', 1, 1
  d.PatientOrientation = ['L', 'F']
  d.ImagerPixelSpacing = [1.0, 1.0]
  d.Rows, d.Columns = array.shape
  d.SamplesPerPixel, d.PhotometricInterpretation = 1, 'MONOCHROME2'
  d.BitsAllocated = d.BitsStored = 8
  d.HighBit, d.PixelRepresentation = 7, 0
  d.PixelData = np.ascontiguousarray(array).tobytes()
  for key, value in fields.items():
    setattr(d, key, value)
  d.save_as(path, enforce_file_format=True)
  return pathlib.Path(path)
