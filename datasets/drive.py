"""DRIVE: retinal vessels in colour fundus images, for diabetic retinopathy."""

import pathlib

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from medjax.data import records
from medjax.data.builders import Split

HOME = 'https://drive.grand-challenge.org'
IDS = {'train': range(21, 41), 'test': range(1, 21)}


class Drive(tfds.core.GeneratorBasedBuilder):
  """Fundus images with vessels and field of view; two observers on the test."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return records.dataset_info(
      self,
      description=(
        'Forty images of 565 x 584 pixels, one per patient, in the official '
        'halves: 20 train, 20 test. The mask is the first observer (1st_manual)'
        '; the field second_observer is the second, which only the test images '
        'have: elsewhere it is all 0, and has_second_observer says which.'
      ),
      homepage=HOME,
      citation=(
        'Staal et al., Ridge-Based Vessel Segmentation in Color Images of the '
        'Retina, IEEE Transactions on Medical Imaging 23 (2004) 501-509.'
      ),
      license='see the terms at drive.grand-challenge.org (registration)',
      features=records.features(
        2,
        channels=3,
        mask=True,
        extra={
          'field_of_view': ((None, None), 'uint8'),
          'second_observer': ((None, None), 'uint8'),
          'has_second_observer': 'uint8',
        },
      ),
      class_names=('background', 'vessel'),
      notes=['spacing is in pixels: the set states no size'],
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # the set is behind a registration
    if self.manual_dir is None:
      raise FileNotFoundError(
        f'DRIVE cannot be downloaded without registration: get it from {HOME} '
        'and pass --manual_dir=FOLDER that holds training/ and test/'
      )
    home = pathlib.Path(self.manual_dir)
    home = home / 'DRIVE' if (home / 'DRIVE').is_dir() else home
    return {
      split: Split(self._generate_examples, ids, (home,))
      for split, ids in IDS.items()
    }

  def _generate_examples(self, i, home):
    kind = 'training' if i > 20 else 'test'
    part = home / kind
    image = read(part / 'images' / f'{i:02}_{kind}.tif')
    mask = read(part / '1st_manual' / f'{i:02}_manual1.gif')
    second = part / '2nd_manual' / f'{i:02}_manual2.gif'
    both = kind == 'test' and second.is_file()
    yield records.example(
      {
        'id': f'{i:02}',
        'patient': f'{i:02}',
        'image': image,
        'mask': vessels(mask),
        'field_of_view': vessels(
          read(part / 'mask' / f'{i:02}_{kind}_mask.gif')
        ),
        'second_observer': vessels(read(second) if both else 0 * mask),
        'has_second_observer': int(both),
      }
    )


def vessels(picture):
  """0 and 1 of a black-and-white picture."""
  return (picture > 0).astype(np.uint8)


def read(path):
  """The samples of a TIFF or GIF: (row, column) or (row, column, 3) uint8."""
  if not path.is_file():
    raise FileNotFoundError(
      f'{path}: no such file; the test observers are part of the full archive '
      f'at {HOME}: unpack it whole'
    )
  try:
    with Image.open(path) as image:
      array = np.asarray(image.convert('RGB' if image.mode == 'RGB' else 'L'))
  except OSError as e:
    raise ValueError(f'{path}: damaged picture ({e}); copy it again') from None
  return array
