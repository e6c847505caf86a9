"""The config on a command line: which file, and what can be set in it."""

import inspect
import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from medjax import augment, cli, finetune, models, optim, shipped, tasks
from medjax import config as config_lib
from medjax.build import closest, lookup
from medjax.data import transforms

STORED = pathlib.Path(__file__).parent / 'run' / 'stored.py'
# Where the names of a part are looked up.
_PARTS = {
  'model': models,
  'adapt': finetune,
  'task': tasks,
  'optimizer': optim.optax,
  'schedule': optim,
}
_LISTS = {'augment': augment, 'data.preprocess': transforms}
# What is not for a config to say.
_TOLD = {
  'model': {'name', 'parent', 'num_classes'},
  'adapt': {'freeze'},  # optimizer.freeze
  'optimizer': {'mask'},
  'schedule': {'steps'},
}


def parse(argv):
  """Parses the flags; --config may be left out where a run is evaluated.

  'configs/unet.py' is that of medjax where the current folder has none; a file
  that is missing is said at once. With --help, all there is to say is printed.
  """
  if {'--help', '-help', '-h', '--helpfull'} & {*argv}:
    print(_help(argv))
    sys.exit()
  argv = cli.spelled_out(argv)
  argv = [
    _found(a, before) for before, a in zip(['', *argv], argv, strict=False)
  ]
  mode, workdir = value(argv, 'mode'), value(argv, 'workdir')
  if mode == 'evaluate' and workdir and not value(argv, 'config'):
    argv.insert(1, f'--config={STORED}:{workdir}')
  _check_steps(argv)
  rest = cli.parse_flags(argv)
  _check_file()
  return rest


def _check_steps(argv):
  """Refuses data.preprocess.resize.shape: what is ordered has numbers."""
  for argument in argv:
    for name in _LISTS:
      start = f'--config.{name}.'
      if argument.startswith(start):
        step, _, field = argument.removeprefix(start).partition('.')
        field = field.partition('=')[0] or 'FIELD'
        raise flags.Error(
          f'{argument.partition("=")[0]}: {name} is a list, whose steps are '
          f'counted from 0: --config.{name}[0].{field}=… if {step} is the first'
        )


def is_stored():
  """Whether the config is that of the workdir."""
  file = config_flags.get_config_filename(flags.FLAGS['config'])
  return file.partition(':')[0] == str(STORED)


def value(argv, name):
  """The text of a flag on a command line; '' where it is not."""
  for i, argument in enumerate(argv):
    flag, equals, text = argument.partition('=')
    if flag in (f'--{name}', f'-{name}'):
      return text if equals else (*argv[i + 1 : i + 2], '')[0]
  return ''


def _check_file():
  if flags.FLAGS['config'].value is None:
    return
  file = config_flags.get_config_filename(flags.FLAGS['config'])
  path = pathlib.Path(file.partition(':')[0])
  if not path.is_file():
    ours = [f'configs/{p.name}' for p in shipped.folder('configs').glob('*.py')]
    raise FileNotFoundError(
      f'--config={file}: no such file{closest(str(path), sorted(ours))}'
    )


def _found(argument, before):
  """An argument of the command line, with the whole path of a config."""
  if before in ('--config', '-config'):
    flag, file = '', argument
  else:
    flag, equals, file = argument.partition('=')
    if flag not in ('--config', '-config') or not equals:
      return argument
    flag += equals
  path, colon, variant = file.partition(':')
  return f'{flag}{shipped.find(path)}{colon}{variant}'


# What --help says.


def _help(argv):
  program = sys.modules['__main__'].__doc__ or ''
  defined = flags.FLAGS.flags_by_module_dict()[_module()]
  rows = [
    (f'--{f.name}', (f.help or '').replace('\n', ' '), _default(f.default))
    for f in defined
  ]
  lines = [program.strip(), '', cli.aligned(('flag', 'what', ''), rows, 'lll')]
  if file := value(argv, 'config'):
    kept = [a for a in argv if not a.lstrip('-').startswith('help')]
    kept = [_found(a, b) for b, a in zip(['', *kept], kept, strict=False)]
    cli.parse_flags(kept)
    _check_file()
    config = config_lib.complete(flags.FLAGS['config'].value)
    lines += [
      '',
      f'Fields of {file}, each of which is a flag:',
      *fields(config),
    ]
  else:
    lines += ['', '--config=FILE --help also lists the fields of that file.']
  return '\n'.join(lines)


def _module():
  return flags.FLAGS.find_module_defining_flag('workdir')


def _default(default):
  return '' if default in (None, False, '') else f'[{default}]'


def fields(config):
  """Lines: each field with its value, each name with what it takes."""
  plain, lines = config.to_dict(), []

  def walk(tree, prefix):
    for name, found in tree.items():
      path = f'{prefix}{name}'
      if isinstance(found, dict) and path not in _PARTS:
        walk(found, f'{path}.')
      elif path in _PARTS:
        lines.extend(_named(path, found))
      else:
        lines.append(f'  --config.{path}={found!r}')
        for entry in found if path in _LISTS else ():
          taken = _takes(_LISTS[path], entry['name'], path)
          lines.append(f'      {entry["name"]} takes {", ".join(taken)}')

  walk(plain, '')
  return lines


def _named(part, spec):
  """Lines of a part that names an object."""
  for name, found in spec.items():
    yield f'  --config.{part}.{name}={found!r}'
  if not spec.get('name'):
    return
  taken = _takes(_PARTS[part], spec['name'], part)
  rest = [t for t in taken if t.partition('=')[0] not in spec]
  if rest:
    yield f'      {spec["name"]} also takes {", ".join(rest)}'


def _takes(namespace, name, part):
  """'momentum=None', … of what a name stands for."""
  known = inspect.signature(lookup(namespace, name)).parameters
  hidden = _TOLD.get(part, set())
  return [
    p.name if p.default is p.empty or callable(p.default) else
    f'{p.name}={p.default!r}'
    for p in known.values()
    if p.name not in hidden
    and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    # Of a function, what it is called with: key, image, sample.
    and not (p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty)
  ]  # fmt: skip
