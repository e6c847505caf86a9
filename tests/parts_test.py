"""How cases of several inputs are prepared, and moved."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import augment
from medjax.augment.compose import compose
from medjax.build import build
from medjax.config import default_config
from medjax.data.facts import DataFacts
from medjax.parts import (
  is_optional,
  make_augment,
  make_preprocess,
  make_task,
)

INPUTS = ('image', 'ct', 'covariates', 'text')
FACTS = DataFacts(
  channels=1,
  rank=3,
  shape=(6, 5, 4),
  spacing=(2.0, 1.0, 1.0),
  class_names=('a', 'b'),
  covariate_names=('age', 'sex'),
  covariate_statistics=((10.0, 2.0), (0.0, 1.0)),
  further_images=('ct',),
  further_channels=(2,),
)


def made(*steps, model='Fusion', inputs=INPUTS):
  config = default_config()
  config.task = dict(name='Classification', inputs=inputs)
  config.model = dict(name=model)
  config.data.preprocess = steps
  return make_preprocess(config, make_task(config, FACTS), FACTS)


STEPS = (
  dict(name='resample', spacing=(1.0, 1.0, 1.0)),
  dict(name='scale', std=10.0, only='image'),
  dict(name='window', low=0.0, high=100.0, only=('ct',)),
  dict(name='append_mask'),
  dict(name='standardise'),
  dict(name='hash_text', size=3),
)


def case():
  affine = np.diag([2.0, 1, 1, 1])
  return {
    'id': 'x',
    'image': np.full((6, 5, 4, 1), 50.0, np.float32),
    'ct': np.full((6, 5, 4, 2), 50.0, np.float32),
    'ct_affine': affine,
    'mask': np.ones((6, 5, 4), np.uint8),
    'affine': affine,
    'spacing': np.array([2.0, 1, 1]),
    'covariates': np.array([12.0, np.nan], np.float32),
    'text': 'a b',
  }


def test_a_step_may_be_for_one_of_the_images():
  found = made(*STEPS)(case())
  assert found['image'].shape == (12, 5, 4, 2)
  np.testing.assert_allclose(found['image'][..., 0], 5)
  np.testing.assert_allclose(found['ct'][..., :2], 0.5)
  np.testing.assert_allclose(found['ct'][..., 2], 1)  # the mask: same grid
  np.testing.assert_array_equal(found['covariates'], [1, np.nan])
  with pytest.raises(ValueError, match=r'only=\(.pet.,\): .* takes no pet'):
    made(dict(name='zscore', only='pet'))


def test_what_a_case_lacks_is_nan_in_the_shape_of_the_others():
  whole, prepare = made(*STEPS)(case()), made(*STEPS)
  for name in INPUTS:
    lacking = case()
    del lacking[name]
    found = prepare(lacking)
    for other in INPUTS:
      assert found[other].shape == whole[other].shape
      assert np.isnan(found[other]).all() == (name == other)
  alone = prepare({'id': 'x', 'text': 'a b'})
  assert [np.isnan(alone[k]).all() for k in INPUTS] == [True] * 3 + [False]
  assert 'mask' not in alone


def test_a_table_with_a_text_and_no_image():
  inputs = ('covariates', 'text')
  config = default_config()
  config.task = dict(name='Classification', inputs=inputs)
  config.model = dict(name='Fusion')
  config.data.preprocess = STEPS[-2:]
  facts = dataclasses.replace(
    FACTS, rank=0, shape=(), spacing=(), further_images=(), further_channels=()
  )
  prepare = make_preprocess(config, make_task(config, facts), facts)
  found = prepare({k: case()[k] for k in ('id', *inputs)})
  np.testing.assert_array_equal(found['covariates'], [1, np.nan])
  assert found['text'].shape == (3,)


def test_other_models_are_given_what_there_is():
  lacking = case()
  del lacking['text']
  steps = [s for s in STEPS if s['name'] != 'hash_text']
  assert 'text' not in made(*steps, model='ResNet18')(lacking)
  assert not is_optional({'name': 'ResNet18'})
  assert is_optional({'name': 'CoxTime', 'backbone': {'name': 'Fusion'}})


def test_further_images_are_moved_as_the_first_is():
  rng = np.random.default_rng(0)
  image = rng.normal(size=(3, 9, 8, 1)).astype('f')
  batch = {
    'image': image,
    'ct': image + 100,
    'covariates': rng.normal(size=(3, 4)).astype('f'),
    'label': np.arange(3),
    'index': np.arange(3, dtype=np.uint32),
    'valid': {'label': np.ones(3, bool)},
  }
  steps = dict(name='flip', p=0.5), dict(name='affine', p=1.0, rotate=40.0,
                                         mode='edge')  # fmt: skip
  run = compose(build(augment, s) for s in steps)
  found = jax.jit(run)(jax.random.key(0), batch)
  assert jnp.abs(found['image'] - image).max() > 0.1
  np.testing.assert_allclose(found['ct'] - 100, found['image'], atol=1e-3)
  np.testing.assert_array_equal(found['covariates'], batch['covariates'])
  missing = {**batch, 'ct': np.full_like(image, np.nan)}
  assert np.isnan(jax.jit(run)(jax.random.key(0), missing)['ct']).all()


def test_mixup_is_of_images_and_labels_alone():
  mixup = dict(name='mixup', num_classes=2)
  task = lambda *inputs: types.SimpleNamespace(inputs=inputs, fields=('label',))
  make_augment([mixup], task('image', 'ct'), FACTS)
  with pytest.raises(ValueError, match='covariates would stay that of one'):
    make_augment([mixup], task('image', 'covariates'), FACTS)
