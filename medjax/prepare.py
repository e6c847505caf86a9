"""Builds a data set: `python -m medjax.prepare NAME[/CONFIG]`.

NAME is a file datasets/NAME.py (in the working directory, or beside the medjax
checkout), or a path to a builder file. Records go to --data_dir, in the
array_record format, and appear there only when they are complete. They are
written in shards, by several processes where there are several; a run that was
killed is taken up where it was, unless the files it reads from, or the builder,
have changed since. A builder of your own that was edited is prepared anew, but
refused where it would replace a set in an object store, which others read too;
a set that was made from other files than --manual_dir holds is refused. A set
that outgrows one machine is prepared by the same command with --beam.
"""

import concurrent.futures
import contextlib
import fcntl
import hashlib
import logging
import multiprocessing
import os
import pathlib
import shutil
import time
import types

from medjax import cli, files, progress, shipped
from medjax.data import builders, inputs, records, remote

# Beside the records: of which builder's file they are, and of which files.
_BUILDER = 'builder.json'
# Beside what is being written: what an earlier run must agree in to be of use.
_MADE_OF = 'made_of.json'
_DAY = 24 * 3600


def prepare(
  name, data_dir=None, manual_dir=None, *, jobs=None, shard_mb=64, beam=None
):
  """Builds `name` unless it is already whole; returns its directory.

  Several processes may ask at once: one builds, the others wait. `jobs` is the
  number of processes that write, by default one per core for sets of more than
  one shard a split; `shard_mb` the size aimed at; `beam` holds options of an
  Apache Beam runner that writes instead, such as
  '--runner=DirectRunner --direct_num_workers=2'.
  """
  if not shard_mb > 0:
    raise ValueError(f'--shard_mb={shard_mb:g}: a file has more than 0 MB')
  if data_dir and remote.is_remote(data_dir):
    return _prepare_remote(
      name, data_dir, manual_dir, jobs=jobs, shard_mb=shard_mb, beam=beam
    )
  path, config = builders.find(name)
  home = pathlib.Path(data_dir or records.default_data_dir()).expanduser()
  builder = builders.load(path, config, data_dir=home, manual_dir=manual_dir)
  target = pathlib.Path(builder.data_path)
  if _is_current(builder, path, home):
    return target
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.parent / '.lock'):
      if not _is_current(builder, path, home):
        write = _with_beam(beam) if beam else _with_processes(jobs)
        _build(builder, path, config, home, target, shard_mb, write)
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


def _is_current(builder, path, home):
  """Whether a set is whole, and of the builder as it is now.

  A builder of medjax says itself, by its version, when records change; one of
  yours is a file that you edit. Raises ValueError for a set that was made from
  other files than its manual_dir holds.
  """
  target = pathlib.Path(builder.data_path)
  if not (target / 'dataset_info.json').exists():
    return False
  made = files.read_json(target / _BUILDER, mend='delete it') or {}
  if _was_edited(path, made):
    print(f'{path} was edited: preparing {target} anew', flush=True)
    return False
  _check_inputs(target, made, builder.manual_dir, home)
  return True


def _was_edited(path, made):
  """Whether a builder of yours is another than the one that made a set."""
  ours = path.resolve().parent == shipped.folder('datasets').resolve()
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  return not ours and made.get('source', digest) != digest


def _check_inputs(target, made, manual_dir, home):
  """Raises ValueError where a set was made from other files than are given.

  made: what it keeps of its making; earlier versions kept nothing of the files.
  """
  kept = made.get('inputs')
  if not kept or manual_dir is None:
    return
  if not inputs.same(kept, manual_dir, home):
    raise ValueError(
      f'{target}: was made from other files than {manual_dir} holds; delete '
      'it, or use another --data_dir (or leave out --manual_dir, and the set '
      'is used as it is)'
    )


def _prepare_remote(name, url, manual_dir, **options):
  """Prepares in the default data_dir and copies to an object store."""
  path, config = builders.find(name)
  home = records.default_data_dir()
  builder = builders.load(path, config, data_dir=home, manual_dir=manual_dir)
  local = pathlib.Path(builder.data_path)
  place = local.relative_to(home)
  target = f'{url}/{place}'

  def is_there():
    if place.name not in remote.versions(url, str(place.parent)):
      return False
    made = remote.read_json(url, f'{place}/{_BUILDER}') or {}
    if _was_edited(path, made):
      raise ValueError(
        f'{target}: was made by another {path}, and others may read it: give '
        'yours a higher VERSION, or delete the set there'
      )
    _check_inputs(target, made, builder.manual_dir, home)
    return True

  if not is_there():
    prepare(name, None, manual_dir, **options)
    if not is_there():  # several may have begun together
      remote.publish(local, url, str(place))
  return target


def _build(builder, path, config, home, target, shard_mb, write):
  """Plans the shards, has them written, and puts the whole in place."""
  print(f'preparing {_title(builder)} in {target}', flush=True)
  began = time.monotonic()
  downloads = types.SimpleNamespace(download_dir=str(home / 'downloads'))
  _sweep(home / 'downloads', seconds=_DAY)  # another may be downloading
  with _quiet():
    splits = builder._split_generators(downloads)
    incomplete = target.with_name(f'{target.name}.incomplete')
    made_of = {
      **builders.fingerprint(
        path, config, builder.manual_dir, splits, shard_mb
      ),
      'inputs': inputs.digest(builder.manual_dir, splits),
    }
    kept = {
      'source': made_of['source'],
      'inputs': inputs.note(builder.manual_dir, splits, home),
    }
    if not _open_incomplete(incomplete, made_of):
      plan = builders.jobs(builder, path, config, splits, incomplete, shard_mb)
      todo = [job for shards in plan.values() for job in shards]
      write(todo, sum(len(split.items) for split in splits.values()))
      builders.finish(builder, plan, incomplete)
      files.write_json(incomplete / _BUILDER, kept)
  _put_in_place(incomplete, target)
  about = records.info_of(target)
  parts = ', '.join(f'{k} {n}' for k, n in about['splits'].items())
  size = sum(f.stat().st_size for f in target.iterdir()) / 1e6
  seconds = time.monotonic() - began
  print(f'prepared {_title(builder)}: {parts} ({size:.1f} MB, {seconds:.1f} s)')


def _put_in_place(incomplete, target):
  """Gives a whole set its name, in place of one of the builder as it was.

  Wherever it is killed, the next run goes on from there.
  """
  for sidecar in incomplete.glob('*.array_record-*.json'):
    sidecar.unlink()
  _sweep(incomplete)
  old = target.with_name(f'{target.name}.old')
  shutil.rmtree(old, ignore_errors=True)
  if target.exists():
    os.replace(target, old)
  os.replace(incomplete, target)
  (target / _MADE_OF).unlink()
  shutil.rmtree(old, ignore_errors=True)


def _open_incomplete(folder, made_of):
  """Keeps the shards of a run that was killed if they are of the same.

  Returns whether all is written, and only its name is missing.
  """
  note = folder / _MADE_OF
  try:
    earlier = files.read_json(note, mend='')
  except ValueError:  # nothing is known of its shards
    earlier = None
  if earlier == files.plain(made_of):
    if (folder / _BUILDER).exists():
      return True
    _sweep(folder)
    done = len(list(folder.glob('*.array_record-*.json')))
    print(f'taking up an earlier run: {done} shards are done', flush=True)
    return False
  if isinstance(earlier, dict):
    changed = [k for k in made_of if earlier.get(k) != files.plain(made_of[k])]
    print(f'beginning anew: {", ".join(changed)} changed', flush=True)
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  files.write_json(note, made_of)
  return False


def _sweep(folder, *, seconds=0):
  """Removes what killed processes left half written, `seconds` ago or more."""
  for pattern in ('*.partial-*', '.*.partial'):
    for half_written in folder.glob(pattern):
      with contextlib.suppress(FileNotFoundError):  # another was faster
        if time.time() - half_written.stat().st_mtime < seconds:
          continue
        if half_written.is_dir():
          shutil.rmtree(half_written, ignore_errors=True)
        else:
          half_written.unlink()


def _with_processes(count):
  """What writes the shards with `count` processes, by default as many as cores.

  Sets of few shards are not worth the seconds that a process takes to start.
  """

  def write(jobs, items):
    workers = min(count or os.cpu_count(), len(jobs))
    several = len(jobs) >= 4 * workers if count is None else workers > 1
    if not several or workers == 1:
      with progress.bar('writing items', items) as advance:
        for job in jobs:
          builders.write_shard(job, advance)
      return
    # Spawned: a fork of a process in which JAX runs may hang.
    spawn = multiprocessing.get_context('spawn')
    with (
      progress.bar('writing shards', len(jobs)) as advance,
      concurrent.futures.ProcessPoolExecutor(
        workers, spawn, initializer=cli.as_worker
      ) as pool,
    ):
      futures = [pool.submit(builders.write_shard, job) for job in jobs]
      progress.wait(pool, futures, advance)

  return write


def _with_beam(options):
  """What writes the shards on an Apache Beam runner, where its workers are."""
  try:
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions
  except ImportError:
    raise ValueError(
      '--beam needs Apache Beam, in an environment of its own: '
      "pip install 'medjax[beam]'"
    ) from None

  def write(jobs, items):
    del items  # the runner shows its progress
    pipeline_options = PipelineOptions(options.split())
    with apache_beam.Pipeline(options=pipeline_options) as pipeline:
      # The value is of no use, and a sink would only be in the way.
      _ = (
        pipeline
        | apache_beam.Create(jobs)
        | apache_beam.Reshuffle()
        | apache_beam.Map(builders.write_shard)
      )

  return write


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
  """Keeps tfds and Beam from logging."""
  loggers = [logging.getLogger(name) for name in ('absl', 'apache_beam')]
  levels = [logger.level for logger in loggers]
  for logger in loggers:
    logger.setLevel(logging.ERROR)
  try:
    yield
  finally:
    for logger, level in zip(loggers, levels, strict=True):
      logger.setLevel(level)


def main():
  """Command line entry point."""
  parser = cli.parser(
    __doc__,
    'prepare mni152_tissue',
    'prepare msd/hippocampus --manual_dir=downloads',
  )
  parser.add_argument('name', help='data set, NAME or NAME/CONFIG')
  parser.add_argument(
    '--data_dir',
    help='where it goes; also gs://… [$MEDJAX_DATA_DIR or ~/medjax_data]',
  )
  parser.add_argument('--manual_dir', help='folder with files at hand')
  parser.add_argument(
    '--jobs', type=int, help='processes that write [one per core]'
  )
  parser.add_argument(
    '--shard_mb', type=float, default=64, help='size of a file aimed at [64]'
  )
  parser.add_argument(
    '--beam', metavar='OPTIONS', help='write with this Apache Beam runner'
  )
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args()
  with cli.one_line_errors():
    target = prepare(
      args.name,
      args.data_dir,
      args.manual_dir,
      jobs=args.jobs,
      shard_mb=args.shard_mb,
      beam=args.beam,
    )
    print(f'{args.name} is in {target}')


if __name__ == '__main__':
  main()
