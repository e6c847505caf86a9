"""The part of a command line that says where cases come from."""

from absl import flags
from ml_collections import config_flags

from medjax import cli
from medjax.config import default_config
from medjax.survey.source import open_source


def parse(parser, argv=None):
  """Parses a command line whose first argument is a NAME or PATH.

  Fields of config.data, as in --config.data.table=cases.csv, are read as in
  training and collected in `options`.
  """
  parser.add_argument(
    '--data_dir', help='prepared sets [$MEDJAX_DATA_DIR or ~/medjax_data]'
  )
  parser.add_argument('--manual_dir', help='files at hand, for preparing')
  parser.add_argument(
    '--modality', help='CT, or MRI, …; of several channels: CT,PT'
  )
  parser.add_argument(
    '--config.data.…', metavar='', help='how to read a folder, as in training'
  )
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args, rest = parser.parse_known_args(argv)
  with cli.one_line_errors():
    args.options = _options(rest)
  return args


def _options(arguments):
  """The fields of config.data that arguments set to other than the default."""
  for argument in arguments:
    if not argument.startswith('--config.data.') or '=' not in argument:
      raise ValueError(
        f'unknown argument {argument!r}; fields of the config are set by '
        '--config.data.FIELD=VALUE'
      )
  values, argv = flags.FlagValues(), ['medjax', *arguments]
  try:
    config_flags.DEFINE_config_dict(
      'config', default_config(), flag_values=values, sys_argv=argv
    )
    values(argv)
  except (AttributeError, KeyError) as e:  # mostly with a "Did you mean"
    text = e.args[0].args[0] if isinstance(e.args[0], KeyError) else e.args[0]
    raise ValueError(f'config.data has no field {text}') from None
  except flags.IllegalFlagValueError as e:
    raise ValueError(str(e).splitlines()[-1]) from None
  return _changed(values.config.data.to_dict(), default_config().data.to_dict())


def _changed(values, defaults):
  changed = {}
  for name, value in values.items():
    if isinstance(value, dict) and isinstance(defaults.get(name), dict):
      if below := _changed(value, defaults[name]):
        changed[name] = below
    elif value != defaults.get(name):
      changed[name] = value
  return changed


def source(args):
  """The `Source` that a command line names."""
  return open_source(
    args.name,
    data_dir=args.data_dir,
    manual_dir=args.manual_dir,
    options=args.options,
    modalities=args.modality.split(',') if args.modality else (),
  )
