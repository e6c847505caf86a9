"""What hospitals send: each bad input gives a sentence, nothing goes down."""

import errno
import io
import os
import time

import hospital
import nibabel
import numpy as np
import pydicom
import pynetdicom
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pynetdicom import sop_class

from medjax.service import (
  complete,
  deliver,
  intake,
  models,
  tables,
  worker,
)
from medjax.service import store as store_lib
from medjax.service.settings import Peer

MPEG2 = '1.2.840.10008.1.2.4.100'
IMPLICIT = pydicom.uid.ImplicitVRLittleEndian


def one(store, table):
  with store.read() as c:
    return c.execute(sa.select(table).order_by(table.c.id)).all()


@pytest.fixture
def outcome_of(store, workdir):
  """What the model says of files, and its job."""
  models.install(store, workdir, when='Modality=MR')

  def run(files):
    for path in files:
      answer = intake.receive(store, path.read_bytes())
      assert answer.status == intake.OK, answer
    complete.complete_studies(store)
    assert worker.Worker(store, 'w').step()
    (job,) = one(store, tables.jobs)
    assert job.state == 'written', job.reason
    for text in job.outcome['reasons'] + job.outcome['notes']:
      assert '\n' not in text
      assert 'Traceback' not in text
    return job

  return run


def another(path, name, **fields):
  """A copy of a file with other elements."""
  d = pydicom.dcmread(path)
  for key, value in fields.items():
    setattr(d, key, value)
  d.save_as(path.with_name(name))
  return path.with_name(name)


def test_reports_and_documents_in_a_study_are_let_be(
  store, outcome_of, images, tmp_path
):
  files = hospital.mr_series(images[0], tmp_path / 'd')
  for k, (modality, kind) in enumerate((
    ('SR', sop_class.ComprehensiveSRStorage),
    ('PR', sop_class.GrayscaleSoftcopyPresentationStateStorage),
    ('KO', sop_class.KeyObjectSelectionDocumentStorage),
    ('DOC', sop_class.EncapsulatedPDFStorage),
  )):  # fmt: skip
    d = pydicom.dcmread(files[0])
    for keyword in ('PixelData', 'Rows', 'Columns', 'ImagePositionPatient'):
      delattr(d, keyword)
    d.Modality, d.SOPClassUID = modality, kind
    d.SOPInstanceUID, d.SeriesInstanceUID = f'1.2.9.{k}', f'1.2.8.{k}'
    d.save_as(tmp_path / 'd' / f'{modality}.dcm')
    files.append(tmp_path / 'd' / f'{modality}.dcm')
  job = outcome_of(files)
  assert job.outcome['summary'] == 'finding'
  assert len(job.inputs) == len(files) - 4
  assert len(one(store, tables.instances)) == len(files)


def test_a_doubled_slice_is_an_abstention(outcome_of, images, tmp_path):
  files = hospital.mr_series(images[0], tmp_path / 'd')
  d = pydicom.dcmread(files[4])
  pixels = np.frombuffer(d.PixelData, np.uint16)[::-1].tobytes()
  twin = another(files[4], 'x.dcm', SOPInstanceUID='1.2.9', PixelData=pixels)
  job = outcome_of([*files, twin])
  assert job.outcome['kind'] == 'input refused'
  assert 'lie at the same place' in job.outcome['reasons'][0]


def test_a_gantry_tilt_is_said(store, outcome_of, images, tmp_path):
  first = pydicom.dcmread(hospital.mr_series(images[0], tmp_path / 'a')[0])
  place = np.array(first.ImagePositionPatient, float)
  column = np.array(first.ImageOrientationPatient[3:], float)
  normal = np.cross(first.ImageOrientationPatient[:3], column)
  tilted = lambda k: list(place + k * (normal + 0.2 * column))
  files = hospital.mr_series(
    images[0], tmp_path / 'd', ImagePositionPatient=tilted
  )
  job = outcome_of(files)
  assert any('tilt' in text for text in job.outcome['notes']), job.outcome
  assert {r.kind for r in one(store, tables.results)} == {'seg', 'sr'}


def test_an_enhanced_multi_frame_image(store, outcome_of, images, tmp_path):
  """A series in one file: what is found is what the single files give."""
  frames = [
    pydicom.dcmread(p) for p in hospital.mr_series(images[0], tmp_path / 'd')
  ]
  d = frames[0]
  d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = (
    sop_class.EnhancedMRImageStorage
  )
  d.NumberOfFrames = len(frames)
  shared, measures, plane = Dataset(), Dataset(), Dataset()
  measures.PixelSpacing, measures.SliceThickness = d.PixelSpacing, 1
  plane.ImageOrientationPatient = d.ImageOrientationPatient
  shared.PixelMeasuresSequence = [measures]
  shared.PlaneOrientationSequence = [plane]
  d.PerFrameFunctionalGroupsSequence = []
  for frame in frames:
    group, at = Dataset(), Dataset()
    at.ImagePositionPatient = frame.ImagePositionPatient
    group.PlanePositionSequence = [at]
    d.PerFrameFunctionalGroupsSequence.append(group)
  d.PixelData = b''.join(f.PixelData for f in frames)
  d.SharedFunctionalGroupsSequence = [shared]
  for keyword in ('PixelSpacing', 'ImageOrientationPatient', 'SliceThickness',
                  'ImagePositionPatient'):  # fmt: skip
    delattr(d, keyword)
  d.save_as(tmp_path / 'whole.dcm')
  job = outcome_of([tmp_path / 'whole.dcm'])
  assert job.outcome['summary'] == 'finding', job.outcome
  assert {r.kind for r in one(store, tables.results)} == {'seg', 'sr'}


def test_pixels_that_nobody_can_decode(outcome_of, images, tmp_path):
  files = hospital.mr_series(images[0], tmp_path / 'd')
  for path in files:
    d = pydicom.dcmread(path)
    d.PixelData = pydicom.encaps.encapsulate([b'\0\0\1\xba' + b'\0' * 60])
    d['PixelData'].is_undefined_length = True
    d.file_meta.TransferSyntaxUID = MPEG2
    d.save_as(path)
  job = outcome_of(files)
  assert job.outcome['kind'] == 'input refused', job.outcome


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(
  ('name', 'sets'),
  [
    ('<script>alert(1)</script>', 'ISO_IR 100'),
    ('Yamada^Tarou=山田^太郎=やまだ^たろう', ['', 'ISO 2022 IR 87']),
    ('x' * 300, 'ISO_IR 100'),
    ('Grün^Jürgen' * 27, 'ISO_IR 192'),
  ],
)
def test_odd_names_come_through_to_the_results(
  store, outcome_of, images, tmp_path, name, sets
):
  files = hospital.mr_series(
    images[0], tmp_path / 'd',
    SpecificCharacterSet=sets, PatientName=name, PatientID=name[:300],
  )  # fmt: skip
  job = outcome_of(files)
  assert job.outcome['summary'] == 'finding', job.outcome
  found = one(store, tables.results)
  assert {r.kind for r in found} == {'seg', 'sr'}
  sent = pydicom.dcmread(files[0])
  for row in found:
    d = pydicom.dcmread(io.BytesIO(store.bytes(row.digest)))
    assert str(d.PatientName) == str(sent.PatientName)
    assert str(d.PatientID) == str(sent.PatientID)


@pytest.mark.slow
def test_a_study_of_four_thousand_images(store, outcome_of, tmp_path):
  """It becomes one answer, whose report names each of its images."""
  rng = np.random.default_rng(0)
  volume = rng.integers(0, 400, (32, 40, 4000)).astype(np.int16)
  nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / 'long.nii')
  job = outcome_of(hospital.mr_series(tmp_path / 'long.nii', tmp_path / 'd'))
  assert len(job.inputs) == 4000
  row = next(r for r in one(store, tables.results) if r.kind == 'sr')
  report = pydicom.dcmread(io.BytesIO(store.bytes(row.digest)))
  (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
  named = [s.ReferencedSOPSequence for s in evidence.ReferencedSeriesSequence]
  assert max(map(len, named)) == 4000
  assert not list(store.incoming.iterdir())


def test_a_disk_that_is_full_when_results_are_written(
  store, workdir, images, tmp_path, monkeypatch
):
  models.install(store, workdir, when='Modality=MR')
  for path in hospital.mr_series(images[0], tmp_path / 'd'):
    intake.receive(store, path.read_bytes())
  complete.complete_studies(store)

  def full(data):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  work = worker.Worker(store, 'w')
  monkeypatch.setattr(store, 'keep', full)
  assert work.step()
  (job,) = one(store, tables.jobs)
  assert job.state == 'failed'
  assert job.reason == 'the disk failed: No space left on device'
  assert not one(store, tables.results)


def test_what_no_report_can_be_written_of_ends(
  store, workdir, images, tmp_path, monkeypatch
):
  """A job that always fails is not begun for ever."""
  models.install(store, workdir, when='Modality=MR')
  for path in hospital.mr_series(images[0], tmp_path / 'd'):
    intake.receive(store, path.read_bytes())
  complete.complete_studies(store)

  def odd(*arguments, **options):
    raise KeyError('a name')

  monkeypatch.setattr(worker.analyse.report, 'write', odd)
  work = worker.Worker(store, 'w')
  assert work.step()
  assert not work.step()
  (job,) = one(store, tables.jobs)
  assert job.state == 'failed'
  assert job.reason == 'no report can be written of these images (KeyError)'


# The clock, and a peer that takes half.


def job(store, peer, **values):
  """A job that is written, with a report and a segmentation for a peer."""
  object.__setattr__(store.settings, 'peers', (peer,))
  with store.write() as c:
    for table, row in (
      (tables.studies, dict(id='s', uid='1', state='routed', touched=0,
                            shown={}, created=0)),
      (tables.models, dict(name='m', workdir='', digest='d', when='', facts={},
                           created=0)),
      (tables.jobs, dict(study='s', model=1, key='k', series='', version=1,
                         inputs=[], created=0, **values)),
    ):  # fmt: skip
      c.execute(table.insert().values(**row))
    for k, kind in enumerate(('seg', 'sr')):
      digest = store.keep(_object(kind))
      c.execute(tables.results.insert().values(
        job=1, kind=kind, sop_uid=f'1.{k}', sop_class='1', series='1',
        digest=digest,
      ))  # fmt: skip
    deliver.plan(c, store.settings, 1)


def _object(kind):
  d = Dataset()
  d.file_meta = pydicom.dataset.FileMetaDataset()
  d.file_meta.TransferSyntaxUID = IMPLICIT
  d.SOPClassUID = {
    'seg': pydicom.uid.SegmentationStorage,
    'sr': pydicom.uid.ComprehensiveSRStorage,
  }[kind]
  d.SOPInstanceUID = {'seg': '1.0', 'sr': '1.1'}[kind]
  stream = io.BytesIO()
  d.save_as(stream, enforce_file_format=True)
  return stream.getvalue()


def test_a_clock_that_goes_back_keeps_nothing_waiting(store):
  now = time.time()
  job(store, Peer('X'), state='running', owner='a', lease=now + 9000)
  with store.write() as c:
    assert store_lib.claim_job(c, 'b', 30, now=now).owner == 'b'
    c.execute(
      tables.deliveries.insert().values(
        job=1, peer='gone', way='stow', state='waiting', next=now + 90000
      )
    )
  assert deliver.deliver(store, now=now) == 1
  pause = store.settings.deliver.longest_pause
  with store.write() as c:  # a pause as long as they are is none of these
    c.execute(
      tables.deliveries.update().values(state='waiting', next=now + 1.3 * pause)
    )
  assert deliver.deliver(store, now=now) == 0


def test_a_pacs_that_takes_reports_but_no_segmentations(store):
  ae, got = pynetdicom.AE('X'), []
  ae.add_supported_context(pydicom.uid.ComprehensiveSRStorage)
  handlers = [(pynetdicom.evt.EVT_C_STORE, lambda e: got.append(e) or 0)]
  server = ae.start_server(('127.0.0.1', 0), block=False, evt_handlers=handlers)
  port = server.socket.getsockname()[1]
  peer = Peer('PACS', ae_title='X', port=port, results=('c-store',))
  job(store, peer, state='written')
  try:
    deliver.deliver(store)
    (row,) = one(store, tables.deliveries)
    assert row.state == 'failed'
    assert 'PACS does not take Segmentation Storage' in row.reason
    assert one(store, tables.jobs)[0].state == 'failed'
    # All is kept, and `retry` sends it when the PACS takes it.
    assert [store.bytes(r.digest) for r in one(store, tables.results)] == [
      _object('seg'),
      _object('sr'),
    ]
    assert not got  # a report without what it refers to is not sent alone
  finally:
    server.shutdown()
