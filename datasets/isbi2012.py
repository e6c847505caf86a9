"""ISBI 2012: membranes in serial-section electron microscopy."""

import pathlib

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageSequence

from medjax.data import records
from medjax.data.builders import Split

HOME = 'https://imagej.net/events/isbi-2012-segmentation-challenge'
FILES = ('train-volume.tif', 'train-labels.tif')
FOLDS = 5
SLICES = 30
PIXEL = 4e-6  # mm


class Isbi2012(tfds.core.GeneratorBasedBuilder):
  """Slices of a fly's nerve cord with the cells' membranes."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return records.dataset_info(
      self,
      description=(
        'Thirty slices of 512 x 512 pixels (4 x 4 nm, 50 nm apart) of one '
        "ventral nerve cord of a Drosophila larva. The test stack's labels "
        'are not public. Folds are blocks of six neighbouring slices, for '
        'neighbours look alike; there is one animal in all of them, so scores '
        'say nothing about others.'
      ),
      homepage=HOME,
      citation=(
        'Arganda-Carreras et al., Crowdsourcing the creation of image '
        'segmentation algorithms for connectomics, Frontiers in Neuroanatomy 9 '
        '(2015) 142.'
      ),
      license='for non-commercial segmentation research, citing the source',
      features=records.features(2, channels=1, mask=True),
      class_names=('cell', 'membrane'),
      notes=['one animal in all folds'],
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # the challenge hands its files out by hand
    if self.manual_dir is None:
      raise FileNotFoundError(
        f'ISBI 2012 has no direct download: get {" and ".join(FILES)} from '
        f'{HOME} and pass --manual_dir=FOLDER_WITH_THEM'
      )
    images, labels = (stack(pathlib.Path(self.manual_dir) / f) for f in FILES)
    if images.shape != labels.shape:
      raise ValueError(
        f'{self.manual_dir}/{FILES[1]}: has shape {labels.shape} but '
        f'{FILES[0]} {images.shape}; are both of the training stack?'
      )
    blocks = np.array_split(np.arange(len(images)), FOLDS)
    return {
      f'fold{f}': Split(self._generate_examples, block, (images, labels))
      for f, block in enumerate(blocks)
    }

  def _generate_examples(self, i, images, labels):
    yield records.example(
      {
        'id': f'slice_{i:02}',
        'patient': 'larva',
        'image': images[i][..., None],
        'mask': (labels[i] == 0).astype(np.uint8),  # white is inside a cell
        'affine': np.diag([PIXEL, PIXEL, 1.0]),
      }
    )


def stack(path):
  """The pages (slice, row, column) uint8 of a TIFF."""
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file; get it from {HOME}')
  try:
    with Image.open(path) as file:
      pages = [np.asarray(p.convert('L')) for p in ImageSequence.Iterator(file)]
  except OSError as e:
    raise ValueError(f'{path}: damaged TIFF ({e}); copy it again') from None
  if len(pages) != SLICES:
    raise ValueError(
      f'{path}: has {len(pages)} slices, the training stack {SLICES}'
    )
  return np.stack(pages)
