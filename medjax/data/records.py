"""Prepared data sets: how a case is stored as a record, and read again.

Builders (datasets/*.py) describe their records with `features`, check and
convert each case with `example`, and find their files with `download.fetch`.
Training reads with `open_split`, which needs no builder code.

`case` says what a raw case is.
"""

import functools
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from medjax.build import closest
from medjax.data import remote
from medjax.data.case import check_case


def default_data_dir():
  """Where prepared data sets lie: $MEDJAX_DATA_DIR, or ~/medjax_data."""
  home = os.environ.get('MEDJAX_DATA_DIR', '~/medjax_data')
  try:
    return pathlib.Path(home).expanduser()
  except RuntimeError:
    raise ValueError(
      f'{home}: no home folder is known: say where prepared data lie, with '
      '--data_dir, data.data_dir or MEDJAX_DATA_DIR'
    ) from None


# For builders.


def features(
  rank,
  *,
  channels=1,
  dtype='uint8',
  mask=False,
  label=(),
  multi_label=False,
  extra=None,
):
  """The tfds features of a record with `rank` spatial axes, 0: without image.

  `label` are the class names, if cases have a label; `multi_label` makes it a
  vector with one entry for each. Arrays are zlib-compressed tensors: exact for
  any dtype, and decoded without TensorFlow.

  `extra` are further fields, name → `str`, a dtype for one number, or (shape,
  dtype) for an array, None being a length that varies: dict(site=str,
  age='float32', field_of_view=((None, None), 'uint8')). They lie in the case
  under their names, and every case must have them. Transforms that move voxels
  leave them as they are.
  """
  import tensorflow_datasets as tfds

  tensor = functools.partial(tfds.features.Tensor, encoding='zlib')
  spatial = (None,) * rank
  out = {'id': tfds.features.Text(), 'patient': tfds.features.Text()}
  if rank:
    out |= {
      'image': tensor(shape=(*spatial, channels), dtype=np.dtype(dtype)),
      'spacing': tfds.features.Tensor(shape=(rank,), dtype=np.float64),
      'affine': tfds.features.Tensor(
        shape=(rank + 1, rank + 1), dtype=np.float64
      ),
    }
  if mask:
    out['mask'] = tensor(shape=spatial, dtype=np.uint8)
  if label and multi_label:
    out['label'] = tfds.features.Tensor(shape=(len(label),), dtype=np.uint8)
  elif label:
    out['label'] = tfds.features.ClassLabel(names=list(label))
  for name, kind in (extra or {}).items():
    if name in {*out, 'mask', 'label'}:
      raise ValueError(f'extra field {name!r}: a record has it already')
    if kind is str:
      out[name] = tfds.features.Text()
    elif isinstance(kind, tuple):
      out[name] = tensor(shape=kind[0], dtype=np.dtype(kind[1]))
    else:
      out[name] = tfds.features.Scalar(np.dtype(kind))
  return tfds.features.FeaturesDict(out)


def example(case):
  """A checked case in the form `_generate_examples` yields: (key, record)."""
  case = check_case(case)
  record = dict(case)
  if 'image' in case:
    record['image'] = np.ascontiguousarray(case['image'])
  if 'mask' in case:
    mask = np.asarray(case['mask'])
    if mask.max() > 255:
      raise ValueError(
        f'{case["id"]}: mask holds {mask.max()}; a record keeps labels to 255'
      )
    record['mask'] = np.ascontiguousarray(mask, np.uint8)
  if 'label' in case and np.ndim(case['label']) == 0:
    record['label'] = int(case['label'])
  return case['id'], record


def dataset_info(builder, *, features, class_names, **about):
  """A tfds DatasetInfo that also stores the class names.

  `about`: description, homepage, citation, license; `notes`, a list of lines on
  how the records were made; and `covariate_names` of a table's columns.
  """
  import tensorflow_datasets as tfds

  notes, columns = about.pop('notes', []), about.pop('covariate_names', ())
  return tfds.core.DatasetInfo(
    builder=builder,
    features=features,
    metadata=tfds.core.MetadataDict(
      class_names=list(class_names),
      covariate_names=list(columns),
      notes=notes,
      license=about.get('license', ''),
    ),
    **about,
  )


def patient_folds(patients, *, folds=5, seed=0):
  """{patient: fold}: a seeded shuffle, dealt out evenly."""
  names = sorted(set(patients))
  order = np.random.RandomState(seed).permutation(len(names))
  return {names[i]: place % folds for place, i in enumerate(order)}


# For training.


class Cases(Sequence):
  """The raw cases of one split of a prepared data set, in a fixed order.

  Attributes: `name`, `split`, `class_names`, `num_classes`. Files are opened on
  first use, so that the object can be sent to a worker process.
  """

  def __init__(self, name, split, directory):
    self.name = name
    self.split = split
    self._directory = str(directory)
    self._open()
    about = info_of(directory)
    self.class_names = about['class_names']
    self.covariate_names = about['covariate_names']

  @property
  def num_classes(self):
    """How many classes, background included."""
    return len(self.class_names)

  def __len__(self):
    return self._length

  def __getitem__(self, index):
    index = range(self._length)[index]
    if isinstance(index, range):
      return [self[i] for i in index]
    record = dict(self._open()[index])
    for field, value in record.items():
      if isinstance(value, bytes):
        record[field] = value.decode()
    if 'label' in record and np.ndim(record['label']) == 0:
      record['label'] = np.int32(record['label'])
    return record

  def __repr__(self):
    return f'Cases({self.name!r}, {self.split!r}, n={self._length})'

  def __getstate__(self):
    return {k: v for k, v in vars(self).items() if k != '_source'}

  def _open(self):
    if '_source' not in vars(self):
      builder = _builder(self._directory)
      try:
        self._source = builder.as_data_source(self.split)
      except (ValueError, KeyError) as e:
        raise ValueError(
          f'{self.name} cannot give split {self.split!r}'
          f'{_split_hint(self.split, builder.info.splits, e)}'
        ) from None
      self._length = len(self._source)
    return self._source


def open_split(name, split, data_dir=None):
  """The raw cases of a prepared data set's split, as a `Sequence`.

  `name` is 'data_set' or 'data_set/config'; `split` as in tfds: 'train',
  'fold1+fold2[:50%]'. Slices cut by record: where a patient has several
  records they may fall on both sides.
  """
  return Cases(name, split, dataset_dir(name, data_dir))


def info(name, data_dir=None):
  """What is known of a prepared data set, as a dict.

  Keys: name, version, directory, class_names, num_classes, splits (name →
  number of cases), description, homepage, citation, license, notes, features.
  """
  directory = dataset_dir(name, data_dir)
  return {**info_of(directory), 'name': name, 'directory': str(directory)}


def info_of(directory):
  """The same for one directory that holds a prepared version."""
  about = _builder(directory).info
  metadata = about.metadata or {}
  names = tuple(metadata.get('class_names', ()))
  return {
    'name': about.full_name,
    'version': str(about.version),
    'directory': str(directory),
    'class_names': names,
    'covariate_names': tuple(metadata.get('covariate_names', ())),
    'num_classes': len(names),
    'splits': {k: v.num_examples for k, v in about.splits.items()},
    'description': about.description,
    'homepage': about.homepage,
    'citation': about.citation,
    'license': metadata.get('license', ''),
    'notes': list(metadata.get('notes', [])),
    'features': sorted(about.features),
  }


def dataset_dir(name, data_dir=None):
  """Directory of the newest prepared version, or FileNotFoundError.

  A data_dir in an object store is copied to the default one first. The name may
  be that of a builder's file, 'mine/blobs.py/config'.
  """
  file, suffix, config = name.partition('.py')
  if suffix:
    name = '/'.join(filter(None, (pathlib.Path(file).name, config.strip('/'))))
  if data_dir and remote.is_remote(data_dir):
    found = remote.versions(data_dir, name)
    if found:
      newest = max(found, key=lambda v: [int(k) for k in v.split('.')])
      return remote.fetch(data_dir, f'{name}/{newest}', default_data_dir())
    raise FileNotFoundError(
      f'{data_dir}/{name}: data set not prepared; run python -m medjax.prepare '
      f'{name} --data_dir={data_dir}'
    )
  home = pathlib.Path(data_dir).expanduser() if data_dir else default_data_dir()
  folder = home / name
  versions = _versions(folder, '*')
  if versions:
    return max(versions, key=lambda p: [int(k) for k in p.name.split('.')])
  configs = sorted(
    {f'{name}/{p.parent.name}' for p in _versions(folder, '*/*')}
  )
  if configs:
    raise ValueError(f'{name} needs a configuration: {", ".join(configs)}')
  flag = f' --data_dir={data_dir}' if data_dir else ''
  raise FileNotFoundError(
    f'{folder}: data set not prepared; run python -m medjax.prepare '
    f'{name}{flag}'
  )


def _versions(folder, pattern):
  """The folders of whole versions; 1.0.0.old may lie beside 1.0.0."""
  found = (p.parent for p in folder.glob(f'{pattern}/dataset_info.json'))
  return [p for p in found if remote.is_version(p.name)]


def _builder(directory):
  import tensorflow_datasets as tfds

  return tfds.builder_from_directory(str(directory))


def _split_hint(split, splits, error):
  names = [part.split('[')[0].strip() for part in split.split('+')]
  unknown = [n for n in names if n not in splits]
  if unknown == ['validation'] and 'train' in splits:
    return (
      f': there is none ({", ".join(sorted(splits))}); data.held_out=0.2 takes '
      "a fifth of the patients of train, data.splits.validation='train[:20%]' "
      "with train='train[20%:]' a fifth of its records"
    )
  if unknown:
    return f': no {unknown[0]!r}{closest(unknown[0], splits)}'
  return f' ({" ".join(str(error).split())})'
