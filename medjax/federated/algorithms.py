"""Federated algorithms: a correction at the site, an update at the server.

All see trees of arrays, on either side. A server knows of what the sites sent
only their mean, so that all go with secure aggregation.
"""

import dataclasses
import sys

import jax
import numpy as np
import optax

from medjax.build import build, closest

NORMS = ('(^|/)[A-Za-z0-9]*[Nn]orm', 'batch_stats')


@dataclasses.dataclass(frozen=True)
class FedAvg:
  """The weighted mean of what the sites have learnt (McMahan et al. 2017).

  keep: patterns of leaves, 'params/head/kernel' or 'batch_stats/…', that stay
    at their site and are neither sent nor averaged.
  """

  keep: tuple[str, ...] = ()

  def of_server(self, params):
    """Trees that the server keeps beside the parameters."""
    return {}

  def of_site(self, params):
    """Trees that a site keeps from round to round."""
    return {}

  def held(self, params, server, site):
    """What `correct` needs, and what stays as it is during a round."""
    return {}

  def correct(self, gradient, params, held):
    """The gradient that a step of a site takes."""
    return gradient

  def remembered(self, site, params, server, learnt, rate):
    """The trees of a site after a round that the server counted.

    params: those that it was sent; learnt: those that it ended with; rate: sum
    of the learning rates of its steps.
    """
    return site

  def update(self, params, server, mean, *, share, rate):
    """(parameters, trees of the server) after a round.

    mean: of the parameters that the sites ended with. share: of all cases, that
    of the sites that were counted.
    """
    return mean, server


@dataclasses.dataclass(frozen=True)
class FedProx(FedAvg):
  """Steps are pulled back to what was sent, by μ/2 ‖w − w₀‖² (Li et al. 2020).

  Raises ValueError for a negative μ.
  """

  mu: float = 0.01

  def __post_init__(self):
    if not self.mu >= 0:
      raise ValueError(f'fedprox: mu={self.mu} is negative')

  def held(self, params, server, site):
    """The parameters that were sent."""
    return {'anchor': params}

  def correct(self, gradient, params, held):
    """∇f + μ (w − w₀)."""
    return jax.tree.map(
      lambda g, w, w0: g + self.mu * (w - w0), gradient, params, held['anchor']
    )


@dataclasses.dataclass(frozen=True)
class Scaffold(FedAvg):
  """Steps are corrected by how a site differs (Karimireddy et al. 2020).

  Option II of the paper; controls begin at 0. That of a site becomes the mean
  gradient of its round, which is (w₀ − w) / Σ rates for plain SGD. The server's
  is their mean by cases, which follows from the mean of the parameters: nothing
  more is sent up. The paper's server step is 1 here.
  """

  def __post_init__(self):
    if self.keep:
      raise ValueError('scaffold: no leaf stays at its site; leave keep out')

  def of_server(self, params):
    """The control c, 0."""
    return {'control': jax.tree.map(np.zeros_like, params)}

  def of_site(self, params):
    """The control cᵢ, 0."""
    return {'control': jax.tree.map(np.zeros_like, params)}

  def held(self, params, server, site):
    """c − cᵢ."""
    drift = jax.tree.map(np.subtract, server['control'], site['control'])
    return {'drift': drift}

  def correct(self, gradient, params, held):
    """∇f − cᵢ + c."""
    return jax.tree.map(lambda g, d: g + d, gradient, held['drift'])

  def remembered(self, site, params, server, learnt, rate):
    """cᵢ − c + (w₀ − w) / Σ rates."""
    control = jax.tree.map(
      lambda ci, c, w0, w: ci - c + (w0 - w) / np.float32(rate),
      site['control'],
      server['control'],
      params,
      learnt,
    )
    return {'control': control}

  def update(self, params, server, mean, *, share, rate):
    """The mean, and c + share · ((w₀ − w̄) / Σ rates − c)."""
    control = jax.tree.map(
      lambda c, w0, w: (
        c + np.float32(share) * ((w0 - w) / np.float32(rate) - c)
      ),
      server['control'],
      params,
      mean,
    )
    return mean, {'control': control}


@dataclasses.dataclass(frozen=True)
class FedBN(FedAvg):
  """Layers of normalisation stay at their site (Li et al. 2021).

  There is then a model for each site, and none for a site that took no part.
  """

  keep: tuple[str, ...] = NORMS


@dataclasses.dataclass(frozen=True)
class FedAdam(FedAvg):
  """Adam at the server, on the mean step of the sites (Reddi et al. 2021).

  Without bias correction, as in the paper; its second moment begins at τ².
  """

  learning_rate: float = 0.01
  b1: float = 0.9
  b2: float = 0.99
  tau: float = 1e-3

  def of_server(self, params):
    """Both moments."""
    return {
      'first': jax.tree.map(np.zeros_like, params),
      'second': jax.tree.map(
        lambda w: np.full_like(w, self.tau**2), params
      ),
    }  # fmt: skip

  def update(self, params, server, mean, *, share, rate):
    """w + η m / (√v + τ)."""
    step = jax.tree.map(np.subtract, mean, params)
    blend = lambda old, new, b: np.float32(b) * old + np.float32(1 - b) * new
    first = jax.tree.map(
      lambda m, d: blend(m, d, self.b1), server['first'], step
    )
    second = jax.tree.map(
      lambda v, d: blend(v, d * d, self.b2), server['second'], step
    )
    moved = jax.tree.map(
      lambda w, m, v: (
        w
        + np.float32(self.learning_rate)
        * m
        / (np.sqrt(v) + np.float32(self.tau))
      ),
      params,
      first,
      second,
    )
    return moved, {'first': first, 'second': second}


_NAMES = {
  'fedavg': 'FedAvg', 'fedprox': 'FedProx', 'scaffold': 'Scaffold',
  'fedbn': 'FedBN', 'fedadam': 'FedAdam',
}  # fmt: skip


def make(name, optimizer, **options):
  """An algorithm by its name, 'fedavg' or another of this module.

  optimizer: the fields of config.optimizer. Raises ValueError for an option
  that it has not, and for scaffold with anything but plain SGD, of which alone
  the way that was gone tells the mean gradient.
  """
  if name not in _NAMES:  # a server names it: it must not be any function
    raise ValueError(f'no algorithm {name!r}{closest(str(name), _NAMES)}')
  spec = {**options, 'name': _NAMES[name]}
  algorithm = build(sys.modules[__name__], spec)
  if isinstance(algorithm, Scaffold):
    odd = [
      f'{field}={value}'
      for field, value in sorted(optimizer.items())
      if value
      and field not in ('name', 'learning_rate', 'freeze')
      and (field, value) != ('layer_decay', 1.0)
    ]
    if optimizer['name'] != 'sgd' or odd:
      found = ', '.join([f'name={optimizer["name"]}', *odd])
      raise ValueError(
        'scaffold reads the mean gradient of a round off the way it went, '
        f'which needs plain SGD, not optimizer {found}: set optimizer.name=sgd '
        'and nothing but its learning_rate'
      )
  return algorithm


def corrected(tx, algorithm):
  """An optimizer whose gradients the algorithm corrects first.

  Its state is {'inner': that of `tx`, 'held': what `algorithm.held` gave}.
  """

  def init(params):
    return {'inner': tx.init(params), 'held': {}}

  def update(gradient, state, params):
    gradient = algorithm.correct(gradient, params, state['held'])
    updates, inner = tx.update(gradient, state['inner'], params)
    return updates, {'inner': inner, 'held': state['held']}

  return optax.GradientTransformation(init, update)
