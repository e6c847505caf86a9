"""FROC against MONAI and a drawn case."""

import numpy as np
import pytest

from medjax.metrics import froc as m


def _images(seed=0):
  rng = np.random.default_rng(seed)
  images = []
  for _ in range(5):
    lesions = int(rng.integers(1, 5))
    n = int(rng.integers(2, 9))
    hit = rng.integers(-1, lesions, size=n)
    images.append(m.Candidates(np.round(rng.random(n), 1), hit, lesions))
  return images


def test_curve_by_hand():
  images = [
    m.Candidates(np.array([0.9, 0.8, 0.5]), np.array([0, 0, -1]), 2),
    m.Candidates(np.array([0.7, 0.2]), np.array([-1, 0]), 1),
  ]
  alarms, found = m.curve(images)
  # .9 hits; .8 hits the same again, no alarm; .7 and .5 are alarms; .2 hits
  np.testing.assert_allclose(alarms, [0, 0, 0.5, 1, 1])
  np.testing.assert_allclose(found, [0, 1 / 3, 1 / 3, 1 / 3, 2 / 3])


@pytest.mark.parametrize('seed', range(3))
def test_curve_and_score_are_monais(seed):
  froc = pytest.importorskip('monai.metrics.froc')
  images = _images(seed)
  false = np.concatenate([c.score[c.lesion < 0] for c in images])
  true = np.concatenate(
    [
      [c.score[c.lesion == i].max() for i in set(c.lesion[c.lesion >= 0])]
      for c in images
    ]
  )
  total = sum(c.lesions for c in images)
  # Theirs leaves the least score out: one below all changes nothing else.
  false = np.append(false, -1.0)
  alarms, found = froc.compute_froc_curve_data(false, true, total, 5)
  ours = m.curve(images)
  np.testing.assert_allclose(ours, (alarms[::-1], found[::-1]))
  rates = (0.25, 0.5, 1, 2)
  theirs = froc.compute_froc_score(alarms, found, rates)
  assert m.score(images, rates=rates) == pytest.approx(theirs)


def test_candidates_of_a_map():
  p = np.zeros((10, 10))
  p[0:3, 0:3], p[1, 1] = 0.5, 0.8
  p[6:8, 6:8] = 0.4
  reference = np.zeros((10, 10), np.uint8)
  reference[1:4, 1:4] = 255
  reference[9, 0] = 255
  found = m.candidates(p, reference)
  np.testing.assert_allclose(found.score, [0.8, 0.4])
  np.testing.assert_array_equal(found.lesion, [0, -1])
  assert found.lesions == 2
  nothing = m.candidates(p * 0, reference)
  assert len(nothing.score) == 0
  np.testing.assert_array_equal(m.curve([nothing])[1], [0])


def test_no_lesion_at_all_is_refused():
  with pytest.raises(ValueError, match='at least one lesion'):
    m.curve([m.Candidates(np.array([0.5]), np.array([-1]), 0)])
  with pytest.raises(ValueError, match='lesion 3 of an image with 1'):
    m.curve([m.Candidates(np.array([0.5]), np.array([3]), 1)])
