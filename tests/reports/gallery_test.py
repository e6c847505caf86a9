import numpy as np
import pytest

from medjax.reports.gallery import (
  Gallery,
  display_slice,
  load_cases,
  save_cases,
)
from medjax.tasks import Classification, Segmentation


def visited(scores):
  gallery = Gallery(Segmentation(num_classes=2))
  for i, score in enumerate(scores):
    case = {
      'id': f'case {i}',
      'image': np.zeros((4, 5, 1)),
      'mask': np.ones((4, 5), np.uint8),
      'spacing': np.array([1.0, 2.0]),
      'affine': np.diag([1.0, 2.0, 1.0]),
    }
    gallery.visit(case, np.ones((4, 5), np.uint8), {'dice': np.array([score])})
  return gallery


def test_a_volume_is_shown_where_most_is_labelled_first_axis_to_the_right():
  image = np.random.default_rng(0).random((4, 5, 6, 1))
  mask = np.zeros((4, 5, 6), np.uint8)
  mask[1, 2, 3] = mask[2, 2, 3] = 1
  prediction = np.zeros_like(mask)
  prediction[0, 0, 1] = 2
  shown, truth, found = display_slice(image, mask, prediction, affine=np.eye(4))
  np.testing.assert_array_equal(shown, image[:, ::-1, 3, 0].T)
  np.testing.assert_array_equal(truth, mask[:, ::-1, 3].T)
  assert not found.any()
  # Axes that run to the left and to the back, as those of DICOM do.
  back = tuple(np.flip(x, (0, 1)) for x in (image, mask, prediction))
  turned = display_slice(*back, affine=np.diag([-1.0, -1.0, 2.0, 1.0]))
  for a, b in zip(turned, (shown, truth, found), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(('channels', 'shape'), [(1, ()), (3, (3,)), (2, ())])
def test_a_picture_is_shown_as_it_lies(channels, shape):
  image = np.arange(20 * channels).reshape(4, 5, channels)
  mask = np.zeros((4, 5), np.uint8)
  shown, _, _ = display_slice(image, mask, mask, affine=np.eye(4))
  assert shown.shape == (4, 5, *shape)


def test_best_median_and_worst():
  chosen = visited(np.linspace(0, 1, 11)).chosen()
  assert [(c['id'], c['caption']) for c in chosen] == [
    ('case 10', 'best'),
    ('case 9', 'best'),
    ('case 6', 'median'),
    ('case 5', 'median'),
    ('case 1', 'worst'),
    ('case 0', 'worst'),
  ]


def test_few_cases_are_shown_once_and_undefined_ones_not():
  assert visited([]).chosen() == []
  assert visited([np.nan]).chosen() == []
  assert [c['id'] for c in visited([np.nan, 0.2, 0.4]).chosen()] == [
    'case 2', 'case 1',
  ]  # fmt: skip


@pytest.mark.parametrize(
  'captions',
  [
    ['worst'],
    ['best', 'worst'],
    ['best', 'median', 'worst'],
    ['best', 'best', 'worst', 'worst'],
    ['best', 'best', 'median', 'worst', 'worst'],
    ['best', 'best', 'median', 'median', 'worst', 'worst'],
  ],
)
def test_of_few_cases_the_worst_is_called_so(captions):
  chosen = visited(np.arange(len(captions)) / 10).chosen()
  assert [c['caption'] for c in chosen] == captions
  scores = [c['score'] for c in chosen]
  assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
  ('label', 'probability', 'score'),
  [(np.int32(1), (0.3, 0.7), 0.7), (np.array([1, 0, 1]), (0.9, 0.4, 1), -0.4)],
)
def test_a_classification_is_good_when_the_truth_is_likely(
  label, probability, score
):
  task = Classification(
    num_classes=len(probability), multi_label=np.ndim(label) > 0
  )
  gallery = Gallery(task)
  case = {'id': 'x', 'image': np.zeros((3, 4, 5, 1)), 'label': label}
  case |= {'affine': np.eye(4), 'spacing': np.ones(3)}
  gallery.visit(case, np.array(probability), {})
  (shown,) = gallery.chosen()
  assert shown['score'] == pytest.approx(score)
  assert shown['image'].shape == (4, 3)


def test_what_is_saved_is_loaded(tmp_path):
  chosen = visited([0.1, 0.9]).chosen()
  save_cases(tmp_path / 'figures/cases.npz', chosen)
  found = load_cases(tmp_path / 'figures/cases.npz')
  assert [c['id'] for c in found] == ['case 1', 'case 0']
  assert found[0]['caption'] == 'best'
  np.testing.assert_array_equal(found[0]['spacing'], [1, 2])
