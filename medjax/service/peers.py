"""Other systems: how many images a study has there, and sending results."""

import io
import ssl

import pydicom
import pynetdicom
import requests
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

_SECONDS = 20
_BOUNDARY = 'medjax-service-part'
_COUNT = '00201208'  # NumberOfStudyRelatedInstances


class UnsentError(Exception):
  """Why results did not arrive: one sentence.

  `lasting`: sending them again would not help.
  """

  def __init__(self, text, *, lasting=False):
    super().__init__(text)
    self.lasting = lasting


def count_of(settings, peer, study_uid):
  """How many images a peer has of a study; None if it does not tell."""
  try:
    if peer.count == 'c-find':
      return _count_by_find(settings, peer, study_uid)
    if peer.count == 'qido':
      return _count_by_qido(peer, study_uid)
  except Exception:  # what a peer may answer has no end
    return None  # then the quiet seconds decide
  return None


def _count_by_find(settings, peer, study_uid):
  ae = _ae(settings)
  ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
  assoc = _associate(settings, ae, peer)
  if not assoc.is_established:
    return None
  try:
    query = pydicom.Dataset()
    query.QueryRetrieveLevel = 'STUDY'
    query.StudyInstanceUID = study_uid
    query.NumberOfStudyRelatedInstances = None
    for _, found in assoc.send_c_find(
      query, StudyRootQueryRetrieveInformationModelFind
    ):
      if found is not None and found.get('NumberOfStudyRelatedInstances'):
        return int(found.NumberOfStudyRelatedInstances)
  finally:
    assoc.release()
  return None


def _count_by_qido(peer, study_uid):
  reply = requests.get(
    f'{peer.dicomweb}/studies',
    params={'StudyInstanceUID': study_uid, 'includefield': _COUNT},
    headers={'Accept': 'application/dicom+json', **peer.headers},
    timeout=_SECONDS,
  )
  reply.raise_for_status()
  for found in reply.json() if reply.content else ():
    value = found.get(_COUNT, {}).get('Value')
    if value:
      return int(value[0])
  return None


def send(settings, peer, way, objects):
  """Sends DICOM files, as bytes, to a peer; raises `UnsentError`.

  way: 'c-store' or 'stow'.
  """
  try:
    if way == 'c-store':
      _send_by_store(settings, peer, objects)
    else:
      _send_by_stow(peer, objects)
  except (OSError, requests.RequestException) as e:
    raise UnsentError(
      f'{peer.name} does not answer ({type(e).__name__})'
    ) from None


def _ae(settings):
  ae = pynetdicom.AE(settings.dicom.ae_title)
  ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = _SECONDS
  ae.connection_timeout = _SECONDS
  return ae


def _associate(settings, ae, peer):
  return ae.associate(
    peer.host,
    peer.port,
    ae_title=peer.ae_title,
    tls_args=(_tls(settings.dicom), peer.host) if peer.tls else None,
  )


def _tls(dicom):
  """Shows our certificate, and trusts those of `tls_ca`, else the system's."""
  context = ssl.create_default_context(cafile=dicom.tls_ca or None)
  if dicom.tls_cert:
    context.load_cert_chain(dicom.tls_cert, dicom.tls_key)
  return context


def _send_by_store(settings, peer, objects):
  ae = _ae(settings)
  datasets = [pydicom.dcmread(io.BytesIO(b)) for b in objects]
  for d in datasets:
    ae.add_requested_context(d.SOPClassUID, d.file_meta.TransferSyntaxUID)
  assoc = _associate(settings, ae, peer)
  if not assoc.is_established:
    accepts = assoc.is_rejected or assoc.rejected_contexts
    raise UnsentError(
      f'{peer.name} accepts none of the results: it takes neither DICOM '
      'SEG nor SR, or does not know us'
      if accepts
      else f'{peer.name} does not answer'
    )
  try:
    accepted = {c.abstract_syntax for c in assoc.accepted_contexts}
    for d in datasets:
      if d.SOPClassUID not in accepted:
        raise UnsentError(
          f'{peer.name} does not take {d.SOPClassUID.name}: let it accept this '
          'SOP class, then send again',
          lasting=True,
        )
    for d in datasets:
      status = assoc.send_c_store(d)
      code = status.get('Status') if status else None
      if code is None:
        raise UnsentError(f'{peer.name} broke off')
      if code != 0 and code >> 12 != 0xB:  # Bxxx are warnings
        raise UnsentError(
          f'{peer.name} refused {d.SOPClassUID.name} with status 0x{code:04X}'
        )
  finally:
    if assoc.is_established:
      assoc.release()


def _send_by_stow(peer, objects):
  head = f'--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n'.encode()
  end = f'--{_BOUNDARY}--\r\n'.encode()
  reply = requests.post(
    f'{peer.dicomweb}/studies',
    data=b''.join(head + o + b'\r\n' for o in objects) + end,
    headers={
      'Content-Type': (
        f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'
      ),
      'Accept': 'application/dicom+json',
      **peer.headers,
    },
    timeout=_SECONDS,
  )
  if reply.status_code not in (200, 202, 409):
    raise UnsentError(f'{peer.name} answered STOW with {reply.status_code}')
  try:
    found = reply.json()
    failed = found.get('00081198', {}).get('Value') or []
    stored = found.get('00081199', {}).get('Value') or []
  except (ValueError, AttributeError):
    raise UnsentError(f'{peer.name} answered STOW with no DICOM JSON') from None
  # A reply of 200 may still have stored nothing.
  if failed or len(stored) < len(objects):
    raise UnsentError(
      f'{peer.name} stored {len(stored)} of {len(objects)} results by STOW'
    )
