"""A name in a config becomes an object: `build(namespace, spec)`."""

import difflib
import functools
import importlib
import inspect


def closest(name, known):
  """'; did you mean …' or the list of known names, for an error message."""
  known = [str(k) for k in known]
  match = difflib.get_close_matches(name, known, n=1)
  if match:
    return f'; did you mean {match[0]!r}?'
  few = ', '.join(known[:12]) + (', …' if len(known) > 12 else '')
  return f'; known: {few or "none"}'


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
    raise ValueError(
      f'{namespace.__name__} has no {name!r}{closest(name, sorted(public))}'
    )
  return getattr(namespace, name)


def build(namespace, spec, **extra):
  """Builds what a config entry `dict(name=…, **arguments)` describes.

  A class gives an instance, a function gives it with the arguments bound.
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
        raise ValueError(
          f'{name} takes no argument {argument!r}'
          f'{closest(argument, parameters)}'
        )
  for argument, value in arguments.items():
    default = getattr(parameters.get(argument), 'default', None)
    if isinstance(value, str) and isinstance(default, int | float):
      raise ValueError(
        f'{name}: {argument} must be like {default!r}, not {value!r}'
      )
  variant = isinstance(target, functools.partial)  # ResNet18 of ResNet
  if inspect.isclass(target.func if variant else target):
    for argument, p in parameters.items():
      if (
        argument not in arguments
        and p.default is p.empty
        and (p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
      ):
        raise ValueError(f'{name} needs the argument {argument!r}')
    return target(**arguments)
  return functools.partial(target, **arguments)
