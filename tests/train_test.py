"""Whole runs of the program on tiny data, and what it refuses.

What runs to the end does so in a process of its own, mistakes in this one.
"""

import csv
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import types

import jax
import nibabel as nib
import numpy as np
import orbax.checkpoint as ocp
import pytest
from absl.testing import flagsaver
from PIL import Image

from medjax import main, predict

ROOT = pathlib.Path(__file__).resolve().parents[1]
TIMEOUT = 300  # seconds; a run takes a few on an idle machine

# An experiment file that brings its own network: quick to compile, and with
# all that could make a resumed run differ: BatchNorm, dropout, EMA, noise.
TINY = """
import time

import flax.linen as nn
from medjax.config import default_config


class Net(nn.Module):
  num_classes: int
  dense: bool = True
  ballast: int = 1

  @nn.compact
  def __call__(self, x, *, train=False):
    # No bias: before BatchNorm its gradient is rounding noise.
    x = nn.Conv(8, (3,) * (x.ndim - 2), use_bias=False)(x)
    x = nn.BatchNorm(use_running_average=not train)(x)
    x = nn.Dropout(0.1, deterministic=not train)(nn.relu(x))
    if not self.dense:
      x = x.mean(tuple(range(1, x.ndim - 1)))
    ballast = self.param(
      'ballast', nn.initializers.normal(), (self.ballast,))  # no zeros: no zip
    return nn.Dense(self.num_classes)(x) + ballast.mean()


def slow(sample, *, seconds):
  time.sleep(seconds)
  return sample


def burst():
  return lambda step: 1.0 + 1e30 * (step >= 6)


def get_config(kind):
  config = default_config()
  config.data.update(name='folder', batch_size=8, cache_gb=0.0)
  config.data.preprocess = (
    dict(name='zscore'), dict(name='tiny:slow', seconds=0.002))
  config.augment = (
    dict(name='flip', p=0.5), dict(name='gaussian_noise', p=0.5))
  config.model = dict(name='tiny:Net', dense=True, ballast=1)
  config.task = dict(name='Segmentation', num_classes=2, monitor='dice')
  if kind == 'classes':
    config.model.dense = False
    config.task = dict(name='Classification', monitor='auroc')
  if kind == 'volumes':
    config.data.patch_size = (8, 8, 8)
    config.data.preprocess = (
      dict(name='reorient'), dict(name='resample', spacing=(1.5, 1.5, 1.5)),
      dict(name='zscore'))
  config.optimizer.update(learning_rate=3e-2, clip_norm=10.0)
  config.train.update(steps=24, log_every=3, eval_every=4, ema_decay=0.5)
  return config
"""


def disc(shape, centre, radius):
  """A ball of ones among zeros."""
  grid = np.indices(shape).reshape(len(shape), -1).T - centre
  return (np.linalg.norm(grid, axis=1) < radius).reshape(shape).astype(np.uint8)


def write_pairs(root, n=14, shape=(16, 16)):
  """Bright discs on noise: images/*.png and masks/*.png."""
  rng = np.random.default_rng(0)
  for i in range(n):
    mask = disc(shape, rng.uniform(5, 11, 2), rng.uniform(2, 5))
    image = np.clip(rng.normal(80 + 90 * mask, 15), 0, 255).astype(np.uint8)
    for folder, array in (('images', image), ('masks', mask)):
      (root / folder).mkdir(parents=True, exist_ok=True)
      Image.fromarray(array).save(root / folder / f'{i:02}.png')


def write_classes(root, n=14, shape=(16, 16)):
  """Noise with and without a disc: dark/*.png and bright/*.png."""
  rng = np.random.default_rng(1)
  for i in range(2 * n):
    name = ('dark', 'bright')[i % 2]
    spot = disc(shape, rng.uniform(5, 11, 2), 4) * (i % 2)
    image = np.clip(rng.normal(80 + 90 * spot, 15), 0, 255).astype(np.uint8)
    (root / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(root / name / f'{i:02}.png')


def oblique(spacing=(1.0, 2.5, 1.2), angle=0.3):
  """The affine of an anisotropic volume, its axes permuted and rotated."""
  c, s = np.cos(angle), np.sin(angle)
  rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
  permuted = rotation @ np.array([[0, -1, 0], [0, 0, 1], [1, 0, 0]])
  affine = np.eye(4)
  affine[:3, :3] = permuted * spacing
  affine[:3, 3] = (-20, 30, 7)
  return affine


def write_volumes(root, n=8, shape=(14, 9, 16)):
  """Bright balls: images/*.nii.gz and masks/*.nii.gz, on an oblique grid."""
  rng = np.random.default_rng(2)
  for i in range(n):
    mask = disc(shape, rng.uniform(4, 6, 3), 3.5)
    image = rng.normal(mask, 0.2).astype(np.float32)
    for folder, array in (('images', image), ('masks', mask)):
      (root / folder).mkdir(parents=True, exist_ok=True)
      nib.save(nib.Nifti1Image(array, oblique()), root / folder / f'{i}.nii.gz')


class Program:
  """Starts `python -m medjax.…` with the tiny experiment at hand."""

  def __init__(self, home, cache):
    self.home, self.cache = home, cache

  def start(self, *args, devices=1, module='medjax.main', env=(), wrap=()):
    """A process of its own with `devices` virtual devices."""
    environment = os.environ | {
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': os.environ['XLA_FLAGS']
      + f' --xla_force_host_platform_device_count={devices}',
      'JAX_COMPILATION_CACHE_DIR': str(self.cache),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'PYTHONPATH': f'{ROOT}{os.pathsep}{self.home}',
      **dict(env),
    }
    return subprocess.Popen(
      [*wrap, sys.executable, '-m', module, *map(str, args)],
      cwd=self.home,
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  def __call__(self, *args, **options):
    """Runs to the end: (exit code, stdout, stderr)."""
    process = self.start(*args, **options)
    try:
      out, err = process.communicate(timeout=TIMEOUT)
    finally:
      process.kill()
    return process.returncode, out, err

  def train(self, workdir, *args, kind='pairs', **options):
    """Runs medjax.main, which must succeed."""
    code, out, err = self(*self.flags(workdir, kind), *args, **options)
    assert code == 0, err
    return out

  def flags(self, workdir, kind='pairs'):
    """Those that every run needs."""
    return (
      f'--config={self.home}/tiny.py:{kind}',
      f'--config.data.path={self.home / kind}',
      f'--workdir={workdir}',
    )


@pytest.fixture(scope='session')
def program(tmp_path_factory):
  home = tmp_path_factory.mktemp('home')
  (home / 'tiny.py').write_text(TINY)
  write_pairs(home / 'pairs')
  write_classes(home / 'classes')
  write_volumes(home / 'volumes')
  # Above the folder of one xdist worker: all of them share the programs.
  base = tmp_path_factory.getbasetemp()
  return Program(home, base.parent / 'xla')


@pytest.fixture(scope='session')
def unbroken(program, tmp_path_factory):
  """A finished run, to compare with and to predict with; not to be changed."""
  workdir = tmp_path_factory.mktemp('unbroken') / 'run'
  program.train(workdir)
  return workdir


@pytest.fixture
def called(program, monkeypatch, capsys):
  """Calls a command that must fail, in this process: stderr."""

  def call(*args, module=main):
    monkeypatch.chdir(program.home)
    monkeypatch.syspath_prepend(program.home)
    monkeypatch.setattr(sys, 'argv', ['main.py', *map(str, args)])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as e:
      module.main()
    assert e.value.code == 1
    return capsys.readouterr().err

  yield call
  sys.modules.pop('tiny', None)


TIMES = ('train/examples_per_second', 'train/waiting', 'seconds')


def read_log(workdir, ignore=TIMES):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return [{k: v for k, v in r.items() if k not in ignore} for r in rows]


def waiting(workdir):
  rows = read_log(workdir, ignore=())
  return [r['train/waiting'] for r in rows if 'train/waiting' in r]


def read_state(workdir):
  """The newest state of a run as numpy arrays."""
  steps = [p for p in (workdir / 'checkpoints').iterdir() if p.name.isdigit()]
  newest = max(steps, key=lambda p: int(p.name)) / 'state'
  with ocp.PyTreeCheckpointer() as checkpointer:
    tree = checkpointer.metadata(newest).item_metadata.tree
    return checkpointer.restore(
      newest,
      restore_args=jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
      ),
    )


def assert_same_run(a, b):
  """Bit-identical states, equal logs, equal results."""
  left, right = read_state(a), read_state(b)
  assert jax.tree.structure(left) == jax.tree.structure(right)
  assert len(jax.tree.leaves(left)) > 10
  jax.tree.map(np.testing.assert_array_equal, left, right)
  assert read_log(a) == read_log(b)
  assert (a / 'per_case.csv').read_text() == (b / 'per_case.csv').read_text()
  left, right = (json.loads((w / 'metrics.json').read_text()) for w in (a, b))
  assert left['test'] == right['test']
  assert left['run']['best_step'] == right['run']['best_step']


# A whole run.


def assert_complete(workdir):
  for name in ('config.json', 'metrics.jsonl', 'per_case.csv', 'report.html'):
    assert (workdir / name).stat().st_size, name
  assert (workdir / 'figures/cases.npz').exists()
  assert list((workdir / 'figures').glob('*.png'))
  assert list((workdir / 'tensorboard').glob('events*'))
  assert not list(workdir.glob('*.tmp'))
  steps = [int(p.name) for p in (workdir / 'checkpoints').iterdir()]
  metrics = json.loads((workdir / 'metrics.json').read_text())
  assert metrics['run']['best_step'] in steps
  assert max(steps) == 24
  with (workdir / 'per_case.csv').open(newline='') as f:
    rows = list(csv.DictReader(f))
  for split in ('validation', 'test'):
    assert metrics[split]['n'] == sum(r['split'] == split for r in rows) > 0
  log = read_log(workdir)
  assert [r['step'] for r in log if 'train/loss' in r] == [*range(3, 25, 3)]
  assert all(np.isfinite(r['train/loss']) for r in log if 'train/loss' in r)
  assert all(0 <= share <= 1 for share in waiting(workdir))
  validated = [r['step'] for r in log if 'validation/' in ''.join(r)]
  assert validated == [*range(4, 25, 4)]
  return metrics


def test_segmentation_writes_all_and_learns(unbroken):
  metrics = assert_complete(unbroken)
  assert metrics['test']['scores']['dice'] > 0.6
  assert metrics['run']['steps'] == 24


def test_classification_writes_all_and_predicts_a_table(program, tmp_path):
  program.train(tmp_path / 'run', kind='classes')
  metrics = assert_complete(tmp_path / 'run')
  assert list(metrics['test']['classes']) == ['bright', 'dark']
  files = sorted((program.home / 'classes/dark').iterdir())[:3]
  code, _, err = program(
    f'--workdir={tmp_path / "run"}',
    '--trust',
    *files,
    f'--out={tmp_path / "out"}',
    module='medjax.predict',
  )
  assert (code, err) == (0, '')
  with (tmp_path / 'out/predictions.csv').open(newline='') as f:
    rows = list(csv.DictReader(f))
  assert [r['file'] for r in rows] == list(map(str, files))
  for row in rows:
    assert float(row['bright']) + float(row['dark']) == pytest.approx(1)
  # A second look at the same checkpoint finds the same, and needs no config.
  again = ('--mode=evaluate', f'--workdir={tmp_path / "run"}', '--trust')
  code, out, err = program(*again)
  assert (code, err) == (0, '')
  assert 'test: AUROC ' in out
  assert 'the positive class being dark' in out
  again = json.loads((tmp_path / 'run/metrics.json').read_text())
  assert again['test'] == metrics['test']
  assert again['validation'] == metrics['validation']


def test_volumes_come_back_on_their_own_grid(program, tmp_path):
  program.train(tmp_path / 'run', '--config.train.steps=4', kind='volumes')
  files = sorted((program.home / 'volumes/images').iterdir())[:2]
  code, _, err = program(
    f'--workdir={tmp_path / "run"}',
    '--trust',
    *files,
    f'--out={tmp_path / "out"}',
    module='medjax.predict',
  )
  assert (code, err) == (0, '')
  for file in files:
    given, found = nib.load(file), nib.load(tmp_path / 'out' / file.name)
    assert found.shape == given.shape
    assert found.get_data_dtype() == np.uint8
    np.testing.assert_allclose(found.affine, given.affine, atol=1e-5)


def test_other_data_are_evaluated_beside_the_run(
  program, called, unbroken, tmp_path
):
  flags = ('--mode=evaluate', f'--workdir={unbroken}')
  assert_one_line(called(*flags), 'names code outside of medjax.*--trust')
  flags += ('--trust', f'--data={program.home / "pairs"}')
  err = called(*flags, f'--out={tmp_path / "out"}')
  assert_one_line(err, 'that the run was trained on')
  code, out, err = program(*flags, '--split=test', f'--out={tmp_path / "out"}')
  assert (code, err) == (0, '')
  lines = out.splitlines()
  assert len(lines) == 3
  assert lines[0].startswith('evaluating ')
  assert lines[1].startswith('test: Dice 0.')
  assert (tmp_path / 'out/report.html').is_file()
  there, here = (
    json.loads((folder / 'metrics.json').read_text())['test']
    for folder in (unbroken, tmp_path / 'out')
  )
  assert here == there


def test_predictions_on_pictures_and_what_cannot_be_predicted(
  program, called, unbroken, tmp_path
):
  flags = ('--trust', f'--out={tmp_path / "out"}')
  images = program.home / 'pairs/images'
  code, out, err = program(
    f'--workdir={unbroken}', *flags, images, module='medjax.predict'
  )
  assert (code, err) == (0, '')
  assert out.count('→') == 14
  dice = []
  for file in images.iterdir():
    mask = np.array(Image.open(tmp_path / 'out' / file.name))
    overlay = Image.open(tmp_path / 'out' / f'{file.stem}_overlay.png')
    assert mask.shape == (16, 16)
    assert (overlay.mode, overlay.size) == ('RGB', (16, 16))
    truth = np.array(Image.open(program.home / 'pairs/masks' / file.name))
    dice.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
  assert np.mean(dice) > 0.6
  volume = program.home / 'volumes/images/0.nii.gz'
  for line, image, workdir in (
    ('holds an input', tmp_path / 'out/00.png', unbroken),
    (r'3 spatial axes|is 3-D', volume, unbroken),
    ('no such file', tmp_path / 'nothing.png', unbroken),
    ('config.json is missing', images, tmp_path),
  ):
    err = called(f'--workdir={workdir}', *flags, image, module=predict)
    assert_one_line(err, line)


def test_early_stopping(program, tmp_path):
  # Without a learning rate no score is ever better than the first.
  flags = ('--config.train.patience=2', '--config.optimizer.learning_rate=0.0',
           '--config.train.ema_decay=0.0')  # fmt: skip
  program.train(tmp_path / 'run', *flags)
  log = read_log(tmp_path / 'run')
  assert len([r for r in log if 'validation/dice' in r]) <= 4
  before = log[-1]['step']
  assert before < 24
  program.train(tmp_path / 'run', *flags)  # finished: only evaluates
  assert read_log(tmp_path / 'run') == log


@pytest.mark.slow
def test_slow_data_show_as_waiting(program, tmp_path):
  # 8 × .2 s by four threads, after the six batches that were read ahead.
  slow = '--config.data.preprocess=({"name": "tiny:slow", "seconds": 0.2},)'
  steps = [f'--config.train.{k}=12' for k in ('steps', 'eval_every')]
  program.train(tmp_path / 'run', slow, *steps)
  assert max(waiting(tmp_path / 'run')) > 0.5


def test_members_of_an_ensemble_predict_as_one(program, tmp_path):
  run = tmp_path / 'run'
  program.train(run, '--config.members=2', '--config.train.steps=4')
  for folder in (run, run / 'member0', run / 'member1'):
    assert (folder / 'report.html').exists()
    assert (folder / 'figures/cases.npz').exists()
  assert 'member1' in (run / 'report.html').read_text()
  code, _, err = program(
    f'--workdir={run}',
    program.home / 'pairs/images/00.png',
    f'--out={tmp_path / "out"}',
    '--uncertainty',
    '--trust',
    module='medjax.predict',
  )
  assert (code, err) == (0, '')
  assert {path.name for path in (tmp_path / 'out').iterdir()} == {
    '00.png',
    '00_overlay.png',
    '00_entropy.png',
    '00_mutual_information.png',
    'predicted.json',
  }


# Stopped, killed, and gone on.


def wait_for_step(process, step):
  """Reads the progress lines until one of `step` or later."""
  for line in process.stdout:
    match = re.match(r'step (\d+)/', line)
    if match and int(match[1]) >= step:
      return
  raise AssertionError(process.stderr.read())


@pytest.mark.slow
def test_killed_and_resumed_is_bit_identical(program, unbroken, tmp_path):
  rng = np.random.default_rng(0)
  for step in sorted(rng.integers(1, 24, 4)):
    process = program.start(*program.flags(tmp_path / 'run'))
    wait_for_step(process, step)
    time.sleep(rng.uniform(0, 0.1))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
  program.train(tmp_path / 'run')
  assert_same_run(tmp_path / 'run', unbroken)


@pytest.mark.slow
def test_killed_while_writing_a_checkpoint(program, tmp_path):
  """A half-written checkpoint is never restored, and is cleared away."""
  flags = ('--config.model.ballast=1000000', '--config.train.steps=12')
  program.train(tmp_path / 'whole', *flags)
  folder, torn = tmp_path / 'run/checkpoints', 0
  for step in (4, 8):
    process = program.start(*program.flags(tmp_path / 'run'), *flags)
    while process.poll() is None and not list(folder.glob(f'{step}.*')):
      time.sleep(0.001)
    process.kill()
    process.communicate()
    torn += len(list(folder.glob(f'{step}.*')))  # still under that name
  program.train(tmp_path / 'run', *flags)
  assert_same_run(tmp_path / 'run', tmp_path / 'whole')
  assert all(p.name.isdigit() for p in folder.iterdir())
  if not torn:
    pytest.skip('both kills came too late to tear a checkpoint')


@pytest.mark.slow
@pytest.mark.parametrize(
  ('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_signals_save_and_say_how_to_go_on(
  program, unbroken, tmp_path, number, code
):
  process = program.start(*program.flags(tmp_path / 'run'))
  wait_for_step(process, 9)
  process.send_signal(number)
  _, err = process.communicate(timeout=TIMEOUT)
  assert process.returncode == code
  step = max(int(p.name) for p in (tmp_path / 'run/checkpoints').iterdir())
  assert 9 <= step < 24
  assert_one_line(err, f'step {step} is saved; the same command goes on')
  program.train(tmp_path / 'run')
  assert_same_run(tmp_path / 'run', unbroken)


def test_a_loss_that_is_not_finite_stops_and_the_good_state_stays(
  program, tmp_path
):
  flags = ('--config.schedule.name=tiny:burst',)
  code, _, err = program(*program.flags(tmp_path / 'run'), *flags)
  assert code == 1
  assert_one_line(err, r'not finite at step 8')
  assert [p.name for p in (tmp_path / 'run/checkpoints').iterdir()] == ['4']
  for leaf in jax.tree.leaves(read_state(tmp_path / 'run')):
    assert np.isfinite(leaf).all()
  code, _, err = program(
    *program.flags(tmp_path / 'run'), *flags, '--mode=evaluate'
  )
  assert (code, err) == (0, '')


# Many devices, many processes.

SGD = (
  '--config.optimizer.name=sgd',
  '--config.optimizer.learning_rate=0.05',
  '--config.train.steps=12',
)
SHARDED = (*SGD, '--config.train.shard_above=8')
SLOW = (
  '--config.data.preprocess=({"name": "zscore"}, '
  '{"name": "tiny:slow", "seconds": 0.1})'
)


def assert_same_up_to_rounding(a, b, *, rtol=1e-6):
  """Losses, scores and per-case metrics; every line written once."""
  left, right = read_log(a), read_log(b)
  assert [r.keys() for r in left] == [r.keys() for r in right]
  for x, y in zip(left, right, strict=True):
    keys = {'step', 'train/loss', 'validation/dice', 'validation/loss'}
    for key in x.keys() & keys:
      assert x[key] == pytest.approx(y[key], rel=rtol), (key, x, y)
  left, right = (
    list(csv.DictReader((w / 'per_case.csv').read_text().splitlines()))
    for w in (a, b)
  )
  assert [row['id'] for row in left] == [row['id'] for row in right]
  for x, y in zip(left, right, strict=True):
    assert float(x['dice/1']) == pytest.approx(float(y['dice/1']), rel=rtol)


@pytest.fixture(scope='session')
def one_device(program, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('one') / 'run'
  program.train(workdir, *SGD)
  return workdir


@pytest.mark.slow
@pytest.mark.parametrize(('devices', 'flags'), [(2, SGD), (8, SHARDED)])
def test_devices_give_the_same_losses(
  program, one_device, tmp_path, devices, flags
):
  program.train(tmp_path / 'run', *flags, devices=devices)
  assert_same_up_to_rounding(one_device, tmp_path / 'run')


def free_port():
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


def start_many(program, n, workdir, *flags):
  join = (f'--coordinator=127.0.0.1:{free_port()}', f'--num_processes={n}')
  return [
    program.start(*program.flags(workdir), *flags, *join, f'--process_id={i}')
    for i in range(n)
  ]


def finish(processes):
  """(exit code, stdout, stderr) of each."""
  try:
    texts = [p.communicate(timeout=TIMEOUT) for p in processes]
    return [(p.returncode, *t) for p, t in zip(processes, texts, strict=True)]
  finally:
    for p in processes:
      p.kill()


@pytest.mark.slow
def test_two_processes_give_the_same_losses(program, one_device, tmp_path):
  processes = start_many(program, 2, tmp_path / 'run', *SGD)
  (code, out, err), (other_code, other, other_err) = finish(processes)
  assert (code, err, other_code, other_err) == (0, '', 0, '')
  assert 'report: ' in out
  assert 'report: ' not in other
  assert_same_up_to_rounding(one_device, tmp_path / 'run')


@pytest.mark.slow
def test_one_of_four_is_lost_then_one_of_two_is_told_to_stop_and_one_goes_on(
  program, one_device, tmp_path
):
  flags = (tmp_path / 'run', *SHARDED, SLOW)
  processes = start_many(program, 4, *flags)
  while not (tmp_path / 'run/checkpoints/4').exists():
    assert processes[0].poll() is None, processes[0].stderr.read()
    time.sleep(0.05)
  processes[2].kill()
  for i, (code, _, err) in enumerate(finish(processes)):
    if i == 2:
      assert code == -signal.SIGKILL
      continue
    # JAX says so, and it or we end the process, whoever is first.
    assert code != 0
    assert re.search(r'step \d+ is whole in|another task died', err), err

  processes = start_many(program, 2, *flags)
  wait_for_step(processes[0], 6)
  processes[1].send_signal(signal.SIGTERM)
  for code, _, err in finish(processes):
    assert code == 143
    assert_one_line(err, r'step \d+ is saved; the same command goes on')

  program.train(*flags)
  assert_same_up_to_rounding(one_device, tmp_path / 'run')


@pytest.mark.slow
def test_processes_that_cannot_share_a_batch_say_so(program, tmp_path):
  processes = start_many(
    program, 2, tmp_path / 'run', '--config.data.batch_size=7'
  )
  found = finish(processes)
  assert all(code != 0 for code, *_ in found)
  line = 'data.batch_size 7 is no multiple of 2: 2 devices'
  assert any(line in err for *_, err in found), found


# What a user can get wrong: one line each, and no traceback.


def assert_one_line(err, pattern):
  lines = err.splitlines()
  assert len(lines) == 1, err
  assert lines[0].startswith('medjax: ')
  assert re.search(pattern, lines[0]), lines[0]


def broken_pairs(folder, change):
  write_pairs(folder)
  change(folder)
  return f'--config.data.path={folder}'


def save_mask(value, shape=(16, 16)):
  def change(folder):
    for file in (folder / 'masks').iterdir():
      Image.fromarray(np.full(shape, value, np.uint8)).save(file)

  return change


def other_size(folder):
  for file in sorted((folder / 'images').iterdir())[::2]:
    for name in ('images', 'masks'):
      path = folder / name / file.name
      Image.open(path).resize((20, 20), Image.NEAREST).save(path)


def broken_volumes(folder, change):
  write_volumes(folder, n=4)
  file = folder / 'images/0.nii.gz'
  change(file)
  # In the training split, which is read first.
  rows = [f'images/{i}.nii.gz,masks/{i}.nii.gz,{s}' for i, s in
          enumerate(('train', 'train', 'validation', 'test'))]  # fmt: skip
  (folder / 'cases.csv').write_text('\n'.join(['path,mask,split', *rows]))
  return (f'--config.data.path={folder}',)


def not_a_number(file):
  image = nib.load(file)
  voxels = np.array(image.dataobj)
  voxels[3, 3, 3] = np.nan
  nib.save(nib.Nifti1Image(voxels, image.affine), file)


def truncated(file):
  file.write_bytes(file.read_bytes()[:900])


def empty_class(folder):
  write_classes(folder)
  for file in (folder / 'dark').iterdir():
    file.unlink()
  return f'--config.data.path={folder}'


def no_test_split(folder):
  for split in ('train', 'validation'):
    write_classes(folder / split, n=4)
  # The same pictures in two splits would be refused first.
  for file in (folder / 'validation').rglob('*.png'):
    Image.fromarray(255 - np.array(Image.open(file))).save(file)
  return f'--config.data.path={folder}'


def occupied(path):
  path.write_text('in the way')
  return path


BAD = {
  'config file': (
    'pairs',
    lambda tmp: ('--config=nope.py',),
    r'nope\.py',
  ),
  'config field': (
    'pairs',
    lambda tmp: ('--config.train.stesp=3',),
    r"no config field train\.stesp; did you mean 'steps'",
  ),
  'config value': (
    'pairs',
    lambda tmp: ('--config.train.steps=many',),
    r'train\.steps=many: invalid',
  ),
  'count': (
    'pairs',
    lambda tmp: ('--config.train.eval_every=0',),
    r'train\.eval_every must be 1 or more, not 0',
  ),
  'model': (
    'pairs',
    lambda tmp: ('--config.model.name=Unet',),
    r"no 'Unet'; did you mean 'UNet'\?",
  ),
  'optimizer': (
    'pairs',
    lambda tmp: ('--config.optimizer.name=adamv',),
    r"no 'adamv'; did you mean 'adam'\?",
  ),
  'monitor': (
    'pairs',
    lambda tmp: ('--config.task.monitor=dise',),
    r"monitor='dise' is none of dice",
  ),
  'split over devices': (
    'pairs',
    lambda tmp: ('--config.data.batch_size=6', '--config.train.microbatches=4'),
    r'data\.batch_size 6 is no multiple of 32',
  ),
  'folder': (
    'pairs',
    lambda tmp: ('--config.data.path=nowhere',),
    r'nowhere: no such folder',
  ),
  'data set': (
    'pairs',
    lambda tmp: ('--config.data.name=mni152_tisue',),
    r"did you mean 'mni152_tissue'",
  ),
  'split': (
    'classes',
    lambda tmp: (no_test_split(tmp / 'data'),),
    r"split 'test' is empty",
  ),
  'mask of another shape': (
    'pairs',
    lambda tmp: (broken_pairs(tmp / 'data', save_mask(1, (9, 9))),),
    r'masks/\d+\.png: has shape \(9, 9\) but .* has \(16, 16\)',
  ),
  'label out of range': (
    'pairs',
    lambda tmp: (broken_pairs(tmp / 'data', save_mask(7)),),
    r"'\d+': mask holds label 7, but num_classes=2 allows 0 to 1",
  ),
  'images of two sizes': (
    'pairs',
    lambda tmp: (broken_pairs(tmp / 'data', other_size),),
    r'data\.patch_size',
  ),
  'empty class': (
    'classes',
    lambda tmp: (empty_class(tmp / 'data'),),
    r'dark: class without images',
  ),
  'NaN voxels': (
    'volumes',
    lambda tmp: broken_volumes(tmp / 'data', not_a_number),
    r'0\.nii\.gz: 1 of 2016 voxels are NaN',
  ),
  'truncated NIfTI': (
    'volumes',
    lambda tmp: broken_volumes(tmp / 'data', truncated),
    r'0\.nii\.gz: truncated',
  ),
  'workdir is a file': (
    'pairs',
    lambda tmp: (f'--workdir={occupied(tmp / "file")}',),
    r"File exists: '.*/file'",
  ),
  'workdir under a file': (
    'pairs',
    lambda tmp: (f'--workdir={occupied(tmp / "file")}/run',),
    r'Not a directory',
  ),
  'checkpoints is a file': (
    'pairs',
    lambda tmp: occupied(tmp / 'checkpoints') and (f'--workdir={tmp}',),
    r"File exists: '.*/checkpoints'",
  ),
  'no workdir': (
    'pairs',
    lambda tmp: ('--workdir=',),
    r'--workdir=FOLDER',
  ),
  'nothing to evaluate': (
    'pairs',
    lambda tmp: ('--mode=evaluate',),
    r'holds no run',
  ),
}


@pytest.mark.parametrize('mistake', BAD)
def test_mistakes_get_one_line(program, called, tmp_path, mistake):
  kind, make, pattern = BAD[mistake]
  err = called(*program.flags(tmp_path / 'run', kind), *make(tmp_path))
  assert_one_line(err, pattern)


def test_debug_shows_the_traceback(program, tmp_path):
  code, _, err = program(
    *program.flags(tmp_path / 'run'), '--config.data.path=nowhere', '--debug'
  )
  assert code == 1
  assert 'Traceback' in err


def test_config_changed_since(program, called, unbroken):
  for change in ('--config.seed=1', '--config.model.ballast=2'):
    err = called(*program.flags(unbroken), change)
    assert_one_line(err, 'belongs to a run with another config')
  flags = ('--config.model.ballast=2', '--mode=evaluate')
  err = called(*program.flags(unbroken), *flags)
  assert_one_line(err, r'model\.ballast: 1 → 2')


def test_a_run_that_failed_before_its_first_checkpoint_takes_another_config(
  program, tmp_path
):
  code, _, err = program(
    *program.flags(tmp_path / 'run'),
    '--config.optimizer.learning_rate=1e30',
    '--config.optimizer.clip_norm=0.0',
    '--config.train.log_every=1',
  )
  assert code == 1
  assert_one_line(err, 'not finite at step 2')
  program.train(tmp_path / 'run', '--config.train.steps=2')


def test_a_file_that_cannot_be_written(program, tmp_path):
  # As with a quota, disk_usage() sees room.
  code, _, err = program(
    *program.flags(tmp_path / 'run'),
    '--config.model.ballast=400000',
    env={'JAX_ENABLE_COMPILATION_CACHE': 'false'},
    wrap=('sh', '-c', 'ulimit -f 400; exec "$0" "$@"'),
  )
  assert code == 1
  # Threads of tensorstore may print before it, and into its beginning.
  assert_one_line(err.splitlines()[-1].lstrip(), 'File too large')
  assert not [p for p in (tmp_path / 'run/checkpoints').glob('*') if
              p.name.isdigit()]  # fmt: skip


@pytest.mark.parametrize(
  ('system', 'unit'), [('darwin', 2**30), ('linux', 2**20)]
)
def test_peak_memory_is_in_gib(monkeypatch, system, unit):
  used = types.SimpleNamespace(ru_maxrss=3 * unit)
  monkeypatch.setattr(main.resource, 'getrusage', lambda _: used)
  monkeypatch.setattr(main.sys, 'platform', system)
  assert main.facts()['peak_memory_gib'] == 3
