"""Survival metrics against R's answers, and against published tables.

R's packages disagree on the same data: each value here says by which of our
conventions it comes out.
"""

import json

import numpy as np
import pytest

from medjax.metrics import concordance, cox
from medjax.metrics import survival_curves as curves
from medjax.metrics import survival_error as errors

DIGITS = 5.3e-5  # of four decimals, and of inputs that have four themselves


@pytest.fixture
def answers(shared_data):
  home = shared_data('survival_conformance') / 'torchsurv'

  def read(name):
    found = json.loads((home / f'benchmark_{name}.json').read_text())
    found = [found] if isinstance(found, dict) else found
    return [
      {k: np.squeeze(np.asarray(v, float)) for k, v in each.items()}
      for each in found
    ]

  return read


def test_kaplan_meier(answers):
  for r in answers('kaplan_meier'):
    curve = curves.kaplan_meier(r['time'], r['status'])
    np.testing.assert_allclose(
      curve.at(r['times']), r['surv_prob_survival'], atol=DIGITS
    )


def test_censoring_weights(answers):
  for r in answers('ipcw'):
    g = curves.censoring(r['time'], r['status'])
    np.testing.assert_allclose(1 / g.at(r['times']), r['ipcw_times'],
                               atol=DIGITS)  # fmt: skip
    # R gives no weight where G is 0.
    own, known = g.at(r['time']), r['ipcw_subjectimes'] > 0
    np.testing.assert_allclose(
      1 / own[known], r['ipcw_subjectimes'][known], atol=DIGITS
    )
    assert not own[~known].any()


@pytest.mark.parametrize('ties', ['efron', 'breslow'])
def test_cox_with_ties(answers, ties):
  for r in answers('cox_with_ties'):
    risk = r[f'log_hazard_{ties}']
    found = cox.log_likelihood(risk, r['time'], r['status'], ties=ties)
    # Log hazards have four decimals: so exact is the sum of 165 and more.
    assert found == pytest.approx(r[f'log_likelihood_{ties}'], abs=1.5e-3)


def test_cox_without_ties(answers):
  for r in answers('cox_without_ties'):
    for ties in ('efron', 'breslow'):
      found = cox.log_likelihood(
        r['log_hazard'], r['time'], r['status'], ties=ties
      )
      assert found == pytest.approx(r['log_likelihood'], abs=1e-3)


def test_risks_that_change_in_time(answers):
  (r,) = answers('extended_cox_without_ties')
  found = cox.log_likelihood(r['log_hazard'].T, r['time'], r['status'])
  assert found == pytest.approx(float(r['log_likelihood']), abs=1e-9)


def test_concordance(answers):
  for r in answers('cindex'):
    time, event, risk = r['test_time'], r['test_status'], r['estimate']
    harrell = concordance.harrell(time, event, risk)
    assert harrell.value == pytest.approx(
      float(r['c_Harrell_survival']), abs=DIGITS
    )
    g = curves.censoring(time, event, events_first=False, left=True)
    uno = concordance.uno(
      time, event, risk, tau=r['times'][-1], strict=True, censored=g
    )
    assert uno.value == pytest.approx(float(r['c_Uno_survC1']), abs=DIGITS)
    # And the other package of R, survAUC, has another weight of the same name.
    assert abs(uno.value - float(r['c_Uno_survAUC'])) > 1e-3


def test_auc(answers):
  for r in answers('auc'):
    time, event, risk = r['test_time'], r['test_status'], r['estimate']
    if time.max() < r['train_time'].max():  # beyond it survAUC differs by .02
      g = curves.censoring(r['train_time'], r['train_status'])
      found = errors.auc(time, event, risk, r['times'], censored=g)
      np.testing.assert_allclose(found.values, r['auc_cd_survAUC'], atol=DIGITS)
      assert errors.mean_auc(time, event, found) == pytest.approx(
        float(r['iauc_cd_survAUC']), abs=DIGITS
      )
    g = curves.censoring(time, event, left=True)
    found = errors.auc(time, event, risk, r['times'], censored=g)
    np.testing.assert_allclose(
      found.values, r['auc_cd_Uno_riskRegression'], atol=DIGITS
    )


def test_brier(answers):
  for r in answers('brier_score'):
    time, event, s = r['test_time'], r['test_status'], r['estimate']
    g = curves.censoring(time, event, events_first=False)
    found = errors.brier(time, event, 1 - s, r['times'], censored=g)
    np.testing.assert_allclose(
      found.values, r['brier_score_survMetrics'], atol=6e-5
    )
    # That package sums steps, where ours are trapezia.
    width = np.diff(found.times)
    steps = (found.values[:-1] * width).sum() / width.sum()
    assert steps == pytest.approx(
      float(r['ibrier_score_survMetrics']), abs=DIGITS
    )


def test_cumulative_incidence_of_scrucca(shared_data):
  path = shared_data('survival_conformance') / 'bmt.csv'
  _, time, status = np.genfromtxt(path, delimiter=',', skip_header=1).T
  time = np.where(time == 0, 1e-3, time)
  first, second = (curves.aalen_johansen(time, status, cause=k) for k in (1, 2))
  assert first.at(68) == pytest.approx(0.2728, abs=5e-5)
  assert second.at(68) == pytest.approx(0.4813, abs=5e-5)
