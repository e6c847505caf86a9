"""A search space: a function of a file, `space(trial) → {field: value}`."""

import ast
import hashlib
import pathlib
import runpy

from medjax import config as config_lib
from medjax import public, shipped
from medjax.build import closest
from medjax.config import is_part

# What makes the scores of two trials comparable, and the test split unseen.
_FIXED = (*config_lib.OF_THE_DATA, 'train.steps', 'task.monitor')
DRAWS = 50  # of a space, to see what it may say


def load(path):
  """The function `space` of a Python file.

  Raises FileNotFoundError, ValueError: no such file, no such function.
  """
  space = runpy.run_path(_find(path)).get('space')
  if not callable(space):
    raise ValueError(
      f'{path} has no function space(trial), which gives {{field: value}}'
    )
  return space


def _find(path):
  found = shipped.find(str(path))
  if not pathlib.Path(found).is_file():
    raise FileNotFoundError(f'{path}: no such file of a search space')
  return str(found)


def configured(config, overrides, fold=None):
  """The config of a file, 'configs/unet.py:hippocampus', with fields set.

  overrides: {'optimizer.learning_rate': 1e-3, …}; an argument of what has a
  name may be new. Of a cross-validation, the config of the run that tests
  `fold`. Raises ValueError for a field that the config has not, that says which
  cases are whose, or that has a value of another type.
  """
  made = public.read_config(config)
  for field, value in plain(overrides).items():
    _check_free(made, field, value)
    _set(made, field, value)
  if fold is None:
    return made
  return config_lib.members(config_lib.complete(made), '')[fold][0]


def check(config, draw):
  """Raises ValueError for a space that says what the config cannot.

  draw(seed) → overrides; many, as a field may be set in some trials only.
  """
  for seed in range(DRAWS):
    configured(config, draw(seed))


def digest(config, path):
  """Hexadecimal digits of what a config and the file of a space say.

  Where things lie does not count: another machine may say otherwise. Nor do
  comments and docstrings.
  """
  made = config_lib.complete(configured(config, {}))
  for name in config_lib.PLACES:
    part, last = name.split('.')
    del made[part][last]
  text = config_lib.to_json(made) + _code(_find(path))
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def _code(path):
  """A Python file without comments and docstrings, which do nothing."""
  tree = ast.parse(pathlib.Path(path).read_text('utf-8'))
  for node in ast.walk(tree):
    told = isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
    if told and ast.get_docstring(node) is not None:
      node.body[:1] = [] if node.body[1:] else [ast.Pass()]
  return ast.unparse(tree)


def plain(overrides):
  """Overrides by the names of the fields, without a flag's 'config.'."""
  return {k.removeprefix('config.'): v for k, v in overrides.items()}


def _check_free(config, field, value):
  for name in _FIXED:
    if f'{field}.'.startswith(f'{name}.'):
      raise ValueError(
        f'the space sets {field!r}, which must be the same in all trials for '
        'their scores to be comparable: set it in the config'
      )
    below = name.removeprefix(f'{field}.')
    # A part given whole would set it, or put its default in its place.
    if below != name and (_holds(value, below) or _holds(config, name)):
      raise ValueError(
        f'the space sets {field!r} as a whole, but {name!r} must be the same '
        'in all trials for their scores to be comparable: set the other fields '
        f'one by one, as {field + ".…"!r}'
      )


def _holds(tree, name):
  """Whether there is a field in a part, or in a dict that becomes one."""
  for key in name.split('.'):
    if not hasattr(tree, 'items') or key not in tree:
      return False
    tree = tree[key]
  return True


def _set(config, field, value):
  *parents, last = field.split('.')
  place = config
  for i, name in enumerate(parents):
    if not is_part(place) or name not in place:
      _refuse('.'.join(parents[: i + 1]), field, place)
    place = place[name]
  if not is_part(place):
    _refuse(field, field, {})
  if last not in place and 'name' not in place:
    _refuse(last, field, place)
  try:
    with place.unlocked():
      place[last] = value
  except TypeError:
    raise ValueError(
      f'the space sets {field!r} to {value!r}, of type {type(value).__name__}: '
      f'make it of type {place.get_type(last).__name__}, as in the config'
    ) from None


def _refuse(name, field, place):
  known = list(place) if is_part(place) else []
  raise ValueError(
    f'the space sets {field!r}, which the config has not'
    f'{closest(name.rpartition(".")[2], known)}'
  )
