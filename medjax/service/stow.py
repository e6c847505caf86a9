"""STOW-RS: the parts of a multipart request, and its answer (PS3.18 10.5)."""

import re

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from medjax.service import intake

_TYPE = re.compile(r'multipart/related\b', re.IGNORECASE)
_BOUNDARY = re.compile(r'boundary="?([^";,\s]{1,70})"?', re.IGNORECASE)


class UnreadableError(ValueError):
  """A request that is none of STOW; `status` is that of HTTP."""

  def __init__(self, text, status=400):
    super().__init__(text)
    self.status = status


def boundary_of(content_type):
  """What stands between the parts; raises UnreadableError if nothing does."""
  if not _TYPE.match(content_type or ''):
    raise UnreadableError(
      'STOW takes multipart/related; type="application/dicom"', 415
    )
  found = _BOUNDARY.search(content_type)
  if found is None:
    raise UnreadableError('multipart/related without a boundary')
  return found[1].encode()


class Parts:
  """Collects the parts of a body as it comes; `feed(bytes)` yields whole ones.

  No part may have more than `largest` bytes.
  """

  def __init__(self, boundary, largest):
    self._largest, self._part, self._ready = largest, bytearray(), []
    self._ended = False
    self._parser = MultipartParser(
      boundary,
      {
        'on_part_begin': self._begin,
        'on_part_data': self._data,
        'on_part_end': self._end,
        'on_end': self._finish,
      },
      max_size=float('inf'),
    )

  def feed(self, chunk):
    """Yields the parts that end in a chunk."""
    try:
      self._parser.write(chunk)
    except FormParserError as e:
      raise UnreadableError(f'the body is no multipart: {e}') from None
    ready, self._ready = self._ready, []
    yield from ready

  def close(self):
    """Raises UnreadableError where the body stopped before its end."""
    if not self._ended:
      raise UnreadableError('the body ends before its last boundary')

  def _begin(self):
    self._part = bytearray()

  def _data(self, data, start, end):
    if len(self._part) + end - start > self._largest:
      raise UnreadableError(f'a part has more than {self._largest} bytes', 413)
    self._part += data[start:end]

  def _end(self):
    self._ready.append(bytes(self._part))
    self._part = bytearray()

  def _finish(self):
    self._ended = True


def reply(answers):
  """(HTTP status, DICOM JSON) of what became of the parts.

  200: all are stored, 202: some, 409: none. FailedSOPSequence has an item for
  each that was not.
  """
  stored = [a for a in answers if a.status == intake.OK]
  failed = [a for a in answers if a.status != intake.OK]
  tree = {}
  if stored:
    tree['00081199'] = {'vr': 'SQ', 'Value': [_item(a) for a in stored]}
  if failed:
    tree['00081198'] = {
      'vr': 'SQ',
      'Value': [
        {**_item(a), '00081197': {'vr': 'US', 'Value': [a.status]}}
        for a in failed
      ],
    }
  status = 200 if not failed else 202 if stored else 409
  return status, tree


def _item(answer):
  return {
    '00081150': {'vr': 'UI', 'Value': [answer.sop_class]},
    '00081155': {'vr': 'UI', 'Value': [answer.sop_uid]},
  }
