"""What validation decides about doubt, of labels and of masks."""

import numpy as np
import pytest

from medjax import subgroups
from medjax.tasks import Classification, Segmentation
from medjax.tasks.task import Calibration

LABELS = Classification(
  num_classes=3, multi_label=True, class_names=('a', 'b', 'c')
)


def labelled(n, seed, shift=0.0):
  """Rows of three labels whose probabilities tell them, with noise."""
  rng, rows = np.random.default_rng(seed), []
  for i in range(n):
    label = rng.integers(0, 2, 3)
    logit = 3 * (2 * label - 1) + rng.normal(0, 1.5, 3) - shift
    rows.append(
      {
        'probability': 1 / (1 + np.exp(-logit)),
        'label': label,
        'id': f'{seed}-{i}',
      }
    )
  return rows


HOW = dict(level=0.9, method='lac', by_class=False)


def test_labels_above_a_threshold_hold_those_present():
  calibration = LABELS.calibrate(labelled(200, 0))
  test = labelled(500, 1)
  found = LABELS.measured(test, calibration, **HOW)
  assert found['coverage'] >= 0.9
  assert found['warning'] == ''
  columns, reasons = LABELS.answer(
    np.array([0.99, 0.001, 0.99]), calibration, **HOW
  )
  assert columns == {'set': 'a | c'}
  assert reasons == []
  shifted = LABELS.measured(labelled(500, 1, shift=6.0), calibration, **HOW)
  assert 'differ' in shifted['warning']


def test_too_few_cases_say_how_many_could():
  calibration = LABELS.calibrate(labelled(15, 0))
  with pytest.raises(ValueError, match='22 cases or more could'):
    LABELS.answer(np.ones(3) / 2, calibration, **HOW)
  (table,) = LABELS.summarize(
    labelled(30, 1), calibration=calibration, n_resamples=0
  )['sets']
  assert '22 cases' in table['note']


TWO = Classification(num_classes=2, class_names=('no', 'yes'), risk=0.05)


def decided(n, seed, sharp=2.5):
  rng, rows = np.random.default_rng(seed), []
  for i in range(n):
    label = int(rng.integers(2))
    p = 1 / (1 + np.exp(-sharp * (2 * label - 1) - rng.normal(0, 1.5)))
    rows.append(
      {
        'probability': np.array([1 - p, p]),
        'label': np.int32(label),
        'id': f'{seed}-{i}',
      }
    )
  return rows


def test_operating_point_is_applied_and_warned_of():
  calibration = TWO.calibrate(decided(500, 0))
  least = calibration.answering['confidence']
  assert TWO.unsure(np.array([0.01, 0.99]), calibration) == []
  (reason,) = TWO.unsure(np.array([0.45, 0.55]), calibration)
  assert f'below {least:.3f}' in reason
  ask = lambda rows: TWO.summarize(
    rows, calibration=calibration, n_resamples=0
  )['risk_coverage']
  same, other = ask(decided(2000, 1)), ask(decided(2000, 1, sharp=1.0))
  assert same['error'] <= 0.05
  assert same['warning'] == ''
  assert 'differ from these' in other['warning']


def test_no_operating_point_abstains_from_all():
  calibration = TWO.calibrate(decided(40, 0, sharp=0.1))
  assert calibration.answering['confidence'] is None
  (reason,) = TWO.unsure(np.array([0.0, 1.0]), calibration)
  assert 'no confidence is shown' in reason
  none = Classification(num_classes=2, risk=0.0).calibrate(decided(40, 0))
  assert none.answering is None


def test_a_run_without_scores_says_so():
  with pytest.raises(ValueError, match='evaluate again'):
    TWO.answer(np.array([0.5, 0.5]), Calibration(), **HOW)


@pytest.mark.parametrize('field', [dict(level=1.0), dict(risk=1.0)])
def test_fields_that_mean_nothing(field):
  with pytest.raises(ValueError, match='0'):
    Classification(num_classes=2, **field)


MASKS = Segmentation(num_classes=3, class_names=('none', 'x', 'y'), level=0.9)


def masks(n, seed, hard=1.0):
  """(rows, probabilities, masks) of squares seen with noise."""
  rng, rows, maps = np.random.default_rng(seed), [], []
  for i in range(n):
    mask = np.zeros((12, 12), np.uint8)
    mask[2:6, 2:6], mask[7:10, 7:10] = 1, 2
    if i % 10 == 9:
      mask[mask == 2] = 0
    logit = 4.0 * np.eye(3)[mask] + rng.normal(0, 1.5 * hard, (12, 12, 3))
    p = np.exp(logit) / np.exp(logit).sum(-1, keepdims=True)
    case = {'id': f'{seed}-{i}', 'mask': mask, 'spacing': np.ones(2)}
    row = MASKS.metrics(MASKS.decode(p), case)
    rows.append({**row, 'missed': MASKS.missed(p, case), 'id': case['id']})
    maps.append((p, mask))
  return rows, maps


def test_masks_find_what_they_promise():
  calibration = MASKS.calibrate(masks(40, 0)[0])
  rows, maps = masks(60, 1)
  (table,) = MASKS.summarize(rows, calibration=calibration, n_resamples=0)[
    'sets'
  ]
  assert table['warning'] == ''
  assert {k: c['n'] for k, c in table['classes'].items()} == {'x': 60, 'y': 54}
  shares = []
  for p, mask in maps:
    found = MASKS.within(p, calibration, level=0.9)
    shares.append(found['x'][mask == 1].mean())
  np.testing.assert_allclose(np.mean(shares), table['classes']['x']['coverage'])
  assert np.mean(shares) >= 0.9
  harder = MASKS.summarize(
    masks(60, 1, hard=3.0)[0], calibration=calibration, n_resamples=0
  )['sets'][0]
  assert 'less than 0.9 is found' in harder['warning']


def test_masks_of_too_few_cases_are_refused():
  calibration = MASKS.calibrate(masks(20, 0)[0])
  with pytest.raises(ValueError, match='20 validation cases have x'):
    MASKS.within(np.zeros((2, 2, 3)), calibration, level=0.9)
  with pytest.raises(ValueError, match=r'--config\.task\.level'):
    MASKS.within(np.zeros((2, 2, 3)), Calibration(), level=0.9)


def test_subgroups_of_masks_and_of_tasks_without_scores():
  rows, _ = masks(40, 0)
  for i, row in enumerate(rows):
    row['group_site'] = 'ab'[i % 2]
  found = subgroups.summarize(MASKS, rows, ('site',))
  assert [g['name'] for g in found['groups']] == ['a', 'b']
  assert set(found['groups'][0]['scores']) == {'dice', 'nsd', 'hd95'}
  assert found['by'] == 'dice'
  assert (
    'no scores by subgroup' in subgroups.summarize(object(), rows, ())['note']
  )


def test_scores_of_a_group_are_those_of_its_cases_alone():
  rows = decided(120, 0)
  calibration = TWO.calibrate(decided(300, 1))
  for i, row in enumerate(rows):
    row['group_site'] = 'ab'[i % 3 == 0]
  found = subgroups.summarize(TWO, rows, ('site',), calibration=calibration)
  for group in found['groups']:
    own = [row for row in rows if row['group_site'] == group['name']]
    alone = TWO.summarize(own, calibration=calibration, n_resamples=0)['scores']
    for name, one in group['scores'].items():
      at = f'{name}_at_threshold'
      wanted = alone[at] if at in alone else alone[name]
      np.testing.assert_allclose(one['value'], wanted, atol=1e-12)
