"""Code outside of medjax that a config names, and loading would run."""

import re
from collections.abc import Mapping

# Texts of a config that are files, columns, classes or patterns, and no code.
_TEXTS = (
  'adapt.train', 'data', 'optimizer.freeze', 'pretrained', 'privacy.key',
  'task.cause_names', 'task.class_names', 'task.concepts', 'task.graph',
  'task.positive', 'task.teacher', 'task.time_unit',
  'train.writer',  # used by training only, which takes that of no workdir
)  # fmt: skip
# What a config may name by a whole path: the parts of medjax that it builds of.
_OURS = re.compile(
  r'medjax\.(augment|data\.transforms|finetune|losses|metrics|models|optim|'
  r'prediction\.cascade|tasks)(\.[a-z]\w*)*:\w+'
)


def is_code(name):
  """Whether the name of a data set is that of a builder's file."""
  return isinstance(name, str) and '.py' in name


def foreign(config, *, data=True):
  """Yields the names of code outside of medjax in (some fields of) a config.

  With `data` a builder's file among them, which is run when data are opened.
  Such code may be named by a config file on the command line, never by a
  workdir, a plan or a table: loading one would run it.
  """
  for path, text in _texts(config):
    plain = _is_in(path, _TEXTS) and not _is_in(path, ('data.preprocess',))
    other = ':' in text and not plain and not _OURS.fullmatch(text)
    if other or (data and path == 'data.name' and is_code(text)):
      yield text


def _is_in(path, fields):
  return any(f'{path}.'.startswith(f'{field}.') for field in fields)


def _texts(value, path=''):
  """Yields (path, text) of all texts, names of fields among them."""
  if isinstance(value, str):
    yield path, value
  elif isinstance(value, Mapping):
    for name, below in value.items():
      yield from _texts(name, path)
      yield from _texts(below, f'{path}.{name}' if path else name)
  elif isinstance(value, list | tuple):
    for below in value:
      yield from _texts(below, path)
