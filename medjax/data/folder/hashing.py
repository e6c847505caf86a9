"""Ids that say nothing: digests of a case's id and patient with a salt.

Without a salt of one's own anyone could compute the digests of all ids there
are, and look a patient up.
"""

import dataclasses
import hashlib
import hmac
import pathlib

from medjax import files

_DIGITS = 16


def hashed(entries, path):
  """Entries whose ids and patients are digests; `path`: the salt's file.

  Raises ValueError or OSError of one line for a file that is no salt.
  """
  salt = _salt(path)
  return [
    dataclasses.replace(
      e,
      id=digest(salt, e.id),
      patient=digest(salt, e.patient) if e.patient else '',
      where='',
    )
    for e in entries
  ]


def digest(salt, text):
  """Sixteen hexadecimal digits for a text (HMAC-SHA-256)."""
  whole = hmac.new(
    salt, text.encode('utf-8', 'surrogateescape'), hashlib.sha256
  )
  return whole.hexdigest()[:_DIGITS]


def _salt(path):
  path = pathlib.Path(path).expanduser()
  return files.read_secret(
    path,
    called=f'data.hash_ids {path}',
    lacking='make one of 32 random bytes, and keep it apart from the runs',
    kind='salt',
  )
