"""Between examples: mixup."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from medjax.augment.chance import chance


def mixup(
  key: PRNGKeyArray,
  example: dict[str, Array],
  *,
  p=1.0,
  alpha=0.2,
  num_classes=None,
) -> dict[str, Array]:
  """Mixes the example with the next one of its batch (Zhang et al., 2018).

  It runs under `vmap(…, axis_name='batch')`. The label becomes (K,) float32
  whether or not the example is chosen; where one of the two is -1, not known,
  so is the mixture. An example without a label is neither mixed nor a partner.
  The partner, alone among all draws, depends on the order of the batch.

  Args:
    key: random key of this example.
    example: image (*s, C) and label: a class index, or (K,) per class; valid,
      by field, where there are examples without a label.
    p: probability that the example is mixed.
    alpha: the share kept is drawn from Beta(alpha, alpha).
    num_classes: K, for a label that is a class index.

  Raises:
    ValueError: a mask, no label, or a class index without `num_classes`.
  """
  if 'mask' in example or 'label' not in example:
    raise ValueError('mixup is for classification: labels, and no masks')
  image, label = example['image'], example['label']
  if label.ndim == 0:
    if num_classes is None:
      raise ValueError('mixup needs num_classes to mix class indices')
    label = jax.nn.one_hot(label, num_classes)
  label = label.astype(jnp.float32)
  key_chosen, key_share = jax.random.split(key)
  chosen = chance(key_chosen, p)
  share = jax.random.beta(key_share, alpha, alpha)

  count = jax.lax.axis_size('batch')
  following = [((i + 1) % count, i) for i in range(count)]
  known = example.get('valid', {}).get('label')
  if known is not None:  # else zeros stand for it, which are a class too
    chosen &= known & jax.lax.ppermute(known, 'batch', following)

  def mix(x, partner):
    return jnp.where(chosen, share * x + (1 - share) * partner, x)

  other = {
    'image': jax.lax.ppermute(image, 'batch', following),
    'label': jax.lax.ppermute(label, 'batch', following),
  }
  unknown = (label < 0) | (chosen & (other['label'] < 0))
  mixed = jnp.where(unknown, -1.0, mix(label, other['label']))
  return {**example, 'image': mix(image, other['image']), 'label': mixed}
