"""Builds a data set: `python -m medjax.prepare NAME[/CONFIG]`.

NAME is a file datasets/NAME.py (in the working directory, or beside the medjax
checkout), or a path to a builder file. Records go to --data_dir, in the
array_record format, and appear there only when they are complete.
"""

import argparse
import contextlib
import fcntl
import importlib.util
import logging
import pathlib
import shutil
import sys
import time

from medjax import cli
from medjax.build import closest
from medjax.data import records

FOLDERS = (
  pathlib.Path('datasets'),
  pathlib.Path(__file__).resolve().parents[1] / 'datasets',
)


def prepare(name, data_dir=None, manual_dir=None):
  """Builds `name` unless it is already whole; returns its directory.

  A run that is killed leaves nothing under the final name, and the next one
  starts afresh. Several processes may ask at once: one builds, the others wait.
  """
  path, config = find(name)
  home = pathlib.Path(data_dir or records.default_data_dir()).expanduser()
  builder = _builder(path, config, home, manual_dir)
  target = pathlib.Path(builder.data_path)
  if (target / 'dataset_info.json').exists():
    return target
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.parent / '.lock'):
      if not (target / 'dataset_info.json').exists():
        _build(builder, home, target)
  except (OSError, RuntimeError) as e:
    ours = isinstance(e, FileNotFoundError) and e.errno is None
    # array_record reports a full disk as a RuntimeError.
    if ours or (isinstance(e, RuntimeError) and 'write() failed' not in str(e)):
      raise
    line = ' '.join(str(e).split())
    raise OSError(
      f'could not prepare {target} ({line}); is the disk full or read-only? '
      'Another place: --data_dir'
    ) from None
  return target


def find(name):
  """Path of the builder file, and the configuration (or '')."""
  file, suffix, config = name.partition('.py')
  if suffix:
    path = pathlib.Path(file + suffix)
    if not path.is_file():
      raise FileNotFoundError(f'{path}: no such builder file')
    return path, config.strip('/')
  stem, _, config = name.partition('/')
  for folder in FOLDERS:
    if (folder / f'{stem}.py').is_file():
      return folder / f'{stem}.py', config
  known = sorted({p.stem for folder in FOLDERS for p in folder.glob('*.py')})
  raise ValueError(f'no data set {stem!r}{closest(stem, known)}')


def _builder(path, config, home, manual_dir):
  """The builder that a file defines."""
  import tensorflow_datasets as tfds

  name = f'medjax_dataset_{path.stem}'
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module  # tfds looks up the file of the class
  with tfds.core.registered.skip_registration():
    spec.loader.exec_module(module)
  classes = [
    c
    for c in vars(module).values()
    if isinstance(c, type)
    and issubclass(c, tfds.core.GeneratorBasedBuilder)
    and c.__module__ == module.__name__
  ]
  if len(classes) != 1:
    raise ValueError(
      f'{path}: must define one GeneratorBasedBuilder, has {len(classes)}'
    )
  (cls,) = classes
  cls.name = path.stem
  cls.pkg_dir_path = path.resolve().parent
  known = [c.name for c in cls.BUILDER_CONFIGS]
  if not config and len(known) > 1:
    raise ValueError(
      f'{path.stem} needs a configuration, as in {path.stem}/{known[0]}'
      f'{closest("", known)}'
    )
  if config and config not in known:
    raise ValueError(f'{path.stem} has no {config!r}{closest(config, known)}')
  builder = cls(
    data_dir=str(home), config=config or None, file_format='array_record'
  )
  if manual_dir is not None:
    manual_dir = pathlib.Path(manual_dir).expanduser()
    if not manual_dir.is_dir():
      raise FileNotFoundError(f'{manual_dir}: --manual_dir is no directory')
  builder.manual_dir = manual_dir
  builder._log_download_bytes = builder._log_download_done = lambda: None
  return builder


def _build(builder, home, target):
  import tensorflow_datasets as tfds

  # What a killed run left behind; nobody else builds while the lock is held.
  for leftover in target.parent.glob(f'incomplete.*_{target.name}'):
    shutil.rmtree(leftover, ignore_errors=True)
  print(f'preparing {_title(builder)} in {target}', flush=True)
  began = time.monotonic()
  config = tfds.download.DownloadConfig(
    try_download_gcs=False, manual_dir=builder.manual_dir
  )
  with _quiet():
    builder.download_and_prepare(
      download_dir=str(home / 'downloads'), download_config=config
    )
  about = records.info_of(target)
  splits = ', '.join(f'{k} {n}' for k, n in about['splits'].items())
  size = sum(f.stat().st_size for f in target.iterdir()) / 1e6
  seconds = time.monotonic() - began
  print(
    f'prepared {_title(builder)}: {splits} ({size:.1f} MB, {seconds:.1f} s)'
  )


def _title(builder):
  config = builder.builder_config
  return f'{builder.name}/{config.name}' if config else builder.name


@contextlib.contextmanager
def _locked(path):
  with open(path, 'w') as f:
    fcntl.flock(f, fcntl.LOCK_EX)
    yield


@contextlib.contextmanager
def _quiet():
  """Keeps tfds from logging; its progress bars stay on a terminal."""
  import tensorflow_datasets as tfds

  logger = logging.getLogger('absl')
  level = logger.level
  logger.setLevel(logging.ERROR)
  tfds.display_progress_bar(sys.stderr.isatty())
  try:
    yield
  finally:
    tfds.display_progress_bar(True)
    logger.setLevel(level)


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('name', help='data set, NAME or NAME/CONFIG')
  parser.add_argument(
    '--data_dir', help='where it goes [$MEDJAX_DATA_DIR or ~/medjax_data]'
  )
  parser.add_argument('--manual_dir', help='folder with files at hand')
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args()
  with cli.one_line_errors():
    target = prepare(args.name, args.data_dir, args.manual_dir)
    print(f'{args.name} is in {target}')


if __name__ == '__main__':
  main()
