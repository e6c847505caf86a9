"""One function of a batch from augmentations of an example."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

_FIELDS = ('image', 'mask', 'label')


def compose(functions):
  """Chains augmentations, in order, into `augment(key, batch) -> batch`.

  The key of an example is that of the run with the example's `index` folded
  in, so that where in the batch it stands, and on which device, does not
  matter. `image`, `mask` and `label` are augmented, and alike each further
  image, which has as many axes: all as floats, where an image of 8 bits would
  overflow. Other fields pass; what is `valid`, by field, may be seen. `alone`
  hides the other examples: what mixes them raises NameError.
  """
  functions = tuple(functions)

  def augment_example(key, example):
    keys = jax.random.split(key, len(functions))
    for function, key in zip(functions, keys, strict=True):
      example = function(key, example)
    return example

  # A batch may hold more than arrays: what is valid, by field.
  def augment(key: PRNGKeyArray, batch: dict, *, alone=False) -> dict:
    if not functions:
      return batch
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(batch['index'])
    further = _further(batch)
    # On the device: in memory and on the way an image has the bits of its file.
    images = {k: _float(batch[k]) for k in ('image', *further) if k in batch}
    batch = {**batch, **images}
    examples = {name: batch[name] for name in _FIELDS if name in batch}
    if isinstance(batch.get('valid'), dict):
      examples['valid'] = batch['valid']
    axis = None if alone else 'batch'
    apply = jax.vmap(augment_example, axis_name=axis)
    augmented = apply(keys, examples)
    for name in further:  # by the same keys: moved as the first is
      moved = apply(keys, {**examples, 'image': batch[name]})
      augmented[name] = moved['image']
    return {**batch, **augmented}

  return augment


def _further(batch):
  """The names of images besides the first."""
  rank = jnp.ndim(batch['image']) if 'image' in batch else 0
  return [
    name
    for name, x in batch.items()
    if name not in (*_FIELDS, 'valid', 'index') and jnp.ndim(x) == rank
  ]


def _float(x):
  return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)
