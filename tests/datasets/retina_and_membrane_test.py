import numpy as np
import pytest
from PIL import Image

from medjax import prepare
from medjax.data import records


def picture(path, array, mode=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(array, mode).save(path)


def fundus(rng, shape=(40, 44)):
  """A bright disc with vessels on it, and both as masks."""
  grid = np.indices(shape) - np.reshape(shape, (2, 1, 1)) / 2
  view = (grid**2).sum(0) < 18**2
  vessels = (np.abs(grid[0] - rng.integers(-5, 5)) < 2) & view
  image = np.where(view[..., None], (180, 90, 40), (1, 0, 2))
  image[vessels] -= 30
  return image.astype(np.uint8), vessels, view


def test_drive(tmp_path):
  rng = np.random.default_rng(0)
  expected = {}
  for i in range(1, 41):
    kind = 'training' if i > 20 else 'test'
    part = tmp_path / kind
    image, vessels, view = fundus(rng)
    expected[f'{i:02}'] = vessels
    picture(part / 'images' / f'{i:02}_{kind}.tif', image)
    black = 255 * vessels.astype(np.uint8)
    picture(part / '1st_manual' / f'{i:02}_manual1.gif', black)
    seen = 255 * view.astype(np.uint8)
    picture(part / 'mask' / f'{i:02}_{kind}_mask.gif', seen)
    if kind == 'test':
      picture(part / '2nd_manual' / f'{i:02}_manual2.gif', seen - black)
  prepare.prepare('drive', tmp_path / 'data', tmp_path)
  for split, first in (('train', '21'), ('test', '01')):
    cases = records.open_split('drive', split, tmp_path / 'data')
    assert len(cases) == 20
    case = next(c for c in cases if c['id'] == first)
    np.testing.assert_array_equal(case['mask'], expected[first])
    assert case['image'].shape == (40, 44, 3)
    assert case['field_of_view'].sum() > case['mask'].sum()
    assert case['has_second_observer'] == (split == 'test')
    assert bool(case['second_observer'].any()) == (split == 'test')


def test_drive_is_behind_a_registration(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'grand-challenge\.org'):
    prepare.prepare('drive', tmp_path / 'data')
  with pytest.raises(FileNotFoundError, match=r'21_training\.tif'):
    prepare.prepare('drive', tmp_path / 'data', tmp_path)


def write_stack(path, array):
  pages = [Image.fromarray(page) for page in array]
  pages[0].save(path, save_all=True, append_images=pages[1:])


def test_isbi2012(tmp_path):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (30, 9, 8), np.uint8)
  labels = 255 * rng.integers(0, 2, (30, 9, 8), np.uint8)
  write_stack(tmp_path / 'train-volume.tif', images)
  write_stack(tmp_path / 'train-labels.tif', labels)
  prepare.prepare('isbi2012', tmp_path / 'data', tmp_path)
  about = records.info('isbi2012', tmp_path / 'data')
  assert about['splits'] == {f'fold{f}': 6 for f in range(5)}
  cases = records.open_split('isbi2012', 'fold1', tmp_path / 'data')
  assert {c['id'] for c in cases} == {f'slice_{i:02}' for i in range(6, 12)}
  case = next(c for c in cases if c['id'] == 'slice_07')
  np.testing.assert_array_equal(case['image'][..., 0], images[7])
  np.testing.assert_array_equal(case['mask'], labels[7] == 0)
  np.testing.assert_allclose(case['spacing'], 4e-6)


@pytest.mark.parametrize(
  ('slices', 'message'), [(29, 'has 29 slices'), (0, 'no such file')]
)
def test_isbi2012_stack_that_is_not_whole(tmp_path, slices, message):
  if slices:
    for name in ('train-volume.tif', 'train-labels.tif'):
      write_stack(tmp_path / name, np.zeros((slices, 4, 4), np.uint8))
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    prepare.prepare('isbi2012', tmp_path / 'data', tmp_path)


def test_real_chase_db1(shared_data, tmp_path):
  prepare.prepare('chase_db1', tmp_path, shared_data('chase_db1'))
  train, test = (
    records.open_split('chase_db1', split, tmp_path)
    for split in ('train', 'test')
  )
  assert (len(train), len(test)) == (20, 8)
  assert not {c['patient'] for c in train} & {c['patient'] for c in test}
  scores, views = [], []
  for case in test:
    a, b = case['mask'] > 0, case['second_observer'] > 0
    scores.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    views.append(case['field_of_view'].mean())
    outside = (a & (case['field_of_view'] == 0)).sum()
    assert outside < 0.002 * a.sum()
  # As others measured on the official files, whole images, last eight.
  assert np.mean(scores) == pytest.approx(0.7977, abs=5e-4)
  assert min(views) > 0.6
  assert max(views) < 0.8


def test_chase_db1_incomplete(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'Image_01L\.jpg'):
    prepare.prepare('chase_db1', tmp_path / 'data', tmp_path)
