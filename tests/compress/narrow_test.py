"""Cutting channels out of a network."""

import jax
import numpy as np
import pytest
from drawn_runs import drawn
from flax.traverse_util import flatten_dict, unflatten_dict

from medjax import models
from medjax.build import build
from medjax.compress import narrow
from medjax.finetune import adapted

RESNETS = [
  dict(name='ResNet18', width=8, stem='small', stage_sizes=(2, 1)),
  dict(name='ResNet50', width=8, stage_sizes=(1, 2)),
]
UNETS = [
  dict(name='UNet', features=(8, 16, 8)),
  dict(name='UNet', features=(8, 8, 16), deep_supervision=True, norm='batch'),
]


def silenced(module, variables, outline):
  """The network with nothing in the channels that will be cut."""
  leaves = {k: np.array(v) for k, v in flatten_dict(variables, sep='/').items()}
  sets = narrow._of_unet if type(module).__name__ == 'UNet' else (
    narrow._of_resnet
  )  # fmt: skip
  named = {path: sets(path, leaves) for path in leaves}
  kept = narrow._chosen(leaves, named, outline)
  for path, (_, out) in named.items():
    if out is None or path.endswith('/var'):
      continue
    gone = np.setdiff1d(np.arange(leaves[path].shape[-1]), kept[out])
    leaves[path][..., gone] = 0
  return unflatten_dict(leaves, sep='/')


@pytest.mark.parametrize('spec', RESNETS + UNETS, ids=str)
def test_cutting_what_says_nothing_changes_nothing(spec):
  smaller = narrow.narrower(spec, 0.5)
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 16, 16, 1)).astype(np.float32)
  inputs = [jax.ShapeDtypeStruct(x.shape, x.dtype)]
  whole, cut = (build(models, s, num_classes=3) for s in (spec, smaller))
  outline = adapted.outline(cut, inputs)
  variables = drawn(adapted.outline(whole, inputs))
  variables = silenced(whole, variables, outline)
  found = narrow.cut(whole, variables, outline)
  wanted = jax.jit(whole.apply)(variables, x)
  assert np.std(wanted) > 1e-3
  np.testing.assert_allclose(jax.jit(cut.apply)(found, x), wanted, atol=1e-4)
  count = lambda tree: sum(v.size for v in jax.tree.leaves(tree))
  assert count(found) < 0.35 * count(variables)


def test_the_channels_that_stay_are_those_that_count():
  spec = RESNETS[0]
  whole, cut = (
    build(models, s, num_classes=2) for s in (spec, narrow.narrower(spec, 0.5))
  )
  inputs = [jax.ShapeDtypeStruct((1, 8, 8, 1), np.float32)]
  leaves = flatten_dict(drawn(adapted.outline(whole, inputs)), sep='/')
  scale = np.full(8, 0.01, np.float32)
  scale[[1, 4, 5, 6]] = 1
  name = 'params/stage_0_block_0/layer_0/norm/scale'
  leaves[name] = scale
  found = narrow.cut(
    whole, unflatten_dict(leaves, sep='/'), adapted.outline(cut, inputs)
  )
  assert (flatten_dict(found, sep='/')[name] == 1).all()


def test_a_network_that_is_not_known_is_refused():
  for spec in (
    dict(name='MobileNetV3Small'), dict(name='UNet', residual=True),
  ):  # fmt: skip
    with pytest.raises(ValueError, match='prune knows'):
      narrow.narrower(spec, 0.5)
