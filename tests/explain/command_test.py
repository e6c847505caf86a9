"""The command on small runs: what it writes, and what it says of bad input."""

import csv
import json
import signal
import sys

import explain_runs as workdirs
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medjax import load
from medjax.explain import __main__ as command
from medjax.explain import methods


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
  root = workdirs.write_pictures(tmp_path_factory.mktemp('pictures'))
  config = workdirs.config_of(root)
  return root, workdirs.trained(config, tmp_path_factory.mktemp('run'))


@pytest.fixture(scope='module')
def bottleneck(tmp_path_factory):
  root = workdirs.write_pictures(tmp_path_factory.mktemp('concepts'))
  return root, workdirs.trained(
    workdirs.bottleneck(root), tmp_path_factory.mktemp('run')
  )


@pytest.fixture(scope='module')
def segmenter(tmp_path_factory):
  root = workdirs.write_volumes(tmp_path_factory.mktemp('volumes'))
  return root, workdirs.trained(
    workdirs.segmenter(root), tmp_path_factory.mktemp('run')
  )


@pytest.fixture
def medjax(monkeypatch, capsys):
  """Runs `medjax explain` and returns (exit code, what it said)."""

  def run(*words):
    monkeypatch.setattr(sys, 'argv', ['medjax explain', *map(str, words)])
    code = 0
    try:
      command.main()
    except SystemExit as e:
      code = e.code
    out, err = capsys.readouterr()
    return code, out + err

  return run


def lines(path):
  with path.open() as f:
    return list(csv.DictReader(f))


QUICK = ('--samples=60', '--segments=9', '--sanity=1')


def test_pictures_and_their_tests(classifier, medjax, tmp_path):
  root, run = classifier
  code, said = medjax(
    *sorted((root / 'images').glob('0[0-7].png')),
    f'--workdir={run}', f'--out={tmp_path}',
    '--methods=gradcam,ig,occlusion,guided', '--target=1', *QUICK,
    f'--masks={root / "masks"}', '--counterfactual', '--nearest=2',
    '--concepts=size,noise',
  )  # fmt: skip
  assert code == 0, said
  rows = lines(tmp_path / 'explain.csv')
  assert len(rows) == 8 * 4
  assert {row['class'] for row in rows} == {'1'}
  # The model was taught to see the blob, and occlusion sees that.
  mine = [r for r in rows if r['method'] == 'occlusion' and int(r['id']) % 2]
  assert np.mean([float(r['pointing']) for r in mine]) > 0.7
  down, random = (
    np.mean([float(r[k]) for r in mine])
    for k in ('deletion', 'deletion_random')
  )
  assert down < random
  told = json.loads((tmp_path / 'explain.json').read_text())
  methods = {m['method']: m for m in told['methods']}
  assert methods['occlusion']['deletion_p'] < 0.05
  assert 'better than at random' in methods['occlusion']['verdict']
  assert -1 <= methods['ig']['top'] <= 1
  concepts = {c['concept']: c for c in told['concepts']['rows']}
  assert concepts['size']['p'] < 0.05
  assert concepts['size']['r'] > 0.8 > concepts['noise']['r']
  assert all(row['flipped'] for row in told['counterfactuals'])
  assert len(told['nearest']['05']) == 2
  assert '05' not in [row[0] for row in told['nearest']['05']]
  page = (tmp_path / 'explain.html').read_text()
  for text in ('Grad-CAM', 'TCAV', 'counterfactual of the model', 'marker'):
    assert (text in page) == (text != 'marker')
  with np.load(tmp_path / 'maps/05.npz') as maps:
    assert {*maps} == {'gradcam', 'ig', 'occlusion', 'guided'}
    assert maps['ig'].shape == (20, 20)
  with Image.open(tmp_path / 'maps/05_ig.png') as picture:
    assert picture.size == (20, 20)


def test_a_risk_is_where_the_blob_is(medjax, tmp_path):
  root = workdirs.write_pictures(tmp_path / 'data')
  run = workdirs.trained(workdirs.survival(root), tmp_path / 'run')
  code, said = medjax(
    *sorted((root / 'images').glob('0[1357].png')),
    f'--workdir={run}', f'--out={tmp_path / "out"}',
    '--methods=occlusion,ig', *QUICK, f'--masks={root / "masks"}',
  )  # fmt: skip
  assert code == 0, said
  rows = lines(tmp_path / 'out/explain.csv')
  assert {row['class'] for row in rows} == {'risk of event'}
  mine = [r for r in rows if r['method'] == 'occlusion']
  assert len(mine) == 4
  assert np.mean([float(r['pointing']) for r in mine]) > 0.7
  page = (tmp_path / 'out/explain.html').read_text()
  assert 'risk of event' in page
  assert 'probability' not in page
  code, said = medjax(
    root / 'images/01.png', f'--workdir={run}', f'--out={tmp_path / "no"}',
    '--methods=ig', '--target=1',
  )  # fmt: skip
  assert code
  assert 'this model has one output, risk of event' in said


def test_a_planted_marker_is_looked_for(classifier, medjax, tmp_path):
  root, run = classifier
  code, said = medjax(
    root / 'images/01.png', f'--workdir={run}', f'--out={tmp_path}',
    '--methods=ig,occlusion', '--planted', '--sanity=0',
  )  # fmt: skip
  assert code == 0, said
  told = json.loads((tmp_path / 'explain.json').read_text())
  for method in told['methods']:
    assert method['learnt'] >= 0.95
    assert 0.4 < method['planted'] <= 1, method
    assert 'planted marker' in method['verdict']


def test_a_segmenter_by_its_region(segmenter, medjax, tmp_path):
  root, run = segmenter
  code, said = medjax(
    root / 'image/v0.nii.gz', f'--workdir={run}', f'--out={tmp_path}',
    '--methods=gradcam,gradient,shap', *QUICK,
  )  # fmt: skip
  assert code == 0, said
  source = nib.load(root / 'image/v0.nii.gz')
  mask = nib.load(root / 'mask/v0.nii.gz').get_fdata() > 0
  for name in ('gradcam', 'gradient', 'shap'):
    found = nib.load(tmp_path / f'maps/v0_{name}.nii.gz')
    np.testing.assert_allclose(found.affine, source.affine)
    values = found.get_fdata()
    assert values.shape == source.shape
    assert np.isfinite(values).all()
    assert np.any(values)
  size = np.abs(nib.load(tmp_path / 'maps/v0_gradient.nii.gz').get_fdata())
  assert size[mask].mean() > 2 * size[~mask].mean()
  assert 'in a window of 8×8×8' in (tmp_path / 'explain.html').read_text()


def test_what_a_bottleneck_would_answer(bottleneck, medjax, tmp_path):
  root, run = bottleneck
  code, said = medjax(
    root / 'images/01.png', root / 'images/03.png', f'--workdir={run}',
    f'--out={tmp_path}', '--methods=gradcam', '--sanity=0',
    '--do=size=0,noise=0', '--target=1',
  )  # fmt: skip
  assert code == 0, said
  told = json.loads((tmp_path / 'explain.json').read_text())
  kernel = np.asarray(load(run).variables[0]['params']['head']['kernel'])
  odds = lambda p: np.log(p / (1 - p))
  for answer, weight in zip(
    told['interventions']['01'], kernel[:, 1] - kernel[:, 0], strict=True
  ):
    # The head is linear: so are the log-odds.
    moved = weight * (answer['value'] - answer['found'])
    rise = odds(answer['after']) - odds(answer['before'])
    assert rise == pytest.approx(moved, abs=1e-4)
    if answer['needed'] is not None:
      flips = weight * (answer['needed'] - answer['found'])
      assert odds(answer['before']) + flips == pytest.approx(0, abs=1e-3)
  page = (tmp_path / 'explain.html').read_text()
  assert 'read off these concepts alone' in page
  assert told['assumption']


def test_of_an_image_and_a_table_rows_are_explained(medjax, tmp_path):
  root = workdirs.write_pictures(tmp_path / 'data')
  run = workdirs.trained(workdirs.fusion(root), tmp_path / 'run')
  rows = (root / 'cases.csv').read_text().splitlines()
  few = root / 'few.csv'
  few.write_text('\n'.join(rows[:4]) + '\n')
  code, said = medjax(
    few, f'--workdir={run}', f'--out={tmp_path / "out"}',
    '--methods=occlusion', '--sanity=0', '--target=1',
  )  # fmt: skip
  assert code == 0, said
  values = {r['id']: r['value'] for r in lines(tmp_path / 'out/explain.csv')}
  assert len(values) == 3
  page = (tmp_path / 'out/explain.html').read_text()
  assert 'covariates as in the table' in page
  # Of a file alone the model knows less, and the page says so.
  code, said = medjax(
    root / 'images/01.png', f'--workdir={run}', f'--out={tmp_path / "one"}',
    '--methods=occlusion', '--sanity=0', '--target=1',
  )  # fmt: skip
  assert code == 0, said
  assert 'without covariates' in (tmp_path / 'one/explain.html').read_text()
  (alone,) = lines(tmp_path / 'one/explain.csv')
  assert alone['value'] != values['1']


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (('--methods=gradcm',), "no 'gradcm'; there are gradcam, "),
    (('--target=7',), "class '7' is out of range: this model has 2 outputs"),
    (('--layer=stage_9',), "'stage_9' is not there; those that give one are"),
    (('--layer=head',), "'head' gives no map"),
    (('--methods=rollout',), 'this model has none: a ViT'),
    (('--baseline=nothing',), '--baseline=nothing is neither a file nor one'),
    (('--do=size=1',), 'Classification has none: train a concept bottleneck'),
    (('--do=size',), 'is not CONCEPT=NUMBER'),
    (('--concepts=colour', '--methods=gradcam'), "has no column 'colour'"),
    (('--masks=nowhere',), 'nowhere: no such file or folder'),
    (('--batch=0',), '--batch=0 is too few'),
  ],
)
def test_bad_input_is_one_line(classifier, medjax, tmp_path, words, message):
  root, run = classifier
  code, said = medjax(
    root / 'images/01.png', f'--workdir={run}', f'--out={tmp_path / "out"}',
    *QUICK, *words,
  )  # fmt: skip
  assert code == 1
  assert message in said
  assert 'Traceback' not in said
  assert not (tmp_path / 'out/explain.html').exists()


def test_one_bad_image_does_not_lose_the_others(classifier, medjax, tmp_path):
  root, run = classifier
  flat = tmp_path / 'in/flat.png'
  flat.parent.mkdir()
  Image.fromarray(np.full((20, 20), 80, np.uint8)).save(flat)
  (tmp_path / 'in/broken.png').write_bytes(b'\x89PNG')
  code, said = medjax(
    tmp_path / 'in', root / 'images/01.png', f'--workdir={run}',
    f'--out={tmp_path / "out"}', '--methods=gradient', *QUICK,
  )  # fmt: skip
  assert code == 1
  assert 'flat.png: the prepared image is constant' in said
  assert '2 explanations failed' in said
  (row,) = lines(tmp_path / 'out/explain.csv')
  assert row['id'] == '01'
  assert 'constant' in (tmp_path / 'out/explain.html').read_text()


def test_a_gradient_that_is_not_finite(
  classifier, medjax, tmp_path, monkeypatch
):
  root, run = classifier
  found = methods.run

  def broken(*args):
    maps, notes = found(*args)
    maps = np.array(maps)
    maps[0, 0, 0] = np.nan
    return maps, notes

  monkeypatch.setattr(methods, 'run', broken)
  code, said = medjax(
    root / 'images/00.png', root / 'images/01.png', f'--workdir={run}',
    f'--out={tmp_path}', '--methods=gradient', *QUICK, '--sanity=0',
  )  # fmt: skip
  assert code == 1
  assert '00.png: gradient is NaN or infinite' in said
  assert '1 explanation failed' in said
  ids = [r['id'] for r in lines(tmp_path / 'explain.csv')]
  assert ids == ['01']


def test_masks_of_other_names_are_told(classifier, medjax, tmp_path):
  root, run = classifier
  (tmp_path / 'masks').mkdir()
  mask = (root / 'masks/01.png').read_bytes()
  (tmp_path / 'masks/patient_1.png').write_bytes(mask)
  code, said = medjax(
    root / 'images/01.png', f'--workdir={run}', f'--out={tmp_path / "out"}',
    '--methods=gradient', '--sanity=0', f'--masks={tmp_path / "masks"}',
  )  # fmt: skip
  assert code == 1
  assert 'has no mask that is called as an image is, 01, say' in said
  assert len(lines(tmp_path / 'out/explain.csv')) == 1


def test_a_late_error_loses_no_map(classifier, medjax, tmp_path):
  root, run = classifier
  table = tmp_path / 'others.csv'
  table.write_text('id,size\nnobody,1\n')
  code, said = medjax(
    root / 'images/01.png', f'--workdir={run}', f'--out={tmp_path / "out"}',
    '--methods=gradcam', '--sanity=0', '--nearest=1',
    f'--concepts={table}:size',
  )  # fmt: skip
  assert code == 1
  assert 'no column has the ids of the cases' in said
  assert len(lines(tmp_path / 'out/explain.csv')) == 1
  told = json.loads((tmp_path / 'out/explain.json').read_text())
  assert len(told['nearest']['01']) == 1
  assert told['concepts'] is None


def test_a_baseline_of_another_shape(classifier, medjax, tmp_path):
  root, run = classifier
  other = tmp_path / 'other.png'
  Image.fromarray(np.zeros((10, 10), np.uint8)).save(other)
  code, said = medjax(
    root / 'images/01.png', f'--workdir={run}', f'--out={tmp_path / "out"}',
    '--methods=ig', f'--baseline={other}', *QUICK,
  )  # fmt: skip
  assert code == 1
  assert 'other.png is of 10 × 10, and all that the model' in said


def test_told_to_stop_it_writes_what_is_there(
  classifier, medjax, tmp_path, monkeypatch
):
  """After the first of four maps; the page and the table have it."""
  root, run = classifier
  asked, made = methods.run, []

  def told_during(name, *rest):
    made.append(name)
    signal.raise_signal(signal.SIGTERM)
    return asked(name, *rest)

  monkeypatch.setattr(methods, 'run', told_during)
  code, said = medjax(
    root / 'images' / '00.png', root / 'images' / '01.png', '--batch=1',
    f'--workdir={run}', f'--out={tmp_path}', '--methods=gradient,ig', *QUICK,
  )  # fmt: skip
  assert (code, made) == (128 + signal.SIGTERM, ['gradient'])
  assert '1 of 4 maps are on the page' in said
  (row,) = lines(tmp_path / 'explain.csv')
  assert (row['id'], row['method']) == ('00', 'gradient')
  assert 'stopped after 1 of 4 maps' in (tmp_path / 'explain.html').read_text()
