"""Orientations, padding, sizes and cubic values against other programs."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medjax.data import transforms

OBLIQUE = np.array(
  [
    [-0.9, 0.1, 0.2, 10.0],
    [0.1, -1.9, 0.3, -4.0],
    [0.05, 0.2, 2.9, 30.0],
    [0, 0, 0, 1],
  ]
)
CODES = [
  ''.join(codes)
  for order in itertools.permutations(('RL', 'AP', 'SI'))
  for codes in itertools.product(*order)
]


def sample(shape=(3, 4, 5), affine=OBLIQUE, seed=0):
  rng = np.random.default_rng(seed)
  return {
    'image': rng.normal(size=(*shape, 2)).astype(np.float32),
    'mask': rng.integers(0, 3, shape, np.uint8),
    'affine': affine,
    'id': 'x',
  }


def image_of(case):
  """The first channel with its place, for SimpleITK."""
  image = sitk.GetImageFromArray(case['image'][..., 0].T)
  lps = np.diag([-1, -1, 1, 1]) @ case['affine']
  spacing = np.linalg.norm(lps[:3, :3], axis=0)
  image.SetSpacing(spacing.tolist())
  image.SetOrigin(lps[:3, 3].tolist())
  image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
  return image


def test_reorient_to_any_of_48_matches_nibabel():
  case = sample()
  assert len(set(CODES)) == 48
  for codes in CODES:
    out = transforms.reorient(case, codes=codes.lower())
    assert ''.join(nib.aff2axcodes(out['affine'])) == codes
    turn = nib.orientations.ornt_transform(
      nib.io_orientation(OBLIQUE), nib.orientations.axcodes2ornt(codes)
    )
    whole = nib.Nifti1Image(case['image'][..., 0], OBLIQUE).as_reoriented(turn)
    np.testing.assert_array_equal(out['image'][..., 0], whole.get_fdata())
    np.testing.assert_allclose(out['affine'], whole.affine)
    back = transforms.reorient(out, codes='LPS')
    first = transforms.reorient(case, codes='LPS')
    np.testing.assert_array_equal(back['mask'], first['mask'])


@pytest.mark.parametrize('codes', ['LPS', 'RAS', 'PIR'])
def test_reorient_matches_simple_itk(codes):
  case = sample(affine=np.diag([1.0, -2, 3, 1])[[1, 0, 2, 3]])
  out = transforms.reorient(case, codes=codes)
  # ITK names the sides that axes come from: its LPS runs to L, P and S too.
  theirs = sitk.DICOMOrient(image_of(case), codes)
  np.testing.assert_array_equal(
    out['image'][..., 0], sitk.GetArrayFromImage(theirs).T
  )


@pytest.mark.parametrize('codes', ['RAX', 'RA', 'RRS', '', 'RASL', 3])
def test_no_orientation(codes):
  with pytest.raises(ValueError, match='needs one each of R or L'):
    transforms.reorient(sample(), codes=codes)


def test_pictures_are_not_turned():
  case = sample((3, 4), np.diag([1.0, 2, 1]))
  out = transforms.reorient(case, codes='LPS')
  np.testing.assert_array_equal(out['image'], case['image'])


@pytest.mark.parametrize('mode', ['edge', 'reflect', 'symmetric', 'wrap'])
def test_padding_matches_numpy(mode):
  case = sample()
  out = transforms.crop_or_pad(case, shape=(5, 4, 3), mode=mode)
  wanted = np.pad(case['image'], [(1, 1), (0, 0), (0, 0), (0, 0)], mode)
  np.testing.assert_array_equal(out['image'], wanted[:, :, 1:4])
  assert not out['mask'][[0, -1]].any()
  np.testing.assert_array_equal(out['mask'][1:-1], case['mask'][:, :, 1:4])
  place = out['affine'] @ [1, 0, 0, 1]
  np.testing.assert_allclose(place, OBLIQUE @ [0, 0, 1, 1])


@pytest.mark.parametrize(
  ('dtype', 'value'), [(np.uint16, -1024), (np.uint8, 300.0), (np.uint8, 0.5)]
)
def test_padding_with_what_integers_cannot_hold(dtype, value):
  case = {'image': np.full((2, 2, 1), 7, dtype), 'affine': np.eye(3)}
  image = transforms.crop_or_pad(case, shape=(4, 4), value=value)['image']
  assert image.dtype == np.float32
  assert image[0, 0, 0] == value
  np.testing.assert_array_equal(image[1:3, 1:3], case['image'])
  kept = transforms.crop_or_pad(case, shape=(4, 4), value=255.0)['image']
  assert kept.dtype == dtype
  assert kept[0, 0, 0] == 255


def test_an_unknown_padding():
  with pytest.raises(ValueError, match=r"mode 'mirror': known are constant"):
    transforms.crop_or_pad(sample(), shape=(9, 9, 9), mode='mirror')


@pytest.mark.parametrize(
  ('k', 'shape'), [(4, (4, 4, 8)), ((2, 4, 1), (4, 4, 5)), (1, (3, 4, 5))]
)
def test_pad_to_a_multiple_and_back(k, shape):
  case = sample()
  out = transforms.pad_to_multiple(case, k=k, value=-7.0)
  assert out['image'].shape == (*shape, 2)
  added = np.prod(shape) - case['mask'].size
  assert np.count_nonzero(out['image'][..., 0] == -7) == added
  for name in ('image', 'mask'):
    back = transforms.to_grid(
      out[name], out['affine'], OBLIQUE, case['mask'].shape, order=0
    )
    np.testing.assert_array_equal(back, case[name])


@pytest.mark.parametrize('k', [0, -2, (2, 2)])
def test_no_multiple(k):
  with pytest.raises(ValueError, match='pad_to_multiple: k'):
    transforms.pad_to_multiple(sample(), k=k)


def test_cubic_values_stay_within_those_of_their_channel():
  """Splines overshoot an edge by some 12 %; a CT of -1000 to 0 must not."""
  case = sample((8, 8, 8), np.diag([1.0, 1, 1, 1]))
  case['image'][:] = 0
  case['image'][3:] = [-1000, 3000]
  for out in (
    transforms.resample(case, spacing=0.6, order='cubic'),
    transforms.resize(case, shape=(11, 9, 13), order='cubic'),
  ):
    assert out['image'].dtype == np.float32
    np.testing.assert_array_equal(out['image'].min((0, 1, 2)), [-1000, 0])
    np.testing.assert_array_equal(out['image'].max((0, 1, 2)), [0, 3000])


def test_what_is_not_zero_may_be_negative():
  case = sample((6, 6, 6), np.eye(4))
  case['image'][:] = 0
  case['image'][1:3, 2:5, 4] = -1.5
  assert transforms.crop_foreground(case)['image'].shape == (2, 3, 1, 2)
  case['image'][5, 5, 5] = 2
  assert transforms.crop_foreground(case)['image'].shape == (5, 4, 2, 2)
  above = transforms.crop_foreground(case, threshold=0.0)
  assert above['image'].shape == (1, 1, 1, 2)
  scored = transforms.zscore(case, nonzero=True)['image'][..., 0]
  inside = case['image'][..., 0] != 0
  np.testing.assert_allclose(scored[inside].mean(), 0, atol=1e-6)
  np.testing.assert_allclose(scored[inside].std(), 1, rtol=1e-6)
  assert not scored[~inside].any()


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    ('resize', {'shape': (64, 64)}),
    ('resample', {'spacing': (1.0, 1.0)}),
    ('resize', {'shape': (2, 2, 2, 2)}),
    ('resize', {'shape': 0}),
  ],
)
def test_sizes_for_another_number_of_axes(name, options):
  with pytest.raises(ValueError, match=f'{name}: s') as e:
    getattr(transforms, name)(sample(), **options)
  assert '\n' not in str(e.value)
  assert ('3 spatial axes' in str(e.value)) or ('positive' in str(e.value))
