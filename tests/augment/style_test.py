"""Styles of the next example: values, amplitudes, and what stays."""

import functools

import jax
import numpy as np
import pytest

from medjax import augment


def run(name, batch, **arguments):
  keys = jax.random.split(jax.random.key(0), len(batch['image']))
  function = functools.partial(getattr(augment, name), **arguments)
  return jax.jit(jax.vmap(function, axis_name='batch'))(keys, batch)


def images(shape, n=4):
  rng = np.random.default_rng(0)
  scale = np.arange(1, n + 1).reshape(n, *[1] * (len(shape) + 1))
  return (scale * rng.normal(size=(n, *shape, 2))).astype(np.float32)


@pytest.mark.parametrize('shape', [(6, 5), (4, 3, 5)])
def test_histogram_match_gives_the_values_of_the_next(shape):
  image = images(shape)
  out = run('histogram_match', {'image': image}, p=1.0, share=(1.0, 1.0))
  for i in range(4):
    for c in range(2):
      found, other = out['image'][i, ..., c], image[(i + 1) % 4, ..., c]
      np.testing.assert_allclose(
        np.sort(found, None), np.sort(other, None), rtol=1e-5
      )
      own = image[i, ..., c]
      np.testing.assert_array_equal(
        np.argsort(found, None), np.argsort(own, None)
      )


@pytest.mark.parametrize('shape', [(8, 10), (6, 4, 8)])
def test_amplitude_mix_takes_low_amplitudes_and_keeps_phases(shape):
  image = images(shape)
  out = run(
    'amplitude_mix', {'image': image}, p=1.0, width=0.2, share=(1.0, 1.0)
  )['image']
  axes = tuple(range(1, len(shape) + 1))
  before, after = np.fft.fftn(image, axes=axes), np.fft.fftn(out, axes=axes)
  near = np.ones(())
  for n in shape:
    near = near[..., None] * (np.abs(np.fft.fftfreq(n)) <= 0.2)
  near = near > 0
  other = np.abs(np.roll(before, -1, 0))
  np.testing.assert_allclose(np.abs(after)[:, near], other[:, near], rtol=1e-3)
  np.testing.assert_allclose(after[:, ~near], before[:, ~near], atol=1e-3)


@pytest.mark.parametrize('name', ['histogram_match', 'amplitude_mix'])
def test_what_is_not_chosen_stays_and_so_do_mask_and_label(name):
  batch = {
    'image': images((6, 6)),
    'mask': np.arange(4 * 36).reshape(4, 6, 6),
    'label': np.arange(4),
  }
  same = run(name, batch, p=0.0)
  jax.tree.map(np.testing.assert_array_equal, same, batch)
  changed = run(name, batch, p=1.0)
  np.testing.assert_array_equal(changed['mask'], batch['mask'])
  assert np.abs(changed['image'] - batch['image']).max() > 0.1
