"""A suite of corruptions of raw images: compiled, a chunk at a time."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from medjax.trust import ct, mri, xray

SUITES = {'xray': xray.SUITE, 'mri': mri.SUITE, 'ct': ct.SUITE}
SEVERITIES = (1, 2, 3, 4, 5)
_AIR = -1024.0  # HU; scanners store nothing below
_VOXELS = 2**22  # of the images that are on the device at once


def suite(name):
  """{corruption: (function, five amounts)} of a suite.

  Raises ValueError for a name that is none.
  """
  if name not in SUITES:
    raise ValueError(f'--suite={name}: known are {", ".join(SUITES)}')
  return SUITES[name]


def check(cases, kind):
  """Raises ValueError for a case that the suite is not for."""
  for case in cases:
    image = case['image']
    if kind == 'ct' and image.min() >= 0:
      raise ValueError(
        f'{case["id"]}: has no value below 0, as CT in Hounsfield units has: '
        'choose --suite=xray for pictures, or mri'
      )
    if kind == 'xray' and image.ndim != 3:
      raise ValueError(
        f'{case["id"]}: --suite=xray is for pictures, this is a volume: choose '
        'mri or ct'
      )


@functools.partial(jax.jit, static_argnames=('kind', 'name'))
def _compiled(kind, name, keys, images, amount, low, high, severity):
  """Images (b, *s, C) float32 corrupted, in the units they came in.

  low, high (b,): what becomes 0 and 1 of X-ray and MR images, and bounds them.
  CT has no bound above; below it is _AIR, or its own where it has been padded.
  Severity 0 is the identity, bit by bit.
  """
  function, _ = SUITES[kind][name]

  def one(key, image, low, high):
    if kind == 'ct':
      return jnp.maximum(function(key, image, amount), jnp.minimum(low, _AIR))
    span = jnp.where(high > low, high - low, 1)
    out = function(key, (image - low) / span, amount)
    return jnp.clip(out, 0, 1) * span + low

  out = jax.vmap(one)(keys, images, low, high)
  return jnp.where(severity == 0, images, out)


def corrupted(cases, kind, name, severity, *, seed=0):
  """Yields raw cases with corrupted images, in order; others of it stay.

  The randomness of a case is that of its place and the seed, the same at every
  severity. An image of whole numbers stays one, of the same type.
  """
  place = 0
  for chunk in _chunks(cases):
    images = np.stack([np.asarray(c['image'], np.float32) for c in chunk])
    bounds = [_bounds(c['image']) for c in chunk]
    low, high = np.array(bounds, np.float32).T
    keys = jax.vmap(
      functools.partial(jax.random.fold_in, jax.random.key(seed))
    )(np.arange(place, place + len(chunk)))
    place += len(chunk)
    # Severity 0 is shown no amount: any will do.
    amount = suite(kind)[name][1][max(severity, 1) - 1]
    out = np.asarray(
      _compiled(
        kind, name, keys, images, jnp.float32(amount), low, high, severity
      )
    )
    for case, image in zip(chunk, out, strict=True):
      yield {**case, 'image': _typed(image, case['image'].dtype)}


def forget():
  """Lets go of the programs, of which there is one for each shape."""
  _compiled.clear_cache()


def _chunks(cases):
  """Lists of cases of one shape, as many as fit."""
  for _, alike in itertools.groupby(cases, key=lambda c: c['image'].shape):
    chunk = []
    for case in alike:
      chunk.append(case)
      if (len(chunk) + 1) * case['image'].size > _VOXELS or len(chunk) == 256:
        yield chunk
        chunk = []
    if chunk:
      yield chunk


def _bounds(image):
  """What is black and white: of bytes 0 and 255, else the extremes."""
  if image.dtype == np.uint8:
    return 0.0, 255.0
  return float(image.min()), float(image.max())


def _typed(image, dtype):
  if dtype.kind in 'iu':
    info = np.iinfo(dtype)
    return np.clip(np.rint(image), info.min, info.max).astype(dtype)
  return image.astype(dtype)
