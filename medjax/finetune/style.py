"""MixStyle: features take on the statistics of another image of the batch."""

import dataclasses
import re

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Styles:
  """Mixes the style of features in training, behind modules `target` matches.

  Mean and spread of each channel become a mixture with those of another image
  of the batch, in shares of Beta(alpha, alpha), with probability p for a batch
  (Zhou et al. 2021). Without a dropout key, as in evaluation, nothing changes.
  """

  p: float
  alpha: float
  target: str

  def check(self, paths):
    """Raises ValueError where `target` matches none of the modules of paths."""
    modules = {
      '/'.join(parts[:i])
      for parts in (path.split('/') for path in paths)
      for i in range(1, len(parts))
    }
    if not any(re.search(self.target, module) for module in modules):
      raise ValueError(
        f'adapt.target: {self.target!r} matches no module; the parameters are '
        f'{", ".join(list(paths)[:6])}, …'
      )

  def after(self, module, x):
    """The output x (b, *s, c) of a module, mixed if it is one of them."""
    path = '/'.join(module.path)
    if not re.search(self.target, path) or not module.has_rng('dropout'):
      return x
    return mixed(module.make_rng('dropout'), x, p=self.p, alpha=self.alpha)


def mixed(key, x, *, p, alpha):
  """Features (b, *s, c) with mixed means and spreads."""
  key_chosen, key_order, key_share = jax.random.split(key, 3)
  axes = tuple(range(1, x.ndim - 1))
  mean = x.mean(axes, keepdims=True)
  std = jnp.sqrt(x.var(axes, keepdims=True) + 1e-6)
  # Styles are data: no gradient through them, as in the paper.
  mean, std = jax.lax.stop_gradient((mean, std))
  order = jax.random.permutation(key_order, len(x))
  shape = (len(x), *[1] * (x.ndim - 1))
  share = jax.random.beta(key_share, alpha, alpha, shape).astype(x.dtype)
  other = lambda y: share * y + (1 - share) * y[order]
  out = (x - mean) / std * other(std) + other(mean)
  return jnp.where(jax.random.bernoulli(key_chosen, p), out, x)
