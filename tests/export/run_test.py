"""run.py where medjax is not: files in, masks and numbers out."""

import pathlib
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from drawn_runs import CLASSES, MASKS, RESNET, SCALE, UNET
from PIL import Image

from medjax import files
from medjax.export import artefact
from medjax.predict import predict

pytest.importorskip('onnxruntime')
SHIPPED = artefact.SHIPPED
# As where neither is installed.
ALONE = """
import runpy, sys
for name in ('medjax', 'flax', 'optax', 'orbax', 'clu') + {more!r}:
  sys.modules[name] = None
sys.argv = sys.argv[1:]
sys.path.insert(0, '')
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def alone(folder, *words, without=(), fails=False):
  done = subprocess.run(
    [
      sys.executable,
      '-c',
      ALONE.format(more=tuple(without)),
      str(folder / 'run.py'),
      *map(str, words),
    ],
    capture_output=True,
    text=True,
    cwd=folder,
  )
  assert bool(done.returncode) == fails, done.stderr
  return done


@pytest.fixture
def volume(tmp_path):
  """A NIfTI file that lies as an image of a patient may."""
  rng = np.random.default_rng(0)
  affine = np.array(
    [[-0.8, 0, 0, 5], [0, 0, 2.0, -7], [0, 1.1, 0, 3], [0, 0, 0, 1.0]]
  )
  array = rng.normal(100, 30, (15, 21, 9)).astype(np.float32)
  path = tmp_path / 'scan.nii.gz'
  nibabel.save(nibabel.Nifti1Image(array, affine), path)
  return path


@pytest.mark.parametrize(
  'without', [('jax', 'scipy'), ('onnxruntime',)], ids=['onnx', 'jax']
)
def test_a_volume_gets_the_mask_that_predict_writes(
  without, volume, make_run, tmp_path
):
  steps = (
    dict(name='reorient'),
    dict(name='resample', spacing=(1.0, 1.0, 1.5)),
    dict(name='crop_or_pad', shape=(16, 18, 6)),  # thinner than the patch
    dict(name='zscore'),
  )
  run = make_run(UNET, MASKS, steps, (15, 21, 9, 1), patch=(12, 12, 8))
  predict(run, [volume], tmp_path / 'wanted')
  artefact.export(run, tmp_path / 'out', onnx=True)
  alone(tmp_path / 'out', volume, tmp_path / 'masks', without=without)
  wanted, found = (
    nibabel.load(tmp_path / folder / 'scan.nii.gz')
    for folder in ('wanted', 'masks')
  )
  np.testing.assert_allclose(found.affine, wanted.affine, atol=1e-5)
  labels = np.asarray(wanted.dataobj)
  assert len(np.unique(labels)) == 3
  assert (np.asarray(found.dataobj) != labels).mean() < 1e-3  # ties


def test_a_picture_gets_the_numbers_that_predict_writes(make_run, tmp_path):
  rng = np.random.default_rng(0)
  picture = tmp_path / 'a.png'
  Image.fromarray(rng.integers(0, 255, (30, 40), np.uint8)).save(picture)
  steps = (dict(name='resize', shape=(12, 12)), *SCALE)
  run = make_run(RESNET, CLASSES, steps, (30, 40, 1))
  predict(run, [picture], tmp_path / 'wanted')
  artefact.export(run, tmp_path / 'out', onnx=True)
  done = alone(tmp_path / 'out', picture, tmp_path / 'out2')
  text = (tmp_path / 'out2' / 'predictions.csv').read_text()
  assert done.stdout == text
  lines = [line.split(',') for line in text.splitlines()]
  found = {line[2]: float(line[3]) for line in lines if line[1] == 'prediction'}
  header, row = (tmp_path / 'wanted/predictions.csv').read_text().split()
  wanted = dict(zip(header.split(',')[1:], row.split(',')[1:], strict=True))
  assert found.keys() == wanted.keys() == {'a', 'b', 'c'}
  for name, value in wanted.items():
    assert abs(found[name] - float(value)) < 2e-5


def test_names_are_kept_whatever_the_locale(make_run, tmp_path, monkeypatch):
  picture = tmp_path / 'Jürgen, "2".png'
  Image.fromarray(np.zeros((12, 12), np.uint8)).save(picture)
  artefact.export(
    make_run(RESNET, CLASSES, (SCALE[0],), (12, 12, 1)),
    tmp_path / 'out',
    onnx=True,
  )
  monkeypatch.setenv('PYTHONIOENCODING', 'ascii')
  done = alone(tmp_path / 'out', picture, tmp_path / 'out2')
  assert r'J\xfcrgen' in done.stdout
  rows, _ = files.read_csv(tmp_path / 'out2/predictions.csv', mend='')
  assert {row['file'] for row in rows} == {str(picture)}


@pytest.mark.parametrize(
  ('array', 'message'),
  [
    (np.full((15, 21, 9), np.nan, np.float32), 'NaN'),
    (np.zeros((15, 21), np.float32), 'takes 3 axes'),
    (np.zeros((15, 21, 9, 2), np.float32), '1 channels'),
    (np.zeros((8, 21, 9), np.float32), 'takes images of'),
  ],
)
def test_what_it_cannot_take_is_one_line(array, message, make_run, tmp_path):
  model = dict(name='ResNet18', width=4, stage_sizes=(1, 1))
  run = make_run(model, CLASSES, SCALE, (15, 21, 9, 1))
  artefact.export(run, tmp_path / 'out', onnx=True)
  path = tmp_path / 'scan.nii'
  nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
  good = tmp_path / 'good.nii'
  whole = np.ones((15, 21, 9), np.float32)
  nibabel.save(nibabel.Nifti1Image(whole, np.eye(4)), good)
  done = alone(tmp_path / 'out', path, good, tmp_path / 'm', fails=True)
  assert message in done.stderr
  assert done.stderr.count('\n') == 1
  assert 'good.nii,prediction,a,' in done.stdout


def test_a_mistake_is_one_line_that_mends_it(make_run, tmp_path):
  picture, out = tmp_path / 'a.png', tmp_path / 'out'
  Image.fromarray(np.zeros((12, 12), np.uint8)).save(picture)
  run = make_run(RESNET, CLASSES, SCALE, (12, 12, 1))
  artefact.export(run, out, onnx=True)
  assert 'python run.py IMAGE' in alone(out, '--help', fails=True).stderr

  def said(*words, without=()):
    text = alone(out, *words, tmp_path / 'o', without=without, fails=True)
    assert text.stderr.count('\n') == 1
    return text.stderr

  assert 'no --age, only files' in said('--age=3', picture)
  assert 'pip install pillow' in said(picture, without=('PIL',))
  absent = 'onnxruntime', 'jax'
  assert 'pip install onnxruntime' in said(picture, without=absent)
  with open(out / artefact.ONNX, 'ab') as f:
    f.write(b'!')
  assert 'model.onnx was changed: take another copy' in said(picture)
  (out / artefact.MODEL).unlink()
  assert artefact.MODEL in said(picture)


def test_a_table_is_a_further_input(make_run, tmp_path):
  rng = np.random.default_rng(0)
  picture = tmp_path / 'a.png'
  Image.fromarray(rng.integers(0, 255, (12, 12), np.uint8)).save(picture)
  model = dict(name='Fusion', backbone=RESNET)
  task = CLASSES | {'inputs': ('image', 'covariates')}
  run = make_run(
    model, task, SCALE, (12, 12, 1), covariate_names=('age', 'size')
  )
  artefact.export(run, tmp_path / 'out', onnx=True)
  given = picture, tmp_path / 'o'
  said = {
    alone(tmp_path / 'out', f'--covariates={table}', *given).stdout
    for table in ('0.1,0.2', '40,-40', '-40,40')
  }
  assert len(said) > 1
  done = alone(tmp_path / 'out', *given, fails=True)
  assert 'also takes covariates' in done.stderr
  for wrong in ('61,x', 'missing.nii.gz'):
    done = alone(tmp_path / 'out', f'--covariates={wrong}', *given, fails=True)
    assert f'--covariates={wrong}: no such file' in done.stderr
    assert done.stderr.count('\n') == 1


def test_no_answer_overwrites_a_scan_or_another(make_run, volume, tmp_path):
  run = make_run(UNET, MASKS, SCALE, (15, 21, 9, 1), patch=(12, 12, 8))
  artefact.export(run, tmp_path / 'out', onnx=True)
  scan = volume.read_bytes()
  other = tmp_path / 'p2' / volume.name
  other.parent.mkdir()
  other.write_bytes(scan)
  done = alone(tmp_path / 'out', volume, tmp_path, fails=True)
  assert 'scan.nii.gz is an input' in done.stderr
  done = alone(tmp_path / 'out', volume, other, tmp_path / 'm', fails=True)
  assert 'two inputs are called scan, so' in done.stderr
  assert done.stderr.count('\n') == 1
  assert not (tmp_path / 'm').exists()
  (tmp_path / 'linked').mkdir()
  (tmp_path / 'linked' / volume.name).symlink_to(volume)
  alone(tmp_path / 'out', volume, tmp_path / 'linked', fails=True)
  assert volume.read_bytes() == scan
  for _ in range(2):  # its own masks it may write again
    alone(tmp_path / 'out', volume, tmp_path / 'm')


def test_classes_of_files_of_one_name(make_run, tmp_path):
  run = make_run(RESNET, CLASSES, SCALE, (12, 12, 1))
  artefact.export(run, tmp_path / 'out', onnx=True)
  paths = [tmp_path / name / 'a.png' for name in 'pq']
  for path in paths:
    path.parent.mkdir()
    Image.fromarray(np.zeros((12, 12), np.uint8)).save(path)
  done = alone(tmp_path / 'out', *paths, tmp_path / 'o')
  assert all(f'{path},prediction,a,' in done.stdout for path in paths)
  done = alone(tmp_path / 'out', *paths, fails=True)  # without a folder
  assert 'a.png is a file: the last word is a folder' in done.stderr
  assert done.stderr.count('\n') == 1


def test_the_scripts_are_short_and_need_no_medjax():
  assert len((SHIPPED / 'run.py').read_text().splitlines()) <= 150
  scripts = {p for p in SHIPPED.glob('*.py') if p.stem != '__init__'}
  assert {p.name for p in scripts} == {*artefact.SCRIPTS}
  for path in scripts:
    text = path.read_text()
    assert 'import medjax' not in text
    assert 'from medjax' not in text
    assert 'pickle' not in text.replace('allow_pickle=False', '')


def test_it_says_how_it_is_used(make_run, tmp_path):
  done = subprocess.run(
    [sys.executable, str(pathlib.Path(SHIPPED) / 'run.py')],
    capture_output=True,
    text=True,
  )
  assert 'python run.py IMAGE' in done.stderr
