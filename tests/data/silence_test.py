"""Decoders are kept quiet, the program's own lines are not."""

import subprocess
import sys

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
