"""The gradient of a batch of patients, of which each can move little.

DP-SGD (Abadi et al. 2016): each patient's gradient is clipped, noise is added
to the sum, and that is divided by how many are expected, not how many came.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

# Rounding may not take a clipped gradient beyond the norm.
_BELOW = 1 - 1e-6


def _norm(tree):
  squares = [jnp.sum(jnp.square(x), dtype=jnp.float32) for x in tree]
  return jnp.sqrt(sum(squares))


# A program is made for all but the noise, and so sites can share one.
@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=['noise'],
  meta_fields=['clip_norm', 'expected', 'lanes', 'mesh', 'log_loss'],
)
@dataclasses.dataclass(frozen=True)
class PrivateGradient:
  """A `gradient` of `engine.make_train_step`, for batches of a PoissonStream.

  Each example is a patient, given to the loss as a batch of its own. One whose
  gradient is not finite counts for nothing, as padding does. The variables of
  the model stay as they are.

  Attributes:
    clip_norm: the most of a patient's gradient, L2 over all parameters.
    noise: standard deviation of the noise on the sum, over clip_norm.
    expected: patients of a batch, on average.
    lanes: how many gradients are found at once, on each device.
    mesh: the devices that share a batch; None is one.
    log_loss: give the mean loss of the batch, which noise does not protect; by
      default 0 stands for it.
  """

  clip_norm: float
  noise: float
  expected: float
  lanes: int = 1
  mesh: Any = None
  log_loss: bool = False
  splits = True

  def __post_init__(self):
    if not math.isfinite(self.clip_norm) and self.noise:
      raise ValueError('noise is in terms of clip_norm, which must be finite')

  def __call__(self, loss, params, variables, batch, key):
    """As `engine.whole_batch`; the losses are (1,)."""
    key, key_noise = jax.random.split(key)
    total, losses, count = self.clipped_sum(loss, params, variables, batch, key)
    grads = jax.tree.map(
      lambda g: g / self.expected, self._noised(total, key_noise)
    )
    if not self.log_loss:
      losses = jnp.zeros_like(losses)
    return (losses / jnp.maximum(count, 1))[None], variables, grads

  def clipped_sum(self, loss, params, variables, batch, key):
    """(sum of clipped gradients, sum of losses, their number)."""
    own = functools.partial(self._own_sum, loss)
    if self.mesh is None or self.mesh.size == 1:
      return own(params, variables, batch, key)
    # Left to itself, XLA splits convolutions of many lanes wrongly.
    return jax.shard_map(
      lambda *arguments: jax.lax.psum(own(*arguments), 'data'),
      mesh=self.mesh,
      in_specs=(P(), P(), P('data'), P()),
      out_specs=P(),
      check_vma=False,
    )(params, variables, batch, key)

  def _own_sum(self, loss, params, variables, batch, key):
    """The clipped sum of what one device holds."""

    def one(example):
      alone = jax.tree.map(lambda x: x[None], example)
      # Of the patient and the step, not of the place in the batch.
      key_own = jax.random.fold_in(key, example['index'])
      (value, _), grads = jax.value_and_grad(loss, has_aux=True)(
        params, variables, alone, key_own
      )
      # What comes after would be fused with it, and round otherwise.
      grads = jax.lax.optimization_barrier(grads)
      norm = _norm(jax.tree.leaves(grads))
      counts = jnp.isfinite(norm) & ~example['padding']
      limit = jnp.float32(self.clip_norm * _BELOW)
      factor = jnp.where(norm > limit, limit / norm, 1.0)
      clip = lambda g: jnp.where(counts, g * factor.astype(g.dtype), 0)
      counted = counts & jnp.isfinite(value)
      value = jnp.where(counted, value, 0.0).astype(jnp.float32)
      return jax.tree.map(clip, grads), value, counted.astype(jnp.float32)

    def part(k):
      examples = jax.tree.map(
        lambda x: jax.lax.dynamic_index_in_dim(x, k, keepdims=False), parts
      )
      if self.lanes == 1:  # a vmap would make other convolutions of it
        return one(jax.tree.map(lambda x: x[0], examples))
      return jax.tree.map(lambda x: x.sum(0), jax.vmap(one)(examples))

    parts = jax.tree.map(
      lambda x: x.reshape(self.lanes, -1, *x.shape[1:]).swapaxes(0, 1), batch
    )
    # Mostly the last parts are all padding.
    some = jnp.any(~parts['padding'], 1)
    filled = jnp.max(jnp.where(some, 1 + jnp.arange(some.size), 0))
    zeros = jax.tree.map(jnp.zeros_like, params)
    return jax.lax.fori_loop(
      0,
      filled,
      lambda k, total: jax.tree.map(jnp.add, total, part(k)),
      (zeros, jnp.float32(0), jnp.float32(0)),
    )

  def _noised(self, total, key):
    if not math.isfinite(self.clip_norm):
      return total
    scale = self.noise * self.clip_norm
    leaves, tree = jax.tree.flatten(total)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten(
      x + scale * jax.random.normal(k, x.shape, x.dtype)
      for x, k in zip(leaves, keys, strict=True)
    )
