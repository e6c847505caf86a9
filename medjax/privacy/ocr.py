"""A second look at pictures by Tesseract, where it is installed.

It finds few words (docs/privacy.md); it never replaces the detector.
"""

import shutil
import subprocess

import numpy as np

from medjax.privacy.objects import RefusedError


def check():
  """Raises ValueError of one line where Tesseract is not there, or fails."""
  run = _run(_program(), np.zeros((64, 64)))
  if run.returncode:
    said = run.stderr.decode('utf-8', 'replace').split('\n')[0].strip()
    raise ValueError(f'--ocr: Tesseract fails: {said or run.returncode}')


def reader(identifiers):
  """(image) → boxes of the words that are like the patient's identifiers.

  Raises ValueError where there is no Tesseract, the function `RefusedError`
  where it fails on an image.
  """
  program = _program()
  return lambda image: _matching(program, image, identifiers)


def _program():
  program = shutil.which('tesseract')
  if program is None:
    raise ValueError(
      '--ocr needs Tesseract, which is not there: apt-get install tesseract-ocr'
    )
  return program


def _run(program, image):
  span = float(image.max() - image.min()) or 1.0
  grey = ((image - image.min()) / span * 255).astype(np.uint8)
  header = f'P5 {grey.shape[1]} {grey.shape[0]} 255\n'.encode()
  return subprocess.run(
    [program, '-', '-', '--psm', '11', 'tsv'],
    input=header + grey.tobytes(),
    capture_output=True,
    check=False,
  )


def _matching(program, image, identifiers):
  run = _run(program, image)
  if run.returncode:
    raise RefusedError('Tesseract fails on its picture')
  found = []
  for line in run.stdout.decode('utf-8', 'replace').splitlines()[1:]:
    cells = line.split('\t')
    if len(cells) == 12 and _is_like(cells[11], identifiers):
      left, top, width, height = map(int, cells[6:10])
      found.append((max(top - 3, 0), max(left - 3, 0), top + height + 3,
                    left + width + 3))  # fmt: skip
  return found


def _is_like(word, identifiers):
  """Whether a word is one of the identifiers but for every fourth letter."""
  from medjax.privacy.identifiers import normal

  word = normal(word)
  if len(word) < 3:
    return False
  for known in identifiers.words | identifiers.texts:
    if abs(len(known) - len(word)) <= len(word) // 4:
      if _distance(word, known) <= len(word) // 4:
        return True
    elif len(word) >= 5 and word in known:
      return True
  return False


def _distance(a, b):
  """Levenshtein's."""
  row = range(len(b) + 1)
  for i, x in enumerate(a, 1):
    before, row = row, [i]
    for j, y in enumerate(b, 1):
      row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
  return row[-1]
