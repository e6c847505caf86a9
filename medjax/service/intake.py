"""What comes in, by whatever road: checked, on the disk, then a row."""

import contextlib
import hashlib
import io
import json
import time
from typing import NamedTuple

import pydicom
import sqlalchemy as sa

from medjax.data.formats.dicom.errors import quiet
from medjax.service import audit, tables, uids
from medjax.service import store as store_lib

# DIMSE status, PS3.4 B.2.3 and PS3.7 C; STOW's FailureReason has the same.
OK = 0x0000
OUT_OF_RESOURCES = 0xA700
NOT_UNDERSTOOD = 0xC000
DUPLICATE = 0x0111
REFUSED = 0x0124

# Of a study whose file is not on the disk any more; sent again it is.
GONE = (
  'A file of the study is missing on the disk: nothing was analysed. Send the '
  'study again.'
)
_CUT = 'the file is cut off'
_UNDEFINED = 0xFFFFFFFF  # a length, of what is encapsulated
_WRITTEN = 600.0  # seconds after which nobody writes a file any more
_SHOWN_FOR = 86400.0  # those for which the work list says what was refused
_REFUSALS = 20  # kinds of them that it says

_NO_PIXELS = frozenset(
  ('ANN', 'AU', 'DOC', 'ECG', 'HC', 'KO', 'M3D', 'PLAN', 'PR', 'REG', 'RTPLAN',
   'RTRECORD', 'RTSTRUCT', 'RWV', 'SEG', 'SMR', 'SR', 'STAIN')
)  # fmt: skip
_PIXELS = ('PixelData', 'FloatPixelData', 'DoubleFloatPixelData')
_SHOWN = (
  'PatientName', 'PatientID', 'PatientBirthDate', 'PatientSex', 'StudyDate',
  'StudyDescription', 'AccessionNumber',
)  # fmt: skip


class Answer(NamedTuple):
  """What became of a file.

  status: of DIMSE. text: a sentence without a patient's data. study: its id,
  where it has one. sop_class, sop_uid: as they stand in the file.
  """

  status: int
  text: str = ''
  study: str = ''
  sop_class: str = ''
  sop_uid: str = ''


class _RefusedError(Exception):
  """An `Answer` that is a refusal."""


def receive(store, data, *, peer='', only=''):
  """Keeps the bytes of a DICOM file (PS3.10); returns an `Answer`.

  When it is OK, the file is on the disk and its row is in the store. The same
  file again is OK and changes nothing; another one of the same SOP Instance UID
  is refused, since results name their inputs by it; what differs in the file's
  meta information alone is the same. Our own results, sent back to us, are let
  go. only: a StudyInstanceUID that it must have. What is refused stands on the
  work list.
  """
  answer = _receive(store, data, peer, only)
  if answer.status != OK:
    note_refusal(store, answer.text)
  return answer


def _receive(store, data, peer, only):
  try:
    header = _header(data)
  except _RefusedError as e:
    return e.args[0]
  sop_uid, sop_class = header['sop_uid'], header['sop_class']
  answer = Answer(OK, '', uids.study_id(header['study']), sop_class, sop_uid)
  if only and header['study'] != only:
    return answer._replace(status=NOT_UNDERSTOOD, text='it is of another study')
  try:
    with store.read() as c:
      if _is_ours(c, sop_uid):
        return answer
      t = tables.instances
      here = c.scalar(sa.select(t.c.digest).where(t.c.sop_uid == sop_uid))
    if here is not None:
      data = _as_kept(store, here, data)
    digest = store.receive(data)
    with store.write() as c:
      text = _add(c, header, digest, len(data), peer)
    if not store.path(digest).exists():  # a purge took it meanwhile
      store.receive(data)
  except OSError as e:
    return answer._replace(
      status=OUT_OF_RESOURCES, text=f'no file can be written ({e.strerror})'
    )
  except sa.exc.SQLAlchemyError as e:
    return answer._replace(
      status=OUT_OF_RESOURCES,
      text=f'no row can be written ({type(e).__name__})',
    )
  return answer._replace(status=DUPLICATE, text=text) if text else answer


@quiet()  # `send` reads in the process of a command, which has no log
def _header(data):
  """What is read of a file's header; raises _RefusedError."""

  def refuse(status, text, **known):
    raise _RefusedError(Answer(status, text, **known))

  if not data:
    refuse(NOT_UNDERSTOOD, 'the file is empty')
  try:
    d = pydicom.dcmread(io.BytesIO(data))
    lack = _lack(d, data)
    found = {
      'sop_uid': str(d.get('SOPInstanceUID') or ''),
      'sop_class': str(d.get('SOPClassUID') or ''),
      'study': str(d.get('StudyInstanceUID') or ''),
      'series': str(d.get('SeriesInstanceUID') or ''),
    }
    modality = str(d.get('Modality') or '').strip().upper()
    found['image'] = modality not in _NO_PIXELS and 'Rows' in d
    found['shown'] = {k: _text(d, k) for k in _SHOWN}
  except (
    Exception
  ) as e:  # pydicom meets damage with many kinds, which may quote
    refuse(NOT_UNDERSTOOD, f'the file is no whole DICOM ({type(e).__name__})')
  known = {'sop_uid': found['sop_uid'][:64], 'sop_class': found['sop_class']}
  for name, what in (
    ('sop_uid', 'SOPInstanceUID'), ('sop_class', 'SOPClassUID'),
    ('study', 'StudyInstanceUID'), ('series', 'SeriesInstanceUID'),
  ):  # fmt: skip
    if not uids.is_uid(found[name]):
      refuse(NOT_UNDERSTOOD, f'{what} is missing or no UID', **known)
  if lack:
    refuse(NOT_UNDERSTOOD, lack, **known)
  return found


def _lack(dataset, data):
  """What a file lacks to be whole, as a sentence; '' where it is.

  pydicom reads as far as it gets. dataset: nothing of it was looked at yet.
  """
  last = dataset.get_item([*dataset.keys()][-1]) if len(dataset) else None
  pixels = [dataset.get_item(k) for k in _PIXELS if k in dataset]
  if pixels:  # behind them may stand what is no element
    length = getattr(pixels[0], 'length', _UNDEFINED)
    cut = length != _UNDEFINED and len(pixels[0].value or b'') < length
    return _CUT if cut else ''
  kind = pydicom.uid.UID(str(dataset.get('SOPClassUID') or '')).name
  if 'Image Storage' in kind and 'PixelDataProviderURL' not in dataset:
    return 'the file is an image without pixels, or cut off'
  length = getattr(last, 'length', _UNDEFINED)
  if length == _UNDEFINED or dataset.file_meta.get('TransferSyntaxUID') == (
    pydicom.uid.DeflatedExplicitVRLittleEndian
  ):  # pydicom has met its end
    return ''
  end = last.value_tell + length
  return _CUT if end > len(data) or data[end:].strip(b'\0') else ''


def _as_kept(store, digest, data):
  """The file of a digest if it is the same image as `data`, else `data`.

  Files may differ in their meta information, which is of who wrote the file
  (PS3.10, 7.1) and not of the image.
  """
  with contextlib.suppress(OSError):  # it is not there any more
    kept = store.bytes(digest)
    if _data_set(kept) == _data_set(data):
      return kept
  return data


def _data_set(data):
  """(transfer syntax, bytes behind the meta information) of a file."""
  stream = io.BytesIO(data)
  d = pydicom.filereader.read_partial(stream, lambda *_: True)
  # Of what is deflated nothing is left, for all of it had to be read.
  return d.file_meta.get('TransferSyntaxUID'), data[stream.tell() :] or data


def _text(dataset, keyword):
  """An element as text of at most 256 characters; '' where it is damaged."""
  with contextlib.suppress(Exception):
    return ' '.join(str(dataset.get(keyword) or '').split())[:256]
  return ''


def _is_ours(c, sop_uid):
  t = tables.results
  return c.scalar(sa.select(t.c.id).where(t.c.sop_uid == sop_uid)) is not None


def _add(c, header, digest, size, peer):
  """Adds the row of a file; returns why not, or ''."""
  now, t, s = time.time(), tables.instances, tables.studies
  study = uids.study_id(header['study'])
  # A purge of it is waited for: what is here before may be gone after it.
  c.execute(sa.select(s.c.id).where(s.c.id == study).with_for_update())
  row = c.execute(sa.select(t).where(t.c.sop_uid == header['sop_uid'])).first()
  if row is not None and row.digest == digest and row.study == study:
    c.execute(s.update().where(s.c.id == study).values(touched=now))
    c.execute(
      s.update()
      .where(s.c.id == study, s.c.problem == GONE)
      .values(state='receiving', problem='')
    )
    return ''
  if row is not None:
    text = (
      'an image came twice with different contents; the first was kept, the '
      'other refused'
    )
    remark(c, row.study, text)
    return 'an image of this SOP Instance UID is here with other contents'
  _touch(c, study, header, now, peer)
  c.execute(
    t.insert().values(
      study=study,
      sop_uid=header['sop_uid'],
      sop_class=header['sop_class'],
      series=header['series'],
      digest=digest,
      size=size,
      image=header['image'],
      received=now,
    )
  )
  return ''


def _touch(c, study, header, now, peer):
  """Makes or renews the row of a study to which an image came."""
  s, patient = tables.studies, header['shown']['PatientID']
  row = c.execute(sa.select(s).where(s.c.id == study)).first()
  if row is None:
    c.execute(
      s.insert().values(
        id=study,
        uid=header['study'],
        state='receiving',
        touched=now,
        peer=peer,
        patient=uids.digest('patient', patient),
        shown=header['shown'],
        created=now,
      )
    )
    return
  values = {'touched': now, 'released': None, 'peer': peer or row.peer}
  if row.patient != uids.digest('patient', patient):
    values['problem'] = (
      'Images of two patients (PatientID) came as one study: nothing was '
      'analysed. Correct the study where it comes from.'
    )
  if row.state == 'routed':  # what comes late makes it another version
    values |= {'state': 'receiving', 'version': row.version + 1}
  c.execute(s.update().where(s.c.id == study).values(**values))


def remark(c, study, text):
  """Notes a sentence on a study, once."""
  t = tables.remarks
  there = c.scalar(
    sa.select(t.c.id).where(t.c.study == study, t.c.text == text)
  )
  if there is None:
    c.execute(t.insert().values(study=study, text=text, at=time.time()))


def note_refusal(store, text):
  """Counts a refusal for the work list; `text` has no patient's data."""
  with contextlib.suppress(sa.exc.SQLAlchemyError), store.write() as c:
    found = {r['text']: r for r in refusals(c)}
    count = found.pop(text, {'count': 0})['count'] + 1
    found[text] = {'text': text, 'count': count, 'at': time.time()}
    latest = [*found.values()][-_REFUSALS:]
    store_lib.put_about(c, 'refused', json.dumps(latest))


def refusals(c):
  """What was refused in the last day: [{'text', 'count', 'at'}]."""
  rows = json.loads(store_lib.about(c, 'refused') or '[]')
  return [r for r in rows if time.time() - r['at'] < _SHOWN_FOR]


def hold(store, studies):
  """Says that a peer still holds its line, on which these studies come."""
  with store.write() as c:
    s = tables.studies
    c.execute(
      s.update()
      .where(s.c.id.in_(list(studies)), s.c.state == 'receiving')
      .values(touched=time.time(), released=None)
    )


def release(store, studies, peer, count):
  """Says that a peer has ended its association or request."""
  with store.write() as c:
    s, now = tables.studies, time.time()
    c.execute(
      s.update()
      .where(s.c.id.in_(list(studies)), s.c.state == 'receiving')
      .values(touched=now, released=now, asked=0.0)
    )
    for study in sorted(studies):
      audit.add(c, peer, 'received', study=study, outcome=f'{count} images')


def recover(store):
  """Finds the rows again of files that a power cut took from the database.

  Such files never got a row that is on the disk, though their sender has been
  told that they are here; or a row, but not their name. Those that are cut off
  had no answer; they go, unless somebody may be writing them. Returns how many
  rows were found.
  """
  found, t = 0, tables.instances
  for path in sorted(store.incoming.iterdir()):
    digest = path.name.lstrip('.').partition('.')[0]
    with store.read() as c:
      here = c.scalar(sa.select(t.c.id).where(t.c.digest == digest))
    try:
      if here is not None and path.name == digest:
        continue
      data = path.read_bytes()
      whole = hashlib.sha256(data).hexdigest() == digest
      if whole and here is None:
        found += receive(store, data).status == OK
      elif whole and not store.path(digest).exists():
        # Its row is on the disk, and what it is called by now is not.
        path.rename(store.incoming / digest)
      elif time.time() - path.stat().st_mtime > _WRITTEN:
        path.unlink()
    except FileNotFoundError:  # another process settled it
      continue
  return found
