"""Trains and evaluates: python -m medjax.main --config=… --workdir=…

Train:        --config=configs/unet.py --workdir=runs/unet
Again:        --mode=evaluate --workdir=runs/unet
Other data:   --mode=evaluate --workdir=runs/unet --data=FOLDER_OR_SET
One field:    --config.train.steps=500 --config.optimizer.momentum=0.9
"""

import pathlib
import platform
import resource
import shlex
import sys

import jax
from absl import app, flags
from ml_collections import config_flags

from medjax import (
  __version__,
  cli,
  experiment,
  external,
  overrides,
  report,
  tabular,
)
from medjax.evaluate import evaluate
from medjax.reports import text
from medjax.run.processes import joined
from medjax.run.programs import keep_programs
from medjax.train import train

_CONFIG = config_flags.DEFINE_config_file(
  'config',
  None,
  'Experiment file; of --mode=evaluate by default that of the workdir.',
  lock_config=False,
  accept_new_attributes=True,  # arguments; others experiment.make refuses
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where all results go.')
_MODE = flags.DEFINE_enum(
  'mode', 'train', ['train', 'evaluate'], 'Train and evaluate, or evaluate.'
)
_DATA = flags.DEFINE_string(
  'data', '', 'Evaluate on this folder, table or prepared set instead.'
)
_SPLIT = flags.DEFINE_string(
  'split', '', 'Of --data; by default test of a set, all of a folder.'
)
_OUT = flags.DEFINE_string(
  'out', '', 'Results of --data; by default WORKDIR/evaluations/NAME.'
)
_SAME_NAMES = flags.DEFINE_bool(
  'same_names', False, '--data only shares names with cases of the training.'
)
_TRUST = flags.DEFINE_bool(
  'trust', False, 'Let the config of a workdir name code of its own.'
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, "host:port of process 0; 'auto' asks the cluster."
)
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'Of the run.')
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Of this process.')
flags.DEFINE_bool('debug', False, 'Show the traceback of an error.')


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
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
      / (2**30 if sys.platform == 'darwin' else 2**20),  # bytes, else KiB
      2,
    ),
  }


def run(argv):
  """Trains if asked, evaluates the best checkpoint, writes the report."""
  if len(argv) > 1:
    raise ValueError(f'unknown argument {argv[1]!r}: options start with --')
  if not _WORKDIR.value:
    raise ValueError('say where the results go: --workdir=FOLDER')
  if _CONFIG.value is None:
    raise ValueError('say what to train: --config=FILE, configs/unet.py, say')
  keep_programs()
  workdir, training = pathlib.Path(_WORKDIR.value), _MODE.value == 'train'
  with joined(
    _COORDINATOR.value,
    _NUM_PROCESSES.value,
    _PROCESS_ID.value,
    workdir=workdir,
  ):
    if _DATA.value:
      _evaluate_other(workdir, training)
      return
    for flag in (_SPLIT, _OUT, _SAME_NAMES):
      if flag.value:
        raise ValueError(f'--{flag.name} goes with --data, which is not given')
    made = experiment.make(_CONFIG.value) if training else _restored(workdir)
    if not training:
      external.check_own(made, workdir)
    trained = train(made, workdir) if training else {}
    # An evaluation alone says nothing new of how the run was made.
    again = not training and (workdir / 'metrics.json').exists()
    told = {} if again else facts()
    beside = tabular.rows(_CONFIG.value, made, workdir, training=training)
    results = evaluate(made, workdir, facts={**told, **trained}, beside=beside)
    if jax.process_index() == 0:
      folders = [folder for _, folder in made.runs(workdir)]
      for folder in dict.fromkeys([*folders, workdir]):
        written = report.write_report(folder)
      _say(results, written)


def _restored(workdir):
  """The experiment of a workdir, with the fields that were set."""
  config = _CONFIG.value
  if overrides.is_stored() and not _TRUST.value:
    experiment.refuse_foreign(config, workdir)
  return experiment.restore(workdir, config=config)


def _evaluate_other(workdir, training):
  """Evaluates a run on --data, beside its own results."""
  if training:
    raise ValueError(
      '--data is for --mode=evaluate; train with --config.data.…'
    )
  results, out = external.evaluate_on(
    _restored(workdir),
    workdir,
    _DATA.value,
    split=_SPLIT.value,
    out=_OUT.value or None,
    same_names=_SAME_NAMES.value,
    facts=facts(),
  )
  if jax.process_index() == 0:
    _say(results, report.write_report(out))


def _say(results, written):
  """The main scores with their intervals, then where the report is."""
  print(text.spoken(results))
  print(f'report: {written}')


def main():
  """Command line entry point."""
  with cli.one_line_errors():
    app.run(run, flags_parser=overrides.parse)


if __name__ == '__main__':
  main()
