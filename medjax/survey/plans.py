"""A plan as a file: fields of a config in JSON, and why they are so.

    {"title": …, "made_by": …, "config": {"data": {…}, "model": {…}, …},
     "reasons": {"patch": {"value": …, "why": …}, …}}

configs/planned.py loads it. It names nothing that is not medjax's: code comes
from the command line only.
"""

import pathlib

from medjax import files, untrusted
from medjax.build import closest
from medjax.config import default_config

# Groups of a config whose fields are all known; others take arguments.
_FIXED = ('data', 'pretrained', 'train', 'inference')


def check_out(path):
  """Raises ValueError or FileExistsError where a plan may not be written."""
  path = pathlib.Path(path)
  if path.suffix != '.json':
    raise ValueError(f'--out={path}: a plan is a .json file')
  if path.exists():
    raise FileExistsError(f'{path} is there already; choose another --out')


def write(path, setup, *, title, made_by):
  """Writes a `Setup` as a file that `load` reads.

  A builder file is left out of it: `untrusted.is_code`.
  """
  fields = setup.config
  if untrusted.is_code(fields['data']['name']):
    data = {k: v for k, v in fields['data'].items() if k != 'name'}
    fields = {**fields, 'data': data}
  check_names(path, fields)
  to_config(path, fields)
  reasons = {
    name: {'value': value, 'why': why} for name, value, why in setup.table
  }
  files.write_json(
    path,
    {
      'title': title,
      'made_by': made_by,
      'config': fields,
      'reasons': reasons,
    },
  )


def load(path):
  """The config that a plan's file holds, defaults filled in.

  A relative data.path is one beside the file, or else where the command is
  given. Raises ValueError of one line for a file that is damaged, or names
  what is not medjax's.
  """
  path = pathlib.Path(path)
  plan = files.read_json(path, mend='python -m medjax.plan writes one')
  if plan is None:
    raise FileNotFoundError(
      f'{path}: no such file; python -m medjax.plan … --out={path} writes one'
    )
  fields = plan.get('config') if isinstance(plan, dict) else None
  if not isinstance(fields, dict):
    raise ValueError(f'{path}: not a plan; python -m medjax.plan writes one')
  check_names(path, fields)
  data = fields.get('data')
  beside = isinstance(data, dict) and path.parent / str(data.get('path') or '.')
  if beside and data.get('path') and beside.exists():  # an absolute one stays
    fields = {**fields, 'data': {**data, 'path': str(beside)}}
  return to_config(path, fields)


def to_config(path, fields):
  """The default config with these fields; `path` is for messages."""
  config = default_config()
  for group, values in _tuples(fields).items():
    if group not in config:
      raise ValueError(
        f'{path}: no config field {group}{closest(group, config)}'
      )
    try:
      if not isinstance(values, dict):
        config[group] = values
        continue
      for name in values:
        if group in _FIXED and name not in config[group]:
          raise ValueError(
            f'no config field {group}.{name}{closest(name, config[group])}'
          )
      config[group].update(values)
    except (AttributeError, KeyError, TypeError, ValueError) as e:
      raise ValueError(f'{path}: {" ".join(str(e).split())}') from None
  return config


def _tuples(value):
  """JSON's lists as tuples, as configs have them."""
  if isinstance(value, dict):
    return {k: _tuples(v) for k, v in value.items()}
  return (
    tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
  )


def check_names(path, fields):
  """Raises ValueError for a name of code that is not medjax's."""
  data = fields.get('data')
  name = data.get('name') if isinstance(data, dict) else None
  if untrusted.is_code(name):
    raise ValueError(
      f'{path}: data.name is {name!r}, a file with code; leave it out of the '
      f'plan and say --config.data.name={name}'
    )
  for name in untrusted.foreign(fields):
    raise ValueError(
      f'{path}: names {name!r}, which is not of medjax; write it into a config '
      'of your own'
    )
