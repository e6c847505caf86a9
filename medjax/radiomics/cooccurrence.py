"""Grey levels of neighbours: the co-occurrence matrix and its features."""

import jax
import jax.numpy as jnp

from medjax.radiomics import lattice
from medjax.radiomics.averages import entropy

_KRYLOV = 40  # steps after which an extreme eigenvalue has settled


def counts(levels, beside, z, *, num_levels, planar, slices=1):
  """Pairs of neighbours (slices, directions, G, G), both ways round.

  levels: (P,) 1 … G, 0 for what does not count. z: (P,) of slices, how many
  there may be, or 0 with all as one.
  """
  row = (z * num_levels + levels - 1) * num_levels - 1
  other = lattice.taken(levels, lattice.ahead(beside, planar), 0)
  index = jnp.where((levels > 0) & (other > 0), row + other, -1)
  found = lattice.counts(index, slices * num_levels**2)
  found = found.reshape(-1, slices, num_levels, num_levels).swapaxes(0, 1)
  return found + found.swapaxes(-1, -2)


def _diagonals(p):
  """Sums of (n, G, G) over i + j, (n, 2 G - 1), and over |i - j|, (n, G).

  Rows are slid against each other by writing each into a longer line.
  """
  n, size, _ = p.shape

  def slid(rows):
    wide = jnp.pad(rows, ((0, 0), (0, 0), (0, size)))
    wide = wide.reshape(n, -1)[:, : size * (2 * size - 1)]
    return wide.reshape(n, size, 2 * size - 1).sum(1)

  sums, differences = slid(p), slid(p[:, ::-1])
  upper, lower = differences[:, size - 1 :], differences[:, :size][:, ::-1]
  return sums, (upper + lower).at[:, 0].add(-upper[:, 0])


def features(counts, most, *, correlation=False):
  """{name: (n,)} of matrices (n, G, G); `most` is the region's highest level.

  Names are those of the standard (IBSI reference manual, 3.6). `correlation`
  adds the maximal correlation coefficient, which the standard does not have.
  """
  by_level, (by_sum, by_diff) = counts.sum(2), _diagonals(counts)
  dtype = jnp.result_type(float)
  total = jnp.maximum(by_level.sum(1), 1).astype(dtype)
  px, p_sum, p_diff = (x / total[:, None] for x in (by_level, by_sum, by_diff))
  size = counts.shape[-1]
  level, k = jnp.arange(1, size + 1, dtype=dtype), jnp.arange(size, dtype=dtype)
  s = jnp.arange(2, 2 * size + 1, dtype=dtype)
  mu = px @ level
  variance = (px * (level - mu[:, None]) ** 2).sum(1)
  diff_avg, contrast = p_diff @ k, p_diff @ k**2
  centred = s - 2 * mu[:, None]
  tendency = (p_sum * centred**2).sum(1)
  auto = (p_sum @ s**2 - contrast) / 4
  joint, hx = entropy(counts, (1, 2)), entropy(by_level, 1)
  # Of a symmetric matrix both entropies against independence are 2 HX.
  second = jnp.maximum(1 - jnp.exp(-2 * jnp.maximum(2 * hx - joint, 0)), 0)
  several = (px > 0).sum(1) > 1
  safe = jnp.where(several, hx, 1)
  ratio = k / most
  covariance = (tendency - contrast) / 4
  found = {
    'joint_max': counts.max((1, 2)) / total,
    'joint_avg': mu,
    'joint_var': variance,
    'joint_entr': joint,
    'diff_avg': diff_avg,
    'diff_var': (p_diff * (k - diff_avg[:, None]) ** 2).sum(1),
    'diff_entr': entropy(by_diff, 1),
    'sum_avg': 2 * mu,
    'sum_var': tendency,
    'sum_entr': entropy(by_sum, 1),
    'energy': ((counts / total[:, None, None]) ** 2).sum((1, 2)),
    'contrast': contrast,
    'dissimilarity': diff_avg,
    'inv_diff': p_diff @ (1 / (1 + k)),
    'inv_diff_norm': p_diff @ (1 / (1 + ratio)),
    'inv_diff_mom': p_diff @ (1 / (1 + k**2)),
    'inv_diff_mom_norm': p_diff @ (1 / (1 + ratio**2)),
    'inv_var': p_diff[:, 1:] @ (1 / k[1:] ** 2),
    'corr': jnp.where(
      variance > 1e-12, covariance / jnp.maximum(variance, 1e-12), 1.0
    ),
    'auto_corr': auto,
    'clust_tend': tendency,
    'clust_shade': (p_sum * centred**3).sum(1),
    'clust_prom': (p_sum * centred**4).sum(1),
    'info_corr1': jnp.where(several, (joint - 2 * hx) / safe, 0),
    'info_corr2': jnp.where(several, jnp.sqrt(second), 0),
  }
  if correlation:
    found['mcc'] = jnp.where(most > 1, maximal_correlation(counts), 1.0)
  return found


def maximal_correlation(counts):
  """The second largest singular value of p / √(px px) (n,), 0 to 1.

  The largest is 1, of the vector √px, which is taken away. The square is the
  second eigenvalue of Q(i, j) = Σ p(i, k) p(j, k) / (px(i) py(k)).
  """
  by_level = counts.sum(2).astype(jnp.result_type(float))
  root = jnp.sqrt(by_level)
  inverse = jnp.where(root > 0, 1 / jnp.where(root > 0, root, 1), 0)
  unit = root / jnp.sqrt(jnp.maximum(by_level.sum(1), 1))[:, None]
  rest = counts * inverse[:, :, None] * inverse[:, None]
  rest -= unit[:, :, None] * unit[:, None]
  square = _tridiagonal(rest, min(_KRYLOV, rest.shape[-1]))
  return jnp.sqrt(jnp.linalg.eigvalsh(square)[:, -1])


def _tridiagonal(matrices, steps):
  """Lanczos' (n, steps, steps) of the squares of symmetric matrices (n, G, G).

  Its extreme eigenvalues are theirs: that vectors lose what they are at right
  angles to brings them again, and no other (Paige 1980).
  """
  n, size, _ = matrices.shape
  start = jnp.cos(1.7 * jnp.arange(size) ** 1.3).astype(matrices.dtype)
  start = jnp.broadcast_to(start / jnp.linalg.norm(start), (n, size))

  def times(v):
    return jnp.einsum('nij,nj->ni', matrices, v)

  def step(state, _):
    before, v, beta = state
    w = times(times(v)) - beta[:, None] * before
    alpha = (w * v).sum(1)
    w -= alpha[:, None] * v
    norm = jnp.linalg.norm(w, axis=1)
    norm = jnp.where(norm > 1e-10, norm, 0)  # nothing is left to be found
    w = jnp.where(norm > 0, 1 / jnp.where(norm > 0, norm, 1), 0)[:, None] * w
    return (v, w, norm), (alpha, norm)

  state = jnp.zeros_like(start), start, jnp.zeros(n, start.dtype)
  _, (alpha, beta) = jax.lax.scan(step, state, length=steps)
  side = jax.vmap(lambda b: jnp.diag(b, 1))(beta[:-1].T)
  return jax.vmap(jnp.diag)(alpha.T) + side + side.swapaxes(1, 2)
