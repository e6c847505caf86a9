"""Trains and evaluates: python -m medjax.main --config=… --workdir=…"""

import os
import pathlib
import platform
import resource
import shlex
import sys

import jax
from absl import app, flags
from ml_collections import config_flags

from medjax import __version__, cli, experiment, report, shipped
from medjax.build import closest
from medjax.evaluate import evaluate
from medjax.run.processes import joined
from medjax.train import train

_CONFIG = config_flags.DEFINE_config_file('config', None, 'Experiment file.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where all results go.')
_MODE = flags.DEFINE_enum(
  'mode', 'train', ['train', 'evaluate'], 'Train and evaluate, or evaluate.'
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, "host:port of process 0; 'auto' asks the cluster."
)
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'Of the run.')
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Of this process.')
flags.DEFINE_bool('debug', False, 'Show the traceback of an error.')


def keep_programs():
  """Keeps compiled programs between runs."""
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
    return
  try:
    cache = pathlib.Path('~/.cache/medjax/xla').expanduser()
  except RuntimeError:  # nobody's, in a container: compiled anew each time
    return
  jax.config.update('jax_compilation_cache_dir', str(cache))


def facts():
  """Command, versions, device and memory, for the record."""
  return {
    'command': shlex.join(['python', '-m', 'medjax.main', *sys.argv[1:]]),
    'medjax': __version__,
    'jax': jax.__version__,
    'python': platform.python_version(),
    'device': f'{jax.device_count()} × {jax.devices()[0].device_kind}',
    'processes': jax.process_count(),
    'peak_memory_gib': round(
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2
    ),
  }


def run(argv):
  """Trains if asked, evaluates the best checkpoint, writes the report."""
  if len(argv) > 1:
    raise ValueError(f'unknown argument {argv[1]!r}: options start with --')
  keep_programs()
  workdir, training = pathlib.Path(_WORKDIR.value), _MODE.value == 'train'
  with joined(
    _COORDINATOR.value,
    _NUM_PROCESSES.value,
    _PROCESS_ID.value,
    workdir=workdir,
  ):
    if training:
      made = experiment.make(_CONFIG.value)
    else:
      made = experiment.restore(workdir, config=_CONFIG.value)
    trained = train(made, workdir) if training else {}
    evaluate(made, workdir, facts={**facts(), **trained})
    if jax.process_index() == 0:
      folders = [folder for _, folder in made.runs(workdir)]
      for folder in dict.fromkeys([*folders, workdir]):
        written = report.write_report(folder)
      print(f'report: {written}')


def parse(argv):
  """Parses the flags; a config file that is missing is said at once.

  'configs/unet.py' is that of medjax where the current folder has none.
  """
  argv = [
    _found(a, before) for before, a in zip(['', *argv], argv, strict=False)
  ]
  rest = cli.parse_flags(argv)
  file = config_flags.get_config_filename(flags.FLAGS['config'])
  path = pathlib.Path(file.partition(':')[0])
  if not path.is_file():
    ours = [f'configs/{p.name}' for p in shipped.folder('configs').glob('*.py')]
    raise FileNotFoundError(
      f'--config={file}: no such file{closest(str(path), sorted(ours))}'
    )
  return rest


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


def main():
  """Command line entry point."""
  flags.mark_flags_as_required(['config', 'workdir'])
  with cli.one_line_errors():
    app.run(run, flags_parser=parse)


if __name__ == '__main__':
  main()
