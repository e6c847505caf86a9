"""A name in a config becomes an object: `build(namespace, spec)`."""

import difflib
import functools
import importlib
import inspect


def _closest(name, known):
  match = difflib.get_close_matches(name, known, n=1)
  return f'; did you mean {match[0]!r}?' if match else ''


def _home(thing):
  """Top-level package: what a module merely imports is none of its names."""
  thing = thing.func if isinstance(thing, functools.partial) else thing
  name = getattr(thing, '__module__', None) or thing.__name__
  return name.partition('.')[0]


def lookup(namespace, name):
  """The object called `name` in a module, or `'package.module:Name'`."""
  if ':' in name:
    module, _, name = name.partition(':')
    try:
      namespace = importlib.import_module(module)
    except ModuleNotFoundError as e:
      raise ValueError(f'cannot import {module!r}: {e}') from None
  public = [
    k
    for k, v in vars(namespace).items()
    if callable(v) and not k.startswith('_') and _home(v) == _home(namespace)
  ]
  if name not in public:
    hint = _closest(name, public) or f'; known: {", ".join(sorted(public))}'
    raise ValueError(f'{namespace.__name__} has no {name!r}{hint}')
  return getattr(namespace, name)


def build(namespace, spec, **extra):
  """Builds what a config entry `dict(name=…, **arguments)` describes.

  A class, or a partial of one (ResNet18), gives an instance; a function gives
  it with the arguments bound.
  `extra` holds arguments that the program knows and the config need not say.
  """
  arguments = {**extra, **spec}
  name = arguments.pop('name', None)
  if name is None:
    raise ValueError(f"a {namespace.__name__} entry has no 'name': {spec}")
  target = lookup(namespace, name)
  parameters = inspect.signature(target).parameters
  if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
    for argument in arguments:
      if argument not in parameters:
        hint = _closest(argument, parameters)
        raise ValueError(f'{name} takes no argument {argument!r}{hint}')
  made_of = target.func if isinstance(target, functools.partial) else target
  if inspect.isclass(made_of):
    return target(**arguments)
  return functools.partial(target, **arguments)
