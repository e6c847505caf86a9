"""From a command line: the experiment, the algorithm, and the plan."""

import ast
import json

from medjax import experiment as experiment_lib
from medjax import public
from medjax.build import closest
from medjax.federated import algorithms, secure, simulate


def config(file, fields):
  """The config of a file with fields set otherwise, 'data.path=/a'.

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


def options(text):
  """The options of an algorithm, of JSON."""
  try:
    found = json.loads(text)
  except ValueError as e:
    raise ValueError(f'--options={text} is not JSON: {e}') from None
  if not isinstance(found, dict):
    raise ValueError(f'--options={text}: write {{"name": value}}')
  return found


def algorithm(made, name, given):
  """The algorithm of an experiment, with its options as JSON has them."""
  given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
  return algorithms.make(name, made.config['optimizer'], **given)


def candidates(made, args):
  """{name: algorithm} of `--algorithm=fedavg,fedbn`; options are of one."""
  names, given = args.algorithm.split(','), options(args.options)
  if given and len(names) > 1:
    raise ValueError('--options are those of one --algorithm; give one')
  return {name: algorithm(made, name, given) for name in names}


def plan(args):
  """The Plan of a command line."""
  return simulate.Plan(
    args.rounds,
    args.steps,
    every=args.every,
    min_sites=args.min_sites,
    declared=_declared(args),
  )


def _declared(args):
  """The Range of masked rounds, or None."""
  if args.range is None and args.most is None:
    return None
  if args.range is None or args.most is None:
    raise ValueError('--range and --most go together')
  return secure.Range(args.range, args.most)
