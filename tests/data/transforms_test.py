import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

from medjax.data import transforms

RNG = np.random.default_rng(0)
OBLIQUE = np.array(
  [
    [-0.9, 0.1, 0.2, 10.0],
    [0.1, -1.9, 0.3, -4.0],
    [0.05, 0.2, 2.9, 30.0],
    [0, 0, 0, 1],
  ]
)
PERMUTED = np.array(
  [[0, 0, 2.0, -5], [-1.0, 0, 0, 7], [0, 1.5, 0, 3], [0, 0, 0, 1]]
)


def blob(shape, affine, seed=0):
  """A smooth case whose brightest spot and label sit at a known mm point."""
  rng = np.random.default_rng(seed)
  n = len(shape)
  centre = np.array(shape) * rng.uniform(0.4, 0.6, n)
  grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij'), -1)
  distance = np.sum((grid - centre) ** 2, -1)
  width = (min(shape) / 4) ** 2
  image = np.exp(-distance / (2 * width)).astype(np.float32)
  return {
    'image': np.stack([image, 2 * image], -1),
    'mask': (distance < width).astype(np.uint8),
    'affine': np.array(affine, np.float64),
    'spacing': np.linalg.norm(np.array(affine)[:n, :n], axis=0),
    'id': 'blob',
  }


def centroid_mm(sample):
  weights = sample['image'][..., 0].astype(np.float64) ** 4
  index = np.array(ndimage.center_of_mass(weights))
  return (sample['affine'] @ [*index, 1])[:-1]


def check_consistent(sample):
  n = sample['affine'].shape[0] - 1
  assert sample['image'].shape[:n] == sample['mask'].shape
  np.testing.assert_allclose(
    sample['spacing'], np.linalg.norm(sample['affine'][:n, :n], axis=0)
  )
  # Image and mask moved together.
  inside = sample['image'][..., 0][sample['mask'] > 0]
  assert inside.min() > 0.5


@pytest.mark.parametrize('affine', [OBLIQUE, PERMUTED])
@pytest.mark.parametrize(
  'transform',
  [
    lambda s: transforms.reorient(s),
    lambda s: transforms.resample(s, spacing=(1.3, 1.1, 1.7)),
    lambda s: transforms.resample(s, spacing=(1.3, 1.1, 1.7), order='cubic'),
    lambda s: transforms.resize(s, shape=(20, 31, 40)),
    lambda s: transforms.crop_foreground(s, threshold=1e-3, margin=1),
    lambda s: transforms.crop_or_pad(s, shape=(40, 21, 29)),
    lambda s: transforms.patch(
      s, np.random.default_rng(1), size=(40, 40, 40), foreground=1.0
    ),
  ],
)
def test_a_point_keeps_its_place(affine, transform):
  before = blob((24, 28, 30), affine)
  after = transform(before)
  check_consistent(after)
  np.testing.assert_allclose(centroid_mm(after), centroid_mm(before), atol=0.02)
  assert after['id'] == 'blob'
  assert before['affine'] is not after['affine']
  np.testing.assert_array_equal(before['affine'], affine)


def test_two_dimensions():
  before = blob((40, 30), np.diag([0.5, 0.7, 1]))
  for after in (
    transforms.reorient(before),
    transforms.resample(before, spacing=(0.6, 0.6)),
    transforms.resize(before, shape=(31, 33)),
    transforms.crop_or_pad(before, shape=(35, None)),
    transforms.crop_foreground(before, threshold=0.01),
  ):
    check_consistent(after)
    np.testing.assert_allclose(
      centroid_mm(after), centroid_mm(before), atol=0.02
    )
  np.testing.assert_array_equal(
    transforms.reorient(before)['image'], before['image']
  )


def test_reorient_matches_nibabel():
  for affine in (OBLIQUE, PERMUTED):
    sample = blob((10, 11, 12), affine)
    ours = transforms.reorient(sample)
    theirs = nib.as_closest_canonical(
      nib.Nifti1Image(sample['image'][..., 0], affine)
    )
    assert nib.aff2axcodes(ours['affine']) == ('R', 'A', 'S')
    np.testing.assert_array_equal(ours['image'][..., 0], theirs.get_fdata())
    np.testing.assert_allclose(ours['affine'], theirs.affine)


def simple_itk(sample):
  """The sample as a SimpleITK image (LPS) with C-order axes reversed."""
  image = sitk.GetImageFromArray(sample['image'][..., 0].T.copy())
  lps = np.diag([-1, -1, 1, 1]) @ sample['affine']
  image.SetSpacing(sample['spacing'].tolist())
  image.SetDirection((lps[:3, :3] / sample['spacing']).ravel().tolist())
  image.SetOrigin(lps[:3, 3].tolist())
  return image


@pytest.mark.parametrize(
  ('order', 'method', 'tolerance'),
  [('linear', sitk.sitkLinear, 1e-5), ('cubic', sitk.sitkBSpline3, 1e-3)],
)
def test_resample_matches_simple_itk(order, method, tolerance):
  rng = np.random.default_rng(3)
  angle = 0.3
  rotation = np.array(
    [
      [np.cos(angle), -np.sin(angle), 0],
      [np.sin(angle), np.cos(angle), 0],
      [0, 0, 1],
    ]
  )
  affine = np.eye(4)
  affine[:3, :3] = rotation @ np.diag([0.9, 1.2, 2.5])
  affine[:3, 3] = [4, 5, -6]
  sample = {
    'image': rng.normal(size=(25, 23, 21, 1)).astype(np.float32),
    'affine': affine,
    'spacing': np.array([0.9, 1.2, 2.5]),
  }
  ours = transforms.resample(sample, spacing=(1.1, 1.0, 1.6), order=order)
  reference = simple_itk(ours)
  theirs = sitk.Resample(
    simple_itk(sample), reference, sitk.Transform(), method, -99.0
  )
  theirs = sitk.GetArrayFromImage(theirs).T
  known = theirs > -90  # SimpleITK has no value beyond the outermost cells
  assert known.mean() > 0.8
  inner = (slice(9, -9),) * 3 if order == 'cubic' else (slice(None),) * 3
  np.testing.assert_allclose(
    np.where(known, ours['image'][..., 0], 0)[inner],
    np.where(known, theirs, 0)[inner],
    atol=tolerance,
  )


def test_resample_to_the_same_spacing_changes_nothing():
  sample = blob((10, 11, 12), OBLIQUE)
  same = transforms.resample(sample, spacing=sample['spacing'])
  np.testing.assert_array_equal(same['image'], sample['image'])
  with pytest.raises(ValueError, match='must be positive'):
    transforms.resample(sample, spacing=0)


def test_resample_keeps_the_requested_spacing_and_a_ramp():
  sample = {
    'image': np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1),
    'affine': np.diag([1.0, 1, 1, 1]),
    'spacing': np.ones(3),
  }
  out = transforms.resample(sample, spacing=(0.5, 1, 1))
  assert out['image'].shape == (80, 1, 1, 1)
  np.testing.assert_allclose(out['spacing'], [0.5, 1, 1])
  # Half-voxel centres: -0.25 (edge repeated), 0.25, 0.75, …
  np.testing.assert_allclose(
    out['image'][:4, 0, 0, 0], [0, 0.25, 0.75, 1.25], atol=1e-6
  )
  np.testing.assert_allclose(out['affine'][0, 3], -0.25)


def test_masks_are_resampled_by_nearest():
  sample = blob((20, 20, 20), np.eye(4))
  sample['mask'] = sample['mask'] * 7
  out = transforms.resample(sample, spacing=1.37)
  assert out['mask'].dtype == np.uint8
  assert set(np.unique(out['mask'])) == {0, 7}


def test_zscore():
  image = RNG.normal(5, 3, (8, 9, 2)).astype(np.float32)
  image[..., 1] = 4
  out = transforms.zscore({'image': image})['image']
  assert out.dtype == np.float32
  np.testing.assert_allclose(out[..., 0].mean(), 0, atol=1e-5)
  np.testing.assert_allclose(out[..., 0].std(), 1, atol=1e-5)
  assert not out[..., 1].any()
  image[:4] = 0
  out = transforms.zscore({'image': image[..., :1]}, nonzero=True)['image']
  assert not out[:4].any()
  np.testing.assert_allclose(out[4:].std(), 1, atol=1e-5)
  assert not transforms.zscore({'image': image * 0}, nonzero=True)[
    'image'
  ].any()


def test_intensity():
  image = np.linspace(-1000, 1000, 101, dtype=np.float32)[:, None, None]
  out = transforms.window({'image': image}, low=-100, high=300)['image']
  assert (out.min(), out.max()) == (0, 1)
  np.testing.assert_allclose(out[50], 0.25, atol=1e-6)
  out = transforms.percentile({'image': image}, low=10, high=90)['image']
  np.testing.assert_allclose(out[10], 0, atol=1e-6)
  np.testing.assert_allclose(out[50], 0.5, atol=1e-6)
  assert not transforms.percentile({'image': image * 0})['image'].any()
  rgb = np.full((2, 2, 3), 255, np.uint8)
  out = transforms.scale({'image': rgb})['image']
  assert out.dtype == np.float32
  assert (out == 1).all()
  out = transforms.scale({'image': rgb}, mean=(0, 5, 255), std=(1, 2, 3))
  np.testing.assert_allclose(out['image'][0, 0], [255, 125, 0])
  with pytest.raises(ValueError, match='must be above'):
    transforms.window({'image': image}, low=1, high=1)
  with pytest.raises(ValueError, match='must not be 0'):
    transforms.scale({'image': image}, std=0)


def test_crop_foreground_of_nothing_keeps_everything():
  sample = blob((6, 6, 6), np.eye(4))
  sample['image'] = sample['image'] * 0
  assert transforms.crop_foreground(sample)['image'].shape[:3] == (6, 6, 6)


def test_crop_or_pad_values():
  sample = blob((4, 9, 6), np.eye(4))
  out = transforms.crop_or_pad(sample, shape=(7, 4, None), value=-3)
  assert out['mask'].shape == (7, 4, 6)
  assert (out['image'][0] == -3).all()
  assert (out['mask'][0] == 0).all()
  np.testing.assert_array_equal(out['image'][1:5], sample['image'][:, 2:6])
  with pytest.raises(ValueError, match='spatial axes'):
    transforms.crop_or_pad(sample, shape=(1, 2))


def test_patch_sees_the_rare_class():
  sample = blob((40, 30, 20), np.eye(4))
  mask = np.zeros((40, 30, 20), np.int32)
  mask[15:25, 10:20, 8:12] = 1
  mask[39, 29, 19] = 2
  sample['mask'] = mask
  rng = np.random.default_rng(0)
  seen = [
    set(
      np.unique(
        transforms.patch(sample, rng, size=(8, 8, 8), foreground=1.0)['mask']
      )
    )
    for _ in range(60)
  ]
  assert all(s & {1, 2} for s in seen)
  assert 15 <= sum(2 in s for s in seen) <= 45
  plain = [
    transforms.patch(sample, rng, size=(8, 8, 8), foreground=0)['mask']
    for _ in range(60)
  ]
  assert any(not p.any() for p in plain)


def test_patch_is_reproducible_and_pads():
  sample = blob((10, 30, 5), np.eye(4))
  a, b = (
    transforms.patch(sample, np.random.default_rng(4), size=(16, 16, 16))
    for _ in range(2)
  )
  np.testing.assert_array_equal(a['image'], b['image'])
  np.testing.assert_array_equal(a['affine'], b['affine'])
  assert a['image'].shape == (16, 16, 16, 2)
  del sample['mask']
  out = transforms.patch(sample, np.random.default_rng(4), size=(8, 8, 8))
  assert out['image'].shape == (8, 8, 8, 2)
  with pytest.raises(ValueError, match='spatial axes'):
    transforms.patch(sample, np.random.default_rng(4), size=(8, 8))


def test_patch_reaches_every_corner():
  sample = {
    'image': np.arange(6, dtype=np.float32).reshape(6, 1),
    'affine': np.eye(2),
  }
  rng = np.random.default_rng(0)
  starts = {
    transforms.patch(sample, rng, size=(4,))['image'][0, 0] for _ in range(50)
  }
  assert starts == {0, 1, 2}


@pytest.mark.parametrize('affine', [OBLIQUE, PERMUTED])
def test_to_grid_is_exact_after_moves(affine):
  raw = blob((12, 15, 10), affine)
  raw['mask'] = RNG.integers(0, 4, (12, 15, 10), np.uint8)
  moved = transforms.reorient(raw)
  moved = transforms.crop_or_pad(moved, shape=(20, 20, 20))
  for order in (0, 1):
    back = transforms.to_grid(
      moved['mask'], moved['affine'], affine, raw['mask'].shape, order=order
    )
    np.testing.assert_array_equal(back, raw['mask'])
    assert back.dtype == np.uint8
  back = transforms.to_grid(
    moved['image'], moved['affine'], affine, raw['mask'].shape
  )
  np.testing.assert_array_equal(back, raw['image'])


def test_to_grid_is_zero_outside_a_crop():
  raw = blob((20, 20, 20), np.eye(4))
  cropped = transforms.crop_or_pad(raw, shape=(6, 6, 6))
  ones = np.ones((6, 6, 6, 3), np.float32)
  back = transforms.to_grid(
    ones, cropped['affine'], raw['affine'], (20, 20, 20)
  )
  assert back.sum() == 6 * 6 * 6 * 3
  coarse = transforms.resample(cropped, spacing=2)
  ones = np.ones((3, 3, 3, 3), np.float32)
  back = transforms.to_grid(ones, coarse['affine'], raw['affine'], (20,) * 3)
  assert back[7:13, 7:13, 7:13].min() == 1
  assert back[:6].max() == 0


@pytest.mark.parametrize('affine', [OBLIQUE, PERMUTED])
def test_to_grid_after_resampling(affine):
  raw = blob((25, 28, 23), affine)
  moved = transforms.resample(transforms.reorient(raw), spacing=(0.7, 0.8, 0.9))
  back = transforms.to_grid(
    moved['image'], moved['affine'], affine, raw['mask'].shape
  )
  np.testing.assert_allclose(back, raw['image'], atol=0.03)
  labels = transforms.to_grid(
    moved['mask'], moved['affine'], affine, raw['mask'].shape, order=0
  )
  assert (labels == raw['mask']).mean() > 0.995


def test_to_grid_covers_edges_cut_off_by_rounding():
  raw = blob((10, 10, 10), np.eye(4))
  for spacing in (3, 4, 2.2, 0.6):
    coarse = transforms.resample(raw, spacing=spacing)
    ones = np.ones(coarse['mask'].shape, np.float32)
    back = transforms.to_grid(ones, coarse['affine'], np.eye(4), (10, 10, 10))
    np.testing.assert_allclose(back, 1, atol=1e-6)


def test_to_grid_between_rotated_grids_matches_simple_itk():
  raw = blob((20, 22, 18), np.diag([1.0, 1.0, 1.5, 1.0]))
  angle = 0.2
  target = raw['affine'].copy()
  target[:2, :2] = [
    [np.cos(angle), -np.sin(angle)],
    [np.sin(angle), np.cos(angle)],
  ]
  ours = transforms.to_grid(
    raw['image'][..., 0], raw['affine'], target, (20, 22, 18)
  )
  reference = simple_itk(
    {
      'image': ours[..., None],
      'affine': target,
      'spacing': np.array([1.0, 1.0, 1.5]),
    }
  )
  theirs = sitk.GetArrayFromImage(
    sitk.Resample(
      simple_itk(raw), reference, sitk.Transform(), sitk.sitkLinear, -99.0
    )
  ).T
  known = theirs > -90
  assert 0.5 < known.mean() < 1
  np.testing.assert_allclose(ours[known], theirs[known], atol=1e-4)
  assert ours[~known].min() >= 0
  assert (ours == 0).mean() > 0.05


def test_to_grid_in_two_dimensions():
  raw = blob((30, 40), np.diag([0.5, 0.5, 1]))
  small = transforms.resize(raw, shape=(15, 20))
  back = transforms.to_grid(
    small['image'], small['affine'], raw['affine'], (30, 40)
  )
  np.testing.assert_allclose(back, raw['image'], atol=0.06)
  with pytest.raises(ValueError, match='spatial axes'):
    transforms.to_grid(small['image'], small['affine'], raw['affine'], (30,))


def test_inputs_are_not_changed():
  sample = blob((10, 11, 12), OBLIQUE)
  copies = {k: np.copy(v) for k, v in sample.items() if k != 'id'}
  for f in (
    transforms.reorient,
    transforms.zscore,
    transforms.percentile,
    lambda s: transforms.resample(s, spacing=2),
    lambda s: transforms.patch(s, np.random.default_rng(0), size=(4, 4, 4)),
  ):
    f(sample)
    for k, v in copies.items():
      np.testing.assert_array_equal(sample[k], v)


def test_append_mask():
  sample = blob((4, 5), np.eye(3))
  out = transforms.append_mask(sample)
  np.testing.assert_array_equal(out['image'][..., :2], sample['image'])
  np.testing.assert_array_equal(out['image'][..., 2], sample['mask'] > 0)
  with pytest.raises(ValueError, match='blob: has no mask'):
    transforms.append_mask({k: v for k, v in sample.items() if k != 'mask'})


def test_the_distance_map_of_a_ball_is_its_depth():
  affine = np.diag([1.0, 2.0, 0.5, 1.0])
  place = np.stack(np.indices((25, 13, 49)), -1) * [1.0, 2.0, 0.5]
  radius = np.linalg.norm(place - [12.0, 12.0, 12.0], axis=-1)
  image = np.stack([radius < 10, radius < 0], -1).astype(np.uint8)
  out = transforms.distance_map({'image': image, 'affine': affine})['image']
  assert out.dtype == np.float32
  assert np.abs(out[..., 0] - np.maximum(10 - radius, 0)).max() < 2
  assert (out[..., 0] > 0).sum() == image[..., 0].sum()
  assert not out[..., 1].any()


def test_the_distance_map_of_what_fills_the_image():
  image = np.ones((5, 5, 5, 1), np.uint8)
  out = transforms.distance_map({'image': image, 'affine': np.eye(4)})['image']
  assert (out.max(), out[2, 2, 2, 0], out.min()) == (3, 3, 1)


@pytest.mark.parametrize('of', ['middle', 'mean', 'max'])
def test_orthogonal_views_are_the_three_of_a_cube(of):
  sample = blob((6, 6, 6), np.diag([2.0, 3.0, 4.0, 1.0]))
  out = transforms.orthogonal_views(sample, of=of)
  image = sample['image']
  axial, coronal, sagittal = {
    'middle': (image[:, :, 3], image[:, 3], image[3]),
    'mean': (image.mean(2), image.mean(1), image.mean(0)),
    'max': (image.max(2), image.max(1), image.max(0)),
  }[of]
  expected = np.concatenate([axial, coronal, sagittal], -1)
  np.testing.assert_allclose(out['image'], expected, rtol=1e-6)
  np.testing.assert_array_equal(out['affine'], np.diag([2.0, 3.0, 1.0]))
  np.testing.assert_array_equal(out['spacing'], [2.0, 3.0])
  assert out['mask'].shape == (6, 6)


def test_views_of_a_coronal_or_oblique_file_have_its_spacing():
  coronal = np.array([[1, 0, 0, 5], [0, 0, 3, 6], [0, 2, 0, 7], [0, 0, 0, 1.0]])
  turned = coronal.copy()
  turned[:2, :3] = [[0.8, 0, -1.8], [0.6, 0, 2.4]]
  for affine in (coronal, turned):
    out = transforms.orthogonal_views(blob((6, 6, 6), affine))
    np.testing.assert_allclose(out['spacing'], [1, 2])
    np.testing.assert_allclose(out['affine'], np.diag([1, 2, 1]))


def test_orthogonal_views_take_a_cube():
  with pytest.raises(ValueError, match='blob: orthogonal_views takes a cube'):
    transforms.orthogonal_views(blob((6, 6, 5), np.eye(4)))
  cube = blob((6, 6, 6), np.eye(4))
  for of in ('median', ('middle',)):
    with pytest.raises(ValueError, match='must be of middle, mean, max'):
      transforms.orthogonal_views(cube, of=of)


def test_each_channel_has_its_own_view():
  cube = blob((6, 6, 6), np.eye(4))
  cube = {**cube, 'image': np.repeat(cube['image'][..., :1], 2, -1)}
  out = transforms.orthogonal_views(cube, of=('middle', 'max'))['image']
  np.testing.assert_array_equal(out[..., 0], cube['image'][:, :, 3, 0])
  np.testing.assert_array_equal(out[..., 5], cube['image'][..., 1].max(0))


def test_numbers_of_a_set_normalise_ct_and_channels_are_left_alone():
  image = np.stack([np.array([[-2000.0, 0.0], [50.0, 900.0]])] * 2, -1)
  sample = {'image': image.astype(np.int16)}
  out = transforms.scale(
    sample, low=-100, high=150, mean=25, std=125, channels=(1,)
  )
  np.testing.assert_allclose(out['image'][..., 1], [[-1, -0.2], [0.2, 1]])
  np.testing.assert_array_equal(out['image'][..., 0], image[..., 0])
  out = transforms.zscore(sample, channels=[0])
  np.testing.assert_allclose(out['image'][..., 0].std(), 1, rtol=1e-6)
  np.testing.assert_array_equal(out['image'][..., 1], image[..., 1])
  assert sample['image'].dtype == np.int16
  for function in (transforms.zscore, transforms.scale):
    with pytest.raises(ValueError, match=r'channels \(2,\) of an image of 2'):
      function(sample, channels=(2,))


@pytest.mark.parametrize(
  ('name', 'options', 'line'),
  [
    ('resize', dict(shape=0), 'must be positive'),
    ('resize', dict(shape=(4, -1)), 'must be positive'),
    ('crop_or_pad', dict(shape=(0, None)), 'must be 1 or more, or None'),
    ('percentile', dict(low=99, high=1), r'low \(99\) must be below high'),
    ('percentile', dict(low=0, high=101), 'both of 0 to 100'),
  ],
)
def test_sizes_and_percentiles_that_mean_nothing(name, options, line):
  sample = {'image': np.ones((6, 5, 1), np.float32), 'affine': np.eye(3)}
  with pytest.raises(ValueError, match=line):
    getattr(transforms, name)(sample, **options)


def test_compress():
  sample = {'covariates': np.array([0, 1, -1, np.nan, 1000], np.float32)}
  found = transforms.compress(sample, factor=3)['covariates']
  expected = [0, np.arcsinh(3), -np.arcsinh(3), np.nan, np.arcsinh(3000)]
  np.testing.assert_allclose(found, expected, rtol=1e-6)
