"""Writes docs/reference/: a page for each room of medjax, of its docstrings.

The pages only name the modules; the site's generator reads them.
"""

import ast
import pathlib
import shutil

HERE = pathlib.Path(__file__).resolve().parent
PACKAGE = HERE.parent / 'medjax'
TOP = 'medjax'  # the page of the modules that lie in no room


def modules():
  """{room: [(module, its file), …]}, rooms and modules by name."""
  found = {}
  for path in sorted(PACKAGE.rglob('*.py')):
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    if parts[-1] == '__init__':
      parts = parts[:-1]
    if any(part.startswith('_') for part in parts):
      continue
    inside = (PACKAGE / parts[0]).is_dir() if parts else False
    room = parts[0] if inside else TOP
    found.setdefault(room, []).append(('.'.join(('medjax', *parts)), path))
  return found


def about(path):
  """The first line of a module's docstring."""
  text = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
  return text.partition('\n')[0]


def main():
  """Writes the pages anew."""
  folder = HERE / 'reference'
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir()
  index = ['# Reference', '', '| module | about |', '|---|---|']
  for room, members in modules().items():
    name = room if room == TOP else f'medjax.{room}'
    page = [f'# {name}', '', *(f'::: {module}\n' for module, _ in members)]
    (folder / f'{room}.md').write_text('\n'.join(page), encoding='utf-8')
    said = about(members[0][1]).replace('|', '\\|')
    index.append(f'| [{name}]({room}.md) | {said} |')
  text = '\n'.join(index) + '\n'
  (folder / 'index.md').write_text(text, encoding='utf-8')


if __name__ == '__main__':
  main()
