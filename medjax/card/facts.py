"""What a run cannot know of itself: `facts.toml`, written by its authors."""

import pathlib
import tomllib

from medjax import files
from medjax.build import closest

NAME = 'facts.toml'
# Field → what it is, as the card asks for it.
FIELDS = {
  'intended_use': 'What it is for',
  'users': 'Who may use it',
  'not_for': 'What it is not for',
  'population': 'Whom the data stand for',
  'data_provenance': 'Where the data come from',
  'data_licence': 'Licence of the data',
  'reference_standard': 'Reference standard, and who gave it',
  'leakage_check': 'Looking for leaks between the splits',
  'licence': 'Licence of the model',
  'contact': 'Contact',
  'energy': 'Energy of the training',
  'limitations': 'Known limitations',
  'oversight': 'How people oversee it',
  'monitoring': 'How it is watched in use',
  'risks': 'Risk management',
  'security': 'Security',
  'changes': 'Changes since the last version',
}


def read(path):
  """{field: text} of a file of facts; {} for None.

  Raises ValueError of one line for what is no TOML, a field that no card has,
  or a value that is no text.
  """
  if path is None:
    return {}
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file of facts')
  files.check_text(path)
  try:
    found = tomllib.loads(path.read_text(encoding='utf-8-sig'))
  except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
    raise ValueError(f'{path} is not TOML: {e}') from None
  for name, value in found.items():
    if name not in FIELDS:
      raise ValueError(
        f'{path}: a card has no {name!r}{closest(name, FIELDS)}; it has '
        f'{", ".join(FIELDS)}'
      )
    if not isinstance(value, str) or not value.strip():
      raise ValueError(f'{path}: {name} is not a text in quotes')
  return {name: ' '.join(value.split()) for name, value in found.items()}
