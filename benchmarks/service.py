"""The service under load and under fire: python benchmarks/service.py WHAT.

kills: SIGKILL of any of its processes at random moments while studies come,
  with Orthanc away for the first half; in the end there is exactly one SEG and
  one SR of each study in Orthanc, and the audit log is whole.
intake: slices a second that are on the disk before they are answered, while a
  job runs, and how long C-ECHO takes meanwhile.
latency: from the last image to the results in Orthanc; start to ready.
memory: of the intake over associations and bare connections.
abstention: how often the rule of validation is silent on odd images, and what
  the risk on the test split is where it speaks.

Needs Orthanc, DCMTK and, with --postgres, PostgreSQL. Everything runs on the
loopback of a network namespace of its own.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / 'tests'))
import hospital
import numpy as np
import scipy.ndimage

from medjax.data import formats
from medjax.prediction import trained
from medjax.service import abstain
from medjax.service.supervise import resident


def studies(folder, data, count):
  """Folders of `count` MR studies, made of the hippocampus set."""
  images = sorted((data / 'msd_hippocampus' / 'imagesTr').glob('*.nii.gz'))
  made = []
  for k in range(count):
    hospital.mr_series(images[k], folder / str(k), k)
    made.append(folder / str(k))
  return made


def send(service, *paths):
  """Sends files by DCMTK, and says so where it cannot."""
  done = hospital.storescu(service.dicom, *paths)
  if done.returncode:
    raise RuntimeError(f'nothing was sent: {done.stdout}{done.stderr}')


def begin(args, pacs, *, model=True, **settings):
  """A service in its home, with a model and, if asked for, a database."""
  service = hospital.Service(args.out / 'home')
  more = [f'--database={args.database}'] if args.database else []
  service.init(*more)
  for name, value in settings.items():
    service.set(name, value)
  if pacs is not None:
    service.peer(pacs, count='')
  if model:
    service.call('model', f'--workdir={args.workdir}', '--when=Modality=MR')
  return service


# Kills.


class Sender(threading.Thread):
  """Sends studies again until each was taken, as a PACS does."""

  def __init__(self, service, folders):
    super().__init__(daemon=True)
    self.service, self.folders, self.sent, self.tries = service, folders, 0, 0

  def run(self):
    for folder in self.folders:
      while True:
        self.tries += 1
        done = hospital.storescu(self.service.dicom, folder)
        if done.returncode == 0:
          break
        time.sleep(0.3)
      self.sent += 1


def kills(args):
  """The crash test; prints a line of JSON."""
  rng = random.Random(args.seed)
  pacs = hospital.Pacs(args.out / 'pacs')
  folders = studies(args.out / 'studies', args.data, args.studies)
  # No quiet pause may fall between two tries to send a study.
  service = begin(args, pacs, quiet_seconds=60.0, tries=1000)
  service.start()
  sender = Sender(service, folders)
  sender.start()
  count, by, began = 0, {}, time.monotonic()
  while count < args.kills or sender.is_alive():
    if pacs.process is None and count >= args.kills // 2:
      pacs.start()
    time.sleep(rng.uniform(0, args.pause))
    name = rng.choice(['run', 'intake', 'web', 'courier', 'worker-0'])
    pid = service.pids().get(name)
    with contextlib.suppress(ProcessLookupError, TypeError):
      os.kill(pid, signal.SIGKILL)
      count += 1
      by[name] = by.get(name, 0) + 1
    if name == 'run':
      service.process.wait()
      service.start(ready=False)
    if name in ('run', 'worker-0'):  # the next one shall meet it at work
      ready = service.home / 'run' / 'worker-0.ready'
      with contextlib.suppress(TimeoutError):
        hospital.wait(
          lambda ready=ready: (
            ready.read_text() == str(service.pids().get('worker-0'))
          ),
          rng.uniform(0, args.patience),
        )
    if count % 20 == 0:
      print(f'{count} kills, {sender.sent} studies sent', flush=True)
  print(f'{count} kills are over; waiting for what is left', flush=True)

  def whole():
    return all(len(pacs.objects(m)) >= len(folders) for m in ('SEG', 'SR'))

  with contextlib.suppress(TimeoutError):
    hospital.wait(whole, 900, 2)
  time.sleep(10)  # what comes twice would come now
  found = {m: pacs.objects(m) for m in ('SEG', 'SR')}
  report = {
    'store': 'postgresql' if args.database else 'sqlite',
    'kills': count,
    'by': by,
    'studies': len(folders),
    'tries to send': sender.tries,
    'seconds': round(time.monotonic() - began),
    'audit': service.call('audit', 'verify').strip(),
    'in PACS': {m: len(v) for m, v in found.items()},
    'twice': sum(len(b) > 1 for v in found.values() for b in v.values()),
    'per study': per_study(found),
  }
  service.stop()
  pacs.stop()
  print(json.dumps(report))
  right = [[1] * len(folders)] * 2
  assert list(report['per study'].values()) == right, 'not exactly one each'


def per_study(found):
  """How many objects each study has, by modality."""
  import io

  import pydicom

  counts = {}
  for modality, objects in found.items():
    of = {}
    for data in objects.values():
      d = pydicom.dcmread(io.BytesIO(data[0]), stop_before_pixels=True)
      of[d.StudyInstanceUID] = of.get(d.StudyInstanceUID, 0) + len(data)
    counts[modality] = sorted(of.values())
  return counts


# Intake.


def intake(args):
  """Slices a second, and C-ECHO meanwhile; prints a line of JSON."""
  service = begin(args, None, quiet_seconds=3.0).start()
  (folder,) = studies(args.out / 'mr', args.data, 1)
  slices = hospital.ct_slices(args.out / 'ct', args.slices)
  echoes, stop = [], threading.Event()

  def echo():
    import pynetdicom
    from pynetdicom.sop_class import Verification

    ae = pynetdicom.AE('ECHO')
    ae.add_requested_context(Verification)
    assoc = ae.associate('127.0.0.1', service.dicom, ae_title='MEDJAX')
    while not stop.is_set():
      began = time.monotonic()
      assert assoc.send_c_echo().Status == 0
      echoes.append(time.monotonic() - began)
      time.sleep(0.05)
    assoc.release()

  send(service, folder)
  thread = threading.Thread(target=echo)
  thread.start()
  began = time.monotonic()
  send(service, slices)
  seconds = time.monotonic() - began
  stop.set()
  thread.join()
  print(
    json.dumps(
      {
        'slices/s': round(args.slices / seconds, 1),
        'echoes': len(echoes),
        'echo ms, p50': round(1000 * statistics.median(echoes), 1),
        'echo ms, p99': round(
          1000 * sorted(echoes)[int(0.99 * len(echoes))], 1
        ),
        'load': os.getloadavg()[0],
      }
    )
  )
  service.stop()


# Latency.


def latency(args):
  """Start to ready, and images to results; prints a line of JSON."""
  pacs = hospital.Pacs(args.out / 'pacs').start()
  service = begin(args, pacs, quiet_seconds=1.0)
  service.env['JAX_COMPILATION_CACHE_DIR'] = str(args.out / 'xla')
  ready = []
  for _ in range(3):
    began = time.monotonic()
    service.start()
    ready.append(round(time.monotonic() - began, 1))
    if len(ready) < 3:
      service.stop()
  folders, took = studies(args.out / 'studies', args.data, args.studies), []
  for number, folder in enumerate(folders, start=1):
    send(service, folder)
    began = time.monotonic()
    hospital.wait(
      lambda number=number: (
        len(pacs.objects('SR')) >= number and len(pacs.objects('SEG')) >= number
      ),
      120,
      0.2,
    )
    took.append(round(time.monotonic() - began - 1.0, 1))
  print(
    json.dumps(
      {
        'ready s: cold, warm, warm': ready,
        'complete to results in Orthanc s': took,
        'load': os.getloadavg()[0],
      }
    )
  )
  service.stop()
  pacs.stop()


# Memory.


def memory(args):
  """RSS of the intake over associations and probes; prints a line of JSON."""
  import pynetdicom
  from pynetdicom.sop_class import Verification

  service = begin(args, None, model=False).start(parts='intake')
  ae = pynetdicom.AE('ECHO')
  ae.add_requested_context(Verification)

  def associate(count):
    for _ in range(count):
      assoc = ae.associate('127.0.0.1', service.dicom, ae_title='MEDJAX')
      while not assoc.is_established:  # the machine is busy
        assoc = ae.associate('127.0.0.1', service.dicom, ae_title='MEDJAX')
      assert assoc.send_c_echo().Status == 0
      assoc.release()

  def probe(count):
    for _ in range(count):
      socket.create_connection(('127.0.0.1', service.dicom)).close()

  pid = service.pids()['intake']
  associate(50)
  probe(50)
  time.sleep(2)
  sizes = [resident(pid)]
  for action in (associate, probe):
    action(args.count)
    time.sleep(15)  # after the silence of a connection has timed out
    sizes.append(resident(pid))
  grown = [round((b - sizes[0]) / 2**20, 1) for b in sizes[1:]]
  print(
    json.dumps(
      {
        'MB at first': round(sizes[0] / 2**20, 1),
        f'grown MB after {args.count} associations': grown[0],
        f'and {args.count} probes': grown[1],
      }
    )
  )
  service.stop()


# Abstention.


def odd_images(image, affine, data, rng):
  """{kind: (image, affine)} of what a model of this image should not answer."""
  top, shape = float(image.max()), image.shape
  blurred = scipy.ndimage.gaussian_filter(image * 1.0, (4, 4, 4, 0))
  wave = np.cos(np.arange(shape[0]) * 2.5)[:, None, None, None]
  found = {
    'noise': (rng.normal(0, top / 3, shape), affine),
    'very noisy': (image + rng.normal(0, top, shape), affine),
    'blank': (np.zeros(shape), affine),
    'blurred': (blurred, affine),
    'inverted': (top - image, affine),
    'spike': (image + top * wave, affine),
    'wrong spacing': (image, affine @ np.diag([3.0, 3.0, 3.0, 1.0])),
    'cut': (image[: shape[0] // 2], affine),
  }
  for kind in ('CT', 'MR_T1', 'PET'):
    other = formats.read(data / 'dicom_sts025' / kind / 'image')
    found[f'thigh {kind}'] = other.array.astype(float), other.affine
    middle = tuple(
      slice((n - m) // 2, (n - m) // 2 + m) if n > m else slice(None)
      for n, m in zip(other.array.shape, shape, strict=True)
    )
    found[f'thigh {kind}, as small'] = other.array[middle] * 1.0, other.affine
  return found


def abstention(args):
  """Prints a line of JSON."""
  run = trained.load(args.workdir)
  rule = abstain.fit(run, coverage=args.coverage)
  rng = np.random.default_rng(args.seed)
  cases = run.experiment.cases('test')[: args.studies]
  exclusive = run.task.exclusive

  def reasons(case, prediction):
    sample = run.experiment.prepare(case)
    measures = abstain.measure(case, sample, prediction, exclusive=exclusive)
    return abstain.judge(rule, measures)[0]

  errors, silent, asked = [], {}, {}
  for case, prediction in run.predict_cases(cases, probabilities=True):
    if not reasons(case, prediction):
      dice = run.task.metrics(prediction.labels, case)['dice']
      errors.append(float(1 - np.nanmean(dice)))
  for case in cases[: args.odd]:
    for kind, (image, affine) in odd_images(
      case['image'], case['affine'], args.data, rng
    ).items():
      other = {**case, 'image': image.astype(np.float32), 'affine': affine,
               'spacing': formats.spacing_of(affine)}  # fmt: skip
      prediction = run.predict_case(other, probabilities=True)
      asked[kind] = asked.get(kind, 0) + 1
      silent[kind] = silent.get(kind, 0) + bool(reasons(other, prediction))
  print(
    json.dumps(
      {
        'coverage stated': args.coverage,
        'of test': f'{len(errors)} of {len(cases)}',
        'risk on validation': [round(r, 3) for r in rule['risk']],
        'risk on test': round(float(np.mean(errors)), 3),
        'silent': {k: f'{silent[k]} of {asked[k]}' for k in asked},
        'share': round(sum(silent.values()) / sum(asked.values()), 3),
      }
    )
  )


def main():
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument(
    'what', choices=['kills', 'intake', 'latency', 'memory', 'abstention']
  )
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--data', type=pathlib.Path,
                      default=os.environ.get('MEDJAX_TEST_DATA'))  # fmt: skip
  parser.add_argument('--postgres', action='store_true')
  parser.add_argument('--database', default='', help=argparse.SUPPRESS)
  parser.add_argument('--studies', type=int, default=20)
  parser.add_argument('--kills', type=int, default=200)
  parser.add_argument('--pause', type=float, default=2.0)
  parser.add_argument('--patience', type=float, default=20.0)
  parser.add_argument('--coverage', type=float, default=0.95)
  parser.add_argument('--odd', type=int, default=5)
  parser.add_argument('--slices', type=int, default=400)
  parser.add_argument('--count', type=int, default=2000)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  args.out = args.out.resolve()
  if os.environ.get('MEDJAX_NAMESPACE') or args.what == 'abstention':
    globals()[args.what](args)
    return
  args.out.mkdir(parents=True)
  more = []
  with contextlib.ExitStack() as stack:
    if args.postgres:
      database = hospital.Database().start()
      stack.callback(database.stop)
      more = [f'--database={database.url}']
    done = subprocess.run(
      ['unshare', '-rn', 'sh', '-c', 'ip link set lo up; exec "$@"', 'sh',
       sys.executable, *sys.argv, *more],
      env={**os.environ, 'MEDJAX_NAMESPACE': '1'}, check=False,
    )  # fmt: skip
  sys.exit(done.returncode)


if __name__ == '__main__':
  main()
