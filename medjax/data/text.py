"""Text as numbers, without a model of language."""

import re
import zlib

import numpy as np

_WORD = re.compile(r'\w+')


def hash_text(sample, *, size=512, words=2):
  """Text as counts of its words and runs of words: (size,) float32.

  Each run of up to `words` words, in small letters, counts at a place and with
  a sign that its CRC-32 says, the same everywhere (Weinberger et al. 2009,
  feature hashing); the whole has length 1. NaN where a sample has no text.
  """
  text = sample.get('text')
  if text is None or not str(text).strip():
    return {**sample, 'text': np.full(size, np.nan, np.float32)}
  counts = np.zeros(size, np.float32)
  found = _WORD.findall(str(text).lower())
  for length in range(1, words + 1):
    for i in range(len(found) - length + 1):
      code = zlib.crc32(' '.join(found[i : i + length]).encode())
      counts[(code >> 1) % size] += 1 - 2 * (code & 1)
  norm = np.linalg.norm(counts)
  return {**sample, 'text': counts / norm if norm else counts}
