"""Decoders and pydicom are kept quiet, the program's own lines are not."""

import logging
import subprocess
import sys
import threading
import warnings

from medjax.data.formats.dicom.errors import quiet
from medjax.data.formats.silence import unlogged, unwarned

PROGRAM = """
import os, sys
from medjax.data.formats.silence import silent
with silent():
  os.write(2, b'a decoder in C\\n')
  print('an error', file=sys.stderr)
os.write(2, b'after\\n')
print('more', file=sys.stderr)
"""


def test_what_python_writes_meanwhile_is_seen():
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM], capture_output=True, text=True
  )
  assert done.stderr == 'an error\nafter\nmore\n'


def test_pydicom_is_quiet_until_the_last_thread_has_read():
  logger = logging.getLogger('pydicom')
  before = logger.level, warnings.filters[:]
  entered, left, seen = threading.Event(), threading.Event(), []

  def longer():
    with quiet():
      entered.set()
      left.wait(10)
      seen.append((logger.level, warnings.filters[0][0]))

  thread = threading.Thread(target=longer)
  with quiet():
    thread.start()
    entered.wait(10)
  left.set()
  thread.join()
  assert seen == [(logging.CRITICAL + 1, 'ignore')]
  assert (logger.level, warnings.filters[:]) == before


def test_filters_are_as_before_whichever_reader_leaves_last():
  """Of DICOM in one thread and TIFF in another, which began first."""
  before = logging.getLogger('tifffile').level, warnings.filters[:]
  entered, left = threading.Event(), threading.Event()

  def dicom():
    entered.wait(10)
    with quiet():
      left.set()
      tiff_left.wait(10)

  tiff_left, thread = threading.Event(), threading.Thread(target=dicom)
  thread.start()
  with unlogged():
    entered.set()
    left.wait(10)
  tiff_left.set()
  thread.join()
  assert (logging.getLogger('tifffile').level, warnings.filters[:]) == before


def test_who_opens_a_picture_beside_brings_no_warning_back():
  """The first to enter leaves first; the other has DICOM open still."""
  before = warnings.filters[:]
  picture, dicom = unwarned(), unlogged()
  picture.__enter__()
  dicom.__enter__()
  picture.__exit__(None, None, None)
  assert warnings.filters[0][0] == 'ignore'
  dicom.__exit__(None, None, None)
  assert warnings.filters[:] == before
