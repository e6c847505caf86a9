"""Features of matrices of grey level and size: runs, zones, dependences."""

import jax.numpy as jnp

from medjax.radiomics.averages import entropy

# By what they are: of a small or large size, a low or high level, and both.
NAMES = (
  'small', 'large', 'low', 'high', 'small_low', 'small_high', 'large_low',
  'large_high', 'level_nu', 'level_nu_norm', 'size_nu', 'size_nu_norm',
  'percentage', 'level_var', 'size_var', 'entropy', 'energy',
)  # fmt: skip


def features(counts, size, voxels):
  """{name of `NAMES`: (n,)} of matrices (n, G, K).

  size: (K,) what a column stands for. voxels: (n,) how many voxels were looked
  at (IBSI reference manual, 3.7).
  """
  dtype = jnp.result_type(float)
  total = jnp.maximum(counts.sum((1, 2)), 1).astype(dtype)
  level = jnp.arange(1, counts.shape[1] + 1, dtype=dtype)
  size = jnp.maximum(size.astype(dtype), 1)
  p = counts / total[:, None, None]
  by_level = p @ jnp.stack([jnp.ones_like(size), size**-2, size**2], 1)
  (low, small_low, large_low), (high, small_high, large_high) = (
    jnp.einsum('g,ngk->kn', level**power, by_level) for power in (-2, 2)
  )
  by_level, small, large = jnp.moveaxis(by_level, 2, 0)
  by_size = p.sum(1)
  mean_level, mean_size = by_level @ level, by_size @ size
  level_nu, size_nu = (by_level**2).sum(1), (by_size**2).sum(1)
  return {
    'small': small.sum(1),
    'large': large.sum(1),
    'low': low,
    'high': high,
    'small_low': small_low,
    'small_high': small_high,
    'large_low': large_low,
    'large_high': large_high,
    'level_nu': level_nu * total,
    'level_nu_norm': level_nu,
    'size_nu': size_nu * total,
    'size_nu_norm': size_nu,
    'percentage': total / jnp.maximum(voxels, 1),
    'level_var': (by_level * (level - mean_level[:, None]) ** 2).sum(1),
    'size_var': (by_size * (size - mean_size[:, None]) ** 2).sum(1),
    'entropy': entropy(counts, (1, 2)),
    'energy': (p**2).sum((1, 2)),
  }
