"""MNI-152 tissue: axial slices of one averaged brain, for demonstration."""

import importlib.util
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from medjax.data import formats, records
from medjax.data.builders import Split

CLASSES = ('background', 'grey', 'white')
# First and last axial slice (k, 1 mm apart) of each slab. Four slices between
# two slabs belong to none; the brain's labels reach from slice 1 to 153.
SLABS = {
  'train': ((12, 31), (46, 63), (82, 97), (126, 147)),
  'validation': ((36, 41), (102, 107)),
  'test': ((68, 77), (112, 121)),
}


class Mni152Tissue(tfds.core.GeneratorBasedBuilder):
  """Slices of the ICBM-152 T1 template with grey and white matter."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return records.dataset_info(
      self,
      description=(
        'Axial slices of the ICBM 152 nonlinear symmetric 2009a T1 template '
        '(1 mm), which travels inside the nilearn package, labelled '
        'background, grey or white by its tissue probability maps. This is ONE '
        'brain, the average of 152: there is one patient, and train, '
        'validation and test are slabs of it set 4 mm apart. It shows that the '
        'software works; scores on it say nothing about other brains.'
      ),
      homepage='https://nist.mni.mcgill.ca/icbm-152-nonlinear-atlases-2009/',
      citation=(
        'Fonov et al., Unbiased average age-appropriate atlases for pediatric '
        'studies, NeuroImage 54 (2011) 313-327.'
      ),
      license=(
        'ICBM 152: free use, copying and modification with the copyright '
        'notice kept (McConnell Brain Imaging Centre, 1993-2009)'
      ),
      features=records.features(2, channels=1, dtype='uint8', mask=True),
      class_names=CLASSES,
      notes=['one patient in all splits: slabs of one averaged brain'],
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    image, mask = load()
    return {
      split: Split(self._generate_examples, slabs, (image, mask))
      for split, slabs in SLABS.items()
    }

  def _generate_examples(self, slab, image, mask):
    first, last = slab
    for k in range(first, last + 1):
      # As on a light box: anterior up, the patient's right on the left.
      place = (slice(None, None, -1), slice(None, None, -1), k)
      yield records.example(
        {
          'id': f'icbm152_z{k:03d}',
          'patient': 'icbm152',
          'image': image[place].T[..., None],
          'mask': mask[place].T,
          'affine': np.eye(3),
        }
      )


def load():
  """T1 (197, 233, 189) uint8 and its label map, both in RAS at 1 mm.

  The label is the most probable of grey, white and the rest; the template is
  skull-stripped, and voxels outside its brain are background.
  """
  spec = importlib.util.find_spec('nilearn')
  if spec is None:
    raise FileNotFoundError(
      "mni152_tissue lies inside the nilearn package: pip install 'nilearn'"
    )
  folder = pathlib.Path(spec.origin).parent / 'datasets' / 'data'
  t1, grey, white = (
    formats.read(
      folder / f'mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz'
    ).array[..., 0]
    for kind in ('t1', 'gm', 'wm')
  )
  rest = 255 - np.minimum(255, grey.astype(np.int16) + white)
  mask = np.argmax(np.stack([rest, grey, white]), 0).astype(np.uint8)
  return t1, np.where(t1 > 0, mask, 0).astype(np.uint8)
