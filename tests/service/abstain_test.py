import types

import numpy as np
import pytest

from medjax import files
from medjax.prediction import trained
from medjax.service import abstain, outcome, view
from medjax.tasks.classification import Classification
from medjax.tasks.scores import Scores
from medjax.tasks.segmentation import Segmentation

RULE = {
  'n': 20,
  'coverage': 0.9,
  'threshold': 0.7,
  'ranges': {'spacing/0': [0.5, 2.0], 'roughness': [0.1, 0.5]},
}
WITHIN = {'confidence': 0.8, 'spacing/0': 1.0, 'roughness': 0.3}

PICTURE = {
  'image': np.zeros((4, 4, 1)), 'affine': np.eye(3), 'spacing': np.ones(2),
}  # fmt: skip


def test_judge():
  assert abstain.judge(None, WITHIN) == ((), ())
  assert abstain.judge(RULE, WITHIN) == ((), ())
  (reason,), _ = abstain.judge(RULE, {**WITHIN, 'confidence': 0.69})
  assert outcome.kind_of(reason) == 'model unsure'
  (reason,), _ = abstain.judge(RULE, {**WITHIN, 'spacing/0': 3.0})
  assert outcome.kind_of(reason) == 'out of distribution'
  assert '3 mm along axis 0' in reason
  reasons, (doubt,) = abstain.judge(RULE, {**WITHIN, 'roughness': 0.49})
  assert not reasons
  assert doubt.endswith('at the edge of what training and validation had')


def test_a_rule_is_fixed_on_validation(workdir, tmp_path):
  run = trained.load(workdir)
  rule = abstain.fit(run, coverage=0.8)
  files.write_json(tmp_path / abstain.NAME, rule, sealed=True)
  assert abstain.read(tmp_path) == rule
  coverages = [row[0] for row in rule['curve']]
  assert coverages == sorted(coverages)
  assert coverages[-1] == 1
  mean, low, high = rule['risk']
  assert low <= mean <= high
  cases = run.experiment.cases('validation')
  kept, errors = [], []
  for raw, prediction in run.predict_cases(cases, probabilities=True):
    sample = run.experiment.prepare(raw)
    measures = abstain.measure(raw, sample, prediction)
    reasons, _ = abstain.judge(rule, measures)
    # None of them is odd, and as many speak as were to.
    assert not [r for r in reasons if r.startswith('out of')]
    kept.append(not reasons)
    if not reasons:
      dice = run.task.metrics(prediction.labels, raw)['dice']
      errors.append(1 - np.mean(dice))
  assert sum(kept) == int(np.ceil(0.8 * len(kept)))
  assert mean == pytest.approx(np.mean(errors))
  odd = dict(raw)
  rng = np.random.default_rng(0)
  for name, array in {
    'noise': rng.normal(size=raw['image'].shape),
    'blank': np.zeros(raw['image'].shape),
    'turned': raw['image'][::-1, ::-1] ** 4 * 1.0,
    'coarse': raw['image'].repeat(3, 0),
  }.items():
    odd['image'] = array.astype(np.float32)
    prediction = run.predict_case(odd, probabilities=True)
    measures = abstain.measure(odd, run.experiment.prepare(odd), prediction)
    assert abstain.judge(rule, measures)[0], name


def test_labels_are_sure_where_the_least_sure_is():
  case = dict(PICTURE)

  def sure(p, exclusive, labels=None):
    made = types.SimpleNamespace(probabilities=np.array(p), labels=labels)
    found = abstain.measure(case, case, made, exclusive=exclusive)
    return found['confidence']

  assert sure([0.01, 0.03, 0.02], False) == pytest.approx(0.97)
  assert sure([0.01, 0.99, 0.45], False) == pytest.approx(0.55)
  assert sure([0.3, 0.7], True) == pytest.approx(0.7)
  # Of a map: a finding, and a background that is all but sure.
  p = np.full((4, 4), 0.98)
  nothing = np.zeros((4, 4), int)
  assert sure(np.stack([p, 1 - p], -1), True, nothing) == pytest.approx(0.98)
  assert sure((1 - p)[..., None], False, nothing) == pytest.approx(0.98)
  p[1:3, 1:3] = 0.2
  maps = np.stack([p, 1 - p], -1)
  assert sure(maps, True, maps.argmax(-1)) == pytest.approx(0.8)


class Run:
  """A trained run of cases that are their own predictions."""

  def __init__(self, task, cases, thresholds=()):
    self.task, self.experiment = task, self
    self.calibration = types.SimpleNamespace(thresholds=thresholds)
    self._cases = [{**PICTURE, **c} for c in cases]

  def cases(self, split):
    return self._cases

  def prepare(self, case):
    return case

  def predict_cases(self, cases, probabilities):
    for case in cases:
      p = np.array(case['p'])
      labels = p.argmax(-1) if 'mask' in self.task.fields else None
      yield case, types.SimpleNamespace(probabilities=p, labels=labels)


def test_the_risk_is_of_what_the_service_says():
  task = Classification(num_classes=3, multi_label=True)
  cases = [
    {'p': (0.01, 0.99, 0.02), 'label': np.array([0, 1, 0])},
    {'p': (0.01, 0.03, 0.02), 'label': np.array([0, 0, 0])},
    {'p': (0.01, 0.03, 0.4), 'label': np.array([0, -1, 0])},
    {'p': (0.6, 0.03, 0.02), 'label': np.array([1, 0, 0])},
  ]
  rule = abstain.fit(Run(task, cases, (None, None, 0.3)), coverage=1)
  assert rule['risk'][0] == 0.25  # the third, above the threshold of its label
  assert rule['risk_is'] == 'share with a wrong label'
  task = Classification(num_classes=2)
  cases = [{'p': (0.6, 0.4), 'label': 1}, {'p': (0.9, 0.1), 'label': 0}]
  assert abstain.fit(Run(task, cases, (0.3,)), coverage=1)['risk'][0] == 0
  assert abstain.fit(Run(task, cases), coverage=1)['risk'][0] == 0.5
  unknown = [{'p': (0.1, 0.2), 'label': np.array([-1, -1])}]
  task = Classification(num_classes=2, multi_label=True)
  with pytest.raises(ValueError, match='has a known label'):
    abstain.fit(Run(task, unknown), coverage=1)


def test_an_empty_case_that_is_found_empty_is_right():
  task = Segmentation(num_classes=2)
  p = np.stack([np.full((4, 4), 0.98), np.full((4, 4), 0.02)], -1)
  lesion = p.copy()
  lesion[1:3, 1:3] = 0.1, 0.9
  cases = [
    {'p': p, 'mask': np.zeros((4, 4), int)},
    {'p': lesion, 'mask': lesion.argmax(-1)},
  ]
  rule = abstain.fit(Run(task, cases), coverage=1)
  assert rule['risk'][0] == 0
  assert view.risk(rule['risk']) == '0.000'  # in every resample
  (one, *_) = rule['curve']
  assert one[1] == 0
  # One case has no interval.
  rule = abstain.fit(Run(task, cases[:1]), coverage=1)
  assert view.risk(rule['risk']) == '0.000'
  assert view.risk([None, None, None]) == 'not known'
  measures = {name: sum(ends) / 2 for name, ends in rule['ranges'].items()}
  assert not abstain.judge(rule, {'confidence': 0.98, **measures})[0]


def test_a_tilted_gantry_makes_no_volume_larger():
  affine = np.diag([0.5, 0.5, 2.0, 1.0])
  affine[1, 2] = 2 * np.tan(np.radians(25))  # each slice is shifted
  case = {'affine': affine, 'spacing': np.linalg.norm(affine[:3, :3], axis=0)}
  assert outcome.voxel_size(case) == pytest.approx(0.5)
  labels = np.zeros((4, 4, 4), int)
  labels[1:3, 1:3, 1:3] = 1
  facts = {'dense': True, 'names': ['a'], 'codes': {'a': 'x'}, 'validation': {}}
  found = outcome.found(
    facts, case, types.SimpleNamespace(labels=labels), raw=None, doubts=(),
    measures={'confidence': 1.0},
  )  # fmt: skip
  (finding,) = found['findings']
  assert finding['measures'][0]['value'] == pytest.approx(8 * 0.5)
  case['image'] = np.zeros((4, 4, 4, 1))
  assert abstain._volume(case, labels) == pytest.approx(8 * 0.5)
  assert outcome.voxel_size(PICTURE) == 1


def test_wilson_and_bins():
  # Agresti and Coull 1998, table: 0 of 10 and 5 of 10.
  assert outcome.wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
  assert outcome.wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
  bins = [[0, 0]] * 9 + [[40, 36]]
  right = outcome.right_of(bins, 0.97)
  assert (right['there'], right['n'], right['bin']) == (36, 40, [0.9, 1.0])
  assert outcome.right_of(bins, 0.3)['n'] == 0
  assert outcome.right_of(None, 0.3) is None


@pytest.mark.parametrize(
  ('facts', 'raw', 'present'),
  [
    (dict(names=['a', 'b'], normal='a', thresholds=[0.3]), [0.6, 0.4], 'b'),
    (dict(names=['a', 'b'], normal='a', thresholds=[]), [0.6, 0.4], ''),
    (dict(names=['a', 'b'], normal='b', thresholds=[]), [0.6, 0.4], 'a'),
    # The threshold is of the positive class, also where that is no finding.
    (dict(names=['a', 'b'], normal='b', thresholds=[0.8]), [0.6, 0.4], 'a'),
    (dict(names=['a', 'b'], normal='b', thresholds=[0.8]), [0.1, 0.9], ''),
    (dict(names=['a', 'b'], normal='', thresholds=[0.8]), [0.4, 0.6], 'a'),
    (dict(names=list('abc'), normal='a', thresholds=[]), [0.2, 0.3, 0.5], 'c'),
    (dict(names=list('abc'), normal='', thresholds=[]), [0.5, 0.3, 0.2], 'a'),
    (
      dict(names=list('abc'), normal='', exclusive=False,
           thresholds=[0.1, None, 0.9]),
      [0.2, 0.6, 0.8], 'ab',
    ),
  ],
)  # fmt: skip
def test_decisions_are_those_of_validation(facts, raw, present):
  facts = {
    'dense': False, 'exclusive': True, 'validation': {},
    'positive': 1 if len(raw) == 2 else None,
    'codes': dict.fromkeys('abc', ('121071', 'DCM', 'Finding')), **facts,
  }  # fmt: skip
  prediction = types.SimpleNamespace(probabilities=np.array(raw))
  found = outcome.found(
    facts, {}, prediction, raw=np.array(raw), doubts=(),
    measures={'confidence': max(raw)},
  )  # fmt: skip
  assert (
    ''.join(f['name'] for f in found['findings'] if f['present']) == present
  )
  assert (found['summary'] == 'finding') is bool(present)


@pytest.mark.parametrize('thresholds', [(), (0.3,), (0.5,), (None,)])
@pytest.mark.parametrize('positive', [None, 0, 1])
def test_two_classes_are_decided_as_the_evaluation_does(positive, thresholds):
  task = Classification(num_classes=2, positive=positive)
  p = np.array([[x, 1 - x] for x in (0.1, 0.3, 0.5, 0.7, 0.95)])
  rows = [{'probability': q, 'label': 0, 'id': 'a'} for q in p]
  theirs = Scores(task, rows).decide(thresholds or None)
  ours = [
    outcome.decided(
      q, thresholds=thresholds, exclusive=True, positive=task.positive_class
    )
    for q in p
  ]
  np.testing.assert_array_equal(ours, theirs)
