import importlib.util
import itertools

import numpy as np
import pytest

from medjax import prepare
from medjax.data import records

pytestmark = pytest.mark.skipif(
  importlib.util.find_spec('nilearn') is None, reason='nilearn not installed'
)


def test_slabs(tmp_path):
  prepare.prepare('mni152_tissue', tmp_path)
  about = records.info('mni152_tissue', tmp_path)
  assert about['splits'] == {'train': 76, 'validation': 12, 'test': 20}
  assert about['class_names'] == ('background', 'grey', 'white')
  assert 'ONE brain' in about['description']
  slices = {}
  for split in about['splits']:
    for case in records.open_split('mni152_tissue', split, tmp_path):
      slices[int(case['id'].removeprefix('icbm152_z'))] = split
      assert case['image'].shape == (233, 197, 1)
      assert case['mask'].shape == (233, 197)
      assert case['patient'] == 'icbm152'
      assert set(np.unique(case['mask'])) >= {0, 1}
      assert (case['mask'] > 0).mean() > 0.02
      assert not case['mask'][case['image'][..., 0] == 0].any()
  order = sorted(slices)
  gaps = [b - a for a, b in itertools.pairwise(order) if slices[a] != slices[b]]
  assert len(gaps) == 7
  assert min(gaps) > 4  # four slices between


def test_picture_is_the_right_way_round(tmp_path):
  """Eyes' side up: the frontal half above; grey is darker than white."""
  prepare.prepare('mni152_tissue', tmp_path)
  cases = records.open_split('mni152_tissue', 'train', tmp_path)
  case = next(c for c in cases if c['id'] == 'icbm152_z060')
  image, mask = case['image'][..., 0], case['mask']
  assert image[mask == 1].mean() < image[mask == 2].mean()
  import nibabel as nib

  folder = importlib.util.find_spec('nilearn').submodule_search_locations[0]
  path = (
    f'{folder}/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz'
  )
  t1 = nib.load(path)
  back = np.flip(image.T, (0, 1))
  np.testing.assert_array_equal(back, np.asarray(t1.dataobj)[:, :, 60])
  assert nib.aff2axcodes(t1.affine) == ('R', 'A', 'S')
