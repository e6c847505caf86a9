"""What is sent, how often, and what peers may answer."""

import http.server
import json
import threading
import time

import pytest
import requests
import sqlalchemy as sa

from medjax.service import audit, deliver, peers, tables
from medjax.service.settings import Peer

OBJECTS = [b'first', b'second']


@pytest.fixture
def stow():
  """A STOW server that answers what it is told, and keeps what it gets."""

  class Handler(http.server.BaseHTTPRequestHandler):
    answers, bodies = [(200, {})], []

    def do_POST(self):
      length = int(self.headers['Content-Length'])
      self.bodies.append(self.rfile.read(length))
      status, tree = self.answers[min(len(self.bodies), len(self.answers)) - 1]
      self.send_response(status)
      self.end_headers()
      self.wfile.write(
        tree if isinstance(tree, bytes) else json.dumps(tree).encode()
      )

    def log_message(self, *arguments):
      pass

  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  Handler.url = f'http://127.0.0.1:{server.server_port}'
  yield Handler
  server.shutdown()


def both(stored=2, failed=0):
  tree = {'00081199': {'vr': 'SQ', 'Value': [{}] * stored}}
  if failed is not None:
    tree['00081198'] = {'vr': 'SQ', 'Value': [{}] * failed}
  return tree


@pytest.mark.parametrize(
  ('answer', 'line'),
  [
    ((200, both()), None),
    ((200, both(failed=None)), None),
    ((200, {}), 'stored 0 of 2'),  # 200, and nothing stored
    ((202, both(1, 1)), 'stored 1 of 2'),
    ((409, both(0, 2)), 'stored 0 of 2'),
    ((200, b'<html>'), 'no DICOM JSON'),
    ((500, {}), 'answered STOW with 500'),
  ],
)
def test_stow_believes_only_what_was_stored(stow, answer, line):
  stow.answers, peer = (
    [answer],
    Peer('PACS', dicomweb=stow.url, results=('stow',)),
  )
  if line is None:
    peers.send(None, peer, 'stow', OBJECTS)
    assert all(o in stow.bodies[-1] for o in OBJECTS)
    return
  with pytest.raises(peers.UnsentError, match=line):
    peers.send(None, peer, 'stow', OBJECTS)


def job(store, peer):
  """A job that is written, with a result, to be sent to a peer."""
  object.__setattr__(store.settings, 'peers', (peer,))
  with store.write() as c:
    c.execute(
      tables.studies.insert().values(
        id='s', uid='1', state='routed', touched=0, shown={}, created=0
      )
    )
    c.execute(
      tables.models.insert().values(
        name='m', workdir='', digest='d', when='', facts={}, created=0
      )
    )
    c.execute(
      tables.jobs.insert().values(
        study='s',
        model=1,
        key='k',
        series='',
        version=1,
        inputs=[],
        state='written',
        created=0,
      )
    )
    c.execute(
      tables.results.insert().values(
        job=1,
        kind='sr',
        sop_uid='1',
        sop_class='1',
        series='1',
        digest=store.keep(b'report'),
      )
    )
    deliver.plan(c, store.settings, 1)  # fmt: skip


@pytest.mark.parametrize(
  ('reply', 'count'),
  [
    ([{'00201208': {'vr': 'IS', 'Value': [7]}}], 7),
    ([{'00201208': {'vr': 'IS'}}], None),
    ([], None),
    ({'odd': 1}, None),
  ],
)
def test_the_count_of_a_peer_by_qido(monkeypatch, store, reply, count):
  asked = []

  def get(url, params, **options):
    asked.append((url, params['StudyInstanceUID']))
    found = requests.Response()
    found.status_code, found._content = 200, json.dumps(reply).encode()
    return found

  monkeypatch.setattr(requests, 'get', get)
  peer = Peer('PACS', dicomweb='http://x/dicom-web', count='qido')
  assert peers.count_of(store.settings, peer, '1.2.3') == count
  assert asked == [('http://x/dicom-web/studies', '1.2.3')]
  away = Peer('PACS', ae_title='X', port=1, count='c-find')
  assert peers.count_of(store.settings, away, '1.2.3') is None


def state(store):
  with store.read() as c:
    d = c.execute(sa.select(tables.deliveries)).first()
    return c.scalar(sa.select(tables.jobs.c.state)), d


def test_a_peer_that_is_away_gets_it_later(store, stow):
  job(store, Peer('PACS', dicomweb=stow.url, results=('stow',)))
  stow.answers = [(503, {}), (503, {}), (200, both(1))]
  now = time.time()
  pauses = []
  for _ in range(3):
    deliver.deliver(store, now=now)
    _, row = state(store)
    pauses.append(row.next - time.time())
    now = row.next + 1
  assert state(store)[0] == 'done'
  assert 1 < pauses[0] < 3  # 2 s, then 4, a little varied
  assert 2.5 < pauses[1] < 6
  assert deliver.deliver(store, now=now + 1e6) == 0  # never again
  with store.read() as c:
    assert audit.verify(c)[0] == 1


def test_what_never_arrives_is_said_and_can_be_tried_again(store, stow):
  job(store, Peer('PACS', dicomweb=stow.url, results=('stow',)))
  stow.answers = [(503, {})]
  for k in range(store.settings.deliver.tries):
    deliver.deliver(store, now=time.time() + 1e6 * (k + 1))
  assert state(store)[0] == 'failed'
  assert state(store)[1].reason == 'PACS answered STOW with 503'
  stow.answers = [(200, both(1))]
  from medjax.service import again

  assert '1 deliveries' in again.retry(store, 1, who='me')
  deliver.deliver(store)
  assert state(store)[0] == 'done'


def test_a_peer_that_is_no_longer_named(store):
  job(store, Peer('PACS', dicomweb='http://x', results=('stow',)))
  object.__setattr__(store.settings, 'peers', ())
  deliver.deliver(store)
  assert state(store)[1].reason == 'PACS is no longer a peer'


def test_a_dead_association_is_no_loop(store):
  peer = Peer('PACS', ae_title='X', port=1, results=('c-store',))
  began = time.monotonic()
  with pytest.raises(peers.UnsentError, match='does not answer'):
    peers.send(store.settings, peer, 'c-store', [_report()])
  assert time.monotonic() - began < 30


def test_a_pacs_that_takes_no_segmentations_is_told(store):
  import pynetdicom
  from pynetdicom.sop_class import CTImageStorage, Verification

  ae = pynetdicom.AE('X')
  ae.add_supported_context(CTImageStorage)
  ae.add_supported_context(Verification)
  server = ae.start_server(('127.0.0.1', 0), block=False)
  port = server.socket.getsockname()[1]
  peer = Peer('PACS', ae_title='X', port=port, results=('c-store',))
  with pytest.raises(peers.UnsentError, match='accepts none of the results'):
    peers.send(store.settings, peer, 'c-store', [_report()])
  server.shutdown()


def _report():
  import io

  import pydicom

  d = pydicom.Dataset()
  d.file_meta = pydicom.dataset.FileMetaDataset()
  d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  d.SOPClassUID, d.SOPInstanceUID = pydicom.uid.ComprehensiveSRStorage, '1.2'
  stream = io.BytesIO()
  d.save_as(stream, enforce_file_format=True)
  return stream.getvalue()
