"""Members as one: by hand, voxel by voxel, on grids of their own."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from medjax import evaluate, experiment
from medjax.config import default_config
from medjax.data.facts import DataFacts
from medjax.explain import explanation
from medjax.prediction import ensemble, trained
from medjax.prediction.predictor import Predictor
from medjax.tasks import Classification, Segmentation


class Bright(nn.Module):
  """Foreground is what is brighter than a parameter."""

  dense: bool = True

  @nn.compact
  def __call__(self, x, *, train=False):
    x = x[..., 0] if self.dense else x.mean(tuple(range(1, x.ndim)))
    bright = 10 * (x - self.param('threshold', nn.initializers.zeros, ()))
    return jnp.stack([-bright, bright], -1)


MEMBERS = [{'params': {'threshold': jnp.array(t)}} for t in (0.3, 0.5, 0.8)]


def make_case(i=0, shape=(18, 14, 16)):
  grid = np.moveaxis(np.indices(shape), 0, -1)
  far = np.linalg.norm(grid - np.array(shape) / 2 + i, axis=-1)
  image = np.exp(-((far / 6) ** 2)).astype(np.float32)
  affine = np.diag([1.5, 1, 2, 1.0])
  return {
    'image': image[..., None],
    'mask': (image > 0.5).astype(np.uint8),
    'label': np.int32(i % 2),
    'id': f'{i}',
    'patient': f'{i}',
    'affine': affine,
    'spacing': np.diag(affine)[:3],
  }


def make(task, *, dense=True, preprocess=()):
  config = default_config()
  config.model = dict(name='LeNet5')
  config.task = dict(name='Classification', num_classes=2)
  if dense:
    config.data.preprocess = (
      dict(name='reorient'),
      dict(name='resample', spacing=(1.2, 1.2, 1.2)),
    )
    config.data.patch_size = (12, 12, 12)
  if preprocess:
    config.data.update(preprocess=preprocess, patch_size=(8, 8, 8))
  made = experiment.make(config, facts=DataFacts(channels=1, rank=3))
  return dataclasses.replace(made, task=task, model=Bright(dense))


def test_each_fold_sees_an_image_as_it_was_trained_to():
  """In windows, too: by the mean and the spread of its own training cases."""
  config = default_config()
  config.model = dict(name='LeNet5')
  config.task = dict(name='Segmentation', num_classes=2)
  config.data.preprocess = (dict(name='normalise'),)
  config.data.patch_size, config.folds = (12, 12, 12), 3
  facts = [
    DataFacts(
      channels=1, rank=3, normalisation=('ct',),
      statistics=((mean, 0.5, 0.05, 0.9),),
    )
    for mean in (0.0, 0.2, 0.4)
  ]  # fmt: skip
  made = experiment.make(config, facts=facts)
  case, model = make_case(), Bright()
  each = []
  for weights, (_, fold) in zip(MEMBERS, made.members, strict=True):
    alone = Predictor(dataclasses.replace(fold, model=model), maps=True)
    ((_, found),) = alone.with_weights(weights)([fold.prepare(case)])
    each.append(found.probabilities)
  whole = Predictor(dataclasses.replace(made, model=model), maps=True)
  ((_, found),) = whole.with_weights(*MEMBERS)([made.prepare(case)])
  np.testing.assert_allclose(found.probabilities, np.mean(each, 0), atol=1e-6)
  assert np.abs(each[0] - each[2]).max() > 0.1


def test_features_and_explanations_are_of_what_a_fold_sees():
  config = default_config()
  config.model, config.folds = dict(name='LeNet5'), 3
  config.task = dict(name='Classification', num_classes=2)
  config.data.preprocess = (dict(name='normalise'),)
  facts = [
    DataFacts(
      channels=1, rank=2, normalisation=('ct',),
      statistics=((mean, 1.0, -3.0, 3.0),),
    )
    for mean in (0.0, 1.0, 2.0)
  ]  # fmt: skip
  made = experiment.make(config, facts=facts)
  image = np.random.default_rng(0).normal(size=(32, 32, 1)).astype(np.float32)
  weights = made.model.init(jax.random.key(0), image[None])
  whole = trained.Trained(made, (weights,) * 3, (1,) * 3, None)
  for i, (_, fold) in enumerate(made.members):
    alone = trained.Trained(fold, (weights,), (1,), None)
    jax.tree.map(
      np.testing.assert_array_equal,
      whole.features(image, member=i),
      alone.features(image),
    )
  with pytest.raises(ValueError, match='explain one of them, WORKDIR/fold0'):
    explanation.score_of(whole)


def test_a_map_is_of_the_mean_on_the_cases_own_grid():
  task, cases = Segmentation(num_classes=2), [make_case(0), make_case(2)]
  made = make(task)
  samples, alone = [made.prepare(c) for c in cases], Predictor(made, maps=True)
  foreground = np.array(
    [
      [f.probabilities[..., 1] for _, f in alone.with_weights(m)(samples)]
      for m in MEMBERS
    ],
    np.float64,
  )
  predictor = Predictor(made, maps=True).with_weights(*MEMBERS)
  for k, (sample, found) in enumerate(predictor(samples)):
    assert sample['raw'] is cases[k]
    labels, maps, kept = found[:3]
    np.testing.assert_allclose(
      kept[..., 1], foreground[:, k].mean(0), atol=1e-6
    )
    p, mean = foreground[:, k], foreground[:, k].mean(0)
    clear = abs(mean - 0.5) > 1e-5
    np.testing.assert_array_equal(labels[clear], (mean > 0.5)[clear])
    entropy = stats.entropy([mean, 1 - mean])
    expected = np.mean([stats.entropy([x, 1 - x]) for x in p], 0)
    np.testing.assert_allclose(maps['entropy'], entropy, atol=1e-5)
    np.testing.assert_allclose(
      maps['mutual_information'], entropy - expected, atol=1e-5
    )
    any_of_them = (p > 0.5).any(0) | (mean > 0.5)
    assert (maps['foreground'] == any_of_them).mean() > 0.999
    assert any_of_them.sum() > 1.5 * labels.sum() > 0
    assert ensemble.means(maps)['entropy'] == pytest.approx(
      entropy[any_of_them].mean(), rel=1e-2
    )


def test_rows_of_a_classifier_say_how_sure_it_is():
  task, cases = Classification(num_classes=2), [make_case(i) for i in range(3)]
  made = make(task, dense=False)
  samples, predictor = [made.prepare(c) for c in cases], Predictor(made)
  each = [
    [found.prediction for _, found in predictor.with_weights(m)(samples)]
    for m in MEMBERS
  ]
  together = predictor.with_weights(*MEMBERS)
  rows = evaluate.evaluate_cases(together, task, samples)
  for k, row in enumerate(rows):
    p = np.array([member[k] for member in each], np.float64)
    np.testing.assert_allclose(row['probability'], p.mean(0), atol=1e-7)
    expected = stats.entropy(p.mean(0))
    assert row['entropy'] == pytest.approx(expected, abs=1e-6)
    expected -= stats.entropy(p, axis=1).mean()
    assert row['mutual_information'] == pytest.approx(expected, abs=1e-6)


def test_regions_of_their_own_and_a_case_without_foreground():
  task = Segmentation(num_classes=3, regions=((1, 2), (2,)))
  p = np.array([[0.2, 0.1], [0.4, 0.7]])  # (members, regions)
  found = ensemble.decode(task, 2, p.reshape(1, 4))
  each = [stats.entropy([x, 1 - x]) for x in p.mean(0)]
  assert found['entropy'] == pytest.approx(np.mean(each))
  assert (found['labels'], found['foreground']) == (0, True)
  nothing = ensemble.decode(task, 2, p.reshape(1, 4) / 10)
  labels, maps = ensemble.read(task, 2, nothing)
  assert labels.dtype == np.uint8
  assert np.isnan(ensemble.means(maps)['entropy'])


def test_around_a_crop_is_background():
  task, case = Segmentation(num_classes=2), make_case()
  made = make(task, preprocess=(dict(name='crop_or_pad', shape=(9, 14, 8)),))
  inside = np.zeros(case['mask'].shape, bool)
  inside[4:13, :, 4:12] = True
  for members in (MEMBERS[:1], MEMBERS):
    predictor = Predictor(made, maps=True).with_weights(*members)
    ((_, found),) = predictor([made.prepare(case)])
    np.testing.assert_allclose(found.probabilities.sum(-1), 1, atol=1e-5)
    assert (found.probabilities[~inside] == (1, 0)).all()
    assert found.prediction[inside].any()
    assert not found.prediction[~inside].any()
  assert not found.uncertainty['entropy'][~inside].any()


@pytest.mark.parametrize('dense', [True, False])
@pytest.mark.parametrize('members', [1, 3])
def test_what_is_no_number_is_refused_and_the_others_go_on(dense, members):
  kind = Segmentation if dense else Classification
  made = make(kind(num_classes=2), dense=dense)
  cases = [make_case(i) for i in range(3)]
  cases[1]['image'][5, 6, 7] = np.nan
  samples = [made.prepare(c) for c in cases]
  predictor, errors = Predictor(made).with_weights(*MEMBERS[:members]), []
  found = predictor(samples, refused=errors.append)
  assert [s['raw']['id'] for s, _ in found] == ['0', '2']
  (error,) = errors
  assert str(error).startswith('1: the model gives no numbers')
  with pytest.raises(ValueError, match='1: the model gives no numbers'):
    list(predictor(samples))
