"""Lists the commands, or runs one: `medjax COMMAND …`."""

import ast
import pathlib
import re
import runpy
import sys

from medjax import __version__, cli
from medjax.build import closest

_PACKAGE = pathlib.Path(__file__).resolve().parent


def commands():
  """{name: what it does} of the modules that are programs; none is imported."""
  files = {p.stem: p for p in _PACKAGE.glob('*.py') if p.stem != '__main__'}
  files |= {p.parent.name: p for p in _PACKAGE.glob('*/__main__.py')}
  found = {}
  for name, path in sorted(files.items()):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    if any(isinstance(node, ast.If) and _is_guard(node) for node in tree.body):
      first = (ast.get_docstring(tree) or '').partition('\n')[0]
      found[name] = re.split(r':? ?\(?`?python -m', first)[0].rstrip('.')
  return found


def _is_guard(node):
  return ast.unparse(node.test) == "__name__ == '__main__'"


def listing():
  """All commands, a line each."""
  rows = [[name, about] for name, about in commands().items()]
  lines = cli.aligned(['command', 'what it does'], rows, 'll')
  more = 'medjax COMMAND --help says more, as does python -m medjax.COMMAND.'
  return f'medjax {__version__}\n\n{lines}\n\n{more}'


def main():
  """Command line entry point: `medjax`, `python -m medjax`."""
  command, *rest = sys.argv[1:] or ['--help']
  if command in ('--help', '-h', 'help'):
    print(listing())
    return
  if command == '--version':
    print(__version__)
    return
  with cli.one_line_errors():
    known = commands()
    if command not in known:
      raise ValueError(f'no command {command!r}{closest(command, known)}')
  sys.argv = [f'medjax {command}', *rest]
  with cli.one_line_errors():  # of its imports; it has its own of the rest
    runpy.run_module(f'medjax.{command}', run_name='__main__', alter_sys=True)


if __name__ == '__main__':
  main()
