"""The numbers beside a picture, against Quantus 0.6.0 and closed forms."""

import json

import explain_nets as nets
import numpy as np
import pytest

from medjax.explain import faithfulness


@pytest.fixture(scope='module')
def quantus(shared_data):
  """(arrays, scores) of the 2-D golden net."""
  folder = shared_data('xai_conformance')
  data = dict(np.load(folder / 'captum_gold.npz'))
  scores = json.loads((folder / 'quantus_gold.json').read_text())['scores']
  maps = {
    'ig': 'integrated_gradients_gausslegendre_50',
    'saliency': 'saliency_signed',
  }
  return data, scores, {k: data[f'net2d/{v}'][:, 0] for k, v in maps.items()}


@pytest.mark.parametrize('name', ['ig', 'saliency'])
def test_the_numbers_are_those_of_quantus(quantus, name):
  data, scores, maps = quantus
  # Quantus takes the absolute values of a map.
  sizes = np.abs(maps[name])
  masks = data['net2d/mask']
  theirs = lambda what: np.ravel(scores[f'{name}/{what}'])
  ours = [
    faithfulness.localisation(x, m) for x, m in zip(sizes, masks, strict=True)
  ]
  for key, what in (
    ('pointing', 'PointingGame'),
    ('mass', 'RelevanceMassAccuracy'),
    ('rank', 'RelevanceRankAccuracy'),
    ('auc', 'AUC'),
  ):
    values = [row[key] for row in ours]
    np.testing.assert_allclose(values, theirs(what), atol=1e-4, err_msg=what)
  # Quantus adds 1e-7 to values that are of this size themselves.
  gini = [faithfulness.gini(x + 1e-7) for x in sizes]
  np.testing.assert_allclose(gini, theirs('Sparseness'), atol=1e-4)
  entropy = [faithfulness.entropy(x) for x in sizes]
  np.testing.assert_allclose(entropy, theirs('Complexity'), atol=1e-4)


def test_deletion_is_pixel_flipping(quantus, monkeypatch):
  data, scores, maps = quantus
  score, images, about, _ = nets.golden(data, 'net2d')
  gold = np.array(scores['ig/PixelFlipping_step28_black'])
  # A step of 28 of 784 voxels; what is shown is kept whole.
  monkeypatch.setattr(faithfulness, 'STEPS', 28)
  darkest = images * 0 + images.min((1, 2, 3), keepdims=True)
  kept = []

  def shown(values):
    kept.append(np.asarray(values))
    return values

  faithfulness.curves(
    score, images, about, darkest, maps['ig'],
    batch=64, shown=shown, draws=0,
  )  # fmt: skip
  inner, ends = kept
  curve = inner.reshape(4, 2, 27)[:, 0]
  np.testing.assert_allclose(curve, gold[:, :-1], atol=1e-5)
  np.testing.assert_allclose(ends[:, 1], gold[:, -1], atol=1e-5)


def test_the_ideal_map_is_faithful_and_its_opposite_is_not():
  rng = np.random.default_rng(0)
  weights = np.zeros((8, 8, 1), np.float32)
  weights[2:4, 5:7] = 1
  images = rng.uniform(1, 2, (8, 8, 8, 1)).astype(np.float32)
  score = nets.linear(weights)
  truth = np.broadcast_to(weights[..., 0], (8, 8, 8))
  p = {}
  for name, maps in (('ideal', truth), ('opposite', -truth)):
    down, up = faithfulness.curves(
      score, images, {}, np.zeros_like(images), maps,
      batch=50, shown=lambda x: x,
    )  # fmt: skip
    assert down.shape == up.shape == (8, 21)
    p[name] = (
      faithfulness.better(down, lower=True),
      faithfulness.better(up, lower=False),
    )
    each = faithfulness.chance(down, lower=True)
    assert (each <= 0.15).all() if name == 'ideal' else (each > 0.5).all()
  assert max(p['ideal']) < 0.01
  assert min(p['opposite']) > 0.5


def test_a_random_map_is_not_better_than_itself_elsewhere():
  """Of maps of noise p is uniform: a tenth of them is below a tenth."""
  rng = np.random.default_rng(1)
  score = nets.linear(rng.normal(size=(6, 6, 1)).astype(np.float32))
  small, trials = 0, 40
  for _ in range(trials):
    images = rng.normal(size=(8, 6, 6, 1)).astype(np.float32)
    down, _ = faithfulness.curves(
      score, images, {}, np.zeros_like(images), rng.normal(size=(8, 6, 6)),
      batch=400, shown=lambda x: x, seed=int(rng.integers(1e9)),
    )  # fmt: skip
    small += faithfulness.better(down, lower=True) < 0.1
  assert small <= 9  # 4 are expected


def test_equal_values_are_ranked_in_no_order():
  ranks = faithfulness.ranks(np.zeros((1, 10, 10)))
  assert sorted(ranks.ravel().tolist()) == pytest.approx(np.arange(100) / 100)
  assert abs(np.corrcoef(ranks.ravel(), np.arange(100))[0, 1]) < 0.3


def test_what_is_not_defined_is_nan():
  nothing = faithfulness.localisation(np.ones((3, 3)), np.zeros((3, 3), bool))
  assert np.isnan([*nothing.values()]).all()
  assert np.isnan(faithfulness.gini(np.zeros((3, 3))))
  assert np.isnan(faithfulness.better(np.ones((3, 21)), lower=True))
