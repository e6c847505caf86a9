"""Plays a run's mechanism with canaries: is epsilon what it says?

A canary is a patient whose gradient is one parameter's, far too large, so that
clipping makes it as large as any may be: nobody can be seen better. Half of
the canaries train, by the draws, the clipping, the noise and the steps of the
run. Whoever sees every step then says of each canary whether it was there, by
the likelihood of what was seen (Nasr et al. 2023). How well that goes bounds
epsilon from below.
"""

import math
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from medjax import engine, files, optim
from medjax.data import pipeline
from medjax.data.poisson import Draws, PoissonStream
from medjax.dp import accounting, budget
from medjax.dp.gradient import PrivateGradient

FILE = 'audit.json'
_CANARIES = 20_000
_AT_ONCE = 2000  # canaries of a game: each is a parameter
_LEVEL = 0.95
_LOUD = 1e4  # a canary's gradient before clipping, over the norm


class Found(NamedTuple):
  """What an audit says.

  epsilon: as the run has it; recomputed, from its noise, rate and steps.
  lower: epsilon is above it, with the confidence `level`.
  noise, measured: as the run has it, and as those saw it who were not drawn.
  canaries: how many were played with.
  holds: whether nothing speaks against epsilon.
  """

  epsilon: float
  recomputed: float
  lower: float
  level: float
  noise: float
  measured: float
  canaries: int

  holds: bool


class _Parameters:
  """A network whose output for canary i is parameter i."""

  def __init__(self, count):
    self._count = count

  def init(self, key, image, *, train=False):
    del key, image, train
    return {'params': {'canaries': jnp.zeros(self._count)}}

  def apply(self, variables, image, **options):
    del options
    return variables['params']['canaries'][image[:, 0].astype(int)], {}


class _Loud:
  """The loss of a canary, whose gradient clipping has to cut."""

  over_batch = False

  def __init__(self, clip_norm):
    self._scale = -_LOUD * clip_norm

  def loss(self, forward, batch):
    return self._scale * forward(batch['image'])


def game(made, gradient, *, canaries, seed):
  """Plays once: (ratios (n,), inside (n,), variance of the noise).

  The log likelihood ratio of each canary's being in, and whether it was.

  made: the Budget that is played; gradient: how steps are taken.
  """
  rng = np.random.default_rng(seed)
  inside = np.zeros(canaries, bool)
  inside[rng.permutation(canaries)[: canaries // 2]] = True
  of_training = [
    {'image': np.float32([i]), 'id': str(i)} for i in np.flatnonzero(inside)
  ]
  count = len(of_training)
  room = accounting.room(
    count * made.rate, made.steps, made.epsilon, made.delta
  )
  stream = PoissonStream(
    of_training,
    draws=Draws(
      patients=tuple(case['id'] for case in of_training),
      rate=made.rate,
      room=-(-room // gradient.lanes) * gradient.lanes,
      secret=rng.bytes(32),
      lanes=gradient.lanes,
    ),
    batch_size=1,
    steps=made.steps,
  )
  mesh = engine.make_mesh(jax.devices()[:1])
  model, tx = _Parameters(canaries), optim.make_optimizer('sgd', lambda step: 1)
  start = jax.random.key(int(rng.integers(2**31)))
  state = engine.create_state(model, tx, stream.inputs, start, mesh)
  step = engine.make_train_step(
    model, _Loud(made.clip_norm), tx, lambda key, batch: batch, mesh,
    gradient=gradient,
  )  # fmt: skip
  key = engine.replicate(start, mesh)
  metrics, batches = engine.empty_metrics(mesh), pipeline.train_batches(
    stream, local_batch_size=stream.batch_size, start_step=0
  )  # fmt: skip
  ratio, before, squares = np.zeros(canaries), np.zeros(canaries), []
  for batch in pipeline.to_device(batches, engine.sharded(mesh)):
    state, metrics = step(state, metrics, batch, key)
    after = np.asarray(state.params['canaries'], np.float64)
    seen = (after - before) * gradient.expected / made.clip_norm
    ratio += _log_ratio(seen, made)
    squares.append(np.mean(seen[~inside] ** 2))
    before = after
  return ratio, inside, np.mean(squares)


def _log_ratio(seen, made):
  """Log of how much likelier a step is if the canary may be drawn."""
  # The noise that there is, not the one that is claimed: most are not drawn.
  noise = max(scipy.stats.median_abs_deviation(seen, scale='normal'), 1e-3)
  there = np.log(made.rate) + (2 * seen - 1) / (2 * noise**2)
  return np.logaddexp(np.log1p(-made.rate), there)


def lower_bound(ratio, inside, delta, *, level=_LEVEL):
  """Epsilon is at least this, with confidence `level`, by Clopper & Pearson.

  The threshold is chosen on a quarter of the canaries, the bound is of the
  others. `ratio` and `inside` are those of `game`.
  """
  choose = np.arange(len(ratio)) % 4 == 0
  scores, truth = ratio[choose], inside[choose]
  best = max(
    np.quantile(scores[~truth], np.linspace(0, 1, 101)),
    key=lambda t: _bound(scores > t, truth, delta, level),
  )
  return max(0.0, _bound(ratio[~choose] > best, inside[~choose], delta, level))


def _bound(said, truth, delta, level):
  beta, tail = scipy.stats.beta.ppf, (1 - level) / 2
  hits, n = int(said[truth].sum()), int(truth.sum())
  false, m = int(said[~truth].sum()), int((~truth).sum())
  true_rate = beta(tail, hits, n - hits + 1) if hits else 0.0
  false_rate = beta(1 - tail, false + 1, m - false) if false < m else 1.0
  if true_rate <= delta:
    return -math.inf
  return math.log((true_rate - delta) / false_rate)


def play(made, *, canaries=_CANARIES, seed=0, gradient=None):
  """The Found of a Budget; `gradient` stands for the one it names."""
  gradient = gradient or PrivateGradient(
    clip_norm=made.clip_norm, noise=made.noise, expected=made.batch
  )
  if canaries < 100:
    raise ValueError(f'--canaries={canaries} show nothing: give 100 or more')
  games = -(-canaries // _AT_ONCE)
  each = -(-canaries // games)
  ratio, inside, squares = zip(
    *(
      game(made, gradient, canaries=each, seed=(seed, i)) for i in range(games)
    ),
    strict=True,
  )
  ratio, inside = np.concatenate(ratio), np.concatenate(inside)
  lower = lower_bound(ratio, inside, made.delta)
  measured = math.sqrt(np.mean(squares))
  # Four standard errors of a standard deviation.
  enough = 1 - 4 / math.sqrt(2 * (~inside).sum() * made.steps)
  recomputed = made.spent(made.steps)['pld']
  return Found(
    epsilon=made.epsilon,
    recomputed=recomputed,
    lower=lower,
    level=_LEVEL,
    noise=made.noise,
    measured=measured,
    canaries=len(ratio),
    holds=bool(
      max(recomputed, lower) <= made.epsilon * (1 + 1e-6)
      and measured >= made.noise * enough
    ),
  )


def audit(workdir, *, canaries=_CANARIES, seed=0):
  """The Found of a run; writes audit.json beside its privacy.json.

  Raises:
    FileNotFoundError: for a workdir of no private run.
  """
  found = budget.read(workdir)
  if found is None:
    raise FileNotFoundError(
      f'{workdir}/{budget.FILE} is missing: it is no run with a budget; train '
      'with --config.privacy.epsilon=8'
    )
  made = play(found[0], canaries=canaries, seed=seed)
  files.write_json(pathlib.Path(workdir) / FILE, made._asdict())
  return made
