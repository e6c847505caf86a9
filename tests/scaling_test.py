"""What benchmarks/scaling.py reads out of compiled programs."""

import functools

import jax
import jax.numpy as jnp
import pytest
import scaling
from jax.sharding import PartitionSpec as P

from medjax import engine


def sent(function, *, out):
  """What a program over eight shares of 16 × 4 numbers sends."""
  mesh = engine.make_mesh(jax.devices()[:8])
  mapped = jax.shard_map(
    function, mesh=mesh, in_specs=P('data'), out_specs=out, check_vma=False
  )
  text = jax.jit(mapped).lower(jnp.zeros((8 * 16, 4))).compile().as_text()
  return scaling.sent_bytes(text)


@pytest.mark.parametrize(
  ('function', 'kind', 'size'),
  [
    (jax.lax.psum, 'all-reduce', 16 * 4 * 4),
    (functools.partial(jax.lax.all_gather, tiled=True), 'all-gather',
     8 * 16 * 4 * 4),
    (functools.partial(jax.lax.psum_scatter, tiled=True), 'reduce-scatter',
     16 * 4 * 4),
  ],
)  # fmt: skip
def test_collectives_are_found_with_the_bytes_of_the_whole_array(
  function, kind, size
):
  out = P('data') if kind == 'reduce-scatter' else P()
  found = sent(lambda x: function(x, 'data'), out=out)
  assert found == {kind: (1, size)}


def test_several_arrays_of_one_collective_count_together():
  text = '%x = (f32[3,5]{1,0}, bf16[7]{0}, s32[]) all-reduce-start(%a, %b, %c)'
  assert scaling.sent_bytes(text) == {'all-reduce': (1, 60 + 14 + 4)}


def test_seconds_are_those_of_a_ring():
  machine = scaling.Machine(4, 1e12, 1e9, 1e-3, utilisation=0.5)
  found = machine.seconds(
    2e12, {'all-reduce': (2, 8e9), 'all-gather': (1, 4e9)}
  )
  assert found == pytest.approx((4, 2 * 0.75 * 8 + 0.75 * 4, 3e-3))
