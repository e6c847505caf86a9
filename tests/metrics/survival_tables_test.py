"""Cox on METABRIC, GBSG, SUPPORT and WHAS: the figures of scikit-survival.

Fitted on the sets' own training splits, standardised there, ties as Efron.
"""

import types

import numpy as np
import pytest

from medjax.metrics import concordance, cox
from medjax.metrics import survival_calibration as calibration
from medjax.metrics import survival_curves as curves
from medjax.metrics import survival_error as errors

# Harrell, Uno, its tau, Antolini, integrated Brier, AUC at the quartiles of
# event times, their mean; D-calibration and its p (scikit-survival 0.28).
TABLE = {
  'metabric_IHC4_clinical': (
    0.63236, 0.62820, 199.927, 0.63236, 0.19396, (0.6121, 0.6659, 0.6832),
    0.6557, 11.16, 0.265,
  ),
  'gbsg_cancer': (
    0.65629, 0.65610, 60.899, 0.65628, 0.14971, (0.6993, 0.6788, 0.7183),
    0.6995, 20.93, 0.013,
  ),
  'support': (
    0.58307, 0.58174, 634, 0.58307, 0.22929, (0.5472, 0.5824, 0.6144),
    0.5811, 6.73, 0.666,
  ),
  'whas': (
    0.81600, 0.81571, 1636.8, 0.81600, 0.13185, (0.8248, 0.8227, 0.8701),
    0.8409, 3.00, 0.964,
  ),
}  # fmt: skip


@pytest.fixture(params=[*TABLE])
def name(request):
  return request.param


@pytest.fixture
def fitted(name, shared_data):
  h5py = pytest.importorskip('h5py')
  folder = shared_data('survival')

  def part(split):
    with h5py.File(folder / f'{name}_train_test.h5') as file:
      x, t, e = (np.asarray(file[split][k], float) for k in 'xte')
    return x, np.maximum(t, 1e-6), e.astype(int)  # METABRIC has a time of 0

  (x, time, event), test = part('train'), part('test')
  mean, deviation = x.mean(0), x.std(0)
  found = cox.fit((x - mean) / deviation, time, event)
  risk = lambda x: (x - mean) / deviation @ found.coefficients
  return types.SimpleNamespace(
    train=(time, event),
    test=test[1:],
    risk=risk(test[0]),
    baseline=cox.baseline(risk(x), time, event),
  )


def test_the_table(name, fitted):
  expected = TABLE[name]
  harrell, uno, tau, antolini, ibs, areas, mean, d_statistic, d_p = expected
  time, event = fitted.test
  risk = fitted.risk
  survival = lambda t, r: np.exp(-fitted.baseline.at(t) * np.exp(r)[:, None])
  value = concordance.harrell(time, event, risk).value
  assert value == pytest.approx(harrell, abs=5e-5)
  grid = np.unique(time)
  found = concordance.antolini(time, event, survival(grid, risk), grid)
  assert found.value == pytest.approx(antolini, abs=5e-5)
  own = np.diag(survival(time, risk))
  d = calibration.d_calibration(time, event, own)
  assert d.statistic == pytest.approx(d_statistic, abs=0.011)
  assert d.p == pytest.approx(d_p, abs=1e-3)

  # The table leaves out who was followed for longer than anybody in training.
  g = curves.censoring(*fitted.train)
  kept = time < fitted.train[0].max()
  time, event, risk = time[kept], event[kept], risk[kept]
  train_time, train_event = fitted.train
  horizon = np.quantile(train_time[train_event > 0], 0.9)
  assert horizon == pytest.approx(tau, abs=0.05)
  found = concordance.uno(time, event, risk, tau=horizon, censored=g)
  assert found.value == pytest.approx(uno, abs=5e-5)
  times = np.quantile(time[event > 0], np.linspace(0.1, 0.9, 50))
  times = np.unique(times)
  found = errors.integrated_brier(
    time, event, 1 - survival(times, risk), times, censored=g
  )
  assert found.value == pytest.approx(ibs, abs=5e-5)
  quartiles = np.quantile(time[event > 0], (0.25, 0.5, 0.75))
  found = errors.auc(time, event, risk, quartiles, censored=g)
  np.testing.assert_allclose(found.values, areas, atol=6e-5)
  assert errors.mean_auc(time, event, found) == pytest.approx(mean, abs=6e-5)


def test_pbc2(shared_data):
  path = shared_data('pbc2') / 'visits.csv'
  with path.open() as lines:
    header = next(lines).strip().split(',')
    rows = [dict(zip(header, line.strip().split(','), strict=True))
            for line in lines]  # fmt: skip
  first = {}
  for row in rows:
    first.setdefault(row['id'], row)
  rows = list(first.values())
  assert len(rows) == 312
  time = np.array([float(r['years']) for r in rows])
  causes = {'alive': 0, 'dead': 1, 'transplanted': 2}
  event = np.array([causes[r['status']] for r in rows])
  years = (1, 3, 5, 10)
  death = curves.aalen_johansen(time, event, cause=1).at(years)
  np.testing.assert_allclose(death, (0.0705, 0.1891, 0.2828, 0.4873), atol=5e-5)
  transplant = curves.aalen_johansen(time, event, cause=2).at(years)
  np.testing.assert_allclose(transplant, (0, 0.0256, 0.0483, 0.1034), atol=5e-5)
  naive = 1 - curves.kaplan_meier(time, event == 1).at(10)
  assert naive == pytest.approx(0.5214, abs=5e-5)
  x = np.stack([
    [float(r['age']) for r in rows],
    # 1: any, whatever the diuretics
    [{'No edema': 0, 'edema no diuretics': 1,
      'edema despite diuretics': 1}[r['edema']] for r in rows],
    *(np.log([float(r[k]) for r in rows])
      for k in ('serBilir', 'albumin', 'prothrombin')),
  ], -1)  # fmt: skip
  found = cox.fit(x, time, event == 1)
  np.testing.assert_allclose(
    found.coefficients, (0.0378, 0.2806, 0.8683, -2.557, 4.541), atol=6e-4
  )
  c = concordance.harrell(time, event == 1, x @ found.coefficients)
  assert c.value == pytest.approx(0.836, abs=5e-4)
