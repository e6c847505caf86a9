"""What each segment of an image adds to a score: Shapley values and LIME."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from medjax.explain import places

MOST_EXACT = 12  # segments: 4096 coalitions


def supervoxels(image, count, *, spacing=None, compactness=0.3, rounds=8):
  """About `count` compact regions of alike voxels: (*s,) int, 0, 1, ….

  SLIC (Achanta et al. 2012) in any rank: k-means of places, in mm by `spacing`,
  and of intensities over their range, begun on a regular grid.
  """
  shape = image.shape[:-1]
  spacing = np.ones(len(shape)) if spacing is None else np.asarray(spacing)
  length = np.array(shape) * spacing
  step = (length.prod() / count) ** (1 / len(shape))
  grid = [max(1, round(n / step)) for n in length]
  middles = [
    (np.arange(g) + 0.5) * n / g for g, n in zip(grid, shape, strict=True)
  ]
  places_ = np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij'), -1)
  values = image.reshape(-1, image.shape[-1]).astype(np.float64)
  span = np.ptp(values, 0)
  values = values / np.where(span > 0, span, 1)
  voxels = np.concatenate(
    [places_.reshape(-1, len(shape)) * spacing * compactness / step, values], 1
  )
  starts = np.stack(np.meshgrid(*middles, indexing='ij'), -1)
  starts = starts.reshape(-1, len(shape)).astype(int)
  centres = voxels[np.ravel_multi_index(starts.T, shape)]
  for _ in range(rounds):
    labels = _nearest(voxels, centres)
    counts = np.bincount(labels, minlength=len(centres))
    sums = [
      np.bincount(labels, column, minlength=len(centres)) for column in voxels.T
    ]
    moved = np.stack(sums, 1) / np.maximum(counts, 1)[:, None]
    centres = np.where(counts[:, None] > 0, moved, centres)
  return _connected(labels.reshape(shape))


def _nearest(voxels, centres):
  squares = (centres**2).sum(1)
  return np.concatenate(
    [
      (squares - 2 * part @ centres.T).argmin(1)
      for part in np.array_split(voxels, max(1, len(voxels) // 65536))
    ]
  )


def _connected(labels):
  """Labels 0, 1, …; what hangs loose of a segment joins the next one."""
  kept = np.zeros(labels.shape, bool)
  for k in np.unique(labels):
    parts, count = ndimage.label(labels == k)
    sizes = np.bincount(parts.ravel())[1:] if count else [0]
    kept |= parts == 1 + int(np.argmax(sizes))
  index = ndimage.distance_transform_edt(
    ~kept, return_distances=False, return_indices=True
  )
  joined = labels[tuple(index)]
  return np.unique(joined, return_inverse=True)[1].reshape(labels.shape)


def coalition_scores(score, images, about, baseline, segments, kept, *, batch):
  """Scores (n, m) with only the segments `kept` (m, k); segments (n, *s)."""
  extra = {
    'baseline': baseline,
    'segments': jnp.asarray(segments, jnp.int32),
  }
  kept = jnp.asarray(kept, jnp.float32)
  return places.scores(
    score, images, about, _with_segments, extra, kept, batch=batch
  ).astype(np.float64)


def _with_segments(image, extra, kept):
  return places.masked(image, extra, kept[extra['segments']])


def spread(values, segments):
  """Values (n, k) of segments (n, *s) at their voxels: (n, *s) float32."""
  rows = zip(values, segments, strict=True)
  return np.stack([v[s] for v, s in rows]).astype(np.float32)


def exact(score, images, about, baseline, segments, *, batch):
  """Shapley values (n, k) of all 2^k coalitions; they sum to f − f0.

  Raises ValueError for more than MOST_EXACT segments.
  """
  k = int(np.max(segments)) + 1
  if k > MOST_EXACT:
    raise ValueError(
      f'{k} segments are 2^{k} coalitions: exact Shapley values take at most '
      f'{MOST_EXACT}; say fewer segments, or the method shap'
    )
  kept = (np.arange(2**k)[:, None] >> np.arange(k)) & 1
  value = coalition_scores(
    score, images, about, baseline, segments, kept, batch=batch
  )
  sizes = kept.sum(1)
  weight = np.array(
    [1 / (k * math.comb(k - 1, s)) if s < k else 0.0 for s in range(k + 1)]
  )
  result = np.zeros((len(images), k))
  for i in range(k):
    without = np.flatnonzero(kept[:, i] == 0)
    gain = value[:, without + 2**i] - value[:, without]
    result[:, i] = (gain * weight[sizes[without]]).sum(1)
  return result


def kernel(
  score, images, about, baseline, segments, *, batch, samples=2000, seed=0
):
  """KernelSHAP (Lundberg & Lee 2017): (values (n, k), error (n,)).

  Weighted least squares over coalitions, whose values sum to f − f0 exactly.
  The sizes that `samples` can hold whole are enumerated, the others drawn, each
  with its complement (Covert & Lee 2021). `error` is the standard deviation of
  the residual over that of the scores: how far a sum of segments explains them.
  """
  k = int(np.max(segments)) + 1
  kept, weight = _coalitions(k, samples, np.random.default_rng(seed))
  ends = np.stack([np.zeros(k), np.ones(k)])
  value = coalition_scores(
    score, images, about, baseline, segments, [*ends, *kept], batch=batch
  )
  empty, whole, value = value[:, :1], value[:, 1:2], value[:, 2:]
  if k == 1:
    return whole - empty, np.zeros(len(images))
  # The last segment is what the sum leaves: no constraint is needed then.
  design = kept[:, :-1] - kept[:, -1:]
  target = value - empty - (whole - empty) * kept[:, -1]
  root = np.sqrt(weight)[:, None]
  found, *_ = np.linalg.lstsq(root * design, root * target.T, rcond=None)
  values = np.concatenate([found, (whole - empty).T - found.sum(0)]).T
  rest = value - empty - values @ kept.T
  return values, _relative(rest, value, weight)


def _coalitions(k, samples, rng):
  """Coalitions (m, k) float, neither empty nor whole, and weights (m,)."""
  sizes = np.arange(1, k)
  mass = (k - 1) / (sizes * (k - sizes))
  mass = mass / mass.sum() if k > 1 else mass
  rows, weights, left = [], [], samples
  rest = []
  for s in range(1, k // 2 + 1):
    pair = {s, k - s}
    count = sum(math.comb(k, size) for size in pair)
    # Whole sizes first, from both ends: there most of the weight lies.
    if not rest and count <= left:
      for size in pair:
        for chosen in itertools.combinations(range(k), size):
          rows.append(np.isin(np.arange(k), chosen))
          weights.append(mass[size - 1] / math.comb(k, size))
      left -= count
    else:
      rest.append(s)
  if rest and left > 1:
    both = np.array(
      [mass[s - 1] + mass[k - s - 1] * (s != k - s) for s in rest]
    )
    drawn = rng.choice(rest, left // 2, p=both / both.sum())
    for s in drawn:
      one = np.zeros(k, bool)
      one[rng.permutation(k)[:s]] = True
      rows += [one, ~one]
      weights += [both.sum() / (2 * len(drawn))] * 2
  return np.array(rows, float).reshape(-1, k), np.array(weights)


def lime(
  score,
  images,
  about,
  baseline,
  segments,
  *,
  batch,
  samples=1000,
  width=0.25,
  ridge=1.0,
  seed=0,
):
  """LIME (Ribeiro et al. 2016): (slopes (n, k), error (n,)) of segments.

  Ridge regression on coalitions, each segment kept by a coin; they weigh
  exp(−d² / width²), d the cosine distance to the whole image. `error` is
  `kernel`'s.
  """
  k = int(np.max(segments)) + 1
  rng = np.random.default_rng(seed)
  kept = rng.integers(0, 2, (samples, k)).astype(float)
  kept[0] = 1
  value = coalition_scores(
    score, images, about, baseline, segments, kept, batch=batch
  )
  distance = 1 - np.sqrt(kept.mean(1))
  weight = np.exp(-(distance**2) / width**2)
  share = weight / weight.sum()
  design = kept - share @ kept
  target = value - (value @ share)[:, None]
  normal = (design * weight[:, None]).T @ design + ridge * np.eye(k)
  found = np.linalg.solve(normal, (design * weight[:, None]).T @ target.T).T
  return found, _relative(target - found @ design.T, value, weight)


def _relative(rest, value, weight):
  """Weighted deviation of what is left over that of the values, (n,)."""
  share = weight / weight.sum()
  spread_ = np.sqrt(((value - (value @ share)[:, None]) ** 2) @ share)
  return np.sqrt((rest**2) @ share) / np.where(spread_ > 0, spread_, 1)
