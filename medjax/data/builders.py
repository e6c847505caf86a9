"""From a builder file to shards of records, one independent job each.

A builder's `_split_generators` gives, for each split, a `Split`: the items that
it is made of (files, say) and the method that turns an item into records. The
items of a split are cut into shards; a shard is written by one process, in the
items' order, and appears under its name only when it is whole. So shards can be
written side by side, on one machine or many, in any order, and what a killed
run has written is used by the next: the records are the same.
"""

import dataclasses
import hashlib
import importlib.util
import json
import os
import pathlib
import pickle
import sys
from collections.abc import Callable, Sequence

from medjax import files, shipped
from medjax.build import closest

# A file in the current folder wins.
FOLDERS = (pathlib.Path('datasets'), shipped.folder('datasets'))


@dataclasses.dataclass(frozen=True)
class Split:
  """`examples(item, *arguments)` yields the records of each of `items`.

  `examples` is a method of the builder; items and arguments travel to other
  processes, so keep them small: paths, not arrays.
  """

  examples: Callable
  items: Sequence
  arguments: tuple = ()

  def __iter__(self):
    for item in self.items:
      yield from self.examples(item, *self.arguments)


@dataclasses.dataclass(frozen=True)
class Job:
  """All that a process needs to write one shard."""

  source: str  # builder file
  config: str
  manual_dir: str | None
  file: str  # the shard's final name
  method: str  # of the builder
  payload: bytes  # (items, arguments), pickled: their classes may be its own


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


def load(path, config='', *, data_dir, manual_dir=None):
  """The builder that a file defines."""
  import tensorflow_datasets as tfds

  path = pathlib.Path(path)
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
  # What reads an item is told by `Split`, whatever it is called.
  cls.__abstractmethods__ -= {'_generate_examples'}
  known = [c.name for c in cls.BUILDER_CONFIGS]
  if not config and len(known) > 1:
    raise ValueError(
      f'{path.stem} needs a configuration, as in {path.stem}/{known[0]}'
      f'{closest("", known)}'
    )
  if config and config not in known:
    raise ValueError(f'{path.stem} has no {config!r}{closest(config, known)}')
  builder = cls(
    data_dir=str(data_dir), config=config or None, file_format='array_record'
  )
  if manual_dir is not None:
    manual_dir = pathlib.Path(manual_dir).expanduser()
    if not manual_dir.is_dir():
      raise FileNotFoundError(f'{manual_dir}: --manual_dir is no directory')
  builder.manual_dir = manual_dir
  return builder


def fingerprint(path, config, manual_dir, splits, shard_mb):
  """What must be the same for shards of an earlier run to be of use."""
  for name, split in splits.items():
    if not isinstance(split, Split):
      raise ValueError(
        f'{path}: split {name!r} is no medjax.data.builders.Split(self.'
        '_generate_examples, items)'
      )
  return {
    'source': hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest(),
    'config': config,
    'manual_dir': str(manual_dir),
    'items': {name: len(split.items) for name, split in splits.items()},
    'shard_mb': shard_mb,
  }


def jobs(builder, source, config, splits, folder, shard_mb):
  """Split name → its jobs, shards of about `shard_mb` by its first item."""
  encode = _encoder(builder)
  plan = {}
  for name, split in splits.items():
    if not len(split.items):
      raise ValueError(f'{builder.name}: split {name!r} has nothing in it')
    count = 1
    if len(split.items) > 1:
      first = Split(split.examples, split.items[:1], split.arguments)
      size = sum(len(encode(record)) for _, record in first)
      count = round(size * len(split.items) / (shard_mb * 2**20))
      count = min(max(count, 1), len(split.items))
    names = _shard_names(builder, name, folder, count)
    cuts = [len(split.items) * i // count for i in range(count + 1)]
    plan[name] = [
      Job(
        source=str(pathlib.Path(source).resolve()),
        config=config,
        manual_dir=builder.manual_dir and str(builder.manual_dir),
        file=str(file),
        method=split.examples.__name__,
        payload=pickle.dumps((split.items[low:high], split.arguments)),
      )
      for file, low, high in zip(names, cuts[:-1], cuts[1:], strict=True)
    ]
  return plan


def write_shard(job, visit=lambda: None):
  """Writes the shard unless it is there; `visit()` is called at each item."""
  from array_record.python.array_record_module import ArrayRecordWriter

  file = pathlib.Path(job.file)
  if _is_whole(file):
    return
  builder = load(
    job.source,
    job.config,
    data_dir=file.parents[2],
    manual_dir=job.manual_dir,
  )
  encode = _encoder(builder)
  items, arguments = pickle.loads(job.payload)
  partial = file.with_name(f'{file.name}.partial-{os.getpid()}')
  keys, size = [], 0
  writer = ArrayRecordWriter(str(partial), 'group_size:1')
  try:
    for item in items:
      for key, record in getattr(builder, job.method)(item, *arguments):
        encoded = encode(record)
        writer.write(encoded)
        keys.append(key)
        size += len(encoded)
      visit()
    writer.close()
    os.replace(partial, file)
  finally:
    partial.unlink(missing_ok=True)
  files.write_json(_sidecar(file), {'keys': keys, 'bytes': size})


def finish(builder, plan, folder):
  """Writes what tfds keeps beside the shards; they must all be there."""
  import tensorflow_datasets as tfds

  infos = []
  for name, shards in plan.items():
    sidecars = [_sidecar(pathlib.Path(job.file)) for job in shards]
    written = [json.loads(path.read_text()) for path in sidecars]
    keys = [key for shard in written for key in shard['keys']]
    if len(set(keys)) < len(keys):
      twice = next(key for key in keys if keys.count(key) > 1)
      raise ValueError(f'{builder.name}: two cases of {name} have id {twice!r}')
    infos.append(
      tfds.core.SplitInfo(
        name=name,
        shard_lengths=[len(shard['keys']) for shard in written],
        num_bytes=sum(shard['bytes'] for shard in written),
        filename_template=_template(builder, name, folder),
      )
    )
  builder.info.set_splits(tfds.core.SplitDict(infos))
  builder.info.write_to_directory(folder)


def _is_whole(file):
  """Whether a shard is there, and the note that says so can be read."""
  try:
    note = files.read_json(_sidecar(file), mend='')
  except ValueError:
    return False
  return (
    file.exists() and isinstance(note, dict) and {'keys', 'bytes'} <= set(note)
  )


def _sidecar(file):
  return file.with_name(file.name + '.json')


def _encoder(builder):
  """Record → the bytes that tfds reads."""
  from tensorflow_datasets.core import example_serializer

  features = builder.info.features
  serializer = example_serializer.ExampleSerializer(
    features.get_serialized_info()
  )

  def encode(record):
    example = serializer.get_tf_example(features.encode_example(record))
    # A protobuf map has no order of its own: files would differ by process.
    return example.SerializeToString(deterministic=True)

  return encode


def _template(builder, split, folder):
  from tensorflow_datasets.core import naming

  return naming.ShardedFileTemplate(
    dataset_name=builder.name,
    data_dir=folder,
    split=split,
    filetype_suffix='array_record',
  )


def _shard_names(builder, split, folder, count):
  template = _template(builder, split, folder)
  return [
    template.sharded_filepath(shard_index=i, num_shards=count)
    for i in range(count)
  ]
