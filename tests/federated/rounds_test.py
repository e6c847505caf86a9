"""The identities that a federation must keep."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from federated.small_sites import (
  Rounds,
  Small,
  assert_close,
  assert_same,
  by_site,
  make_cases,
  make_config,
  use,
)

from medjax.federated import algorithms, rounds


def central(config, steps, *, norm=False, cases=None):
  """Gradient descent on all cases at once, in plain jax and optax."""
  cases = cases or make_cases()
  x = np.stack([(c['image'] - 127.5) / 127.5 for c in cases]).astype(np.float32)
  y = np.stack([c['label'] for c in cases])
  model = Small(2, norm=norm)
  init, _ = jax.random.split(jax.random.key(config.seed))
  params = model.init(init, np.zeros((1, 6, 6, 1), np.float32))['params']
  tx = optax.sgd(
    config.optimizer.learning_rate, momentum=config.optimizer.get('momentum')
  )
  state = tx.init(params)

  def loss(params):
    logits = model.apply({'params': params}, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

  for _ in range(steps):
    updates, state = tx.update(jax.grad(loss)(params), state)
    params = optax.apply_updates(params, updates)
  return rounds.leaves_of(params, {})


@pytest.mark.parametrize(
  'momentum', [None, pytest.param(0.9, marks=pytest.mark.slow)]
)
def test_one_step_a_round_is_central_descent(momentum, monkeypatch):
  mesh = use(monkeypatch)
  more = {} if momentum is None else {'momentum': momentum}
  config = make_config(batch_size=0, learning_rate=0.1, **more)
  found = Rounds(config, 'fedavg', mesh)(20)
  assert_close(found.leaves, central(config, 20))


def test_fedprox_without_mu_is_fedavg(monkeypatch):
  mesh = use(monkeypatch)
  runs = {
    mu: Rounds(make_config(), 'fedprox', mesh, steps=3, mu=mu)(3).leaves
    for mu in (0.0, 0.5)
  }
  plain = Rounds(make_config(), 'fedavg', mesh, steps=3)(3).leaves
  assert_same(runs[0.0], plain)
  assert any((runs[0.5][k] != plain[k]).any() for k in plain)


def test_the_first_round_of_scaffold_is_fedavg(monkeypatch):
  mesh = use(monkeypatch)
  plain, found = (
    Rounds(make_config(), name, mesh, steps=3)
    for name in ('fedavg', 'scaffold')
  )
  assert_same(plain().leaves, found().leaves)
  second = plain().leaves, found().leaves
  assert any((second[0][k] != second[1][k]).any() for k in second[0])


def test_the_control_of_the_server_is_the_mean_of_those_of_the_sites(
  monkeypatch,
):
  mesh = use(monkeypatch)
  found = Rounds(make_config(), 'scaffold', mesh, steps=3)(3)
  mean = jax.tree.map(
    lambda *each: (
      sum(s.n * c for s, c in zip(found.sites, each, strict=True)) / found.total
    ),
    *(memory.own['control'] for memory in found.memories),
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    found.server.own['control'],
    mean,
  )


def test_fedbn_of_one_site_is_a_run_of_that_site(monkeypatch):
  mesh = use(monkeypatch)
  config = make_config(norm=True, momentum=0.9)
  bn, plain = (
    Rounds(config, name, mesh, steps=4, names=['c'])(3)
    for name in ('fedbn', 'fedavg')
  )
  unbroken = Rounds(config, 'fedavg', mesh, steps=12, names=['c'])()
  (memory,) = bn.memories
  own = rounds.replaced(bn.server.params, bn.server.variables, memory.kept)
  assert_same(rounds.leaves_of(*own), plain.leaves)
  assert_same(plain.leaves, unbroken.leaves)
  # Its norms are its own, and the server has never seen them.
  assert len(memory.kept) == 4
  begun = rounds.leaves_of(
    bn.training.begun.params, bn.training.begun.variables
  )
  for path, leaf in bn.leaves.items():
    assert (leaf == begun[path]).all() == ('BatchNorm' in path), path
  assert not any('BatchNorm' in k for reply in bn.replies for k in reply.leaves)


def test_fedadam_follows_its_paper(monkeypatch):
  mesh = use(monkeypatch)
  options = {'learning_rate': 0.1, 'b1': 0.8, 'b2': 0.9, 'tau': 0.01}
  found = Rounds(make_config(), 'fedadam', mesh, steps=2, **options)
  path = 'params/Dense_0/kernel'
  w = found.leaves[path].astype(np.float64)
  m, v = np.zeros_like(w), np.full_like(w, 1e-4)
  for _ in range(3):
    found()
    mean = sum(r.n * r.leaves[path].astype(np.float64) for r in found.replies)
    step = mean / found.total - w
    m, v = 0.8 * m + 0.2 * step, 0.9 * v + 0.1 * step**2
    w = w + 0.1 * m / (np.sqrt(v) + 0.01)
    np.testing.assert_allclose(found.leaves[path], w, atol=1e-6)


@pytest.mark.parametrize('name', ['fedavg', 'scaffold', 'fedbn', 'fedadam'])
def test_order_of_the_sites_does_not_matter(name, monkeypatch):
  mesh = use(monkeypatch)
  config = make_config(norm=True)
  a, b = (
    Rounds(config, name, mesh, steps=2, names=names)(2).leaves
    for names in (['a', 'b', 'c'], ['c', 'a', 'b'])
  )
  assert_same(a, b)


def test_number_of_devices_and_one_program_do_not_matter(monkeypatch):
  found = {}
  for devices in (1, 4):
    mesh = use(monkeypatch, devices=devices)
    found[devices] = Rounds(make_config(norm=True), 'scaffold', mesh, steps=3)
    found[devices](3)
  assert_close(found[1].leaves, found[4].leaves, atol=2e-6)
  mesh = use(monkeypatch)
  config = make_config(norm=True)
  one = Rounds(config, 'scaffold', mesh, steps=3, together=True)(3)
  assert_close(found[1].leaves, one.leaves, atol=2e-6)


def quadratic(algorithm, *, rounds_, steps, rate):
  """Sites with f = ½ (w − b)ᵀ A (w − b), without a network."""
  rng = np.random.default_rng(0)
  n = np.array([3, 1, 6])
  a = [np.diag(rng.uniform(0.2, 1.5, 4)) for _ in n]
  b = [rng.normal(size=4) for _ in n]
  w = {'w': np.zeros(4)}
  server = algorithm.of_server(w)
  sites = [algorithm.of_site(w) for _ in n]
  for _ in range(rounds_):
    ends = []
    for i in range(len(n)):
      held, own = algorithm.held(w, server, sites[i]), w
      for _ in range(steps):
        gradient = {'w': a[i] @ (own['w'] - b[i])}
        gradient = algorithm.correct(gradient, own, held)
        own = {'w': own['w'] - rate * gradient['w']}
      ends.append(own)
      sites[i] = algorithm.remembered(sites[i], w, server, own, steps * rate)
    mean = {
      'w': sum(k * e['w'] for k, e in zip(n, ends, strict=True)) / n.sum()
    }
    w, server = algorithm.update(w, server, mean, share=1.0, rate=steps * rate)
  return n, a, b, np.asarray(w['w'])


def test_scaffold_finds_the_optimum_where_fedavg_is_biased():
  how = {'rounds_': 600, 'steps': 5, 'rate': 0.1}
  n, a, b, w = quadratic(algorithms.Scaffold(), **how)
  left = sum(k * ai for k, ai in zip(n, a, strict=True))
  right = sum(k * ai @ bi for k, ai, bi in zip(n, a, b, strict=True))
  optimum = np.linalg.solve(left, right)
  np.testing.assert_allclose(w, optimum, atol=1e-6)

  # After K steps a site is at b + P (w − b), P = (1 − η A)ᴷ: the fixed point.
  _, _, _, w = quadratic(algorithms.FedAvg(), **how)
  p = [np.linalg.matrix_power(np.eye(4) - 0.1 * ai, 5) for ai in a]
  left = sum(k * (np.eye(4) - pi) for k, pi in zip(n, p, strict=True))
  right = sum(
    k * (np.eye(4) - pi) @ bi for k, pi, bi in zip(n, p, b, strict=True)
  )
  biased = np.linalg.solve(left, right)
  np.testing.assert_allclose(w, biased, atol=1e-9)
  assert np.abs(biased - optimum).max() > 1e-2


def spoilt(reply, **changes):
  return dataclasses.replace(reply, **changes)


LIES = {
  'not finite': lambda r: spoilt(
    r, leaves={k: v * np.float32(np.nan) for k, v in r.leaves.items()}
  ),
  r'sends params/.* as float32 \(1,\)': lambda r: spoilt(
    r, leaves={k: np.zeros(1, np.float32) for k in r.leaves}
  ),
  'as float64': lambda r: spoilt(
    r, leaves={k: v.astype(np.float64) for k, v in r.leaves.items()}
  ),
  'other parameters: params/more': lambda r: spoilt(
    r, leaves={**r.leaves, 'params/more': np.zeros(1)}
  ),
  'answers step 0': lambda r: spoilt(r, step=0),
  'has -5 cases': lambda r: spoilt(r, n=-5),
  'has nan cases': lambda r: spoilt(r, n=float('nan')),
}


@pytest.mark.parametrize('why', LIES)
def test_a_site_that_lies_is_left_out_and_the_rest_weighs_anew(
  why, monkeypatch
):
  mesh = use(monkeypatch)
  found = Rounds(make_config(), 'fedavg', mesh, steps=2)()
  training, before = found.training, found.server
  replies, _ = training(before, found.sites, found.memories)
  merged = lambda replies: rounds.merged(
    training.algorithm, before, replies,
    steps=2, rate=training.rate(2), total=found.total,
  )  # fmt: skip
  lying = [replies[0], LIES[why](replies[1]), replies[2]]
  after, out = merged(lying)
  assert [*out] == ['b']
  assert pytest.importorskip('re').search(why, out['b'])
  alone, none = merged([replies[0], replies[2]])
  assert not none
  assert_same(
    rounds.leaves_of(after.params, {}), rounds.leaves_of(alone.params, {})
  )
  path = 'params/Dense_0/bias'
  expected = (6 * replies[0].leaves[path] + 9 * replies[2].leaves[path]) / 15
  np.testing.assert_allclose(
    rounds.leaves_of(after.params, {})[path], expected, atol=1e-7
  )
  assert after.counted == {'a': 4, 'b': 2, 'c': 4}
  with pytest.raises(ValueError, match='2 of at least 3 sites took part'):
    rounds.check_enough([1, 2], out, 3)


def test_scaffold_forgets_nothing_of_a_site_that_was_left_out(monkeypatch):
  mesh = use(monkeypatch)
  found = Rounds(make_config(), 'scaffold', mesh, steps=2)(2)
  before = found.memories[1]
  training = found.training.__call__
  monkeypatch.setattr(
    type(found.training),
    '__call__',
    lambda self, *args: (
      lambda replies, memories: (
        [replies[0], spoilt(replies[1], step=-1), replies[2]],
        memories,
      )
    )(*training(*args)),
  )
  found()
  assert found.memories[1] is before
  mean = jax.tree.map(
    lambda *each: (
      sum(s.n * c for s, c in zip(found.sites, each, strict=True)) / found.total
    ),
    *(memory.own['control'] for memory in found.memories),
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    found.server.own['control'],
    mean,
  )


def test_what_all_sites_have_alike_is_unchanged_to_the_bit():
  leaf = np.random.default_rng(0).normal(size=100).astype(np.float32)
  replies = [
    rounds.Reply(name, 0, n, {'w': leaf, 'count': np.arange(3)})
    for name, n in (('a', 3), ('b', 7919), ('c', 10_000_019))
  ]
  assert_same(rounds.mean_of(replies), {'w': leaf, 'count': np.arange(3)})


@pytest.mark.parametrize(
  ('name', 'options', 'optimizer', 'message'),
  [
    ('fedavgg', {}, {}, "did you mean 'fedavg'"),
    ('os:getcwd', {}, {}, "no algorithm 'os:getcwd'"),
    ('fedprox', {'mu': -1}, {}, 'mu=-1 is negative'),
    ('fedprox', {'nu': 1}, {}, "takes no argument 'nu'; known: keep, mu"),
    ('scaffold', {}, {'name': 'adam'}, 'needs plain SGD'),
    ('scaffold', {}, {'momentum': 0.9}, 'momentum=0.9'),
    ('scaffold', {}, {'clip_norm': 1.0}, 'clip_norm=1.0'),
  ],
)
def test_what_cannot_be_is_refused(name, options, optimizer, message):
  own = {'name': 'sgd', 'learning_rate': 0.1, **optimizer}
  with pytest.raises(ValueError, match=message):
    algorithms.make(name, own, **options)


def test_a_pattern_that_matches_nothing_is_named(monkeypatch):
  mesh = use(monkeypatch)
  with pytest.raises(ValueError, match=r'no leaf of the model.*params/Conv_0'):
    Rounds(make_config(), 'fedbn', mesh)


def test_sites_of_a_round_are_those_of_the_cases():
  assert {k: len(v) for k, v in by_site(make_cases()).items()} == {
    'a': 6, 'b': 3, 'c': 9
  }  # fmt: skip
