"""medjax: deep learning for medical images in JAX and Flax."""

import importlib
import os
import signal
import sys

__version__ = '0.1.0'

_PUBLIC = ('batches', 'load', 'metrics')


def __getattr__(name):
  # What these need takes seconds to import; `import medjax` takes none.
  if name not in _PUBLIC:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  if name == 'metrics':
    return importlib.import_module('medjax.metrics')
  from medjax import public

  return getattr(public, name)


def __dir__():
  return sorted({*globals(), *_PUBLIC})


def _interrupted(number, frame):
  os.write(2, b'medjax: interrupted\n')
  os._exit(128 + number)


# python -m medjax.COMMAND: its imports take seconds, in which Ctrl-C would end
# in the traceback of some library. `cli.one_line_errors` takes over from here.
_hears = signal.getsignal(signal.SIGINT) is signal.default_int_handler
if sys.argv[:1] == ['-m'] and _hears:
  signal.signal(signal.SIGINT, _interrupted)
