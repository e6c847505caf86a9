"""A cascade: what one run finds becomes channels of the image of the next.

nnU-Net's 3d_cascade_fullres (Isensee et al. 2021): a network of coarse voxels
sees the whole, one of fine voxels draws its outlines. In a config, around all
else that prepares an image:

    config.data.preprocess = (
      dict(name='medjax.prediction.cascade:find', run='runs/low'),
      …,
      dict(name='medjax.prediction.cascade:append'))

Augmentations of intensity touch these channels too, in place of nnU-Net's
morphological ones.
"""

import functools
import pathlib
import threading

import numpy as np

from medjax import experiment, files
from medjax.data.grid import to_grid
from medjax.prediction import trained

_LOCK = threading.Lock()  # cases are prepared by several threads


def find(sample, *, run):
  """Keeps what a run finds in the case, its label map, for `append`.

  Of a cross-validation a case is told by the fold that was tested on it, else
  by all of them: none has learnt from the case it is asked about. A single run
  has, from its training cases, and is better in those than in new ones.
  """
  with _LOCK:
    teller, classes = _teller(str(run), str(sample['id']))
  labels = teller.predict_case(sample).labels
  found = {'labels': labels, 'affine': sample['affine'], 'classes': classes}
  return {**sample, 'found': found}


def append(sample):
  """Appends a channel of 0 and 1 for each class that was found."""
  sample = dict(sample)
  found, image = sample.pop('found'), sample['image'].astype(np.float32)
  labels = to_grid(
    found['labels'],
    found['affine'],
    sample['affine'],
    image.shape[:-1],
    order=0,
  )
  classes = labels[..., None] == np.arange(1, found['classes'])
  channels = [image, classes.astype(np.float32)]
  return {**sample, 'image': np.concatenate(channels, -1)}


def _teller(run, id_):
  """(the `Trained` that tells of a case, how many classes there are)."""
  fold = _tested(run).get(id_)
  teller = _load(f'{run}/{fold}' if fold else run)
  return teller, teller.task.num_classes


_load = functools.cache(trained.load)


@functools.cache
def _tested(run):
  """{id: the fold of a cross-validation that was tested on it}."""
  if not experiment.restore(run).folds:
    print(
      f'note: {run} has learnt from its training cases, and finds more in them '
      'than in new ones; train it with config.folds'
    )
    return {}
  path = pathlib.Path(run) / 'per_case.csv'
  if not path.exists():
    raise FileNotFoundError(f'{path} is missing: let {run} train to its end')
  rows, _ = files.read_csv(path, mend='evaluate it again')
  return {row['id']: row['fold'] for row in rows}
