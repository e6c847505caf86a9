"""The command, as a user runs it: what it writes, and bad input in one line."""

import csv
import json
import re
import sys

import nibabel as nib
import numpy as np
import phantoms
import pytest

from medjax.data import formats
from medjax.prediction.result import Prediction, Provenance
from medjax.surgery import __main__ as program
from medjax.surgery import measure, scene
from medjax.surgery import path as path_lib


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  folder = tmp_path_factory.mktemp('surgery')
  s = phantoms.body_scene()
  formats.write(folder / 'labels.nii.gz', s.labels, s.affine)
  formats.write(folder / 'ct.nii.gz', s.image, s.affine)
  rows = [{'value': k, 'name': n} for k, n in s.names.items()]
  with (folder / 'names.csv').open('w', newline='') as f:
    writer = csv.DictWriter(f, ['value', 'name'])
    writer.writeheader()
    writer.writerows(rows)
  return folder


def call(monkeypatch, *arguments):
  monkeypatch.setattr(sys, 'argv', ['medjax surgery', *map(str, arguments)])
  program.main()


def fails(monkeypatch, capsys, *arguments):
  """The one line of an error; nothing is left in --out."""
  with pytest.raises(SystemExit) as e:
    call(monkeypatch, *arguments)
  assert e.value.code == 1
  said = capsys.readouterr().err.strip()
  assert said.startswith('medjax: ')
  assert '\n' not in said
  return said


def path(files, out, **options):
  values = {
    'names': files / 'names.csv', 'target': 'tumour', 'avoid': 'vessel,rib_*',
    'clearance': 4, 'length': 70, 'draws': 60, 'out': out, **options,
  }  # fmt: skip
  return (
    'path', files / 'ct.nii.gz', files / 'labels.nii.gz',
    *(f'--{k}={v}' for k, v in values.items() if v is not None),
  )  # fmt: skip


def test_path_writes_all(files, tmp_path, monkeypatch, capsys):
  call(monkeypatch, *path(files, tmp_path, moving='tumour,vessel', gravity='P'))
  said = capsys.readouterr().out
  assert 'For research only' in said
  with (tmp_path / 'paths.csv').open() as f:
    rows = list(csv.DictReader(f))
  assert len(rows) >= 3
  assert all(float(r['clearance_mm']) >= 4 for r in rows)
  assert all(float(r['clearance_rib_1_mm']) >= 4 for r in rows)
  assert all(0 <= float(r['p_safe']) <= 1 for r in rows)
  # The lines are where the table says, in Slicer's LPS.
  lines = sorted(tmp_path.glob('path_*.mrk.json'))
  assert len(lines) == len(rows)
  (markup,) = json.loads(lines[0].read_text())['markups']
  assert markup['type'] == 'Line'
  assert markup['coordinateSystem'] == 'LPS'
  entry = np.array(markup['controlPoints'][0]['position']) * (-1, -1, 1)
  np.testing.assert_allclose(
    entry, [float(rows[0][f'entry_{a}']) for a in 'xyz'], atol=2e-3
  )
  # The map of entries is on the grid, and the first entry is on it.
  entries = nib.load(tmp_path / 'entries.nii.gz')
  labels = nib.load(files / 'labels.nii.gz')
  np.testing.assert_allclose(entries.affine, labels.affine)
  values = np.asarray(entries.dataobj)
  index = np.linalg.solve(entries.affine, np.r_[entry, 1.0])[:3]
  at = tuple(slice(int(i) - 2, int(i) + 4) for i in np.rint(index))
  assert values[at].max() > 0
  page = (tmp_path / 'plan.html').read_text()
  assert 'Research only' in page
  assert page.count('<img') == 2
  plan = json.loads((tmp_path / 'plan.json').read_text())
  assert 'Research only' in plan['research_only']
  assert plan['targets'][0]['paths_safe'] > 0


def test_unreachable_is_an_empty_table_and_a_reason(
  files, tmp_path, monkeypatch, capsys
):
  (tmp_path / 'path_09.mrk.json').write_text('of before')
  call(monkeypatch, *path(files, tmp_path, clearance=25))
  said = capsys.readouterr().out
  assert re.search('no path; what binds is clearance: .*nearest is', said)
  lines = (tmp_path / 'paths.csv').read_text().splitlines()
  assert len(lines) == 1
  assert 'clearance_mm' in lines[0]
  assert not list(tmp_path.glob('path_*.mrk.json'))
  assert 'What binds: clearance' in (tmp_path / 'plan.html').read_text()


def test_curved_paths_and_a_lumen(files, tmp_path, monkeypatch, capsys):
  call(monkeypatch, *path(files, tmp_path / 'a', bend=60))
  with (tmp_path / 'a/paths.csv').open() as f:
    rows = list(csv.DictReader(f))
  assert rows
  assert all(float(r['bend_mm']) >= 60 for r in rows)
  assert all(float(r['clearance_mm']) >= 4 for r in rows)
  markup = json.loads((tmp_path / 'a/path_01.mrk.json').read_text())
  assert markup['markups'][0]['type'] == 'Curve'
  s = phantoms.body_scene()
  ends = [
    ','.join(map(str, s.to_ras([x, 82.0, 50.0]).round(2))) for x in (25.0, 95.0)
  ]
  call(
    monkeypatch,
    *path(
      files, tmp_path / 'b', lumen='vessel', entry=ends[0], target=ends[1],
      avoid=None,
    ),
  )  # fmt: skip
  assert re.search(r'vessel: (69|7\d) mm', capsys.readouterr().out)
  with (tmp_path / 'b/lumen.csv').open() as f:
    assert len(list(csv.DictReader(f))) > 60


def test_measure(files, tmp_path, monkeypatch, capsys):
  s = phantoms.body_scene()
  labels = s.labels.copy()
  labels[phantoms.ball(s.shape, s.spacing, np.array([60.0, 60, 50]), 12)] = 1
  formats.write(tmp_path / 'now.nii.gz', labels, s.affine)
  call(
    monkeypatch, 'measure', tmp_path / 'now.nii.gz', '--target=tumour',
    f'--names={files / "names.csv"}', f'--before={files / "labels.nii.gz"}',
    f'--out={tmp_path / "m"}',
  )  # fmt: skip
  assert 'recist: progressive disease' in capsys.readouterr().out
  found = json.loads((tmp_path / 'm/measure.json').read_text())
  sizes = {row['structure']: row for row in found['sizes']}
  assert sizes['tumour']['volume_ml'] == pytest.approx(7.24, rel=0.03)
  assert sizes['tumour']['longest_axial_mm'] == pytest.approx(24, abs=2.9)
  near = {row['structure']: row for row in found['distances']}
  assert near['vessel']['target'] == 'tumour'
  # The walls are 22 - 4 - 12 mm apart, their voxels half a voxel less each.
  assert near['vessel']['distance_mm'] == pytest.approx(5, abs=1.2)
  assert near['vessel']['at_least_mm'] <= near['vessel']['distance_mm']
  (position,) = found['positions']
  np.testing.assert_allclose(
    position['centre'], s.to_ras([60, 60, 50]), atol=0.6
  )
  assert position['organ'] is None  # a vessel near it is none
  assert 'Research only' in (tmp_path / 'm/measure.html').read_text()


@pytest.mark.parametrize(
  ('begins', 'organ'), [(40, 'liver'), (76, 'liver'), (80, None)]
)
def test_the_organ_holds_a_tenth_of_what_is_around(begins, organ):
  s = phantoms.body_scene()
  labels = np.zeros(s.shape, np.uint8)
  labels[phantoms.grid(s.shape, s.spacing)[..., 0] > begins] = 2
  middle = np.array([60.0, 60, 50])  # its surface reaches to 80 mm
  labels[phantoms.ball(s.shape, s.spacing, middle, 20.0)] = 1
  found = scene.make(labels, s.affine, {1: 'tumour', 2: 'liver'})
  (position,) = measure.measure(found, target='tumour').positions
  assert position['organ'] == organ
  assert (position['share'] or 0) == 0 or position['share'] >= 0.1


@pytest.mark.parametrize('beside', [True, False])
def test_each_lesion_has_its_own_distances(beside):
  labels = np.zeros((40, 20, 20), np.uint8)
  labels[2:6, 8:12, 8:12], labels[30:34, 8:12, 8:12] = 1, 2
  aorta = np.zeros_like(labels)
  aorta[36:38] = 3
  affine, names = np.eye(4), {1: 'tumour_1', 2: 'tumour_2', 3: 'aorta'}
  together = scene.make(labels + aorta, affine, names)
  organs = scene.make(aorta, affine, names) if beside else None
  found = measure.measure(together, target='tumour_*', organs=organs)
  away = {d['target']: d['distance_mm'] for d in found.distances}
  assert away == {'tumour_1': 30, 'tumour_2': 2}
  assert [p['centre'][0] for p in found.positions] == [3.5, 31.5]


def test_a_tumour_that_is_gone(files, tmp_path, monkeypatch, capsys):
  s = phantoms.body_scene()
  for name, labels in (
    ('without', np.where(s.labels == 1, 0, s.labels)),
    ('empty', np.zeros_like(s.labels)),
  ):
    formats.write(tmp_path / f'{name}.nii.gz', labels, s.affine)
    call(
      monkeypatch, 'measure', tmp_path / f'{name}.nii.gz',
      '--target=tumour', f'--names={files / "names.csv"}',
      f'--before={files / "labels.nii.gz"}', f'--out={tmp_path / name}',
    )  # fmt: skip
    assert 'recist: complete response' in capsys.readouterr().out
    assert (tmp_path / name / 'measure.html').exists()
  with pytest.raises(SystemExit):
    call(
      monkeypatch, 'measure', tmp_path / 'empty.nii.gz', '--target=tumor',
      f'--names={files / "names.csv"}', f'--before={files / "labels.nii.gz"}',
      f'--out={tmp_path / "no"}',
    )  # fmt: skip
  assert "'tumor' is none of its structures" in capsys.readouterr().err


def test_voxels_of_no_size_are_refused(tmp_path):
  np.save(tmp_path / 'x.npy', np.ones((9, 9, 9), np.uint8))
  with pytest.raises(ValueError, match='does not say how large a voxel is'):
    scene.read(tmp_path / 'x.npy')


def test_what_never_wins_may_still_be_there():
  labels = np.zeros((8, 8, 8), np.uint8)
  labels[0], labels[7] = 1, 2
  maps = np.zeros((8, 8, 8, 5), np.float32)
  maps[4, ..., 3], maps[..., 4] = 0.4, 1e-6
  maps[..., 0] = 1 - maps.sum(-1)
  names = {1: 'tumour', 2: 'vessel_a', 3: 'vessel_b', 4: 'vessel_c'}
  s = scene.make(labels, np.eye(4), names, probabilities=maps)
  assert [*s.names.values()] == ['tumour', 'vessel_a']
  ask = path_lib.Ask(targets=('tumour',), avoid=('vessel_*',))
  assert path_lib._avoided(s, ask, ['tumour']) == ('vessel_a', 'vessel_b')
  avoided = s.union(['vessel_b'], confidence=ask.confidence)
  np.testing.assert_array_equal(avoided, maps[..., 3] > 0)


def test_probabilities_of_regions_are_none_of_labels():
  """Whole and core overlap; channel 1 is the core, and label 1 the rest."""
  labels = np.ones((8, 8, 8), np.uint8)
  maps = np.stack([labels * 0.9, labels * 0.1], -1)
  maps[0] = 0.9
  with pytest.raises(ValueError, match='do not add up to 1'):
    scene.make(labels, np.eye(4), {1: 'liver'}, probabilities=maps)


def test_ablate_and_resect(files, tmp_path, monkeypatch, capsys):
  common = (files / 'labels.nii.gz', f'--names={files / "names.csv"}')
  call(
    monkeypatch, 'ablate', *common, '--target=tumour', '--radii=18,18,18',
    f'--out={tmp_path / "a"}',
  )  # fmt: skip
  assert '100.0% of tumour covered' in capsys.readouterr().out
  zone = nib.load(tmp_path / 'a/zone.nii.gz')
  assert np.asarray(zone.dataobj).sum() > 0
  call(
    monkeypatch, 'resect', *common, '--target=tumour', '--organ=rib_1',
    '--margin=3', f'--out={tmp_path / "r"}',
  )  # fmt: skip
  assert 'of rib_1 100.0% stays' in capsys.readouterr().out.replace(
    '100.0% of rib_1 stays', 'of rib_1 100.0% stays'
  )
  assert 'Research only' in (tmp_path / 'r/resect.html').read_text()


@pytest.mark.parametrize(
  ('options', 'said'),
  [
    ({'target': '500,0,0'}, 'the target 500,0,0 lies outside of .*labels'),
    ({'target': '-58,-38,12'}, 'outside of the body in the image'),
    ({'target': 'tumor'}, "target 'tumor' is none of its structures; did you"),
    ({'avoid': None}, 'nothing to avoid: --avoid names'),
    ({'avoid': 'veins_*'}, "avoid 'veins_\\*' is none of its structures"),
    ({'avoid': 'tumour'}, "'tumour' is the target"),
    ({'moving': 'body', 'gravity': 'X'}, "gravity 'X' is no side"),
    (
      {'entry': 'scalp'},
      "'scalp' is none of its structures; known: tumour, vessel, rib_1$",
    ),
  ],
)
def test_bad_requests(files, tmp_path, monkeypatch, capsys, options, said):
  out = tmp_path / 'out'
  line = fails(monkeypatch, capsys, *path(files, out, **options))
  assert re.search(said, line), line
  assert not out.exists()


def test_bad_labels(files, tmp_path, monkeypatch, capsys):
  s = phantoms.body_scene()
  mirrored = s.affine @ np.diag([-1.0, 1, 1, 1])
  cases = {
    'mirrored': (s.labels, mirrored, 'left-handed .LAS.'),
    'flat': (s.labels[:, :, 0], s.affine, 'no volume'),
    'empty': (s.labels * 0, s.affine, 'holds no label but 0'),
    'moved': (s.labels, s.affine + np.eye(4, k=3) * 5, 'on another grid'),
    'smaller': (s.labels[:-1], s.affine, 'on another grid'),
    'sheared': (s.labels, s.affine + 0.5 * np.eye(4, k=1), 'right angles'),
  }
  for name, (labels, affine, said) in cases.items():
    if name == 'sheared':
      affine[0, 1] = 0.5
    file = tmp_path / f'{name}.nii.gz'
    nib.save(nib.Nifti1Image(labels, affine), file)
    line = fails(
      monkeypatch, capsys, 'path', files / 'ct.nii.gz', file,
      '--target=label_1', '--avoid=label_2', f'--out={tmp_path / "out"}',
    )  # fmt: skip
    assert re.search(said, line), line
    assert name in line
  assert not (tmp_path / 'out').exists()


def test_a_prediction_is_a_scene():
  s = phantoms.body_scene()
  made = Provenance('UNet', (1,), 'digest', '0')
  prediction = Prediction('case', made, labels=s.labels)
  found = scene.of_prediction(
    prediction, s.affine, ('background', 'tumour', 'vessel', 'rib_1')
  )
  assert found.names == s.names
  rows = measure.measure(found, target='tumour').sizes
  assert {r['structure'] for r in rows} == {*s.names.values()}
  with pytest.raises(ValueError, match='has no labels'):
    scene.of_prediction(Prediction('case', made), s.affine)


def test_probabilities_are_a_margin(files, tmp_path, monkeypatch, capsys):
  s = phantoms.body_scene()
  p = np.stack([s.labels == k for k in range(4)], -1).astype(np.float32)
  near = phantoms.ball(s.shape, s.spacing, np.array([60.0, 60, 50]), 10.0)
  p[near & (s.labels == 0)] = [0.7, 0.3, 0, 0]
  formats.write(tmp_path / 'p.nii.gz', p, s.affine)
  call(
    monkeypatch, 'measure', files / 'labels.nii.gz',
    f'--probabilities={tmp_path / "p.nii.gz"}', f'--out={tmp_path / "m"}',
  )  # fmt: skip
  first = json.loads((tmp_path / 'm/measure.json').read_text())['sizes'][0]
  assert first['volume_low_ml'] == first['volume_ml'] < first['volume_high_ml']
  formats.write(tmp_path / 'few.nii.gz', p[..., :2], s.affine)
  line = fails(
    monkeypatch, capsys, 'measure', files / 'labels.nii.gz',
    f'--probabilities={tmp_path / "few.nii.gz"}', f'--out={tmp_path / "n"}',
  )  # fmt: skip
  assert 'has 2 channels for labels up to 3' in line


@pytest.mark.parametrize(
  'options',
  [{'count': 0}, {'length': 0}, {'confidence': 1}, {'target': '1,2'}],
)
def test_bad_numbers(files, tmp_path, monkeypatch, capsys, options):
  with pytest.raises(SystemExit) as e:
    call(monkeypatch, *path(files, tmp_path / 'out', **options))
  assert e.value.code == 2
  assert f'argument --{next(iter(options))}' in capsys.readouterr().err


@pytest.mark.parametrize('verb', ['measure', 'path', 'ablate', 'resect'])
def test_every_verb_has_help_with_an_example(verb, monkeypatch, capsys):
  with pytest.raises(SystemExit) as e:
    call(monkeypatch, verb, '--help')
  assert e.value.code == 0
  said = capsys.readouterr().out
  assert f'medjax surgery {verb}' in said
  assert 'research only' in said
  assert '--debug' in said
