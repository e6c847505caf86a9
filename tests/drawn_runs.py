"""Runs without training: small networks with drawn weights."""

import functools

import jax
import ml_collections
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from medjax import experiment
from medjax.config import default_config
from medjax.data.facts import DataFacts
from medjax.export import adopted
from medjax.finetune import adapted


def drawn(outline, seed=0):
  """Weights of a size at which a network says something."""
  rng, leaves = np.random.default_rng(seed), {}
  for path, like in outline.items():
    name = path.rpartition('/')[2]
    if name in ('scale', 'var'):
      array = rng.uniform(0.5, 1.5, like.shape)
    else:
      fan = np.prod(like.shape[:-1]) if len(like.shape) > 1 else 10
      array = rng.normal(0, 1.5 / np.sqrt(fan), like.shape)
    leaves[path] = array.astype(np.float32)
  return unflatten_dict(leaves, sep='/')


def config_of(model, task, preprocess, *, patch=(), members=1, **data):
  config = default_config()
  config.model = ml_collections.ConfigDict(model)
  config.task = ml_collections.ConfigDict(task)
  config.data.update(
    name='folder', preprocess=preprocess, patch_size=patch, batch_size=4, **data
  )
  config.members, config.inference.batch_size = members, 1
  return config


def make_run_in(
  folder,
  model,
  task,
  preprocess,
  shape,
  *,
  patch=(),
  members=1,
  inference=(),
  **facts,
):
  """The workdir, in a folder, of a network with drawn weights."""
  rank = len(shape) - 1
  config = config_of(model, task, preprocess, patch=patch, members=members)
  config.inference.update(dict(inference))
  facts = DataFacts(
    channels=shape[-1],
    rank=rank,
    shape=shape[:-1],
    **{'spacing': (1.0,) * rank, **facts},
  )
  made = experiment.make(config, facts=facts)
  size = patch or shape[:-1]
  shapes = dict.fromkeys(made.task.inputs, (*size, shape[-1]))
  if 'covariates' in shapes:
    shapes['covariates'] = (len(facts.covariate_names),)
  inputs = [jax.ShapeDtypeStruct((1, *s), np.float32) for s in shapes.values()]
  workdir = folder / 'run'
  for i, (each, place) in enumerate(made.runs(workdir)):
    outline = adapted.outline(each.model, inputs)
    adopted.store(each, place, drawn(outline, seed=i), tuple(inputs))
  made.store(workdir)
  return workdir


@pytest.fixture
def make_run(tmp_path):
  """make_run(model, task, preprocess, shape, …) → workdir."""
  return functools.partial(make_run_in, tmp_path)


CLASSES = dict(name='Classification', class_names=('a', 'b', 'c'))
MASKS = dict(name='Segmentation', num_classes=3)
RESNET = dict(name='ResNet18', width=4, stem='small', stage_sizes=(1, 1))
UNET = dict(name='UNet', features=(4, 6))
SCALE = (dict(name='scale', mean=127.5, std=127.5),)
