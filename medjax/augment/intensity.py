"""How bright things are: noise, brightness, contrast, gamma.

All change the image only, and each channel by itself.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from medjax.augment.chance import chance


def _uniform(key, bounds, shape):
  low, high = bounds
  return jax.random.uniform(key, shape, minval=low, maxval=high)


def _around_one(key, bounds, shape):
  """Half of the draws below 1 and half above where the bounds enclose it."""
  low, high = bounds
  if not low < 1 < high:
    return _uniform(key, bounds, shape)
  key_side, key_value = jax.random.split(key)
  below = chance(key_side, 0.5, shape)
  bounds = jnp.where(below, low, 1.0), jnp.where(below, 1.0, high)
  return _uniform(key_value, bounds, shape)


def gaussian_noise(
  key: PRNGKeyArray, example: dict[str, Array], *, p=0.5, std=(0.0, 0.1)
) -> dict[str, Array]:
  """Adds white Gaussian noise.

  Args:
    key: random key of this example.
    example: image (*s, C).
    p: probability that the example is chosen.
    std: range of the standard deviation, in the image's units; one for all
      channels, whose noise is independent. What nnU-Net calls the variance,
      (0, 0.1), is its standard deviation.
  """
  image = example['image']
  key_chosen, key_std, key_noise = jax.random.split(key, 3)
  chosen = chance(key_chosen, p)
  # A flat draw: XLA compiles one of several axes much more slowly.
  noise = jax.random.normal(key_noise, (image.size,)).reshape(image.shape)
  noisy = image + _uniform(key_std, std, ()) * noise
  return {**example, 'image': jnp.where(chosen, noisy, image)}


def brightness(
  key: PRNGKeyArray, example: dict[str, Array], *, p=0.5, factor=(0.75, 1.25)
) -> dict[str, Array]:
  """Multiplies each channel by a factor.

  Args:
    key: random key of this example.
    example: image (*s, C).
    p: probability that the example is chosen.
    factor: range, drawn per channel, as often below 1 as above.
  """
  image = example['image']
  key_chosen, key_factor = jax.random.split(key)
  chosen = chance(key_chosen, p)
  out = image * _around_one(key_factor, factor, image.shape[-1:])
  return {**example, 'image': jnp.where(chosen, out, image)}


def contrast(
  key: PRNGKeyArray, example: dict[str, Array], *, p=0.5, factor=(0.75, 1.25)
) -> dict[str, Array]:
  """Spreads each channel about its mean, clipped to the range it had.

  Args:
    key: random key of this example.
    example: image (*s, C).
    p: probability that the example is chosen.
    factor: range, drawn per channel, as often below 1 as above.
  """
  image = example['image']
  key_chosen, key_factor = jax.random.split(key)
  chosen = chance(key_chosen, p)
  spatial = tuple(range(image.ndim - 1))
  mean, low, high = image.mean(spatial), image.min(spatial), image.max(spatial)
  factors = _around_one(key_factor, factor, image.shape[-1:])
  out = jnp.clip(mean + (image - mean) * factors, low, high)
  return {**example, 'image': jnp.where(chosen, out, image)}


def gamma(
  key: PRNGKeyArray,
  example: dict[str, Array],
  *,
  p=0.5,
  exponent=(0.7, 1.5),
  invert=False,
) -> dict[str, Array]:
  """Raises each channel, scaled to [0, 1], to a power; keeps mean and std.

  Args:
    key: random key of this example.
    example: image (*s, C).
    p: probability that the example is chosen.
    exponent: range, drawn per channel, as often below 1 as above.
    invert: acts on the negative of the image, so that bright values are
      spread as dark ones are otherwise.
  """
  image = example['image']
  key_chosen, key_exponent = jax.random.split(key)
  chosen = chance(key_chosen, p)
  exponents = _around_one(key_exponent, exponent, image.shape[-1:])
  sign = -1 if invert else 1
  out = sign * _power(sign * image, exponents)
  return {**example, 'image': jnp.where(chosen, out, image)}


def _power(
  image: Float[Array, '*s c'], exponents: Float[Array, 'c']
) -> Float[Array, '*s c']:
  spatial = tuple(range(image.ndim - 1))
  low, span = image.min(spatial), jnp.ptp(image, spatial)
  # The inner `where`s keep the gradient finite at 0 and for a flat channel.
  unit = (image - low) / jnp.where(span > 0, span, 1)
  raised = jnp.where(unit > 0, jnp.where(unit > 0, unit, 1) ** exponents, 0)
  # In units of the span, variances are neither tiny nor huge.
  before, after = unit.var(spatial), raised.var(spatial)
  textured = (before > 0) & (after > 0)
  ratio = jnp.where(textured, before, 1) / jnp.where(textured, after, 1)
  centred = (raised - raised.mean(spatial)) * jnp.sqrt(ratio) * span
  return centred + image.mean(spatial)
