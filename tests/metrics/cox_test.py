import numpy as np
import pytest

from medjax.metrics import concordance, cox


def sample(n=80, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(n, 2))
  time = np.ceil(rng.exponential(size=n) * np.exp(-x[:, 0]) * 6)
  return x, time, rng.integers(0, 2, n)


@pytest.mark.parametrize('ties', ['efron', 'breslow'])
def test_the_fit_is_a_maximum(ties):
  x, time, event = sample()
  found = cox.fit(x, time, event, ties=ties)
  value = lambda b: cox.log_likelihood(x @ b, time, event, ties=ties)
  best = value(found.coefficients)
  assert best == pytest.approx(found.log_likelihood, abs=1e-9)
  for step in 1e-3 * np.array([(1, 0), (-1, 0), (0, 1), (0, -1)]):
    assert value(found.coefficients + step) < best


def test_risks_in_time_that_stay_are_those_that_do_not_change():
  x, time, event = sample()
  matrix = np.repeat(x[:, :1], len(x), 1).T
  for ties in ('efron', 'breslow'):
    assert cox.log_likelihood(matrix, time, event, ties=ties) == pytest.approx(
      cox.log_likelihood(x[:, 0], time, event, ties=ties)
    )


def test_the_baseline_without_covariates_is_nelson_aalen():
  from medjax.metrics.survival_curves import nelson_aalen

  _, time, event = sample()
  found, other = cox.baseline(0 * time, time, event), nelson_aalen(time, event)
  np.testing.assert_allclose(found.at(time), other.at(time))


@pytest.mark.parametrize(
  ('change', 'says'),
  [
    (lambda x, t, e: (x, t, 0 * e), 'no case has an event'),
    (lambda x, t, e: (x * np.nan, t, e), 'a covariate is missing'),
    (lambda x, t, e: (x[:, [0, 0]], t, e), 'say the same'),
    (lambda x, t, e: (-t[:, None], t, e), 'tells the order of events'),
  ],
)
def test_refused(change, says):
  with pytest.raises(ValueError, match=says):
    cox.fit(*change(*sample()))


def test_figures_of_lifelines():
  datasets = pytest.importorskip('lifelines.datasets')
  rossi = datasets.load_rossi()
  x = rossi.drop(columns=['week', 'arrest']).to_numpy(float)
  time, event = rossi['week'].to_numpy(float), rossi['arrest'].to_numpy(int)
  found = cox.fit(x, time, event)
  assert found.log_likelihood == pytest.approx(-658.747659, abs=5e-7)
  c = concordance.harrell(time, event, x @ found.coefficients)
  assert c.value == pytest.approx(0.640329, abs=5e-7)
