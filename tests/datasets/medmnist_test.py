import numpy as np
import pytest

from medjax import prepare
from medjax.data import records

SIZES = {'train': 7, 'val': 3, 'test': 4}


def npz(folder, name, shape, labels=1, classes=2):
  rng = np.random.default_rng(0)
  arrays = {}
  for split, n in SIZES.items():
    arrays[f'{split}_images'] = rng.integers(0, 255, (n, *shape), np.uint8)
    arrays[f'{split}_labels'] = rng.integers(0, classes, (n, labels), np.uint8)
  np.savez_compressed(folder / f'{name}.npz', **arrays)
  return arrays


@pytest.mark.parametrize(
  ('name', 'shape', 'labels', 'channels'),
  [
    ('pneumoniamnist', (28, 28), 1, 1),
    ('pathmnist_64', (64, 64, 3), 1, 3),
    ('chestmnist', (28, 28), 14, 1),
    ('adrenalmnist3d', (28, 28, 28), 1, 1),
  ],
)
def test_every_kind(tmp_path, capsys, name, shape, labels, channels):
  arrays = npz(tmp_path, name, shape, labels)
  prepare.prepare(f'medmnist/{name}', tmp_path, tmp_path)
  assert 'note: ' in capsys.readouterr().out  # not the official file
  for split, key in (('train', 'train'), ('validation', 'val')):
    cases = records.open_split(f'medmnist/{name}', split, tmp_path)
    assert len(cases) == SIZES[key]
    for case in cases:
      row = int(case['id'].rsplit('_', 1)[1])
      rank = len(case['spacing'])
      image = arrays[f'{key}_images'][row]
      assert case['image'].shape == (*image.shape[:rank], channels)
      np.testing.assert_array_equal(case['image'].squeeze(), image)
      label = arrays[f'{key}_labels'][row]
      np.testing.assert_array_equal(
        case['label'], label if labels > 1 else label[0]
      )
  assert cases.num_classes >= 2


def test_truncated(tmp_path):
  npz(tmp_path, 'pneumoniamnist', (28, 28))
  path = tmp_path / 'pneumoniamnist.npz'
  path.write_bytes(path.read_bytes()[:-500])
  with pytest.raises(ValueError, match='not a whole MedMNIST file') as e:
    prepare.prepare('medmnist/pneumoniamnist', tmp_path, tmp_path)
  assert '\n' not in str(e.value)


@pytest.mark.parametrize(
  ('folder', 'name', 'sizes', 'official'),
  [
    ('pneumoniamnist', 'pneumoniamnist', (4708, 524, 624), False),
    ('adrenalmnist3d', 'adrenalmnist3d', (1188, 98, 298), True),
  ],
)
def test_real(shared_data, tmp_path, capsys, folder, name, sizes, official):
  home = shared_data(folder)
  prepare.prepare(f'medmnist/{name}', tmp_path, home)
  assert ('note: ' in capsys.readouterr().out) != official
  about = records.info(f'medmnist/{name}', tmp_path)
  assert about['splits'] == dict(
    zip(('train', 'validation', 'test'), sizes, strict=True)
  )


@pytest.mark.parametrize(
  ('change', 'line'),
  [
    (dict(labels=3), r'train_labels has shape \(7, 3\), not \(…, 1\)'),
    (dict(classes=9), r'train_labels holds \d to \d, but labels are .* 0 to 1'),
  ],
)
def test_labels_of_another_set(tmp_path, change, line):
  npz(tmp_path, 'pneumoniamnist', (28, 28), **change)
  with pytest.raises(ValueError, match=line):
    prepare.prepare('medmnist/pneumoniamnist', tmp_path, tmp_path)


def test_more_labels_than_images(tmp_path):
  arrays = npz(tmp_path, 'pneumoniamnist', (28, 28))
  arrays['val_labels'] = np.zeros((5, 1), np.uint8)
  np.savez(tmp_path / 'pneumoniamnist.npz', **arrays)
  with pytest.raises(ValueError, match='val_images has 3 rows for 5 labels'):
    prepare.prepare('medmnist/pneumoniamnist', tmp_path, tmp_path)
