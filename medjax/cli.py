"""What the command lines share: quiet libraries and errors of one line."""

import contextlib
import os
import sys

from absl import flags, logging

# What users can cause and mend; anything else is a defect and keeps its
# traceback.
USER_ERRORS = (ValueError, OSError, FloatingPointError, flags.Error)


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
