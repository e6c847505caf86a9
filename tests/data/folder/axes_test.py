"""Two axes: (x, y) of NIfTI, NRRD and MetaImage, (row, column) of pictures."""

import itertools

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk  # noqa: N813

from medjax.data import formats
from medjax.data.folder import open_folder, read_image

RNG = np.random.default_rng(0)
ITK = ('.nii.gz', '.nrrd', '.mha')
SQUARE, WIDE = (
  (RNG.random(s) > 0.5).astype(np.uint8) for s in ((6, 6), (4, 6))
)


def save(path, array):
  """A picture of rows, by ITK or by Pillow."""
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix == '.png':
    PIL.Image.fromarray(array).save(path)
  else:
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


def opened(folder, image, mask, rows):
  """The one case of an image whose pixels tell what the mask is."""
  save(folder / 'images' / f'a{image}', 100 + rows)
  save(folder / 'masks' / f'a{mask}', rows)
  cases = open_folder(folder, 'train', dense=True, fractions=(1, 0, 0))
  return cases[0], cases.notes


@pytest.mark.parametrize('rows', [SQUARE, WIDE])
@pytest.mark.parametrize(
  ('image', 'mask'),
  [*itertools.product(ITK, repeat=2),
   *((i, '.png') for i in ITK), *(('.png', m) for m in ITK)],
)  # fmt: skip
def test_a_mask_lies_on_its_image(tmp_path, image, mask, rows):
  case, notes = opened(tmp_path, image, mask, rows)
  np.testing.assert_array_equal(case['mask'], case['image'][..., 0] - 100)
  said = [n for n in notes if 'first axis is taken as x, as ITK' in n]
  assert len(said) == ('.png' in (image, mask))


def test_masks_of_several_structures(tmp_path):
  save(tmp_path / 'a.png', 100 + WIDE)
  for name in ('liver', 'spleen'):
    save(tmp_path / f'{name}.mha', WIDE * (name == 'liver'))
  cases = open_folder(
    tmp_path, 'train', fractions=(1, 0, 0), dense=True,
    fields={'image': '{id}.png', 'mask': '{liver,spleen}.mha'},
  )  # fmt: skip
  np.testing.assert_array_equal(cases[0]['mask'], WIDE)
  assert any('2-D MetaImage: its first axis' in n for n in cases.notes)


def test_rows_written_as_nifti_are_seen_where_only_they_fit(tmp_path):
  save(tmp_path / 'images' / 'a.png', 100 + WIDE)
  (tmp_path / 'masks').mkdir()
  nib.save(nib.Nifti1Image(WIDE, np.eye(4)), tmp_path / 'masks' / 'a.nii')
  cases = open_folder(tmp_path, 'train', dense=True, fractions=(1, 0, 0))
  np.testing.assert_array_equal(cases[0]['mask'], WIDE)
  assert any('2-D NIfTI: its first axis is taken as rows' in n
             for n in cases.notes)  # fmt: skip
  nib.save(nib.Nifti1Image(WIDE[1:], np.eye(4)), tmp_path / 'masks' / 'a.nii')
  with pytest.raises(ValueError, match=r'has shape .* resample it'):
    open_folder(tmp_path, 'train', dense=True, fractions=(1, 0, 0))[0]


def test_squares_among_rows_are_refused(tmp_path):
  """One set is written in one way, and a square does not tell in which."""
  (tmp_path / 'masks').mkdir()
  for name, rows in (('a', SQUARE), ('b', WIDE)):
    save(tmp_path / 'images' / f'{name}.png', 100 + rows)
    path = tmp_path / 'masks' / f'{name}.nii'
    nib.save(nib.Nifti1Image(rows, np.eye(4)), path)
  cases = open_folder(tmp_path, 'train', dense=True, fractions=(1, 0, 0))
  with pytest.raises(ValueError, match=r'a\.nii: is square.*b\.nii rows do'):
    cases[0]
  np.testing.assert_array_equal(cases[1]['mask'], WIDE)


def test_channels_of_two_orders(tmp_path):
  for name in ('a.png', 'b.mha'):
    save(tmp_path / name, 100 + SQUARE)
  found = read_image((tmp_path / 'a.png', tmp_path / 'b.mha')).array
  np.testing.assert_array_equal(found[..., 0], found[..., 1])


def test_swapped_twice_is_as_it_was(tmp_path):
  place = np.array([[0, 2, 0, 5], [3, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1.0]])
  nib.save(nib.Nifti1Image(WIDE, place), tmp_path / 'a.nii')
  volume = formats.read(tmp_path / 'a.nii')
  other = volume.swapped()
  assert (volume.x_first, other.x_first) == (True, False)
  assert (volume.spacing == other.spacing[::-1]).all()
  at, there = [1, 2, 0, 1], [2, 1, 0, 1]
  np.testing.assert_allclose(
    volume.meta['affine'] @ at, other.meta['affine'] @ there
  )
  np.testing.assert_array_equal(other.swapped().array, volume.array)
