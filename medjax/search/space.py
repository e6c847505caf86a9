"""A search space: a function of a file, `space(trial) → {field: value}`."""

import pathlib
import runpy

from medjax import public, shipped
from medjax.build import closest
from medjax.config import is_part


def load(path):
  """The function `space` of a Python file.

  Raises FileNotFoundError, ValueError: no such file, no such function.
  """
  found = pathlib.Path(shipped.find(str(path)))
  if not found.is_file():
    raise FileNotFoundError(f'{path}: no such file of a search space')
  space = runpy.run_path(str(found)).get('space')
  if not callable(space):
    raise ValueError(
      f'{path} has no function space(trial), which gives {{field: value}}'
    )
  return space


def configured(config, overrides):
  """The config of a file, 'configs/unet.py:hippocampus', with fields set.

  overrides: {'optimizer.learning_rate': 1e-3, …}; an argument of what has a
  name may be new. Raises ValueError for a field that the config has not.
  """
  made = public.read_config(config)
  for field, value in overrides.items():
    _set(made, field.removeprefix('config.'), value)
  return made


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
  with place.unlocked():
    place[last] = value


def _refuse(name, field, place):
  known = list(place) if is_part(place) else []
  raise ValueError(
    f'the space sets {field!r}, which the config has not'
    f'{closest(name.rpartition(".")[2], known)}'
  )
