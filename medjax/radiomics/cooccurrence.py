"""Grey levels of neighbours: the co-occurrence matrix and its features."""

import jax
import jax.numpy as jnp

from medjax.radiomics import lattice
from medjax.radiomics.averages import entropy

_KRYLOV = 48  # steps after which an extreme eigenvalue has settled


def counts(levels, mask, dims, *, num_levels, planar, slices=1):
  """Pairs of neighbours (slices, directions, G, G), both ways round.

  levels: (P,) 1 … G. slices: how many the box may have; 1 takes all as one.
  """
  z = lattice.coordinates(dims, levels.size)[2] if slices > 1 else 0
  row = (z * num_levels + levels - 1) * num_levels - 1

  def of(places):
    both = mask & lattice.shifted(mask, places)
    index = jnp.where(both, row + lattice.shifted(levels, places), -1)
    found = lattice.counts(index, slices * num_levels**2)
    found = found.reshape(slices, num_levels, num_levels)
    return found + found.swapaxes(-1, -2)

  return lattice.each(of, dims, planar).swapaxes(0, 1)


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
  total = counts.sum((1, 2))
  dtype = jnp.result_type(float)
  p = counts / jnp.maximum(total, 1)[:, None, None].astype(dtype)
  size = p.shape[-1]
  px = p.sum(2)
  p_sum, p_diff = _diagonals(p)
  level, k = jnp.arange(1, size + 1, dtype=dtype), jnp.arange(size, dtype=dtype)
  s = jnp.arange(2, 2 * size + 1, dtype=dtype)
  mu = px @ level
  variance = (px * (level - mu[:, None]) ** 2).sum(1)
  diff_avg, contrast = p_diff @ k, p_diff @ k**2
  centred = s - 2 * mu[:, None]
  tendency = (p_sum * centred**2).sum(1)
  auto = (p_sum @ s**2 - contrast) / 4
  joint, hx = entropy(p, (1, 2)), entropy(px, 1)
  # Of a symmetric matrix both entropies against independence are 2 HX.
  second = jnp.maximum(1 - jnp.exp(-2 * jnp.maximum(2 * hx - joint, 0)), 0)
  several = (px > 0).sum(1) > 1
  safe = jnp.where(several, hx, 1)
  ratio = k / most
  covariance = (tendency - contrast) / 4
  found = {
    'joint_max': p.max((1, 2)),
    'joint_avg': mu,
    'joint_var': variance,
    'joint_entr': joint,
    'diff_avg': diff_avg,
    'diff_var': (p_diff * (k - diff_avg[:, None]) ** 2).sum(1),
    'diff_entr': entropy(p_diff, 1),
    'sum_avg': 2 * mu,
    'sum_var': tendency,
    'sum_entr': entropy(p_sum, 1),
    'energy': (p**2).sum((1, 2)),
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
    found['mcc'] = jnp.where(most > 1, maximal_correlation(p, px), 1.0)
  return found


def maximal_correlation(p, px):
  """The second largest singular value of p over √(px px) (n,).

  The largest is 1, of the vector √px, which is taken away. The square is the
  second eigenvalue of Q(i, j) = Σ p(i, k) p(j, k) / (px(i) py(k)).
  """
  root = jnp.sqrt(px)
  inverse = jnp.where(root > 0, 1 / jnp.where(root > 0, root, 1), 0)
  rest = (
    p * inverse[:, :, None] * inverse[:, None]
    - root[:, :, None] * root[:, None]
  )
  if rest.shape[-1] > _KRYLOV:
    rest = _tridiagonal(rest, _KRYLOV)
  return jnp.abs(jnp.linalg.eigvalsh(rest)).max(-1)


def _tridiagonal(matrices, steps):
  """Lanczos' (n, steps, steps), whose extreme eigenvalues are the matrices'."""
  n, size, _ = matrices.shape
  start = jnp.cos(1.7 * jnp.arange(size) ** 1.3)
  start = jnp.broadcast_to(start / jnp.linalg.norm(start), (n, size))
  basis = jnp.zeros((n, steps + 1, size), matrices.dtype).at[:, 0].set(start)

  def step(i, state):
    basis, alpha, beta = state
    last = basis[:, i]
    v = jnp.einsum('nij,nj->ni', matrices, last)
    alpha = alpha.at[i].set((v * last).sum(1))
    for _ in range(2):  # twice is enough (Parlett)
      v = v - jnp.einsum(
        'nk,nki->ni', jnp.einsum('nki,ni->nk', basis, v), basis
      )
    norm = jnp.linalg.norm(v, axis=1)
    norm = jnp.where(norm > 1e-10, norm, 0)  # nothing is left to be found
    v = jnp.where(norm > 0, 1 / jnp.where(norm > 0, norm, 1), 0)[:, None] * v
    return basis.at[:, i + 1].set(v), alpha, beta.at[i].set(norm)

  zeros = jnp.zeros((steps, n), matrices.dtype)
  _, alpha, beta = jax.lax.fori_loop(0, steps, step, (basis, zeros, zeros))
  place = jnp.arange(steps)
  found = jnp.zeros((n, steps, steps), matrices.dtype)
  found = found.at[:, place, place].set(alpha.T)
  found = found.at[:, place[1:], place[:-1]].set(beta[:-1].T)
  return found.at[:, place[:-1], place[1:]].set(beta[:-1].T)
