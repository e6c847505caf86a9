import errno
import hashlib
import io
import os
import threading
import time

import hospital
import pydicom
import pytest
import sqlalchemy as sa
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medjax.service import again, complete, intake, tables, uids
from medjax.service.settings import Peer


@pytest.fixture
def series(images, tmp_path):
  return [p.read_bytes() for p in hospital.mr_series(images[0], tmp_path / 'd')]


def changed(data, **fields):
  """A file with other elements."""
  d = pydicom.dcmread(io.BytesIO(data))
  for key, value in fields.items():
    setattr(d, key, value)
  stream = io.BytesIO()
  d.save_as(stream)
  return stream.getvalue()


def report(data):
  """A file of the same headers that is no image."""
  d = pydicom.dcmread(io.BytesIO(data))
  del d.PixelData, d.Rows
  d.Modality, d.SOPClassUID = 'SR', pydicom.uid.ComprehensiveSRStorage
  d.TextString = 'all is well'  # 12 bytes and 8 of header
  stream = io.BytesIO()
  d.save_as(stream)
  return stream.getvalue()


def one(store, table):
  with store.read() as c:
    return c.execute(sa.select(table)).all()


def test_what_came_is_a_row_and_a_file(store, series):
  answers = [intake.receive(store, data, peer='PACS') for data in series]
  assert {a.status for a in answers} == {intake.OK}
  (study,) = one(store, tables.studies)
  assert study.state == 'receiving'
  assert study.id == answers[0].study == uids.study_id(study.uid)
  rows = one(store, tables.instances)
  assert len(rows) == len(series)
  assert [store.bytes(r.digest) for r in rows] == series
  # The same again changes nothing.
  assert intake.receive(store, series[3]).status == intake.OK
  assert len(one(store, tables.instances)) == len(series)


@pytest.mark.parametrize(
  ('damage', 'text'),
  [
    (lambda b: b'', 'empty'),
    (lambda b: b'x' * 5000, 'no whole DICOM'),
    (lambda b: b[:200], 'no whole DICOM|missing'),
    (lambda b: b[:-300], 'cut off'),
    (lambda b: b[:1000], 'without pixels, or cut off'),
    (lambda b: report(b)[:-3], 'cut off'),
    (lambda b: report(b)[:-17], 'cut off'),  # within the header of an element
    (lambda b: changed(b, SOPInstanceUID='../../x'), 'SOPInstanceUID'),
    (lambda b: changed(b, SOPInstanceUID='1.' * 33 + '1'), 'SOPInstanceUID'),
    (lambda b: changed(b, SOPInstanceUID=''), 'SOPInstanceUID'),
    (lambda b: changed(b, StudyInstanceUID=''), 'StudyInstanceUID'),
  ],
)
@pytest.mark.filterwarnings('ignore')
def test_damage_is_refused_with_a_line(store, series, damage, text):
  answer = intake.receive(store, damage(series[0]))
  assert answer.status == intake.NOT_UNDERSTOOD
  with pytest.raises(AssertionError, match=text):
    raise AssertionError(answer.text)
  assert hospital.NAME not in answer.text
  assert not one(store, tables.studies)
  assert not list(store.incoming.iterdir())


def test_other_contents_of_one_uid_are_refused(store, series):
  intake.receive(store, series[0])
  answer = intake.receive(store, changed(series[0], EchoTime=4))
  assert answer.status == intake.DUPLICATE
  assert len(one(store, tables.instances)) == 1
  (remark,) = one(store, tables.remarks)
  assert 'different contents' in remark.text


@pytest.mark.parametrize('deflated', [False, True])
def test_the_same_image_in_a_file_of_another_writer(store, series, deflated):
  d = pydicom.dcmread(io.BytesIO(series[0]))
  if deflated:
    d.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
  files = []
  for name, echo in (('A', 3), ('ANOTHER', 3), ('A', 4)):
    d.file_meta.ImplementationVersionName, d.EchoTime = name, echo
    stream = io.BytesIO()
    d.save_as(stream, enforce_file_format=True)
    files.append(stream.getvalue())
  assert len(set(files)) == 3
  first, same, other = (intake.receive(store, f).status for f in files)
  assert first == intake.OK
  assert same == (intake.DUPLICATE if deflated else intake.OK)
  assert other == intake.DUPLICATE
  (row,) = one(store, tables.instances)
  assert store.bytes(row.digest) == files[0]


def test_a_report_is_kept(store, series):
  assert intake.receive(store, report(series[0])).status == intake.OK
  padded = report(changed(series[1])) + bytes(16)
  assert intake.receive(store, padded).status == intake.OK


def test_two_patients_in_one_study_are_not_analysed(store, series):
  intake.receive(store, series[0])
  intake.receive(store, changed(series[1], PatientID='another'))
  assert complete.complete_studies(store) == 1
  (study,) = one(store, tables.studies)
  assert 'two patients' in study.problem
  assert not one(store, tables.jobs)


def test_a_full_disk_is_said_and_leaves_nothing(store, series, monkeypatch):
  def full(handle):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(os, 'fsync', full)
  answer = intake.receive(store, series[0])
  assert answer.status == intake.OUT_OF_RESOURCES
  assert 'No space left' in answer.text
  monkeypatch.undo()
  assert not list(store.incoming.iterdir())
  assert intake.receive(store, series[0]).status == intake.OK


@pytest.mark.parametrize(
  'name', ['<script>alert(1)</script>', 'x' * 300, 'Yamada^Tarou=山田^太郎']
)
@pytest.mark.filterwarnings('ignore')
def test_odd_names_are_kept_as_text(store, series, name):
  data = changed(series[0], PatientName=name, SpecificCharacterSet='ISO_IR 192')
  assert intake.receive(store, data).status == intake.OK
  (study,) = one(store, tables.studies)
  assert study.shown['PatientName'] == name[:256]


def test_a_name_in_two_alphabets(store, series):
  d = pydicom.dcmread(io.BytesIO(series[0]))
  d.SpecificCharacterSet = ['', 'ISO 2022 IR 87']
  d.PatientName = 'Yamada^Tarou=山田^太郎'
  stream = io.BytesIO()
  d.save_as(stream)
  assert intake.receive(store, stream.getvalue()).status == intake.OK
  (study,) = one(store, tables.studies)
  assert '山田' in study.shown['PatientName']


def test_an_image_that_comes_during_a_purge_is_there(
  postgres, tmp_path, series, monkeypatch
):
  store = hospital.make_store(tmp_path / 'home', postgres.url)
  intake.receive(store, series[0])
  complete.complete_studies(store)
  answers, add = [], again.audit.add
  again_it_comes = lambda: answers.append(intake.receive(store, series[0]))
  sender = threading.Thread(target=again_it_comes)

  def slowly(*arguments, **options):
    sender.start()
    sender.join(1)  # it waits for the end of the purge
    add(*arguments, **options)

  monkeypatch.setattr(again.audit, 'add', slowly)
  assert again.purge(store, -1, who='me').startswith('1 studies')
  sender.join()
  assert answers[0].status == intake.OK
  (row,) = one(store, tables.instances)
  assert store.bytes(row.digest) == series[0]
  tables.metadata.drop_all(store.engine)


def test_a_power_cut_loses_no_file(store, series):
  for data in series[:3]:
    intake.receive(store, data)
  with store.write() as c:  # the rows that were not on the disk yet
    c.execute(tables.instances.delete())
    c.execute(tables.studies.delete())
  cut = store.incoming / f'.{"a" * 64}.1.1'
  cut.write_bytes(series[4][:100])
  os.utime(cut, (time.time() - 7200,) * 2)
  # Written, but not yet called by its name.
  (digest,) = [p for p in sorted(store.incoming.iterdir())[-1:]]
  digest.rename(store.incoming / f'.{digest.name}.1.1')
  # And one with a row, whose other name was lost.
  named = store.incoming / hashlib.sha256(series[5]).hexdigest()
  intake.receive(store, series[5])
  lost = store.incoming / f'.{named.name}.1.1'
  named.rename(lost)
  os.utime(lost, (time.time() - 7200,) * 2)
  assert intake.recover(store) == 3
  assert store.bytes(named.name) == series[5]
  assert len(one(store, tables.instances)) == 4
  assert not cut.exists()
  assert intake.recover(store) == 0


def test_quiet_seconds_and_a_held_line(store, series):
  store.settings.__dict__['intake'] = type(store.settings.intake)(30.0)
  now = time.time()
  answer = intake.receive(store, series[0])
  assert complete.complete_studies(store, now=now + 10) == 0
  with store.write() as c:  # a clock that is put back
    c.execute(tables.studies.update().values(touched=now + 9000))
  assert complete.complete_studies(store, now=now) == 0
  assert complete.complete_studies(store, now=now + 31) == 1
  intake.receive(store, series[1])  # late: another version
  (study,) = one(store, tables.studies)
  assert (study.state, study.version) == ('receiving', 2)
  intake.hold(store, [answer.study])
  assert complete.complete_studies(store, now=time.time() + 20) == 0


def test_a_study_whose_file_is_gone_keeps_no_other_waiting(
  store, series, monkeypatch
):
  intake.receive(store, series[0])
  other = changed(series[1], StudyInstanceUID='1.2', PatientID='other')
  other = intake.receive(store, other).study
  (first, _), s = one(store, tables.instances), tables.studies
  state = lambda study: next(
    (r.state, r.problem) for r in one(store, s) if r.id == study
  )
  read = complete._header

  def unreadable(store, members):
    if members[0].digest == first.digest:
      raise PermissionError('x')
    return read(store, members)

  with monkeypatch.context() as patch:  # tried again, for it may pass
    patch.setattr(complete, '_header', unreadable)
    with pytest.raises(PermissionError):
      complete.complete_studies(store)
  assert state(first.study) == ('receiving', '')
  assert state(other)[0] == 'routed'
  store.path(first.digest).unlink()
  assert complete.complete_studies(store) == 0
  assert state(first.study) == ('routed', intake.GONE)
  intake.receive(store, series[0])
  assert state(first.study) == ('receiving', '')
  assert complete.complete_studies(store) == 1


def test_results_count_at_the_peer_that_has_them(store, series, monkeypatch):
  peers = [Peer('PACS', ae_title='P', port=1, count='c-find'), Peer('OTHER')]
  object.__setattr__(store.settings, 'peers', tuple(peers))
  monkeypatch.setattr(complete.peers, 'count_of', lambda *_: 2)
  answer = intake.receive(store, series[0], peer='P')
  intake.release(store, [answer.study], 'P', 1)
  (study,) = one(store, tables.studies)
  with store.write() as c:
    for table, row in (
      (tables.models, dict(name='m', workdir='', digest='d', when='',
                           facts={}, created=0)),
      (tables.jobs, dict(study=study.id, model=1, key='k', series='',
                         version=1, inputs=[], state='done', created=0)),
      (tables.results, dict(job=1, kind='sr', sop_uid='1', sop_class='1',
                            series='1', digest='d')),
      (tables.deliveries, dict(job=1, peer='OTHER', way='stow', state='sent')),
      (tables.deliveries, dict(job=1, peer='PACS', way='stow',
                               state='waiting')),
    ):  # fmt: skip
      c.execute(table.insert().values(**row))
  assert not complete._has_all(store, study, time.time())
  with store.write() as c:
    c.execute(tables.deliveries.update().values(state='sent'))
  assert complete._has_all(store, study, time.time())


def test_a_model_installed_with_other_options_has_jobs_of_its_own(
  store, series
):
  m = tables.models
  with store.write() as c:
    c.execute(
      m.insert().values(
        name='m', workdir='', digest='d', when='Modality=MR', created=0,
        facts={'normal': 'a', 'card': ''},
      )
    )  # fmt: skip
  intake.receive(store, series[0])
  for facts, count in (
    ({'normal': 'a', 'card': ''}, 1),
    ({'normal': 'a', 'card': 'x'}, 1),
    ({'normal': 'b', 'card': 'x'}, 2),
  ):
    with store.write() as c:
      c.execute(m.update().values(facts=facts))
      c.execute(tables.studies.update().values(state='receiving'))
    complete.complete_studies(store)
    assert len(one(store, tables.jobs)) == count


def test_a_study_without_images_is_refused_with_a_line(store, series):
  intake.receive(store, changed(series[0], Modality='SR'))
  complete.complete_studies(store)
  (study,) = one(store, tables.studies)
  assert study.problem == 'The study has no images: nothing was analysed.'
