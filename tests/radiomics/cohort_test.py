"""The command: cases into a table, what fails, going on, maps, comparison."""

import dataclasses
import json
import re
import sys

import numpy as np
import pytest

from medjax import files
from medjax.data import formats
from medjax.data.folder import open_splits
from medjax.radiomics import __main__ as command
from medjax.radiomics import cases, cohort, names, settings

AFFINE = np.diag([1.0, 1, 2, 1])
SHAPE = (12, 11, 8)


def run(monkeypatch, *words):
  monkeypatch.setattr(sys, 'argv', ['radiomics', *map(str, words)])
  command.main()


def write(folder, name, array, affine=AFFINE):
  folder.mkdir(exist_ok=True, parents=True)
  formats.write(folder / f'{name}.nii.gz', array, affine)


def make_mask(labels=(1,)):
  mask = np.zeros(SHAPE, np.uint8)
  for label in labels:
    mask[3:9, 2:9, 2:6][label:] = label
  return mask


@pytest.fixture
def study(tmp_path):
  """Five cases: two good ones, and three that fail."""
  rng = np.random.default_rng(0)
  images, masks = tmp_path / 'images', tmp_path / 'masks'
  for name in ('a', 'b', 'empty', 'moved', 'alone'):
    image = rng.normal(100, 60, SHAPE).astype(np.float32)
    write(images, name, image)
  write(masks, 'a_mask', make_mask())
  write(masks, 'b_mask', make_mask((1, 2)))
  write(masks, 'empty_mask', np.zeros(SHAPE, np.uint8))
  far = AFFINE.copy()
  far[0, 3] = 40
  write(masks, 'moved_mask', make_mask(), far)
  return images, masks


def read(path):
  rows, columns = files.read_csv(path, mend='')
  return {row['id']: row for row in rows}, columns


def test_table(study, tmp_path, monkeypatch, capsys):
  out = tmp_path / 'f.csv'
  run(monkeypatch, *study, f'--out={out}')
  rows, columns = read(out)
  assert set(rows) == {'a', 'b:1', 'b:2', 'empty', 'moved', 'alone'}
  said = capsys.readouterr().out
  assert '3 regions, 3 failed' in said
  assert 'the mask is empty' in rows['empty']['error']
  assert 'affines [[' in rows['moved']['error']
  assert 'has no mask of the same name' in rows['alone']['error']
  features = [c for c in columns if c.startswith('original_')]
  assert len(features) == 107
  assert all(rows['a'][c] for c in features)
  assert not rows['empty'][features[0]]
  # What describes it.
  about = json.loads((tmp_path / 'f.json').read_text())
  assert about['features'][features[0]]['ibsi'] == 'RNU0'
  assert set(about['features']) == set(features)
  assert about['settings']['bin_width'] == 25

  # Again: what is there stays, and what failed is tried again.
  write(study[1], 'alone_mask', make_mask())
  run(monkeypatch, *study, f'--out={out}')
  assert '2 of 5 cases already' in capsys.readouterr().out
  again, _ = read(out)
  assert again['a'] == rows['a']
  assert again['alone']['original_glcm_Contrast']
  with pytest.raises(SystemExit):
    run(monkeypatch, *study, f'--out={out}', '--bin-width=10')
  assert 'of other settings or another version' in capsys.readouterr().err

  # Beside itself all is alike.
  run(monkeypatch, 'compare', out, out)
  assert '0 of 107 features differ' in capsys.readouterr().out


def test_a_table_of_cases(study, tmp_path, monkeypatch):
  table = tmp_path / 'cases.csv'
  rows = [
    {
      'path': f'images/{n}.nii.gz',
      'mask': f'masks/{n}_mask.nii.gz',
      'label': i,
      'patient': f'p{i}',
      'organs': f'masks/{n}_mask.nii.gz',
    }
    for i, n in enumerate('ab')
  ]
  files.write_csv(table, rows)
  out = tmp_path / 'f.csv'
  run(monkeypatch, table, f'--out={out}', '--labels=1', '--stability=4')
  found, columns = read(out)
  assert set(found) == {'a', 'b'}
  assert found['b']['patient'] == 'p1'
  assert found['a']['location_Organ'] == '1'
  assert 'location_Depth' in columns
  stable, _ = files.read_csv(tmp_path / 'f_stability.csv', mend='')
  assert len(stable) == 107
  about = json.loads((tmp_path / 'f.json').read_text())
  assert 'icc' in about['features']['original_shape_MeshVolume']


def test_a_table_of_features_is_one_to_train_on(study, tmp_path, monkeypatch):
  names, out = ('a', 'b', 'empty'), tmp_path / 'f.csv'
  files.write_csv(
    tmp_path / 'cases.csv',
    [
      {
        'image': f'images/{n}.nii.gz',
        'mask': f'masks/{n}_mask.nii.gz',
        'label': i % 2,
        'patient': n,
      }
      for i, n in enumerate(names)
    ],
  )
  run(monkeypatch, tmp_path / 'cases.csv', f'--out={out}')
  splits = open_splits(
    tmp_path, table='f.csv', where='error=', fractions=(1, 0, 0), images=False
  )
  cases = splits['train']
  assert [case['id'] for case in cases] == ['a', 'b:1', 'b:2']
  assert [case['label'] for case in cases] == [0, 1, 1]
  known = dict(zip(cases.covariate_names, cases[0]['covariates'], strict=True))
  features = [k for k in known if k.startswith('original_')]
  assert len(features) == 107
  assert known['original_glcm_Imc1'] < 0


def test_files_that_were_changed_are_measured_again(
  study, tmp_path, monkeypatch, capsys
):
  _, masks = study
  table, out = tmp_path / 'cases.csv', tmp_path / 'f.csv'

  def measured(names, **more):
    rows = [
      {'image': f'images/{n}.nii.gz', 'mask': f'masks/{n}_mask.nii.gz', **more}
      for n in names
    ]
    files.write_csv(table, rows)
    capsys.readouterr()
    run(monkeypatch, table, f'--out={out}', '--labels=1')
    return read(out)[0]

  first = measured('ab', label=0)
  write(masks, 'a_mask', make_mask()[::-1])
  second = measured('ab', label=1, site='x')
  assert '1 of 2 cases already' in capsys.readouterr().out
  assert second['a'] != first['a']
  assert second['b'] == first['b'] | {'label': '1', 'site': 'x'}
  third = measured('ab', organs='masks/a_mask.nii.gz')
  assert 'already' not in capsys.readouterr().out
  assert third['b']['location_Organ'] == '1'
  assert 'site' not in third['b']
  with pytest.raises(SystemExit):
    measured('a')
  assert '1 cases that are not among these, as b' in capsys.readouterr().err
  assert set(read(out)[0]) == {'a', 'b'}
  with pytest.raises(SystemExit):
    measured('ab', error='none')
  assert "a column 'error', which is one of" in capsys.readouterr().err


@pytest.mark.parametrize(
  ('option', 'message'),
  [
    ('--processes=0', '--processes=0: needs at least 1'),
    ('--limits=400,-100', 'give LOW,HIGH'),
  ],
)
def test_options_that_cannot_be(
  study, tmp_path, monkeypatch, capsys, option, message
):
  with pytest.raises(SystemExit):
    run(monkeypatch, *study, f'--out={tmp_path / "f.csv"}', option)
  assert message in capsys.readouterr().err


def test_bins_of_a_width_begin_at_a_finite_limit():
  found = settings.find('ibsi_A')
  with pytest.raises(ValueError, match='begin at the lower limit'):
    dataclasses.replace(found, limits=(-np.inf, 400.0))


def test_filters_and_maps(study, tmp_path, monkeypatch):
  images, masks = study
  out = tmp_path / 'f.csv'
  run(
    monkeypatch,
    images / 'a.nii.gz',
    masks / 'a_mask.nii.gz',
    f'--out={out}',
    '--filters=mean:3;log:1.5',
    '--maps=glcm_Contrast',
    '--radius=1',
  )
  rows, columns = read(out)
  assert rows['a']['log-sigma-1-5-mm_glcm_Contrast']
  assert 'mean-3_firstorder_Mean' in columns
  assert 'mean-3_shape_MeshVolume' not in columns
  (path,) = (tmp_path / 'f_maps').iterdir()
  found = formats.read(path)
  mask = formats.read_mask(masks / 'a_mask.nii.gz').array > 0
  assert (found.array[..., 0][mask] >= 0).all()
  np.testing.assert_allclose(found.affine, AFFINE)


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['--settings=ibsi_F'], 'no settings'),
    (['--bin-width=5', '--bins=3'], 'exclude each other'),
    (['--filters=lgo:1'], 'no filter'),
    (['--maps=glcm_Contrats'], "did you mean 'glcm_Contrast'"),
    (['--labels=7'], 'all failed; the first: .*has no label 7; has 1'),
    (['--resample=1,1'], 'needs 3 numbers'),
  ],
)
def test_refused(study, tmp_path, monkeypatch, capsys, words, message):
  images, masks = study
  pair = images / 'a.nii.gz', masks / 'a_mask.nii.gz'
  with pytest.raises(SystemExit):
    run(monkeypatch, *pair, f'--out={tmp_path / "f.csv"}', *words)
  error = capsys.readouterr().err
  assert error.count('\n') == 1
  assert re.search(message, error)


def test_pictures_and_places(tmp_path):
  with pytest.raises(FileNotFoundError, match='no such file'):
    cases.find(tmp_path / 'x', tmp_path)
  with pytest.raises(ValueError, match='holds no image'):
    cases.find(tmp_path, tmp_path)
  write(tmp_path / 'i', 'x', np.zeros(SHAPE, np.float32))
  write(tmp_path / 'm', 'y', make_mask())
  with pytest.raises(ValueError, match='none of its 1 masks'):
    cases.find(tmp_path / 'i', tmp_path / 'm')
  picture = tmp_path / 'p.png'
  formats.write(picture, np.zeros((8, 8), np.uint8), np.eye(3))
  (case,) = cases.find(picture, picture)
  with pytest.raises(ValueError, match='features need a volume'):
    cases.read(case)


def test_every_column_is_described():
  for preset in settings.PRESETS.values():
    about = names.described(preset)
    assert len(about) == len(names.keys(preset))
  job = cohort.Job(settings=settings.PRESETS['ibsi_A'])
  told = cohort.describe(job, list(names.described(job.settings)))
  assert told['features']['original_glcm_Contrast_2D_avg']['ibsi'] == 'ACUI'


def test_codes_are_those_of_dicom():
  concepts = pytest.importorskip('pydicom.sr._concepts_dict').concepts['IBSI']
  theirs = {code for found in concepts.values() for code in found}
  ours = {feature.code for feature in names.known().values()}
  assert theirs <= ours
