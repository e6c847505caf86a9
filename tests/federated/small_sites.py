"""Sites of a few pictures, a network that trains in no time, and a config."""

import flax.linen as nn
import jax
import numpy as np

from medjax import engine, experiment
from medjax.config import default_config
from medjax.federated import algorithms, local, rounds, simulate, state

SIZES = {'a': 6, 'b': 3, 'c': 9}


class Small(nn.Module):
  """A convolution, perhaps a norm, and a linear layer."""

  num_classes: int
  norm: bool = False

  @nn.compact
  def __call__(self, x, *, train=False):
    x = nn.Conv(3, (3, 3), use_bias=not self.norm)(x)
    if self.norm:
      x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
    return nn.Dense(self.num_classes)(nn.tanh(x).mean((1, 2)))


class Cases(list):
  """Raw cases as a data set gives them."""

  class_names = ('no', 'yes')
  covariate_names = ()


def make_cases(split='train', sizes=SIZES):
  """Cases of several sites, whose pictures differ in brightness."""
  rng, cases = np.random.default_rng(len(split)), Cases()
  for k, (site, n) in enumerate(sizes.items()):
    for i in range(n):
      image = rng.integers(0, 100, (6, 6, 1)) + 40 * k + 60 * (i % 2)
      cases.append(
        {
          'image': image.astype(np.uint8),
          'id': f'{split}-{site}-{i}',
          'patient': f'{split}-{site}-{i}',
          'site': site,
          'label': np.int32(i % 2),
          'affine': np.eye(3),
          'spacing': np.ones(2),
        }
      )
  return cases


def make_config(*, norm=False, batch_size=4, learning_rate=0.3, **optimizer):
  config = default_config()
  config.data.update(name='synthetic', batch_size=batch_size)
  config.data.preprocess = (dict(name='scale', mean=127.5, std=127.5),)
  config.model = dict(name=f'{__name__}:Small', norm=norm)
  config.task = dict(name='Classification')
  config.optimizer = dict(name='sgd', learning_rate=learning_rate, **optimizer)
  config.schedule.name = 'constant'
  config.inference.batch_size = 8
  return config


def use(monkeypatch, *, devices=1, cases=make_cases):
  """Lets experiments open these cases, on so many devices."""
  monkeypatch.setattr(
    experiment, 'open_cases', lambda config, split: cases(split)
  )
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ('data',))
  monkeypatch.setattr(engine, 'make_mesh', lambda devices=None: mesh)
  return mesh


def by_site(cases):
  return {
    site: Cases(c for c in cases if c['site'] == site)
    for site in sorted({c['site'] for c in cases})
  }


class Rounds:
  """A federation in memory: call it for a round, of all sites or some."""

  def __init__(
    self,
    config,
    algorithm,
    mesh,
    *,
    steps=1,
    names=None,
    together=False,
    **options,
  ):
    made = state.planned(experiment.make(config), 100, steps)
    cases = by_site(make_cases())
    names = names or [*cases]
    self.sites = [local.Site(made, n, cases[n], mesh) for n in names]
    if isinstance(algorithm, str):
      algorithm = algorithms.make(
        algorithm, made.config['optimizer'], **options
      )
    self.training = local.Training(
      made,
      algorithm,
      self.sites[0].inputs,
      mesh,
      steps=steps,
      together=together,
    )
    self.server = self.training.begun
    self.memories = [self.training.fresh() for _ in self.sites]
    self.total = sum(site.n for site in self.sites)

  def __call__(self, count=1):
    for _ in range(count):
      self.server, self.memories, self.replies, self.out = simulate.round(
        self.training, self.server, self.sites, self.memories, self.total
      )
    return self

  @property
  def leaves(self):
    """{path: array} of the server's model."""
    return rounds.leaves_of(self.server.params, self.server.variables)


def assert_same(a, b):
  """The same leaves, to the bit."""
  assert a.keys() == b.keys()
  for path in a:
    np.testing.assert_array_equal(a[path], b[path], err_msg=path)


def assert_close(a, b, atol=1e-6):
  assert a.keys() == b.keys()
  for path in a:
    np.testing.assert_allclose(a[path], b[path], atol=atol, rtol=0)


def use_own(monkeypatch):
  """As `use`, and a site, the data.path of a config, opens its own cases."""
  use(monkeypatch)

  def opened(config, split):
    every, site = make_cases(split), config.data.path
    return Cases(by_site(every)[site]) if site else every

  monkeypatch.setattr(experiment, 'open_cases', opened)
