"""Shared by the command lines: quiet libraries and errors of one line."""

import argparse
import ast
import contextlib
import os
import signal
import sys
import threading
import traceback

from absl import flags, logging

from medjax import terminal

_LATER = (
  'Configuration is not available because of an earlier failure to load: '
)
# What users can cause and mend; anything else is a defect and keeps its
# traceback.
USER_ERRORS = (ValueError, OSError, FloatingPointError, flags.Error)


def parse_flags(argv):
  """absl's parser, whose errors about configs become short."""
  try:
    return flags.FLAGS(argv)
  # An unknown field, or one below it; mostly with a "Did you mean".
  except (AttributeError, KeyError) as e:
    if said := _of_config(e):
      raise flags.Error(said) from None
    text = str(e).replace('\\n', ' ').translate({ord(c): None for c in '\\"\''})
    raise flags.Error(f'no config field {text}') from None
  except flags.IllegalFlagValueError as e:  # may quote a whole traceback
    last = str(e).strip().splitlines()[-1]
    raise flags.Error(last.removeprefix('ValueError: ')) from None


def spelled_out(words):
  """Words of a command line as all commands read them."""
  return [literal(word) for word in at_home(words)]


def at_home(words):
  """Words with the home folder for '~', which shells leave in --out=~/x.

  In a field of a config it stays: on another machine home is another.
  """

  def whole(word):
    name, equals, value = word.partition('=')
    if name.startswith('--config.') or not name.startswith('--'):
      name, equals, value = '', '', word
    return f'{name}{equals}{os.path.expanduser(value)}'

  return [whole(word) for word in words]


def literal(argument):
  """An argument of the command line, with dict(name='flip') as a literal.

  So a field may be copied out of a config file; flags take literals only.
  """
  flag, equals, text = argument.partition('=')
  if not flag.startswith(('--config.', '-config.')) or 'dict(' not in text:
    return argument
  try:
    tree = ast.parse(text.strip(), mode='eval')
  except SyntaxError:
    return argument
  return flag + equals + ast.unparse(_Literals().visit(tree))


class _Literals(ast.NodeTransformer):
  def visit_Call(self, node):
    self.generic_visit(node)
    named = all(k.arg for k in node.keywords)
    if ast.unparse(node.func) != 'dict' or node.args or not named:
      return node
    keys = [ast.Constant(k.arg) for k in node.keywords]
    return ast.Dict(keys, [k.value for k in node.keywords])


def _of_config(error):
  """The line for an error within get_config: mostly, of an unknown variant."""
  for frame in traceback.extract_tb(error.__traceback__):
    if frame.name == 'get_config':
      return (
        f'{frame.filename}: get_config failed, {type(error).__name__}: {error};'
        ' what may follow the file as :VARIANT is told in its first lines'
      )
  return ''


@contextlib.contextmanager
def one_line_errors():
  """A user's error ends the program with one line and exit code 1.

  `--debug` anywhere on the command line shows the traceback instead. Within,
  what is printed goes through `terminal.Terminal`s.
  """
  # What libraries log of an error says no more than the error does.
  logging.set_verbosity(logging.FATAL)
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('GRPC_VERBOSITY', 'ERROR')
  _hear_interrupts()
  with terminal.shown():
    try:
      yield
      sys.stdout.flush()
      if getattr(sys.stdout, 'failed', False):
        raise OSError(f'standard output: {sys.stdout.error}')
    except KeyboardInterrupt:
      print('medjax: interrupted', file=sys.stderr)
      sys.exit(130)
    except Exception as e:
      line = said(e)
      if line is None or '--debug' in sys.argv:
        raise
      print(f'medjax: {line}', file=sys.stderr)
      sys.exit(1)


def said(error):
  """The line for an error that a user can cause, None for a defect."""
  line = ' '.join(str(error).split()).removeprefix(_LATER)
  if isinstance(error, PermissionError) and error.filename:
    return f'{error.filename}: may not be opened; change its rights, or move it'
  names = sys.getfilesystemencoding()
  if isinstance(error, UnicodeEncodeError) and names not in ('utf-8', 'utf8'):
    return (
      f'a file is called {error.object}, which is not {names}, in which the '
      'locale has names of files: set one of UTF-8, as LC_ALL=C.UTF-8'
    )
  if isinstance(error, USER_ERRORS):
    return line
  # jax's own type is not named: commands that need no jax are quick.
  if isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in line:
    return (
      f'out of memory ({line[:120]}): a smaller data.batch_size, '
      'data.patch_size or inference.batch_size needs less'
    )
  if isinstance(error, RuntimeError) and 'home directory' in line:
    return 'no home folder is known: set HOME, or give whole paths'
  return _of_devices(error)


def _of_devices(error):
  """The line for a JAX_PLATFORMS that this machine has not; else None."""
  wanted = os.environ.get('JAX_PLATFORMS')
  frames = traceback.extract_tb(error.__traceback__)
  if wanted and frames and frames[-1].filename.endswith('xla_bridge.py'):
    return (
      f'JAX_PLATFORMS={wanted}, but jax finds no such device here: unset it, '
      'or install the jax for it'
    )
  return None


def _hear_interrupts():
  """Ctrl-C is a KeyboardInterrupt again, after the imports."""
  if threading.current_thread() is not threading.main_thread():
    return
  handler = signal.getsignal(signal.SIGINT)
  if getattr(handler, '__module__', '') == 'medjax':
    signal.signal(signal.SIGINT, signal.default_int_handler)


def as_worker():
  """Makes this process one that works for another, and ends with it.

  Ctrl-C in a terminal goes to all: the other decides.
  """
  # Imported before a command becomes __main__, it takes the launcher for that,
  # and what workers send back is not found: `medjax convert`.
  import multiprocessing

  signal.signal(signal.SIGINT, signal.SIG_IGN)

  def watch():
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()


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


class _Parser(argparse.ArgumentParser):
  """One that spells words out, and shows its own on a terminal of ASCII."""

  def parse_known_args(self, args=None, namespace=None):
    words = sys.argv[1:] if args is None else args
    return super().parse_known_args(spelled_out(words), namespace)

  def _print_message(self, message, file=None):
    super()._print_message(message, file and terminal.Terminal(file))


def parser(doc, *examples):
  """An ArgumentParser: the first line of a module, its options, examples."""
  return _Parser(
    description=doc.partition('\n')[0],
    epilog='\n'.join(['examples:', *(f'  medjax {e}' for e in examples)]),
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
