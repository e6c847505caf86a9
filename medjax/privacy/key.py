"""The secret that makes pseudonyms: the same for the same key, else unrelated.

All are keyed BLAKE2b digests. Each holds a second digest of itself, so that the
key knows its own work again: what was de-identified once stays as it is.
"""

import base64
import hashlib
import os
import pathlib
import re
import secrets

_LEAST, _MOST = 30, 3650  # days of a shift into the past
_CHECK = 5  # bytes


class Key:
  """Pseudonyms, UIDs and shifts of dates under one secret.

  id: names the key in records without telling it.
  """

  def __init__(self, secret):
    self.secret = secret
    self.id = self.digest('key', '')[:12]

  def _hash(self, purpose, data, size):
    return hashlib.blake2b(
      data, key=self.secret, person=purpose.encode(), digest_size=size
    ).digest()

  def digest(self, purpose, text):
    """Hexadecimal digits that name a text without telling it."""
    return self._hash(purpose, text.encode('utf-8', 'replace'), 16).hex()

  def _sealed(self, purpose, text, size):
    name = self._hash(purpose, text.encode('utf-8', 'replace'), size)
    return name + self._hash(f'{purpose}?', name, _CHECK)

  def _is_own(self, purpose, data):
    name, check = data[:-_CHECK], data[-_CHECK:]
    return check == self._hash(f'{purpose}?', name, _CHECK)

  def is_uid(self, uid):
    """Whether a UID is one that this key made."""
    if not re.fullmatch(r'2\.25\.[1-9]\d{34,37}', uid):
      return False
    data = int(uid[5:]).to_bytes(16)
    return data[0] == 0x0F and self._is_own('uid', data[1:])

  def uid(self, uid):
    """A UID below 2.25 for another; one of its own stays."""
    if self.is_uid(uid):
      return uid
    data = b'\x0f' + self._sealed('uid', uid, 10)
    return f'2.25.{int.from_bytes(data)}'

  def is_patient(self, text):
    """Whether a text is a pseudonym of this key."""
    if not re.fullmatch('P[A-Z2-7]{24}', text):
      return False
    return self._is_own('patient', base64.b32decode(text[1:]))

  def patient(self, patient):
    """A pseudonym of 25 capital letters and digits; one of its own stays."""
    if self.is_patient(patient):
      return patient
    data = self._sealed('patient', patient, 10)
    return f'P{base64.b32encode(data).decode()}'

  def days(self, patient):
    """Days to add to all dates of a patient, −3650 to −30; 0 of a pseudonym."""
    if self.is_patient(patient):
      return 0
    number = int.from_bytes(self._hash('days', patient.encode(), 8))
    return -(_LEAST + number % (_MOST - _LEAST + 1))


def fresh():
  """A random key that is kept nowhere."""
  return Key(secrets.token_bytes(32))


def read(path, out, source):
  """The key of a file, which is made where there is none.

  Raises ValueError for a file that is no key, or that lies beside the data.
  """
  path = pathlib.Path(path)
  for folder in map(pathlib.Path, (out, source)):
    if path.resolve().is_relative_to(folder.resolve()):
      raise ValueError(
        f'{path}: lies in {folder}; a key beside its data undoes them, keep it '
        'elsewhere'
      )
  if path.exists():
    text = path.read_bytes()[:200].strip()
    if not re.fullmatch(b'[0-9a-f]{64}', text):
      raise ValueError(
        f'{path}: is no key (64 hexadecimal digits); name a file that is not '
        'there, and it is made'
      )
    return Key(bytes.fromhex(text.decode()))
  secret = secrets.token_bytes(32)
  path.parent.mkdir(parents=True, exist_ok=True)
  # For its owner alone, and never over another.
  handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
  with os.fdopen(handle, 'w') as f:
    f.write(secret.hex() + '\n')
  return Key(secret)
