"""An exported run predicts what the run does, by StableHLO and by ONNX."""

import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from drawn_runs import CLASSES, MASKS, RESNET, SCALE, UNET, make_run_in

from medjax import config, files
from medjax.export import artefact, golden, report
from medjax.prediction import trained

pytest.importorskip('onnxruntime')
pytest.importorskip('flatbuffers')

RESAMPLED = (
  dict(name='reorient'),
  dict(name='resample', spacing=(1.0, 1.0, 2.0)),
  dict(name='zscore', nonzero=True),
)
CT = dict(
  normalisation=('ct', 'zscore'), statistics=((90.0, 40.0, 20.0, 180.0),) * 2
)
RUNS = {
  'resized, members': (
    RESNET,
    CLASSES,
    (dict(name='resize', shape=(12, 12)), *SCALE),
    (20, 30, 3),
    dict(members=2),
  ),
  'labels, in batches': (
    RESNET | {'stem': 'imagenet'},
    CLASSES | {'multi_label': True},
    (dict(name='percentile'),),
    (28, 28, 1),
    dict(inference={'batch_size': 4}),
  ),
  'windows on another grid': (
    UNET,
    MASKS,
    RESAMPLED,
    (9, 14, 22, 1),
    dict(patch=(8, 16, 8), spacing=(1.0, 0.8, 1.1)),
  ),
  'mirrored members of regions, CT': (
    UNET,
    MASKS | {'regions': ((1, 2), (2,))},
    (dict(name='normalise'),),
    (17, 15, 2),
    dict(patch=(12, 12), members=2, inference={'flips': True}, **CT),
  ),
  'two images and a table': (
    dict(name='Fusion', backbone=RESNET | {'stage_sizes': (1,)}),
    CLASSES | {'inputs': ('image', 'ct', 'covariates')},
    (
      dict(name='window', low=-20.0, high=300.0, only='ct'),
      dict(name='percentile', only=('image',)),
      dict(name='standardise'),
      dict(name='compress'),
    ),
    (12, 12, 1),
    dict(
      covariate_names=('age', 'volume'),
      covariate_statistics=((60.0, 12.0), (300.0, 500.0)),
      further_images=('ct',),
      further_channels=(1,),
    ),
  ),
  'only medjax prepares it': (
    RESNET,
    CLASSES,
    (
      dict(name='distance_map', threshold=100.0),
      dict(name='orthogonal_views'),
      dict(name='scale', std=3.0),
    ),
    (12, 12, 12, 1),
    {},
  ),
}


@pytest.mark.parametrize('name', RUNS)
def test_all_say_what_the_run_says(name, make_run, tmp_path):
  *of_run, more = RUNS[name]
  if name.startswith('only'):  # of three views
    run = make_views(make_run, of_run)
  else:
    run = make_run(*of_run, **more)
  info = artefact.export(run, tmp_path / 'out', onnx=True)
  for backend in ('jax', 'onnx'):
    worst = golden.compare(tmp_path / 'out', backend)
    assert worst['prediction'] < golden.TOLERANCE, backend
    assert worst.get('labels', 0) == 0
    assert ('labels' in worst) == (of_run[0] is UNET)
  assert bool(info['unsupported']) == name.startswith('only')
  with np.load(tmp_path / 'out' / 'golden.npz') as kept:
    found = kept['0/out/prediction']
  assert found.std() > 1e-3  # or nothing would be compared


def make_views(make_run, of_run):
  model, task, preprocess, _ = of_run
  run = make_run(model, task, (), (12, 12, 3))
  # The run is one of 3 channels; its cases are cubes.
  whole = config.load(run)
  whole.data.preprocess = preprocess
  config.store(whole, run)
  facts = files.read_json(run / 'facts.json', mend='')
  facts |= dict(channels=1, rank=3, shape=[12] * 3, spacing=[1.0] * 3)
  files.write_json(run / 'facts.json', facts, sealed=True)
  return run


SURVIVAL = dict(name='Survival', intervals=4)
SURVIVAL_MODELS = {
  'cox': ((('baseline', ((0.1, 0.2, 0.0, 0.4),)),), 'MLP'),
  'competing': (
    (('baseline', ((0.1, 0.2, 0.0, 0.4), (0.3, 0.0, 0.0, 0.1))),),
    'MLP',
  ),
  'coxtime': ((('baseline', ((0.1, 0.2, 0.3, 0.4),)),), 'CoxTime'),
  'deephit': ((), 'MLP'),
}


@pytest.mark.parametrize('kind', SURVIVAL_MODELS)
def test_survival_of_a_table_is_said_by_time(kind, make_run, tmp_path):
  decided, name = SURVIVAL_MODELS[kind]
  run = make_run(
    dict(name=name, hidden=(4,)),
    SURVIVAL | {'model': kind},
    (dict(name='standardise'),),
    (0,),
    covariate_names=('age', 'stage'),
    covariate_statistics=((60.0, 12.0), (2.0, 1.0)),
    event_times=(0.5, 1.0, 2.0, 3.0, 8.0),
    causes=1 + (kind == 'competing'),
  )
  files.write_json(run / 'calibration.json', dict(decided), sealed=True)
  info = artefact.export(run, tmp_path / 'out', onnx=True)
  for backend in ('jax', 'onnx'):
    worst = golden.compare(tmp_path / 'out', backend)
    assert max(worst.values()) < golden.TOLERANCE
    assert ('calibrated' in worst) == bool(decided)
  table = tmp_path / 'patients.csv'
  table.write_text('stage,age,name\n2,61,a\n,40,b\n')
  done = subprocess.run(
    [sys.executable, tmp_path / 'out/run.py', table, tmp_path / 'o'],
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  lines = [line.split(',') for line in done.stdout.splitlines()[1:]]
  output = 'calibrated' if decided else 'curves'
  of_first = {
    line[2]: float(line[3])
    for line in lines
    if line[0] == f'{table}:2' and line[1] == output
  }
  assert [*of_first] == info['names']
  kept = trained.load(run)
  wanted = kept.predict(covariates=np.array([61, 2], np.float32))
  survival = {k: v for k, v in wanted.values.items() if k[:9] == 'survival/'}
  for name, value in survival.items():
    time = name.partition('/')[2]
    lost = [v for k, v in of_first.items() if k.partition('/')[2] == time]
    assert abs(1 - sum(lost) - value) < 1e-5


@pytest.fixture(scope='module')
def once(tmp_path_factory):
  """A run of a classifier, and the folder that it is exported to."""
  home = tmp_path_factory.mktemp('once')
  run = make_run_in(home, RESNET, CLASSES, SCALE, (14, 12, 1))
  whole = config.load(run)
  whole.data.path = '/secret/clinic'
  config.store(whole, run)
  facts = files.read_json(run / 'facts.json', mend='')
  facts['notes'] = ['secret_patient: 2 files passed over']
  files.write_json(run / 'facts.json', facts, sealed=True)
  artefact.export(run, home / 'out')
  return run, home / 'out'


@pytest.fixture
def exported(once, tmp_path):
  return shutil.copytree(once[1], tmp_path / 'out')


def test_no_weight_and_no_file_may_be_changed(exported):
  report.check(exported)
  path = exported / 'weights.safetensors'
  data = bytearray(path.read_bytes())
  data[-1] ^= 1
  path.write_bytes(data)
  with pytest.raises(ValueError, match=r'weights\.safetensors was changed'):
    report.check(exported)
  with pytest.raises(ValueError, match='was changed'):
    artefact.refresh(exported)


def test_nothing_that_was_changed_is_sealed_anew(exported):
  (exported / artefact.ONNX).write_bytes(b'of somebody')
  info = artefact.refresh(exported)  # what is not of it stays out of it
  assert artefact.ONNX not in info['files']
  report.check(exported)
  with open(exported / 'run.py', 'a') as f:
    f.write('# of somebody')
  with pytest.raises(ValueError, match=r'run\.py was changed: take another'):
    artefact.refresh(exported)


def test_an_export_leaves_no_model_of_the_one_before(once, exported):
  for name in (artefact.ONNX, artefact.WEIGHTS):
    (exported / name).write_bytes(b'of another run')
  artefact.export(once[0], exported)
  info = files.read_json(exported / artefact.MODEL, mend='')
  assert artefact.ONNX not in info['files']
  assert not (exported / artefact.ONNX).exists()
  report.check(exported)


def test_an_expired_program_says_the_command_that_mends_it(exported, capsys):
  path = exported / 'model.json'
  info = json.loads(path.read_text())
  info.pop('sha256')
  info['expires'] = '2020-01-01'
  files.write_json(path, info, sealed=True)
  with pytest.raises(ValueError, match=r'expired on 2020-01-01.*--refresh'):
    report.check(exported)
  for name in info['programs']['cpu'].values():
    (exported / name).write_bytes(b'of another age')
  artefact.refresh(exported)
  report.check(exported)
  assert 'jax: largest error' in capsys.readouterr().out


def test_a_program_that_jax_cannot_read_is_one_line(exported):
  info = files.read_json(exported / 'model.json', mend='')
  for name in info['programs']['cpu'].values():
    (exported / name).write_bytes(b'of another age')
    info['files'][name] = files.digest_of(exported / name)
  files.write_json(exported / 'model.json', info, sealed=True)
  with pytest.raises(ValueError, match=r'cannot read program.*--refresh'):
    report.check(exported)


def test_a_check_says_the_package_that_programs_need(exported, monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ValueError, match='package flatbuffers: pip install'):
    report.check(exported)


def test_model_json_holds_no_path_of_the_data_and_no_patient(exported):
  assert 'secret' not in (exported / 'model.json').read_text()


def test_other_files_are_not_written_over(once, tmp_path):
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine' / 'thesis.txt').write_text('mine')
  with pytest.raises(ValueError, match='holds other files'):
    artefact.export(once[0], tmp_path / 'mine')
  assert [p.name for p in (tmp_path / 'mine').iterdir()] == ['thesis.txt']


def test_the_command(once, tmp_path):
  out = tmp_path / 'new'
  done = command('--workdir', once[0], '--out', out, '--onnx')
  assert 'onnx: largest error on 3 golden cases' in done.stdout
  done = command('check', tmp_path / 'none', fails=True)
  assert done.stderr.count('\n') == 1
  assert 'holds no model.json' in done.stderr


def command(*words, fails=False):
  done = subprocess.run(
    [sys.executable, '-m', 'medjax.export', *map(str, words)],
    capture_output=True,
    text=True,
    cwd=pathlib.Path(__file__).parents[2],
  )
  assert bool(done.returncode) == fails, done.stderr
  return done
