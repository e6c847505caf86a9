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


def strong(
  key: PRNGKeyArray,
  example: dict[str, Array],
  *,
  augment,
) -> dict[str, Array]:
  """Augments a copy of the image further: `strong` (*s, C), beside `image`.

  To be the last of the augmentations. Semi-supervised tasks hold it against the
  image, which is augmented weakly (FixMatch, Sohn et al. 2020).

  Args:
    key: random key of this example.
    example: with an image; what moves voxels is refused where there is a mask.
    augment: augmentations, in order, as in config.augment.

  Raises:
    ValueError: for an augmentation that would change the mask.
  """
  other = example
  keys = jax.random.split(key, len(augment))
  for function, own in zip(augment, keys, strict=True):
    other = function(own, other)
  # What leaves a mask alone hands on the very same array.
  if other.get('mask') is not example.get('mask'):
    raise ValueError(
      'strong: its augmentations must not move voxels, as the mask is that of '
      'the image: take intensities only (brightness, gamma, gaussian_noise, …)'
    )
  return {**example, 'strong': other['image']}
