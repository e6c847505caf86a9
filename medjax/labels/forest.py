"""The classical control: a random forest on the same few labels.

Of a classification on the pixels of the prepared image, or on what a table
tells of its cases (radiomics); of a segmentation on what voxels and their
surroundings look like, and where they lie. Segmentations are scored on the grid
of the prepared image.
"""

import time

import numpy as np
from scipy import ndimage

from medjax.data.folder import tables

_TREES = 300
_VOXELS = 3000  # of a case, drawn
_SIGMAS = (1.0, 2.0, 4.0)
_TREES_OF_VOXELS = 60
_ABOUT = ('id', 'case', 'patient', 'label', 'split', 'fold')


def read_table(path):
  """{id: (f,) float32} of the columns of a table that hold numbers alone.

  An empty cell is nan. What says whose a row is, and its label, are no
  features. Raises ValueError where there is no id, an id is twice, or there is
  no column of numbers.
  """
  table = tables.read(path)
  if 'id' not in table.columns:
    raise ValueError(f'{path} has no column id: name the cases in one')
  named = [c for c in table.columns if c not in _ABOUT]
  found = tables.clinical(table, named)
  known = [c for c in named if isinstance(found[0][c], float)]
  if not known:
    raise ValueError(f'{path} has no column of numbers: give features of cases')
  features = {}
  for row, cells in zip(table.rows, found, strict=True):
    name = row.cells['id']
    if name in features:
      raise ValueError(f'{row.where}: id {name!r} is there twice; keep one')
    features[name] = np.array([cells[c] for c in known], np.float32)
  return features


def rows(experiment, *, seed=0, table=None):
  """(rows of the test split, minutes) of a forest grown on the train split.

  table: {id: features}, by which a classification's cases are known then.
  """
  began, task = time.monotonic(), experiment.task
  if table is not None and 'mask' in task.fields:
    raise ValueError('a table tells of whole cases: leave --table out here')

  def samples(split):
    for case in experiment.cases(split):
      if all(name in case for name in task.fields):
        yield experiment.preprocess(case)

  if 'mask' in task.fields:
    predict = _voxels(list(samples('train')), task, seed)
  else:
    known = _pixels if table is None else _told(table)
    predict = _vectors(list(samples('train')), task, seed, known)
  found = [
    {
      'id': sample['id'],
      'patient': sample['patient'],
      **task.metrics(prediction, sample),
    }
    for sample, prediction in predict(samples('test'))
  ]
  return found, (time.monotonic() - began) / 60


def _forest(trees, seed, **options):
  try:
    from sklearn.ensemble import RandomForestClassifier
  except ImportError as e:
    raise ValueError(
      'the control, a random forest, needs scikit-learn: pip install '
      "'medjax[labels]'"
    ) from e
  return RandomForestClassifier(trees, n_jobs=-1, random_state=seed, **options)


def _pixels(sample):
  """All pixels of the prepared image."""
  return np.asarray(sample['image'], np.float32).ravel()


def _told(table):
  """What a table tells of a sample, as a function."""

  def told(sample):
    if sample['id'] not in table:
      raise ValueError(f'case {sample["id"]} is not in the table of features')
    return table[sample['id']]

  return told


def _vectors(samples, task, seed, of):
  """Yields (sample, probabilities (K,)) by a forest on vectors of samples."""
  labels = np.stack([s['label'] for s in samples])
  forest = _forest(_TREES, seed).fit([of(s) for s in samples], labels)

  def predict(samples):
    samples = list(samples)
    found = forest.predict_proba([of(s) for s in samples])
    if task.exclusive:
      found = _filled(found, forest.classes_, task.num_classes)
    else:
      each = zip(found, forest.classes_, strict=True)
      found = np.stack([_filled(p, known, 2)[:, 1] for p, known in each], 1)
    return zip(samples, found, strict=True)

  return predict


def _filled(probabilities, known, count):
  """Probabilities of all classes of those that were seen."""
  every = np.zeros((len(probabilities), count))
  every[:, np.asarray(known, int)] = probabilities
  return every


def _voxels(samples, task, seed):
  """Yields (sample, label map) by a forest on voxels."""
  rng, inputs, labels = np.random.default_rng(seed), [], []
  for sample in samples:
    mask = np.asarray(sample['mask']).ravel()
    usable = np.flatnonzero(mask != getattr(task, 'ignore', None))
    drawn = rng.choice(usable, min(_VOXELS, len(usable)), replace=False)
    inputs.append(features(sample)[drawn])
    labels.append(mask[drawn])
  forest = _forest(_TREES_OF_VOXELS, seed, min_samples_leaf=3)
  forest.fit(np.concatenate(inputs), np.concatenate(labels))

  def predict(samples):
    for sample in samples:
      found = forest.predict(features(sample))
      yield sample, found.reshape(np.shape(sample['mask'])).astype(np.uint8)

  return predict


def features(sample):
  """What a voxel is known by, (voxels, f) float32.

  Of each channel its value, and at three scales Gaussian means and gradients;
  and where the voxel lies, as shares of the image's sides.
  """
  image = np.asarray(sample['image'], np.float32)
  maps = []
  for channel in np.moveaxis(image, -1, 0):
    maps.append(channel)
    for sigma in _SIGMAS:
      maps.append(ndimage.gaussian_filter(channel, sigma))
      maps.append(ndimage.gaussian_gradient_magnitude(channel, sigma))
  maps += list(np.indices(image.shape[:-1]) / np.reshape(
    image.shape[:-1], (-1, *[1] * (image.ndim - 1))
  ))  # fmt: skip
  return np.stack([m.ravel() for m in maps], -1).astype(np.float32)
