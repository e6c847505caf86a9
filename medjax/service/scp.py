"""The intake by DICOM: C-STORE and C-ECHO, with an allow-list."""

import collections
import logging
import ssl
import threading
import time

import pynetdicom
from pydicom import uid
from pynetdicom import evt, sop_class

from medjax.service import intake
from medjax.service.settings import LOOPBACK

log = logging.getLogger('medjax.service')

_HELD = 5.0  # seconds between two signs that a line is still held
# Waits for a port that a process which is just dying still has.
_BINDING = 15.0


# Those of images. Every association copies the list for all 170 SOP classes,
# so that all 45 there are, video included, would cost it megabytes.
_SYNTAXES = (
  uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian,
  uid.DeflatedExplicitVRLittleEndian, uid.ExplicitVRBigEndian,
  uid.RLELossless, uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit,
  uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless,
  uid.JPEGLSNearLossless, uid.JPEG2000Lossless, uid.JPEG2000,
)  # fmt: skip


class Scp:
  """Takes studies by C-STORE; `start()` returns when it listens."""

  def __init__(self, store):
    self._store, self._settings = store, store.settings
    self._lines = collections.defaultdict(set)  # association → its studies
    self._counts = collections.Counter()
    self._lock = threading.Lock()
    self._stopped = threading.Event()
    self._server = None

  def start(self):
    """Listens; raises OSError where the port is taken."""
    d = self._settings.dicom
    ae = pynetdicom.AE(d.ae_title)
    ae.maximum_associations = 50
    # The second is how long a connection that says nothing costs a thread.
    ae.network_timeout, ae.acse_timeout, ae.dimse_timeout = 60, 5, 60
    ae.maximum_pdu_size = 131072
    for context in pynetdicom.AllStoragePresentationContexts:
      ae.add_supported_context(context.abstract_syntax, _SYNTAXES)
    ae.add_supported_context(sop_class.Verification)
    handlers = [
      (evt.EVT_C_STORE, self._on_store),
      (evt.EVT_C_ECHO, lambda event: intake.OK),
      (evt.EVT_REQUESTED, self._on_requested),
      (evt.EVT_ACCEPTED, self._on_accepted),
      (evt.EVT_PDU_RECV, self._on_pdu),
      (evt.EVT_CONN_CLOSE, self._on_close),
    ]
    until = time.monotonic() + _BINDING
    while True:
      try:
        self._server = ae.start_server(
          (d.host, d.port),
          block=False,
          evt_handlers=handlers,
          ssl_context=_tls(d),
        )
        break
      except OSError as e:
        if time.monotonic() > until:
          raise OSError(
            f'{d.host}:{d.port}: no DICOM can be taken there ({e.strerror}); '
            'set [dicom] host and port in service.toml'
          ) from None
        time.sleep(0.1)
    threading.Thread(target=self._hold, daemon=True).start()

  def stop(self):
    """Ends all associations."""
    self._stopped.set()
    self._server.shutdown()

  def _on_requested(self, event):
    """Refuses who is not on the list of peers."""
    assoc = event.assoc
    address = assoc.requestor.address
    title = str(assoc.requestor.primitive.calling_ae_title).strip()
    peers = self._settings.peers
    known = [p for p in peers if p.ae_title == title]
    if address in LOOPBACK:
      allowed = bool(known) or not peers
    else:
      allowed = any(p.host == address for p in known)
    if not allowed:
      log.warning('refused an association from %s: no such peer', address)
      intake.note_refusal(self._store, f'{address} is no peer that may send')
      # Rejected for good, by the service user: calling AE title not recognised.
      assoc.acse.send_reject(0x01, 0x01, 0x03)
      assoc.kill()

  def _on_accepted(self, event):
    """Says which images a peer cannot send, for want of a syntax of ours."""
    taken = {c.abstract_syntax for c in event.assoc.accepted_contexts}
    for context in event.assoc.rejected_contexts:
      if context.abstract_syntax not in taken:
        kind = uid.UID(context.abstract_syntax).name
        text = f'{kind} was offered in no transfer syntax that is taken'
        log.warning(text)
        intake.note_refusal(self._store, text)

  def _on_pdu(self, event):
    """Breaks off where a file is too large, before the memory is full."""
    message, assoc = event.assoc.dimse.message, event.assoc
    largest = self._settings.intake.largest_mb
    if message is not None and message.data_set.tell() > largest * 2**20:
      log.warning('broke off a C-STORE of more than %d MB', largest)
      intake.note_refusal(self._store, f'a file has more than {largest} MB')
      assoc.dul.socket.close()  # an A-ABORT would wait behind what still comes

  def _on_store(self, event):
    peer = str(event.assoc.requestor.ae_title).strip()
    try:
      data = event.encoded_dataset()
      answer = intake.receive(self._store, data, peer=peer)
    except Exception as e:  # whatever it is, the intake stays up
      log.error('C-STORE failed: %s', type(e).__name__)
      return intake.NOT_UNDERSTOOD
    if answer.status == intake.OK:
      with self._lock:
        self._lines[event.assoc].add(answer.study)
        self._counts[event.assoc] += 1
    else:
      log.warning('C-STORE refused (0x%04X): %s', answer.status, answer.text)
    return answer.status

  def _on_close(self, event):
    with self._lock:
      studies = self._lines.pop(event.assoc, None)
      count = self._counts.pop(event.assoc, 0)
    if studies:
      peer = str(event.assoc.requestor.ae_title).strip()
      try:
        intake.release(self._store, studies, peer, count)
      except Exception as e:
        log.error('an association was not noted: %s', type(e).__name__)

  def _hold(self):
    """Keeps studies open whose peer still holds the line."""
    while not self._stopped.wait(_HELD):
      with self._lock:
        held = set().union(*self._lines.values())
      if held:
        try:
          intake.hold(self._store, held)
        except Exception as e:
          log.error('held lines were not noted: %s', type(e).__name__)


def _tls(dicom):
  if not dicom.tls_cert:
    return None
  context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
  context.load_cert_chain(dicom.tls_cert, dicom.tls_key)
  if dicom.tls_ca:
    context.load_verify_locations(dicom.tls_ca)
    context.verify_mode = ssl.CERT_REQUIRED
  return context
