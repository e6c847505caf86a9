"""UIDs, digests and dates that are a function of what they stand for."""

import hashlib
import json
import re

_UID = re.compile(r'[0-9]+(\.[0-9]+)*')


def is_uid(text):
  """Whether a text has the form of a UID, PS3.5 9.1."""
  return len(text) <= 64 and _UID.fullmatch(text) is not None


def digest(*parts):
  """64 hexadecimal digits that stand for texts."""
  text = '\0'.join(map(str, parts))
  return hashlib.sha256(text.encode()).hexdigest()


def uid(*parts):
  """A UID that stands for texts: 2.25. and 128 bits, PS3.5 B.2."""
  return f'2.25.{int(digest(*parts)[:32], 16)}'


def installed(model_digest, facts):
  """A digest of a model as it was installed, of all that answers depend on.

  facts: of the store; what is noted of the run beside the answers, its card and
  its validation, does not count.
  """
  rest = {k: v for k, v in facts.items() if k not in ('card', 'validation')}
  return digest(model_digest, json.dumps(rest, sort_keys=True))


def study_id(study_uid):
  """How pages, addresses and logs call a study: 16 digits of a digest."""
  return digest('study', study_uid)[:16]
