import csv
import json
import tarfile

import nibabel as nib
import numpy as np
import pytest

from medjax import prepare
from medjax.data import download, records


@pytest.fixture(scope='module')
def task(tmp_path_factory):
  """Six tiny cases laid out as the archive is, with macOS litter."""
  folder = tmp_path_factory.mktemp('msd') / 'Task04_Hippocampus'
  for part in ('imagesTr', 'labelsTr'):
    (folder / part).mkdir(parents=True)
  rng = np.random.default_rng(0)
  for i in range(6):
    name = f'hippocampus_{i:03d}.nii.gz'
    image = rng.normal(size=(4, 5, 6)).astype(np.float32)
    mask = rng.integers(0, 3, (4, 5, 6), np.uint8)
    nib.save(nib.Nifti1Image(image, np.eye(4)), folder / 'imagesTr' / name)
    nib.save(nib.Nifti1Image(mask, np.eye(4)), folder / 'labelsTr' / name)
  (folder / 'imagesTr' / '._hippocampus_000.nii.gz').write_bytes(b'litter')
  return folder


def test_manual(task, tmp_path):
  prepare.prepare('msd/hippocampus', tmp_path, task)
  cases = records.open_split(
    'msd/hippocampus', 'fold0+fold1+fold2+fold3+fold4', tmp_path
  )
  assert len(cases) == 6
  assert {c['id'] for c in cases} == {f'hippocampus_{i:03d}' for i in range(6)}
  assert cases.class_names == ('background', 'anterior', 'posterior')
  case = cases[0]
  assert case['image'].shape == (4, 5, 6, 1)
  assert case['image'].dtype == np.float32
  stored = nib.load(task / 'labelsTr' / f'{case["id"]}.nii.gz')
  np.testing.assert_array_equal(case['mask'], np.asarray(stored.dataobj))


def test_download(task, tmp_path, monkeypatch):
  archive = tmp_path / 'Task04_Hippocampus.tar'
  with tarfile.open(archive, 'w') as f:
    f.add(task, task.name)
  asked = []

  def fetch(url, *, md5, folder):
    asked.append((url, md5))
    return archive

  monkeypatch.setattr(download, 'fetch', fetch)
  prepare.prepare('msd/hippocampus', tmp_path / 'data')
  assert len(records.open_split('msd/hippocampus', 'fold0', tmp_path / 'data'))
  assert asked == [
    (
      'https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar',
      '9d24dba78a72977dbd1d2e110310f31b',
    )
  ]


def test_an_archive_at_hand_and_its_own_names(task, tmp_path):
  (task / 'dataset.json').write_text(
    json.dumps(
      {
        'labels': {'0': 'background', '1': 'Anterior', '2': 'Tail'},
        'modality': {'0': 'MRI'},
      }
    )
  )
  with tarfile.open(tmp_path / 'Task04_Hippocampus.tar', 'w') as f:
    f.add(task, task.name)
  (task / 'dataset.json').unlink()
  prepare.prepare('msd/hippocampus', tmp_path / 'data', tmp_path)
  cases = records.open_split('msd/hippocampus', 'fold0', tmp_path / 'data')
  assert cases.class_names == ('background', 'anterior', 'tail')


def write_case(folder, name, image, mask):
  affine = np.diag([0.8, 0.8, 5.0, 1.0])
  for part, array in (('imagesTr', image), ('labelsTr', mask)):
    (folder / part).mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), folder / part / f'{name}.nii.gz')


@pytest.mark.parametrize(
  ('name', 'folder', 'channels', 'dtype'),
  [
    ('brain_tumour', 'Task01_BrainTumour', 4, np.float32),
    ('liver', 'Task03_Liver', 1, np.int16),
    ('prostate', 'Task05_Prostate', 2, np.float32),
  ],
)
def test_channels_and_hounsfield_units(
  tmp_path, name, folder, channels, dtype, capsys
):
  rng = np.random.default_rng(0)
  images = {}
  for i in range(5):
    shape = (5, 4, 3, channels) if channels > 1 else (5, 4, 3)
    image = rng.integers(-1024, 2000, shape).astype(np.float64)
    images[f'case_{i}'] = image
    mask = rng.integers(0, 3, (5, 4, 3), np.uint8)
    write_case(tmp_path / folder, f'case_{i}', image, mask)
  prepare.prepare(f'msd/{name}', tmp_path / 'data', tmp_path)
  case = records.open_split(f'msd/{name}', 'fold1', tmp_path / 'data')[0]
  expected = images[case['id']].reshape(5, 4, 3, channels)
  assert case['image'].dtype == dtype
  np.testing.assert_array_equal(case['image'], expected)
  np.testing.assert_allclose(case['spacing'], (0.8, 0.8, 5.0))
  assert '5 labelled cases' in capsys.readouterr().out


def test_another_task(task, tmp_path):
  (task / 'dataset.json').write_text(
    json.dumps({'labels': {'0': 'background'}, 'modality': {'0': 'CT'}})
  )
  with pytest.raises(ValueError, match='declares 1 labels and 1 channels'):
    prepare.prepare('msd/hippocampus', tmp_path, task)
  (task / 'dataset.json').unlink()
  with pytest.raises(ValueError, match='has 1 channels; Task05_Prostate has 2'):
    prepare.prepare('msd/prostate', tmp_path, task)


def test_missing_labels(task, tmp_path):
  folder = tmp_path / 'broken'
  for part in ('imagesTr', 'labelsTr'):
    (folder / part).mkdir(parents=True)
    for file in sorted((task / part).glob('h*.nii.gz'))[part == 'labelsTr' :]:
      (folder / part / file.name).symlink_to(file)
  with pytest.raises(FileNotFoundError, match=r'hippocampus_000\.nii\.gz'):
    prepare.prepare('msd/hippocampus', tmp_path, folder)


def test_real_folds(shared_data, tmp_path):
  home = shared_data('msd_hippocampus')
  prepare.prepare('msd/hippocampus', tmp_path, home)
  about = records.info('msd/hippocampus', tmp_path)
  assert about['splits'] == {f'fold{f}': 52 for f in range(5)}
  with (home / 'nnunet_percase_dice.csv').open() as f:
    rows = list(csv.DictReader(f))
  for fold in range(5):
    expected = {r['case'] for r in rows if int(r['fold']) == fold}
    cases = records.open_split('msd/hippocampus', f'fold{fold}', tmp_path)
    found = {c['id'] for c in cases}
    assert found == expected
  counts = {
    r['case']: (int(r['n_ref_ant']), int(r['n_ref_post'])) for r in rows
  }
  for case in cases:
    assert np.sum(case['mask'] == 1) == counts[case['id']][0]
    assert np.sum(case['mask'] == 2) == counts[case['id']][1]
