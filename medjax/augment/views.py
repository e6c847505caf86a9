"""Several views of one image, for tasks that compare them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray


def views(
  key: PRNGKeyArray,
  example: dict[str, Array],
  *,
  augment,
  count=2,
) -> dict[str, Array]:
  """Augments an image several times over: (*s, C) → (count, *s, C).

  To be the last of the augmentations. Contrastive tasks compare the views
  (SimCLR, Chen et al. 2020).

  Args:
    key: random key of this example.
    example: with an image; a mask would be of one view only and is refused.
    augment: augmentations, in order, as in config.augment.
    count: number of views.

  Raises:
    ValueError: for a mask.
  """
  if 'mask' in example:
    raise ValueError('views are of images without masks')
  shown = []
  for view in jax.random.split(key, count):
    other = example
    keys = jax.random.split(view, len(augment))
    for function, own in zip(augment, keys, strict=True):
      other = function(own, other)
    shown.append(other['image'])
  return {**example, 'image': jnp.stack(shown)}
