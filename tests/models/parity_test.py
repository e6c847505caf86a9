"""The parity table holds: same weights, same input, same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest

from medjax.models.layers import make_norm


@pytest.mark.parametrize('name', parity.CASES)
def test_equals_an_independent_implementation(name):
  case = parity.CASES[name]
  pytest.importorskip('torch')
  pytest.importorskip(case.reference.lower())
  errors = parity.measure(case)
  print({k: f'{v:.1e}' for k, v in errors.items()})
  assert errors['forward'] <= 1e-4
  assert errors['gradient'] <= 1e-5
  assert not errors['statistics'] > 1e-6  # NaN: there are none


@pytest.mark.parametrize('name', parity.PUBLISHED)
def test_sizes_are_the_published_ones(name):
  assert parity.count(name) == parity.PUBLISHED[name][1]


def test_a_wrong_network_is_found_out():
  pytest.importorskip('torch')
  case = parity.CASES['vgg']
  wrong = case.model.clone(stage_sizes=(2, 1))
  with pytest.raises(ValueError, match='ours is'):
    parity.measure(parity.Case('torch.nn', wrong, case.net, case.shape))


def test_batch_norm_keeps_torchs_statistics_but_for_n_over_n_minus_1():
  torch = pytest.importorskip('torch')
  x = np.random.default_rng(0).normal(2, 3, (2, 3, 1, 4)).astype('f')
  net = torch.nn.BatchNorm2d(4, momentum=0.1)
  net(torch.tensor(x.transpose(0, 3, 1, 2)))
  norm = make_norm('batch', 4, train=True, dtype=None, name=None, momentum=0.9)
  fresh = norm.init(jax.random.key(0), x)  # mean 0, variance 1
  _, updates = norm.apply(fresh, jnp.asarray(x), mutable=['batch_stats'])
  stats = updates['batch_stats']
  np.testing.assert_allclose(stats['mean'], net.running_mean, rtol=1e-5)
  ours, theirs = stats['var'] - 0.9, net.running_var.numpy() - 0.9
  np.testing.assert_allclose(theirs / ours, 6 / 5, rtol=1e-4)
