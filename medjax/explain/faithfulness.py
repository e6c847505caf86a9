"""Does a map say what the model looks at: eight numbers beside each picture.

Deletion and insertion AUC, each against the same map at random places; where a
mask says where the thing lies, pointing game, relevance mass and rank, and the
area under the ROC curve; and how sparse the map is, Gini index and entropy.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from medjax.explain import places
from medjax.metrics import ranking

DRAWS = 20
STEPS = 8
FEWEST = 6  # cases of which a signed-rank test can be below .05


def ranks(maps, seed=0):
  """Share of voxels that a map (n, *s) puts first: [0, 1), 0 is the highest.

  Equal values are put in random order, not that of the rows.
  """
  rng = np.random.default_rng(seed)
  flat = maps.reshape(len(maps), -1)
  chance = rng.random(flat.shape)
  order = np.stack(
    [np.lexsort(pair) for pair in zip(chance, -flat, strict=True)]
  )
  found = np.empty(flat.shape, np.float32)
  place = np.arange(flat.shape[1], dtype=np.float32) / flat.shape[1]
  np.put_along_axis(found, order, place[None], 1)
  return found.reshape(maps.shape)


def curves(
  score, images, about, baseline, maps, *, batch, shown, draws=DRAWS, seed=0
):
  """Areas under deletion and insertion curves (n, 1 + draws), of each map.

  The voxels that a map (n, *s) puts first are replaced by the baseline, or put
  into it, in STEPS steps (Petsiuk et al. 2018). First comes the map itself,
  then the same map moved to random places, around the borders: values and
  smoothness are the same, only the place is not. `shown` makes of scores what
  is drawn, probabilities, say.

  Returns:
    (deletion, insertion): low, and high, are faithful.
  """
  rank = maps.ndim - 1
  rng = np.random.default_rng(seed)
  shifts = np.stack([rng.integers(0, n, draws) for n in maps.shape[1:]], -1)
  shifts = np.concatenate([np.zeros((1, rank), int), shifts])
  share = np.arange(STEPS + 1) / STEPS
  shift, insert, t = (
    x.reshape(-1)
    for x in np.meshgrid(
      np.arange(len(shifts)), [0, 1], share[1:-1], indexing='ij'
    )
  )
  details = {'shift': shifts[shift.astype(int)], 'insert': insert > 0, 't': t}
  ends = {
    'shift': shifts[[0, 0]],
    'insert': np.zeros(2, bool),
    't': np.array([0.0, 1.0]),
  }
  extra = {'baseline': baseline, 'ranks': ranks(maps, seed)}
  run = lambda d: np.asarray(
    shown(
      places.scores(
        score, images, about, _revealed, extra, jax.tree.map(jnp.asarray, d),
        batch=batch,
      )
    )
  )  # fmt: skip
  inner = run(details).reshape(len(images), len(shifts), 2, STEPS - 1)
  whole, empty = run(ends).T[:, :, None, None]
  wide = lambda x: np.broadcast_to(x, (*inner.shape[:2], 1))
  down = np.concatenate([wide(whole), inner[:, :, 0], wide(empty)], -1)
  up = np.concatenate([wide(empty), inner[:, :, 1], wide(whole)], -1)
  area = lambda y: np.trapezoid(y, share, axis=-1)
  return area(down), area(up)


def _revealed(image, extra, detail):
  ranks_ = jnp.roll(
    extra['ranks'], detail['shift'], tuple(range(extra['ranks'].ndim))
  )
  first = ranks_ < detail['t']
  inside = jnp.where(detail['insert'], first, ~first).astype(image.dtype)
  return places.masked(image, extra, inside)


def chance(areas, *, lower):
  """p (n,) that a random place does as well, of areas (n, 1 + draws)."""
  own, others = areas[:, :1], areas[:, 1:]
  as_well = (others <= own) if lower else (others >= own)
  return (1 + as_well.sum(1)) / (1 + others.shape[1])


def better(areas, *, lower):
  """p that maps of several cases are no better than at random places.

  Wilcoxon's signed-rank test, one-sided, of each map against the mean of its
  random places; NaN of fewer than FEWEST cases.
  """
  difference = areas[:, 0] - areas[:, 1:].mean(1)
  difference = difference if lower else -difference
  if len(difference) < FEWEST:
    return np.nan
  if not difference.any():
    return 1.0
  return float(stats.wilcoxon(difference, alternative='less').pvalue)


def gini(values):
  """Sparseness of a map (*s,): 0 all alike, 1 one voxel (Hurley & Rickard)."""
  x = np.sort(np.abs(np.asarray(values, float)).ravel())
  if not x.sum():
    return np.nan
  index = np.arange(1, x.size + 1)
  return float(((2 * index - x.size - 1) * x).sum() / (x.size * x.sum()))


def entropy(values):
  """Complexity of a map (*s,): nats of its shares (Bhatt et al. 2020)."""
  x = np.abs(np.asarray(values, float)).ravel()
  return float(stats.entropy(x)) if x.sum() else np.nan


def localisation(values, mask):
  """Where a map (*s,) lies, by a mask (*s,) bool: {name: number}.

  pointing: whether the highest voxel is inside (Zhang et al. 2018); mass: the
  share of what is above 0 that is (Kohlbrenner et al. 2020); rank: of as many
  voxels as the mask has, the highest, the share that is; auc: of the map as a
  detector of the mask. NaN of an empty mask.
  """
  values, mask = np.asarray(values, float), np.asarray(mask, bool)
  if not mask.any() or mask.all():
    return dict.fromkeys(('pointing', 'mass', 'rank', 'auc'), np.nan)
  flat, inside = values.ravel(), mask.ravel()
  positive = np.maximum(flat, 0)
  top = np.argsort(-flat, kind='stable')[: inside.sum()]
  auc = ranking.auroc(inside[:, None], flat[:, None])[0]
  return {
    'pointing': float(inside[flat == flat.max()].mean()),
    'mass': float(positive[inside].sum() / positive.sum())
    if positive.any()
    else np.nan,
    'rank': float(inside[top].mean()),
    'auc': float(auc),
  }
