"""Bad senders over the wire: each is a sentence, and the intake stays up."""

import dataclasses
import io
import time

import hospital
import pydicom
import pynetdicom
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pynetdicom import sop_class
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE

from medjax.service import intake, scp, tables
from medjax.service.settings import Peer

MPEG2 = '1.2.840.10008.1.2.4.100'
IMPLICIT = pydicom.uid.ImplicitVRLittleEndian


def one(store, table):
  with store.read() as c:
    return c.execute(sa.select(table).order_by(table.c.id)).all()


def refused(store):
  with store.read() as c:
    return [(r['text'], r['count']) for r in intake.refusals(c)]


@pytest.fixture
def port(store):
  """That of an intake that takes 1 MB at most."""
  place = dataclasses.replace(store.settings.dicom, port=hospital.free_port())
  limits = dataclasses.replace(store.settings.intake, largest_mb=1)
  store.settings = dataclasses.replace(
    store.settings, dicom=place, intake=limits
  )
  server = scp.Scp(store)
  server.start()
  yield place.port
  # Whatever a test did, it still answers and takes an image.
  assoc = associate(place.port, sop_class.Verification)
  assert assoc.send_c_echo().Status == intake.OK
  assoc.release()
  server.stop()


def associate(port, *classes, syntax=IMPLICIT):
  ae = pynetdicom.AE('TEST')
  for one_class in classes:
    ae.add_requested_context(one_class, syntax)
  assoc = ae.associate('127.0.0.1', port, ae_title='MEDJAX')
  assert assoc.is_established
  return assoc


def request(pixels):
  """A C-STORE request of an MR image of so many bytes, in its fragments."""
  d = Dataset()
  d.SOPClassUID, d.SOPInstanceUID = sop_class.MRImageStorage, '1.2.3'
  d.StudyInstanceUID, d.SeriesInstanceUID, d.Modality = '1.2.4', '1.2.5', 'MR'
  d.Rows = d.Columns = 8
  d.BitsAllocated, d.PixelData = 8, b'\0' * pixels
  message = C_STORE()
  message.MessageID, message.Priority = 1, 0
  message.AffectedSOPClassUID = d.SOPClassUID
  message.AffectedSOPInstanceUID = d.SOPInstanceUID
  message.DataSet = io.BytesIO(pynetdicom.dsutils.encode(d, True, True))
  encoded = C_STORE_RQ()
  encoded.primitive_to_message(message)
  return list(encoded.encode_msg(1, 16384))


@pytest.mark.parametrize('end', ['abort', 'break'])
def test_a_sender_that_stops_half_way(store, port, end):
  assoc = associate(port, sop_class.MRImageStorage)
  parts = request(100_000)
  for part in parts[: len(parts) // 2]:
    assoc.dul.send_pdu(part)
  time.sleep(0.3)
  if end == 'abort':
    assoc.abort()
  else:  # its cable is pulled
    assoc.dul.socket.socket.close()
  time.sleep(0.3)
  assert not one(store, tables.studies)
  assert not list(store.incoming.iterdir())


def test_a_file_that_is_too_large_is_broken_off(store, port):
  assoc = associate(port, sop_class.MRImageStorage)
  for part in request(3 * 2**20):
    assoc.dul.send_pdu(part)
  hospital.wait(lambda: assoc.is_aborted, 10)
  assert refused(store) == [('a file has more than 1 MB', 1)]
  assert not list(store.incoming.iterdir())


def test_a_transfer_syntax_that_is_not_taken(store, port):
  ae = pynetdicom.AE('TEST')
  ae.add_requested_context(sop_class.VideoEndoscopicImageStorage, MPEG2)
  ae.add_requested_context(sop_class.Verification)
  assoc = ae.associate('127.0.0.1', port, ae_title='MEDJAX')
  assoc.release()
  ((text, _),) = refused(store)
  assert 'Video Endoscopic' in text
  assert 'no transfer syntax that is taken' in text


def test_a_stranger_is_refused_and_said(store, port):
  peer = Peer('PACS', ae_title='PACS')
  object.__setattr__(store.settings, 'peers', (peer,))
  ae = pynetdicom.AE('STRANGER')
  ae.add_requested_context(sop_class.Verification)
  assert ae.associate('127.0.0.1', port, ae_title='MEDJAX').is_rejected
  assert refused(store) == [('127.0.0.1 is no peer that may send', 1)]
  object.__setattr__(store.settings, 'peers', ())


def test_what_is_refused_is_counted_for_the_work_list(store, monkeypatch):
  for _ in range(3):
    intake.receive(store, b'')
  intake.receive(store, b'x' * 5000)
  counts = dict(refused(store))
  assert counts.pop('the file is empty') == 3
  ((text, count),) = counts.items()
  assert (count, 'no whole DICOM' in text) == (1, True)
  for k in range(200):  # as many strangers fill no page
    intake.note_refusal(store, f'stranger {k}')
  assert len(refused(store)) <= 20
  assert ('stranger 199', 1) in refused(store)
  tomorrow = time.time() + 90000
  monkeypatch.setattr(time, 'time', lambda: tomorrow)
  assert refused(store) == []
