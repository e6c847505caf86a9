"""What validation decides about doubt, of labels and of masks."""

import numpy as np
import pytest

from medjax import subgroups
from medjax.tasks import Classification, Segmentation, sets
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


def test_a_few_patients_may_by_chance_be_below_the_level():
  calibration = LABELS.calibrate(labelled(200, 0))
  low = lambda i: np.array([0.0 if i % 20 < 3 else 0.99, 0.0, 0.0])
  rows = lambda n: [
    {'probability': low(i), 'label': np.array([1, 0, 0]), 'id': f'{i}'}
    for i in range(n)
  ]
  few = LABELS.measured(rows(20), calibration, **HOW)
  assert (few['coverage'], few['warning']) == (0.85, '')
  many = LABELS.measured(rows(400), calibration, **HOW)
  assert many['coverage'] == 0.85
  assert 'below 0.9' in many['warning']


def test_too_few_cases_say_how_many_could():
  calibration = LABELS.calibrate(labelled(15, 0))
  with pytest.raises(ValueError, match='22 patients or more could'):
    LABELS.answer(np.ones(3) / 2, calibration, **HOW)
  (table,) = LABELS.summarize(
    labelled(30, 1), calibration=calibration, n_resamples=0
  )['sets']
  assert '22 patients' in table['note']


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


def test_the_worst_group_is_one_with_a_score():
  rows, _ = masks(60, 0)
  for i, row in enumerate(rows):
    row['group_dx'] = 'a healthy' if i < 30 else 'b ill'
    row['patient'] = row['id']
    dice = np.full(2, np.nan if i < 30 else 0.5 + 0.01 * (i % 9))
    row |= dict.fromkeys(MASKS.grouped, dice)
  found = subgroups.summarize(MASKS, rows, ['dx'])
  assert found['worst'] == ['dx', 'b ill']


def test_a_class_without_test_cases_is_not_the_worst():
  calibration = TWO.calibrate(decided(500, 0))
  test = [r for r in decided(500, 1, sharp=-1.0) if r['label'] == 1]
  found = TWO.measured(test, calibration, **HOW)
  assert found['classes']['no']['n'] == 0
  assert 'of those of yes' in found['warning']


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
  for act in (
    lambda: LABELS.answer(np.ones(3) / 2, Calibration(), **HOW),
    lambda: LABELS.answerable(Calibration(), **HOW),
  ):
    with pytest.raises(ValueError, match='each fold has its own'):
      act()


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
  with pytest.raises(ValueError, match='20 validation patients have x'):
    MASKS.within(np.zeros((2, 2, 3)), calibration, level=0.9)
  with pytest.raises(ValueError, match=r'--config\.task\.level'):
    MASKS.within(np.zeros((2, 2, 3)), Calibration(), level=0.9)


def of_patients(patients, alike, risk, seed):
  """Rows of patients, of some of whom all alike slices are wholly missed."""
  bad = np.random.default_rng(seed).uniform(size=patients) < risk
  missed = np.repeat(bad, alike).astype(float)
  return [
    {'missed': np.full((2, 76), m), 'id': f'{i}', 'patient': f'p{i // alike}'}
    for i, m in enumerate(missed)
  ]


def test_alike_slices_of_few_patients_show_nothing():
  given = 0
  for seed in range(50):
    calibration = MASKS.calibrate(of_patients(15, 20, 0.12, seed))
    assert calibration.conformal['missed']['n'] == [15, 15]
    try:
      MASKS.within(np.zeros((2, 2, 3)), calibration, level=0.9)
    except ValueError:
      continue
    given += 1
  assert given <= 5


def test_a_class_is_missed_of_the_slices_that_have_it():
  rows = of_patients(2, 3, 0.0, 0)
  for row, x, y in zip(rows, [1, 0, np.nan, 0, 0, 0], [np.nan] * 3 + [1, 0, 0],
                       strict=True):  # fmt: skip
    row['missed'] = np.tile([[x], [y]], 76)
  found = MASKS.calibrate(rows).conformal['missed']
  assert found['n'] == [2, 1]
  np.testing.assert_allclose(np.array(found['risk'])[:, 0], [1 / 4, 1 / 3])


@pytest.mark.parametrize('task', [TWO, LABELS])
def test_copies_of_the_cases_of_a_patient_change_nothing(task):
  rows = (decided if task is TWO else labelled)(60, 0)
  rows = [{**row, 'patient': row['id']} for row in rows]
  many = [row for row in rows for _ in range(5)]
  once, often = task.calibrate(rows), task.calibrate(many)
  assert once.answering == often.answering
  if task is LABELS:
    assert once.conformal['missed']['n'] == often.conformal['missed']['n']
  else:
    limits = [sets.limits(c, level=0.9) for c in (once, often)]
    np.testing.assert_array_equal(limits[0][0], limits[1][0])
    assert limits[0][1] == limits[1][1] == 60
  tables = [
    task.summarize(r, calibration=once, n_resamples=0) for r in (rows, many)
  ]
  for one, other in zip(*(t['sets'] for t in tables), strict=True):
    assert one.get('note') == other.get('note')
    if task is LABELS:
      assert one['n'] == other['n'] == 54
    elif 'note' not in one:
      assert one['n'] == other['n'] == one['calibrated_on'] == 60
      np.testing.assert_allclose(one['coverage'], other['coverage'])
  if task is TWO:
    one, other = (t['risk_coverage'] for t in tables)
    np.testing.assert_allclose(one['aurc'], other['aurc'])


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
