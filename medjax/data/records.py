"""Prepared data sets: how a case is stored as a record, and read again.

Builders (datasets/*.py) describe their records with `features`, check and
convert each case with `example`, and find their files with `fetch`. Training
reads with `open_split`, which needs no builder code.

A raw case is a dict: `image` (*spatial, C), `mask` (*spatial,) and/or `label`,
`id`, `patient`, `affine` (n+1, n+1), `spacing` (n,).
"""

import errno
import functools
import hashlib
import http.client
import os
import pathlib
import shutil
import urllib.request
from collections.abc import Sequence

import numpy as np

from medjax.build import closest
from medjax.data import remote
from medjax.data.formats import spacing_of


def default_data_dir():
  """Where prepared data sets lie: $MEDJAX_DATA_DIR, or ~/medjax_data."""
  home = os.environ.get('MEDJAX_DATA_DIR', '~/medjax_data')
  return pathlib.Path(home).expanduser()


# A case, checked.


def check_case(case):
  """Returns the case, or raises a ValueError naming its id and what is wrong.

  Checked: id and patient; image (*spatial, C) finite; mask of the image's
  spatial shape with integers ≥ 0; label a class index or a multi-hot vector;
  one of the two, or a survival `time`, present; affine of the right size.
  `spacing` and a missing `patient` are filled in.
  """
  name = case.get('id')
  if not name or not isinstance(name, str):
    raise ValueError(f'a case has no id (a non-empty str), but {name!r}')
  image = np.asarray(case['image'])
  n = image.ndim - 1
  if n not in (2, 3):
    raise ValueError(
      f'{name}: image has shape {image.shape}; needs 2 or 3 spatial axes and '
      'channels last'
    )
  if image.size == 0:
    raise ValueError(f'{name}: image has shape {image.shape}, so no voxels')
  if image.dtype.kind == 'f' and not np.isfinite(image).all():
    count = int(image.size - np.isfinite(image).sum())
    raise ValueError(
      f'{name}: {count} of {image.size} voxels are NaN or infinite; replace '
      'them first (numpy.nan_to_num)'
    )
  if not {'mask', 'label', 'time'} & set(case):
    raise ValueError(f'{name}: has neither mask nor label; give one')
  if 'mask' in case:
    _check_mask(name, np.asarray(case['mask']), image.shape[:n])
  if 'label' in case:
    _check_label(name, np.asarray(case['label']))
  affine = np.asarray(case.get('affine', np.eye(n + 1)), np.float64)
  if affine.shape != (n + 1, n + 1) or abs(np.linalg.det(affine)) < 1e-12:
    raise ValueError(
      f'{name}: affine must be an invertible {n + 1}x{n + 1} matrix (voxel '
      f'index → mm), not {affine.tolist()}'
    )
  return {
    **case,
    'patient': str(case.get('patient') or name),
    'affine': affine,
    'spacing': spacing_of(affine),
  }


def _check_mask(name, mask, shape):
  if mask.shape != shape:
    raise ValueError(
      f'{name}: mask has shape {mask.shape} but the image {shape}; resample '
      "the mask to the image's grid"
    )
  if mask.dtype.kind not in 'iub':
    raise ValueError(
      f'{name}: mask holds {mask.dtype}; labels must be whole numbers'
    )
  if mask.dtype.kind == 'i' and mask.min() < 0:
    raise ValueError(
      f'{name}: mask holds {mask.min()}; labels start at 0 (background)'
    )


def _check_label(name, label):
  if label.dtype.kind not in 'iub':
    raise ValueError(f'{name}: label {label} is not a whole number')
  if label.ndim == 0 and label < 0:
    raise ValueError(f'{name}: label is {label}; classes start at 0')
  if label.ndim == 1 and label.max() > 1:
    raise ValueError(f'{name}: a multi-label vector holds 0 and 1, not {label}')
  if label.ndim > 1:
    raise ValueError(
      f'{name}: label has shape {label.shape}; needs one class index or a '
      'vector of 0 and 1'
    )


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
  """The tfds features of a record with `rank` spatial axes.

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
  out = {
    'image': tensor(shape=(*spatial, channels), dtype=np.dtype(dtype)),
    'id': tfds.features.Text(),
    'patient': tfds.features.Text(),
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
  record = {**case, 'image': np.ascontiguousarray(case['image'])}
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

  `about`: description, homepage, citation, license; and `notes`, a list of
  lines on how the records were made.
  """
  import tensorflow_datasets as tfds

  notes = about.pop('notes', [])
  return tfds.core.DatasetInfo(
    builder=builder,
    features=features,
    metadata=tfds.core.MetadataDict(
      class_names=list(class_names),
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


def fetch(url, *, md5, folder, manual_dir=None):
  """Path of a file: in `manual_dir` if given, else downloaded to `folder`.

  A file at hand whose MD5 differs is taken, and a line says so; a download
  must match, and appears under its name only when it does.
  """
  filename = url.split('?')[0].rsplit('/', 1)[-1]
  if manual_dir is not None:
    path = pathlib.Path(manual_dir).expanduser() / filename
    if not path.is_file():
      raise FileNotFoundError(
        f'{path}: no such file; download {url} into that folder'
      )
    found = _md5(path)
    if found != md5:
      print(
        f'note: {path} has MD5 {found}, the official file {md5}: same name, '
        'other content or order; using it as it is'
      )
    return path
  path = pathlib.Path(folder) / filename
  if path.is_file():
    return path
  by_hand = (
    f'or download {filename} yourself and pass --manual_dir=FOLDER_WITH_IT'
  )
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f'{filename}.partial-{os.getpid()}')
  try:
    _download(url, partial)
    found = _md5(partial)
    if found != md5:
      raise ValueError(
        f'{url}: the download has MD5 {found}, expected {md5}; try again, '
        f'{by_hand}'
      )
    os.replace(partial, path)
  except (OSError, http.client.HTTPException) as e:
    if getattr(e, 'errno', None) == errno.ENOSPC:
      raise
    raise FileNotFoundError(
      f'could not download {url} ({e}); check the network, {by_hand}'
    ) from None
  finally:
    partial.unlink(missing_ok=True)
  return path


def _download(url, path):
  import rich.progress

  with urllib.request.urlopen(url, timeout=30) as source:
    total = int(source.headers.get('Content-Length') or 0)
    with (
      rich.progress.wrap_file(
        source, total, description=path.name.split('.partial')[0]
      ) as stream,
      path.open('wb') as target,
    ):
      shutil.copyfileobj(stream, target, 2**20)
  if total and path.stat().st_size != total:
    raise OSError(f'{path.stat().st_size} of {total} bytes came')


def _md5(path):
  with open(path, 'rb') as f:
    return hashlib.file_digest(f, 'md5').hexdigest()


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

  A data_dir in an object store is copied to the default one first.
  """
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
  versions = [p.parent for p in folder.glob('[0-9]*/dataset_info.json')]
  if versions:
    return max(versions, key=lambda p: [int(k) for k in p.name.split('.')])
  configs = sorted(
    {
      f'{name}/{p.parents[1].name}'
      for p in folder.glob('*/[0-9]*/dataset_info.json')
    }
  )
  if configs:
    raise ValueError(f'{name} needs a configuration: {", ".join(configs)}')
  flag = f' --data_dir={data_dir}' if data_dir else ''
  raise FileNotFoundError(
    f'{folder}: data set not prepared; run python -m medjax.prepare '
    f'{name}{flag}'
  )


def _builder(directory):
  import tensorflow_datasets as tfds

  return tfds.builder_from_directory(str(directory))


def _split_hint(split, splits, error):
  names = [part.split('[')[0].strip() for part in split.split('+')]
  unknown = [n for n in names if n not in splits]
  if unknown:
    return f': no {unknown[0]!r}{closest(unknown[0], splits)}'
  return f' ({" ".join(str(error).split())})'
