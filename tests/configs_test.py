"""Every experiment takes two steps and an evaluation on synthetic cases."""

import itertools
import json
import math
import pathlib
import runpy
import sys

import evidence
import jax
import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from medjax import engine, experiment, public
from medjax.data.facts import DataFacts
from medjax.evaluate import evaluate
from medjax.train import train

ROOT = pathlib.Path(__file__).resolve().parents[1]


class Cases(list):
  """Raw cases as a data set gives them."""

  class_names = ()


def make_cases(
  shape,
  class_names=(),
  *,
  n=4,
  masks=False,
  multi_label=False,
  further=(),
  images=(),
  covariates=0,
  unlabelled=0,
):
  """n raw cases of noise; `masks` of the classes, or labels.

  `further`: names of other masks that a case has, `images` of other images;
  `covariates`: how many; `unlabelled`: so many more cases, which only training
  may have.
  """
  rng = np.random.default_rng(0)
  rank = len(shape) - 1
  classes = len(class_names) or 2
  cases = Cases()
  cases.class_names = class_names
  cases.covariate_names = tuple(f'concept {i}' for i in range(covariates))
  for i in range(n + unlabelled):
    case = {
      'image': rng.integers(0, 256, shape).astype(np.uint8),
      'id': str(i),
      'patient': str(i),
      'affine': np.eye(rank + 1),
      'spacing': np.ones(rank),
    }
    if i >= n:
      pass
    elif masks:
      case['mask'] = rng.integers(0, classes, shape[:-1]).astype(np.uint8)
    elif multi_label:
      case['label'] = rng.integers(0, 2, classes).astype(np.uint8)
    else:
      case['label'] = np.int32(i % classes)
    if covariates:
      case['covariates'] = rng.normal(size=covariates).astype(np.float32)
    for name in images:
      case[name] = rng.normal(size=shape).astype(np.float32)
      case[f'{name}_affine'] = np.eye(rank + 1)
    for name in further:
      case[name] = rng.integers(0, 2, shape[:-1]).astype(np.uint8)
    cases.append(case)
  return cases


TISSUE = ('background', 'grey', 'white')
NODULE = ('benign', 'malignant')
HIPPOCAMPUS = ('background', 'anterior', 'posterior')
BINARY = ('normal', 'pneumonia')
FINDINGS = tuple(f'finding {i}' for i in range(14))
TINY_BACKBONE = {'model.backbone.width': 2, 'model.backbone.stage_sizes': (1,)}
SMALL_UNET = {'model.features': (2, 4)}
SMALL_RESNET = {'model.width': 2, 'model.stage_sizes': (1, 1)}
TINY_RESNET = {'name': 'ResNet18', 'width': 2, 'stage_sizes': (1, 1)}
ENCODER_DECODER = {
  'model': {
    'name': 'EncoderDecoder', 'backbone': TINY_RESNET, 'features': (2, 4),
  },
}  # fmt: skip
SURVIVAL = {
  f'survival:{name}': (name.partition(',')[0] == 'pbc2') + 1
  for name in ('metabric,coxtime', 'pbc2,deephit', 'folder,discrete')
}
EXPERIMENTS = {
  'unet:mni152_tissue': (
    make_cases((16, 16, 1), TISSUE, masks=True),
    SMALL_UNET,
  ),
  'unet:hippocampus': (
    make_cases((11, 13, 9, 1), HIPPOCAMPUS, masks=True),
    SMALL_UNET | {'data.patch_size': (8, 8, 8)},
  ),
  'unet:folder': (
    make_cases((16, 15, 1), TISSUE, masks=True),
    ENCODER_DECODER,
  ),
  'resnet:pneumoniamnist': (make_cases((28, 28, 1), BINARY), SMALL_RESNET),
  'resnet:pneumoniamnist,private': (
    make_cases((28, 28, 1), BINARY),
    SMALL_RESNET | {'privacy.noise': 1.0},  # its search takes ten seconds
  ),
  'resnet:adrenalmnist3d': (make_cases((8, 8, 8, 1), BINARY), SMALL_RESNET),
  'resnet:lidc_nodules': (
    make_cases((9, 8, 3, 1), NODULE),
    SMALL_RESNET,
  ),
  'resnet:folder': (make_cases((30, 40, 3), ('a', 'b', 'c')), SMALL_RESNET),
  'semi:pneumoniamnist,supervised': (
    make_cases((28, 28, 1), BINARY),
    SMALL_RESNET,
  ),
  'semi:pneumoniamnist,fixmatch': (
    make_cases((28, 28, 1), BINARY, unlabelled=2),
    SMALL_RESNET,
  ),
  'semi:hippocampus,mean_teacher': (
    make_cases((11, 13, 9, 1), HIPPOCAMPUS, masks=True, unlabelled=2),
    SMALL_UNET | {'data.patch_size': (8, 8, 8)},
  ),
  'semi:masks,uamt': (
    make_cases((16, 16, 1), TISSUE, masks=True, unlabelled=2),
    SMALL_UNET | {'task.num_classes': 3},
  ),
  'semi:folder,cps': (
    make_cases((30, 40, 3), ('a', 'b'), unlabelled=2),
    {'model.network.width': 2, 'model.network.stage_sizes': (1, 1)},
  ),
  'concepts:lidc': (
    make_cases((9, 8, 3, 1), NODULE, covariates=8),
    TINY_BACKBONE,
  ),
  'concepts:folder': (
    make_cases((30, 40, 3), BINARY, covariates=1),
    TINY_BACKBONE,
  ),
  'fusion:lidc': (
    make_cases((9, 8, 3, 1), NODULE, further=('mask',), covariates=115),
    TINY_BACKBONE,
  ),
  'fusion:sts,late': (
    make_cases(
      (9, 8, 5, 1), BINARY, further=('mask',), images=('ct', 't1'), covariates=2
    ),
    TINY_BACKBONE,
  ),
  'fusion:folder,attention': (
    make_cases((30, 40, 3), BINARY, covariates=3),
    TINY_BACKBONE,
  ),
  'federated:pneumoniamnist': (
    make_cases((28, 28, 1), BINARY),
    {'model.width': 2},
  ),
  'federated:vessels': (
    make_cases((20, 22, 3), masks=True),
    SMALL_UNET | {'data.patch_size': (16, 16)},
  ),
  'lenet:pneumoniamnist': (make_cases((28, 28, 1), BINARY), {}),
  'lenet:chestmnist': (
    make_cases((28, 28, 1), FINDINGS, multi_label=True),
    {},
  ),
  'benchmarks/chase_db1': (
    make_cases(
      (20, 22, 3), masks=True, further=('field_of_view', 'second_observer')
    ),
    SMALL_UNET | {'data.patch_size': (16, 16)},
  ),
  'benchmarks/vessels_wnet': (
    make_cases(
      (20, 22, 3), masks=True, further=('field_of_view', 'second_observer')
    ),
    {
      'data.held_out': 0.5,  # of few cases
      'model.features': (2, 4),
      'data.patch_size': (16, 16),
      'data.preprocess': (dict(name='zscore'),),
    },
  ),
  'benchmarks/hippocampus:fold0,small-deep_supervision': (
    make_cases((11, 13, 9, 1), HIPPOCAMPUS, masks=True),
    {'model.features': (2, 4, 4), 'data.patch_size': (8, 8, 8)},
  ),
  'benchmarks/lidc_nodules:malignancy,fold1': (
    make_cases((9, 8, 3, 1), NODULE, further=('mask',)),
    {
      'data.held_out': 0.5,
      'members': 1,
      'model.width': 2,
      'model.stage_sizes': (1, 1),
    },
  ),
  'benchmarks/lidc_nodules:mask,fold4': (
    make_cases((9, 8, 5, 1), ('background', 'nodule'), masks=True),
    SMALL_UNET | {'data.patch_size': (8, 8, 4)},
  ),
  'benchmarks/laptop:student': (
    make_cases((28, 28, 1), BINARY),
    SMALL_RESNET,
  ),
  'benchmarks/medmnist:adrenalmnist3d,official': (
    make_cases((8, 8, 8, 1), BINARY),
    SMALL_RESNET,
  ),
  'benchmarks/medmnist:adrenalmnist3d,best': (
    make_cases((8, 8, 8, 1), BINARY),
    SMALL_RESNET,
  ),
}


def make_rows(class_names, *, n=4, columns=107):
  """n rows of a table of features, with a label."""
  rng, cases = np.random.default_rng(0), Cases()
  cases.class_names = class_names
  for i in range(n):
    values = rng.normal(size=columns).astype(np.float32)
    names = {'id': str(i), 'patient': str(i), 'label': np.int32(i % 2)}
    cases.append({**names, 'covariates': values})
  return cases


def make_patients(causes=1, n=12):
  """Rows of a table with a time and an event."""
  rng = np.random.default_rng(0)
  cases = Cases()
  cases.covariate_names = ('age', 'marker')
  for i in range(n):
    cases.append({
      'id': str(i),
      'patient': str(i),
      'covariates': rng.normal(size=2).astype(np.float32),
      'time': np.float32(1 + rng.exponential()),
      'event': np.int32(i % (causes + 1)),
    })  # fmt: skip
  return cases


def load(name):
  file, colon, variant = name.partition(':')
  return public.read_config(f'{ROOT}/configs/{file}.py{colon}{variant}')


TINY_VIT = {
  'model.backbone.width': 4, 'model.backbone.depth': 1,
  'model.backbone.heads': 1, 'model.width': 4, 'model.depth': 1,
}  # fmt: skip
EXPERIMENTS |= {
  'pretrain:lidc_nodules,byol': (
    make_cases((9, 8, 3, 1), NODULE),
    TINY_BACKBONE | {'task.least_spread': 0.0},
  ),
  'pretrain:adrenalmnist3d,mae,vit': (
    make_cases((8, 8, 8, 1), BINARY),
    TINY_VIT,
  ),
  'pretrain:hippocampus,mae': (
    make_cases((11, 13, 9, 1), HIPPOCAMPUS, masks=True),
    {'model.backbone.features': (2, 4), 'data.patch_size': (8, 8, 8)},
  ),
}
EXPERIMENTS['radiomics:lidc,fold1'] = make_rows(NODULE), {}
EXPERIMENTS |= {
  name: (make_patients(causes), {'model.hidden': (4,)})
  for name, causes in SURVIVAL.items()
}


def test_every_file_is_tried():
  configs = ROOT / 'configs'
  files = {
    str(p.relative_to(configs).with_suffix('')) for p in configs.rglob('*.py')
  }
  files -= {'planned'} | {f for f in files if f.startswith('search/')}
  assert files == {name.partition(':')[0] for name in EXPERIMENTS}


def test_every_row_of_the_results_is_an_experiment_with_splits_apart():
  runs = [options for row in evidence.ROWS.values() for options in row.runs]
  assert len(runs) == len({*runs}) > 20
  for row in evidence.ROWS.values():
    for options in row.runs.values():
      name = options.split()[0].replace('.py', '', 1)
      splits = load(f'benchmarks/{name}').data.splits.to_dict()
      parts = [{*text.split('+')} for text in splits.values()]
      assert not any(a & b for a, b in itertools.combinations(parts, 2))


def referenced(cases):
  """The cases that a run can be judged by."""
  if 'image' not in cases[0]:
    return cases
  found = Cases(c for c in cases if 'mask' in c or 'label' in c)
  found.__dict__ |= vars(cases)
  return found


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_two_steps_and_an_evaluation(name, tmp_path, monkeypatch):
  cases, smaller = EXPERIMENTS[name]
  config = load(name)
  assert config.train.steps > 2
  with config.unlocked():
    config.update_from_flattened_dict(
      {
        'data.batch_size': 2,
        'inference.batch_size': 2,
        'train.steps': 2,
        'train.log_every': 1,
        'train.eval_every': 1,
        **smaller,
      }
    )
    if config.privacy.epsilon:  # of chance that is the same each time
      (tmp_path / 'secret').write_text('0123456789abcdef' * 4)
      config.privacy.key = str(tmp_path / 'secret')
  # One device: what eight do is tested elsewhere, and compiles for longer.
  one = jax.sharding.Mesh(np.array(jax.devices()[:1]), ('data',))
  monkeypatch.setattr(engine, 'make_mesh', lambda devices=None: one)
  whole = referenced(cases)
  monkeypatch.setattr(
    experiment,
    'open_cases',
    lambda config, parts: cases if parts == config.data.splits.train else whole,
  )
  make, compiled, workdir = engine.make_train_step, [], tmp_path / 'run'
  monkeypatch.setattr(
    engine,
    'make_train_step',
    lambda *args, **options: (
      compiled.append(make(*args, **options)) or compiled[0]
    ),
  )
  made = experiment.make(config)
  train(made, workdir)
  assert compiled[0]._cache_size() == 1  # once, evaluations between or not
  results = evaluate(made, workdir)
  log = (workdir / 'metrics.jsonl').read_text().splitlines()
  losses = [json.loads(line).get('train/loss', 0.0) for line in log]
  assert len(losses) == 4
  assert all(math.isfinite(loss) for loss in losses)
  held = config.data.held_out  # of train's cases, else a split of its own
  assert results['validation']['n'] == len(whole) * (held or 1)
  assert results['test']['n'] == len(whole)
  assert results['validation']['scores']
  assert results['test']['scores']
  assert (workdir / 'per_case.csv').exists()


def test_an_unknown_variant_is_named():
  with pytest.raises(ValueError, match=r"hippocampus.*not 'hipocampus'"):
    load('unet:hipocampus')


@pytest.mark.parametrize(
  ('name', 'line'),
  [
    ('federated:folder,privat', "VARIANT,private, not 'folder' with 'privat'"),
    ('federated:pneumoniamnist, private', "with ' private'"),
    ('federated:vessels,private', 'not for vessels'),
    ('radiomics:diametre', "lidc and diameter, not 'diametre'"),
    ('benchmarks/medmnist:organmnist3d,best', 'shapes .* not organmnist3d'),
  ],
)
def test_a_misspelt_word_is_not_another_experiment(name, line):
  with pytest.raises(ValueError, match=line) as e:
    load(name)
  assert '\n' not in str(e.value)


@pytest.mark.parametrize(
  'name',
  [
    'benchmarks/medmnist:chestmnist,official',
    'benchmarks/medmnist:chestmnist_64,best',
    'semi:chestmnist,mean_teacher',
  ],
)
def test_several_findings_of_a_chest_are_taken(name):
  facts = DataFacts(channels=1, rank=2, class_names=FINDINGS)
  (case,) = make_cases((28, 28, 1), FINDINGS, n=1, multi_label=True)
  experiment.make_task(load(name), facts).check(case)


def test_mixstyle_trains_the_whole_network_at_the_rate_of_full():
  rates = [
    load(f'resnet:folder,{way}').optimizer.learning_rate
    for way in ('full', 'mixstyle', 'lora')
  ]
  assert rates == [5e-4, 5e-4, 5e-3]


def made_model(config):
  facts = DataFacts(channels=1, rank=2, class_names=TISSUE)
  return experiment.make_model(config, experiment.make_task(config, facts))


@pytest.mark.parametrize(
  ('option', 'name'),
  [
    ('--config.model.name=SegResNet', 'SegResNet'),
    ('--config.model.name=VNet', 'VNet'),
    ('--config.model.name=UNet2015', 'UNet2015'),
    (f'--config.model={ENCODER_DECODER["model"]}', 'EncoderDecoder'),
  ],
)
def test_another_model_by_the_command_line(option, name, monkeypatch):
  argv = ['main', f'--config={ROOT / "configs" / "unet.py"}', option]
  monkeypatch.setattr(sys, 'argv', argv)
  values = flags.FlagValues()
  config_flags.DEFINE_config_file('config', flag_values=values)
  values(argv)
  config = values.config
  model = made_model(config)
  assert type(model).__name__ == name
  assert model.num_classes == 3


def test_a_misspelt_backbone_is_named():
  config = load('unet:folder')
  config.model = dict(name='EncoderDecoder', backbone=dict(name='ResNet81'))
  with pytest.raises(ValueError, match="'ResNet81'; did you mean 'ResNet18'"):
    made_model(config)


@pytest.mark.parametrize('name', ['unet:folder', 'semi:masks,supervised'])
def test_a_file_with_other_axes_is_seen_as_the_training_was(name):
  config = load(name)
  config.model.features = (2, 2)
  config.task.num_classes = 2
  facts = DataFacts(channels=1, rank=3, shape=(8, 8, 8), orientation='LAS')
  made = experiment.make(config, facts=facts)
  image = np.random.default_rng(0).normal(size=(6, 5, 4, 1))
  case = {'id': 'a', 'image': image, 'spacing': np.ones(3)}
  trained = made.prepare(case | {'affine': facts.affine()})
  turned = made.check(  # as DICOM has it
    case | {'image': image[:, ::-1], 'affine': np.diag([-1.0, -1.0, 1.0, 1.0])}
  )
  assert 'notes' not in turned
  np.testing.assert_array_equal(made.prepare(turned)['image'], trained['image'])
  # Pictures stay as they are.
  flat = {**case, 'image': image[:, :, 0], 'affine': np.eye(3)}
  flat['spacing'] = np.ones(2)
  made = experiment.make(config, facts=DataFacts(channels=1, rank=2))
  found = made.prepare(flat)['image'][..., 0]
  assert np.corrcoef(found.ravel(), image[:, :, 0, 0].ravel())[0, 1] > 0.99


def test_an_epoch_of_medmnist_is_that_of_the_set():
  path = ROOT / 'configs/benchmarks/medmnist.py'
  get_config = runpy.run_path(str(path))['get_config']
  steps = lambda variant: get_config(variant).train.steps
  assert steps('breastmnist,official') == 10 * (546 // 128 + 1)
  assert steps('pneumoniamnist_64,official') == 10 * (4708 // 128 + 1)
  assert get_config('adrenalmnist3d_64,official').data.batch_size == 32
  with pytest.raises(ValueError, match=r"official, best .* not 'breastmnist'"):
    get_config('breastmnist')
