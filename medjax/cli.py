"""Shared by the command lines: quiet libraries and errors of one line."""

import contextlib
import os
import sys

from absl import flags, logging

# What users can cause and mend; anything else is a defect and keeps its
# traceback.
USER_ERRORS = (ValueError, OSError, FloatingPointError, flags.Error)


def parse_flags(argv):
  """absl's parser, whose errors about configs become short."""
  try:
    return flags.FLAGS(argv)
  # An unknown field, or one below it; mostly with a "Did you mean".
  except (AttributeError, KeyError) as e:
    text = str(e).replace('\\n', ' ').translate({ord(c): None for c in '\\"\''})
    raise flags.Error(f'no config field {text}') from None
  except flags.IllegalFlagValueError as e:  # may quote a whole traceback
    last = str(e).strip().splitlines()[-1]
    raise flags.Error(last.removeprefix('ValueError: ')) from None


@contextlib.contextmanager
def one_line_errors():
  """A user's error ends the program with one line and exit code 1.

  `--debug` anywhere on the command line shows the traceback instead.
  """
  # What libraries log of an error says no more than the error does.
  logging.set_verbosity(logging.FATAL)
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('GRPC_VERBOSITY', 'ERROR')
  try:
    yield
  except KeyboardInterrupt:
    print('medjax: interrupted', file=sys.stderr)
    sys.exit(130)
  except USER_ERRORS as e:
    if '--debug' in sys.argv:
      raise
    print(f'medjax: {" ".join(str(e).split())}', file=sys.stderr)
    sys.exit(1)


def aligned(header, rows, sides):
  """Text of a table; `sides` says 'l' or 'r' for each column."""
  widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
  lines = []
  for row in (header, *rows):
    cells = [
      cell.ljust(width) if side == 'l' else cell.rjust(width)
      for cell, width, side in zip(row, widths, sides, strict=True)
    ]
    lines.append('  '.join(cells).rstrip())
  return '\n'.join(lines)
