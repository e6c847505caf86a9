"""What noise costs and buys, by the accountants of dp-accounting.

The mechanism is the Gaussian one on Poisson samples, `steps` times; neighbours
differ by one patient, who is added or removed.
"""

import importlib.metadata
import math

import scipy.special

from medjax.terminal import quiet

# Of delta, that pays for draws which leave somebody out for want of room.
_SPARE = 1e-3


def _library():
  try:
    import dp_accounting
    from dp_accounting import pld, rdp
  except ImportError as e:
    raise ValueError(
      "privacy.epsilon needs dp-accounting: pip install 'medjax[dp]'"
    ) from e
  return dp_accounting, {'pld': pld.PLDAccountant, 'rdp': rdp.RdpAccountant}


def version():
  """That of dp-accounting."""
  _library()
  return importlib.metadata.version('dp-accounting')


def _event(noise, rate, steps):
  lib, _ = _library()
  once = lib.PoissonSampledDpEvent(rate, lib.GaussianDpEvent(noise))
  return lib.SelfComposedDpEvent(once, steps)


def epsilon(noise, rate, steps, delta, *, accountant='pld'):
  """Epsilon at `delta` after `steps`.

  noise: its standard deviation over the largest gradient of a patient; rate:
  the chance of a patient to be in a batch. Accountant 'pld' (privacy loss
  distributions, Koskela et al. 2020) or 'rdp' (Rényi, Mironov 2017), an upper
  bound both, the first the closer.
  """
  if steps == 0:
    return 0.0
  made = _library()[1][accountant]()
  with quiet():  # RDP says of each order that it cannot use that it cannot
    made.compose(_event(noise, rate, int(steps)))
    return float(made.get_epsilon(delta))


def both(noise, rate, steps, delta):
  """{'pld': epsilon, 'rdp': epsilon}."""
  return {
    name: epsilon(noise, rate, steps, delta, accountant=name)
    for name in ('pld', 'rdp')
  }


def noise_for(target, rate, steps, delta):
  """The least noise that spends no more than epsilon `target`, by PLD."""
  lib, accountants = _library()

  def least(accountant, low, high, tol):
    return lib.calibrate_dp_mechanism(
      accountants[accountant],
      lambda noise: _event(noise, rate, steps),
      target,
      delta,
      lib.ExplicitBracketInterval(low, high),
      tol=tol,
    )

  try:
    with quiet():  # RDP is quick, and never far above
      above = least('rdp', 0.2, 1000.0, 1e-3)
      return float(least('pld', above / 2, above * 1.01, 1e-3))
  except ValueError:
    raise ValueError(
      f'privacy.epsilon={target} cannot be reached in {steps} steps at rate '
      f'{rate:.3g} with a noise of 0.2 to 1000: take another budget'
    ) from None


def steps_within(target, noise, rate, steps, delta):
  """How many of `steps` may be taken with epsilon at most `target`, by PLD."""
  low, high = 0, steps
  if epsilon(noise, rate, high, delta) <= target:
    return high
  while high - low > 1:
    middle = (low + high) // 2
    if epsilon(noise, rate, middle, delta) <= target:
      low = middle
    else:
      high = middle
  return low


def kept(delta):
  """The part of delta that accountants are asked for; `room` has the rest."""
  return delta * (1 - _SPARE)


def room(batch, steps, target, delta):
  """Places of a batch, so many that a draw is hardly ever larger.

  batch: how many are drawn on average. Of however many patients: the tail of a
  binomial law is below that of the Poisson law of its mean (Anderson and
  Samuels 1967), and so batches of all sites have one shape.

  A run in which no draw is too large is the one that the accountants know. With
  a total variation of t between the two, (epsilon, delta) becomes (epsilon,
  delta + (1 + e^epsilon) t): this is kept below what `kept` has left.
  """
  tail = delta * _SPARE / steps / (1 + math.exp(target))
  found = max(1, int(batch))
  while scipy.special.pdtrc(found, batch) > tail:  # its inverse is 1 - tail's
    found += 1
  return found
