"""From a command line: the experiment, the algorithm, and the plan."""

import ast
import json

from medjax import experiment as experiment_lib
from medjax import public
from medjax.build import closest
from medjax.federated import algorithms, simulate


def config(file, fields):
  """The ConfigDict of a file with fields set otherwise, 'data.path=/a'.

  Raises ValueError for a field that it has not.
  """
  made = public.read_config(file)
  for text in fields:
    name, equals, value = text.partition('=')
    if not equals:
      raise ValueError(f'--set={text}: write FIELD=VALUE')
    *parts, last = name.split('.')
    part = made
    for key in parts:
      part = part.get(key) if hasattr(part, 'get') else None
    if not hasattr(part, 'keys'):
      raise ValueError(f'--set={text}: no config field {name}')
    if last not in part and len(parts) and parts[0] == 'data':
      raise ValueError(
        f'--set={text}: no config field {name}{closest(last, [*part])}'
      )
    part[last] = _value(value)
  return made


def _value(text):
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


def experiment(file, fields, *, facts=None):
  """The Experiment of a config file with fields set otherwise."""
  return experiment_lib.make(config(file, fields), facts=facts)


def planned(made, args):
  """(algorithm, Plan) of a command line."""
  try:
    options = json.loads(args.options)
  except ValueError as e:
    raise ValueError(f'--options={args.options} is not JSON: {e}') from None
  if not isinstance(options, dict):
    raise ValueError(f'--options={args.options}: write {{"name": value}}')
  if 'keep' in options:
    options['keep'] = tuple(options['keep'])
  algorithm = algorithms.make(
    args.algorithm, made.config['optimizer'], **options
  )
  plan = simulate.Plan(
    args.rounds, args.steps, every=args.every, min_sites=args.min_sites
  )
  return algorithm, plan
