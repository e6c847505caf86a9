"""A model adapts to a patient only where slices that it did not see improve."""

import dataclasses
import json
import shutil

import drawn_runs
import jax
import nibabel as nib
import numpy as np
import pytest

import medjax
from medjax import personal
from medjax.config import default_config
from medjax.evaluate import evaluate
from medjax.experiment import make
from medjax.export import adopted
from medjax.finetune import adapted
from medjax.finetune.__main__ import main
from medjax.train import train

SHAPE = (16, 16, 12)


def scan(rng, low=0.0, high=1.0):
  """A ball of `high` in `low`, with noise: image (*s, 1), mask (*s,)."""
  centre = np.array(SHAPE) / 2 + rng.uniform(-1, 1, 3)
  place = np.indices(SHAPE).transpose(1, 2, 3, 0)
  mask = np.linalg.norm(place - centre, axis=-1) < 4.5
  image = np.where(mask, high, low) + 0.1 * rng.normal(size=SHAPE)
  return image[..., None].astype(np.float32), mask.astype(np.uint8)


def write(folder, images):
  for i, (image, mask) in enumerate(images):
    for name, array in (('images', image[..., 0]), ('masks', mask)):
      (folder / name).mkdir(parents=True, exist_ok=True)
      path = folder / name / f'{i}.nii.gz'
      nib.save(nib.Nifti1Image(array, np.eye(4)), path)
  return folder


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A small U-Net that has learnt to segment bright balls."""
  folder = tmp_path_factory.mktemp('personal')
  rng = np.random.default_rng(0)
  data = write(folder / 'data', [scan(rng) for _ in range(12)])
  config = default_config()
  config.data.update(
    name='folder', path=str(data), batch_size=8, patch_size=SHAPE
  )
  config.model = dict(name='UNet', features=(4, 8))
  config.task = dict(name='Segmentation')
  config.optimizer.learning_rate = 1e-2
  config.train.update(steps=60, log_every=60, eval_every=60)
  made = make(config)
  train(made, folder / 'run')
  evaluate(made, folder / 'run')
  return folder / 'run'


def test_a_weaker_contrast_is_learnt_and_the_result_is_a_run(
  run, tmp_path, capsys
):
  rng = np.random.default_rng(1)
  history = write(tmp_path / 'p', [scan(rng, 0.0, 0.2)])
  later, truth = scan(rng, 0.0, 0.2)
  main(
    ['personalise', f'--workdir={run}', f'--history={history}',
     f'--out={tmp_path / "own"}', '--steps=40']
  )  # fmt: skip
  assert 'adapted' in capsys.readouterr().out
  said = json.loads((tmp_path / 'own/personal.json').read_text())
  assert said['kept']
  # What validation decided was decided of other weights.
  assert (run / 'calibration.json').exists()
  assert not (tmp_path / 'own/calibration.json').exists()
  assert said['held_dice_after'] > said['held_dice_before'] + 0.005
  dice = lambda place: medjax.metrics.dice(
    medjax.load(place).predict(later).labels, truth, num_classes=2
  )[0]
  assert dice(tmp_path / 'own') > dice(run)
  with pytest.raises(SystemExit):
    main(
      ['personalise', f'--workdir={run}', f'--history={history}',
       f'--out={tmp_path / "own"}']
    )  # fmt: skip
  assert 'holds a run already' in capsys.readouterr().err


@pytest.mark.parametrize(('later', 'steps'), [(0.701, 0), (0.71, 2)])
def test_only_what_is_better_there_is_kept(run, tmp_path, later, steps):
  """By less than .002 Dice it is not; then the weights are as they were."""
  fit = personal.Personaliser(run, steps=4)
  scores = iter([0.7, 0.6, later, 0.65, 0.64])
  fit.score = lambda *_: next(scores)
  history = write(tmp_path / 'p', [scan(np.random.default_rng(2))])
  outcome = fit(fit.read(history))
  assert [step for step, _ in outcome.held] == [0, 1, 2, 3, 4]
  assert (outcome.steps, outcome.kept) == (steps, steps > 0)
  out = personal.write(fit, outcome, tmp_path / 'own')
  said = json.loads((out / 'personal.json').read_text())
  assert said['kept'] == outcome.kept
  assert (out / 'calibration.json').exists() != outcome.kept
  a, b = (medjax.load(place).variables[0] for place in (run, out))
  moved = jax.tree.map(lambda x, y: not np.array_equal(x, y), a, b)
  assert any(jax.tree.leaves(moved)) == outcome.kept
  kernels = [p for p, m in jax.tree_util.tree_leaves_with_path(moved) if m]
  names = [jax.tree_util.keystr(p) for p in kernels]
  assert all('bias' in name or 'head' in name for name in names)


def test_no_loss_sees_the_held_reference(run, tmp_path):
  """Another reference in the held slices: the same steps."""
  fit = personal.Personaliser(run, steps=8)
  image, mask = scan(np.random.default_rng(3), 1.0, 0.4)
  place = personal.held_slices(mask, 255)
  other = mask.copy()
  other[place] = 1 - other[place]
  cases = [
    fit.read(write(tmp_path / name, [(image, m)]))
    for name, m in (('a', mask), ('b', other))
  ]
  held = personal.held_slices
  try:  # the second mask would have other slices held
    personal.held_slices = lambda mask, ignore: place
    scores = []
    fit.score = lambda variables, *_: scores.append(variables) or 0.0
    for case in cases:
      fit(case)
  finally:
    personal.held_slices = held
  half = len(scores) // 2
  for a, b in zip(scores[:half], scores[half:], strict=True):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_an_out_that_is_used_is_refused_before_adapting(tmp_path, capsys):
  (tmp_path / 'config.json').write_text('{}')
  words = '--workdir=none', '--history=none', f'--out={tmp_path}'
  with pytest.raises(SystemExit):
    main(['personalise', *words])
  assert 'holds a run already: take another --out' in capsys.readouterr().err


def test_bad_input_is_named(run, tmp_path):
  with pytest.raises(ValueError, match='--way=all is none of bitfit, lora'):
    personal.Personaliser(run, way='all')
  with pytest.raises(ValueError, match='--steps=0: needs 1 or more'):
    personal.Personaliser(run, steps=0)
  image, mask = scan(np.random.default_rng(4))
  fit = personal.Personaliser(run, steps=1)
  with pytest.raises(ValueError, match='the mask of 0 is empty'):
    fit.read(write(tmp_path / 'p', [(image, 0 * mask)]))
  write(tmp_path / 'q/train', [(image, mask)])
  shutil.rmtree(write(tmp_path / 'q/test', [(image, mask)]) / 'masks')
  with pytest.raises(ValueError, match='has no mask to adapt to'):
    fit.read(tmp_path / 'q')


def fitted(path, out, *, optimizer=None, **data):
  """A `Personaliser` of a run on a folder, with drawn weights."""
  config = default_config()
  config.data.update(name='folder', path=str(path), patch_size=(8, 8, 8))
  config.data.update(data)
  config.model = dict(name='UNet', features=(4, 4))
  config.task = dict(name='Segmentation')
  config.optimizer = optimizer or config.optimizer
  made = make(config)
  inputs = (jax.ShapeDtypeStruct((1, 8, 8, 8, made.facts.channels), 'float32'),)
  weights = drawn_runs.drawn(adapted.outline(made.model, inputs))
  adopted.store(made, out, weights, inputs)
  return personal.Personaliser(out, steps=1)


def write_volume(path, array):
  path.parent.mkdir(parents=True, exist_ok=True)
  nib.save(nib.Nifti1Image(array, np.eye(4)), path)


def structures(folder, count, names):
  """A folder for each patient, with a mask for each structure."""
  rng = np.random.default_rng(0)
  for i in range(count):
    image = rng.normal(size=(8, 8, 8)).astype(np.float32)
    write_volume(folder / f'P{i}/ct.nii.gz', image)
    for k, name in enumerate(names):
      mask = np.zeros((8, 8, 8), np.uint8)
      mask[2 * k : 2 * k + 2] = 1
      write_volume(folder / f'P{i}/segmentations/{name}.nii.gz', mask)
  return folder


def test_structures_have_the_labels_of_the_training(tmp_path):
  """Though the run's config names none, and the history lacks the first."""
  data = structures(tmp_path / 'data', 8, ('heart', 'liver', 'spleen'))
  fit = fitted(data, tmp_path / 'run')
  names = fit.made.facts.class_names
  assert names == ('background', 'heart', 'liver', 'spleen')
  history = structures(tmp_path / 'p', 1, ('liver', 'spleen'))
  (case,) = fit.read(history)
  assert case['mask'][:, 0, 0].tolist() == [2, 2, 3, 3, 0, 0, 0, 0]


def test_what_tells_patients_apart_is_not_asked_of_one(run, tmp_path):
  """Patterns of names, a row of a table, a salt that is elsewhere."""
  fit = personal.Personaliser(run, steps=1)
  data = {
    **fit._plain.config['data'],
    'patient': r'P\d+', 'where': 'site=A', 'hash_ids': str(tmp_path / 'salt'),
    'join': {'table': 'features.csv', 'on': 'id'},
  }  # fmt: skip
  config = {**fit._plain.config, 'data': data}
  fit._plain = dataclasses.replace(fit._plain, config=config)
  history = write(tmp_path / 'p', [scan(np.random.default_rng(2))])
  assert len(fit.read(history)) == 1


def test_an_adaptation_that_diverges_changes_nothing(run, tmp_path):
  fit = personal.Personaliser(run, steps=4)
  scores = iter([0.7])

  def score(*_):
    for value in scores:
      return value
    raise ValueError('the model gives no numbers of it')

  fit.score = score
  history = write(tmp_path / 'p', [scan(np.random.default_rng(2))])
  outcome = fit(fit.read(history))
  assert (outcome.steps, outcome.held) == (0, ((0, 0.7),))


def test_a_history_is_read_as_the_run_read_its_data(tmp_path):
  """Two channels by a pattern, a value that is no class; SGD trained it."""
  rng = np.random.default_rng(0)
  for folder, count in (('data', 8), ('p', 1)):
    for i in range(count):
      for name in ('t1', 't2'):
        image = rng.normal(size=(8, 8, 8)).astype(np.float32)
        write_volume(tmp_path / folder / f'{i}_{name}.nii.gz', image)
      mask = np.full((8, 8, 8), 9, np.uint8)
      mask[:4] = 0
      if folder == 'data':
        mask[:2] = 1
      write_volume(tmp_path / folder / f'{i}_m.nii.gz', mask)
  fit = fitted(
    tmp_path / 'data',
    tmp_path / 'run',
    fields=dict(image='{id}_{t1,t2}.nii.gz', mask='{id}_m.nii.gz'),
    ignore=9,
    optimizer=dict(name='sgd', momentum=0.99, nesterov=True, clip_norm=12.0),
  )
  assert fit.made.config['optimizer']['clip_norm'] == 12
  inputs = [jax.ShapeDtypeStruct((1, 8, 8, 8, 2), 'float32')]
  fit.made.optimizer(inputs)
  with pytest.raises(ValueError, match='the mask of 0 is empty'):
    fit.read(tmp_path / 'p')
  (tmp_path / 'data/0_m.nii.gz').rename(tmp_path / 'p/0_m.nii.gz')
  (case,) = fit.read(tmp_path / 'p')
  assert case['image'].shape == (8, 8, 8, 2)
