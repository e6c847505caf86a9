"""Was this case trained on? What a model gives away of who was there.

A likelihood-ratio attack (LiRA, Carlini et al. 2022): shadow runs on random
halves of the cases say how a model speaks of a case that it was trained on, and
how of one that it was not. Each run in turn is attacked with what the others
say. Beside it the plainest attack, one threshold of the loss for all (Yeom et
al. 2018). The same runs tell what is memorised (Feldman & Zhang 2020).
"""

import math
import pathlib

import numpy as np

from medjax import experiment as experiment_lib
from medjax import files
from medjax.dp import budget, refusals
from medjax.dp.gradient import PrivateGradient
from medjax.metrics import ranking
from medjax.privacy import shadows

FILE, CASES = 'attack.json', 'attack.csv'
RATES = (0.01, 0.001)  # of false alarms
_MEMORISED = 0.25  # of confidence that a case gains by being there
_REPLICATES = 200
_LEAST = 8  # shadow runs
_FEWEST = 20  # patients


def confidence(losses):
  """log(p / (1 − p)) of p = exp(−loss), which is nearly normal over runs."""
  losses = np.clip(losses, 1e-7, 700.0)
  return -losses - np.log(-np.expm1(-losses))


def likelihood_ratio(found, inside):
  """Log likelihood ratio of having been there, (runs, n).

  found: `confidence`, (runs, n); inside: whether a run has a case, of
  `shadows.halves`. Of each run by the means of the others but its pair, as many
  with a case as without; a spread for all cases, as few runs do not tell that
  of each.
  """
  pair = found.reshape(-1, 2, found.shape[1])[:, ::-1].reshape(found.shape)
  count, scores = len(found) // 2, np.zeros_like(found)
  for there, sign in ((inside, 1), (~inside, -1)):
    total = np.where(there, found, 0).sum(0)
    squares = np.where(there, found - total / count, 0) ** 2
    variance = squares.sum() / (there.sum() - there.shape[1])
    others = (total - np.where(there, found, pair)) / (count - 1)
    # Of a mean that is known from so many.
    spread = variance * count / (count - 1) + 1e-12
    away = (found - others) ** 2 / spread
    scores -= sign * 0.5 * (away + math.log(spread))
  return scores


def caught(scores, inside, weights=None):
  """{'auroc', 'caught_at_…': how many of those inside are, at each of `RATES`}.

  weights: of each, as scores are.
  """
  ((found, spared),) = ranking.ranked_rates(
    inside.reshape(-1, 1),
    scores.reshape(-1, 1),
    weights=None if weights is None else weights.reshape(-1),
  )
  alarms = 1 - spared
  at = {
    f'caught_at_{rate:g}': float(found[alarms <= rate + 1e-12].max())
    for rate in RATES
  }
  return {'auroc': float(-np.trapezoid(found, alarms)), **at}


def judged(scores, inside, *, seed=0):
  """`caught`, {name: {'value', 'interval'}}: runs and cases are resampled."""
  rng = np.random.default_rng((seed, 2))
  drawn = []
  for _ in range(_REPLICATES):
    runs, cases = (
      rng.multinomial(n, np.full(n, 1 / n)).astype(float) for n in inside.shape
    )
    drawn.append(caught(scores, inside, np.outer(runs, cases)))
  return {
    name: {
      'value': value,
      'interval': np.percentile([d[name] for d in drawn], [2.5, 97.5]).tolist(),
    }
    for name, value in caught(scores, inside).items()
  }


def allowed(epsilon, delta, rate):
  """The most of those who were there that any attack finds at a rate."""
  return min(
    1.0,
    math.exp(epsilon) * rate + delta,
    1 - math.exp(-epsilon) * (1 - delta - rate),
  )


def memorised(losses, inside):
  """(n,): confidence in a case of runs with it, less that of runs without."""
  sure = np.exp(-losses)
  mean = lambda there: np.where(there, sure, 0).sum(0) / there.sum(0)
  return mean(inside) - mean(~inside)


def ways(experiment, data, epsilons):
  """[(the Budget or None, shadows.Way)]: without privacy, then of each."""
  members = len(data.ids) // 2
  given = experiment.data.batch_size or data.of
  batch = int(given * members / data.of)
  if batch < 1:
    raise ValueError(
      f'a batch of {given} of {data.of} patients is none of {members}: attack '
      'more of them, --cases'
    )
  steps = experiment.train.steps
  found, own = [(None, shadows.Way(batch, steps))], experiment.privacy
  for epsilon in epsilons:
    noise = own.noise if epsilon == own.epsilon else None
    lanes = own.microbatch
    made = budget.calibrated(
      own._replace(epsilon=epsilon, noise=noise),
      patients=members, batch=batch, steps=steps, lanes=lanes,
    )  # fmt: skip
    gradient = PrivateGradient(made.clip_norm, made.noise, batch, lanes)
    room = min(made.room, len(data.ids) // lanes * lanes)
    found.append((made, shadows.Way(batch, made.steps, gradient, room)))
  return found


def attack(workdir, *, runs=64, cases=0, epsilons=(), seed=0, trust=False):
  """Attacks runs like that of a workdir; writes attack.json, attack.csv.

  runs: shadow runs. cases: patients of training, drawn; 0 for all. epsilons:
  budgets to attack, beside no budget and the run's own. The report has it from
  then on. Returns what attack.json holds.

  Raises ValueError for what cannot be attacked.
  """
  workdir = pathlib.Path(workdir)
  experiment = experiment_lib.restore(workdir, trust=trust)
  if experiment.members:
    raise ValueError(
      f'{workdir} holds several runs: attack one, {workdir}/'
      f'{experiment.members[0][0]}'
    )
  if runs < _LEAST or runs % 2:
    raise ValueError(f'--shadows={runs}: give {_LEAST} or more, an even number')
  data = shadows.data_of(experiment, cases, seed)
  if len(data.ids) < _FEWEST:
    raise ValueError(
      f'{len(data.ids)} patients say nothing of false alarms: give '
      f'{_FEWEST} or more'
    )
  own = experiment.privacy.epsilon
  epsilons = sorted({*epsilons, *([own] if own else [])}, reverse=True)
  if epsilons:
    refusals.check(experiment, data.stream)
  inside = shadows.halves(len(data.ids), runs, seed)
  arms, table = [], {'id': data.ids}
  for made, way in ways(experiment, data, epsilons):
    title = f'epsilon {made.epsilon:g}' if made else 'without privacy'
    lost = shadows.losses(experiment, data, inside, way, seed=seed, title=title)
    if not np.isfinite(lost).all():
      raise ValueError(f'{title}: the loss of a shadow run is not finite')
    table[f'memorised, {title}'] = gained = memorised(lost, inside)
    arms.append(_arm(lost, inside, gained, made, way, seed))
  found = {'runs': runs, 'cases': len(data.ids), 'seed': seed, 'arms': arms}
  rows = [
    dict(zip(table, row, strict=True))
    for row in zip(*table.values(), strict=True)
  ]
  files.write_csv(workdir / CASES, rows)
  files.write_json(workdir / FILE, found)
  return found


def _arm(lost, inside, gained, made, way, seed):
  """What is found of runs that are trained in one way."""
  sure, mean = np.exp(-lost), lambda x, there: float(x[there].mean())
  ratio = likelihood_ratio(confidence(lost), inside)
  arm = {
    'epsilon': made and made.epsilon,
    'batch': way.batch,
    'steps': way.steps,
    'attacks': {
      'likelihood_ratio': judged(ratio, inside, seed=seed),
      'loss': judged(-lost, inside, seed=seed),
    },
    'right': {  # of two classes the accuracy
      name: mean(sure > 0.5, there)
      for name, there in (('trained_on', inside), ('others', ~inside))
    },
    'memorised': {
      'mean': float(gained.mean()),
      'cases': int((gained > _MEMORISED).sum()),
    },
  }
  if made:
    arm['noise'], arm['delta'] = made.noise, made.delta
    arm['allowed'] = {
      f'caught_at_{rate:g}': allowed(made.epsilon, made.delta, rate)
      for rate in RATES
    }
  return arm
