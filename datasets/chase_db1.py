"""CHASE_DB1: retinal vessels in colour fundus images of children."""

import pathlib

import numpy as np
import tensorflow_datasets as tfds
from scipy import ndimage

from medjax.data import download, formats, records
from medjax.data.builders import Split

URL = 'https://researchdata.kingston.ac.uk/96/1/CHASEDB1.zip'
MD5 = 'd9e47c4bac125b29996fae4380a68db1'
NAMES = tuple(f'{child:02}{eye}' for child in range(1, 15) for eye in 'LR')
TRAIN = 20  # images; the rest is the test set


class ChaseDb1(tfds.core.GeneratorBasedBuilder):
  """Fundus images, vessel masks of two observers and the field of view."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return records.dataset_info(
      self,
      description=(
        'Both eyes of 14 children, 999 x 960 pixels, vessels drawn by two '
        'observers: the first is the mask, the second the field '
        'second_observer. Split by child, as most papers have it: the first 20 '
        "images train ('train[:16]' are eight whole children), the last 8 "
        'test.'
      ),
      homepage='https://researchdata.kingston.ac.uk/96/',
      citation=(
        'Fraz et al., An Ensemble Classification-Based Approach Applied to '
        'Retinal Blood Vessel Segmentation, IEEE Transactions on Biomedical '
        'Engineering 59 (2012) 2538-2548.'
      ),
      license='CC BY 4.0',
      features=records.features(
        2,
        channels=3,
        mask=True,
        extra={
          'field_of_view': ((None, None), 'uint8'),
          'second_observer': ((None, None), 'uint8'),
        },
      ),
      class_names=('background', 'vessel'),
      notes=[
        'field_of_view is derived, for the set has none: the largest region '
        'brighter than 20 in any channel, its holes filled',
        'spacing is in pixels: the set states no size',
      ],
    )

  def _split_generators(self, dl_manager):
    if self.manual_dir is None:
      archive = download.fetch(URL, md5=MD5, folder=dl_manager.download_dir)
      folder = download.unpacked(archive, archive.parent)
    else:
      folder = pathlib.Path(self.manual_dir)
    files = [folder / f'Image_{name}.jpg' for name in NAMES]
    for file in files:
      if not file.is_file():
        raise FileNotFoundError(
          f'{file}: no such file; download {URL}, unpack it and pass '
          '--manual_dir=FOLDER_OF_THE_IMAGES'
        )
    return {
      'train': Split(self._generate_examples, files[:TRAIN]),
      'test': Split(self._generate_examples, files[TRAIN:]),
    }

  def _generate_examples(self, file):
    name = file.stem.removeprefix('Image_')
    image = formats.read(file).array
    first, second = (
      formats.read_mask(file.with_name(f'{file.stem}_{n}HO.png')).array > 0
      for n in ('1st', '2nd')
    )
    yield records.example(
      {
        'id': name,
        'patient': name[:2],
        'image': image,
        'mask': first.astype(np.uint8),
        'second_observer': second.astype(np.uint8),
        'field_of_view': field_of_view(image),
      }
    )


def field_of_view(image, threshold=20):
  """The round part (*s,) uint8 of a fundus image (*s, C) that shows tissue."""
  regions, count = ndimage.label(image.max(-1) > threshold)
  if not count:
    return np.zeros(image.shape[:-1], np.uint8)
  largest = 1 + np.argmax(np.bincount(regions.ravel())[1:])
  return ndimage.binary_fill_holes(regions == largest).astype(np.uint8)
