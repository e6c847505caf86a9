import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import engine
from medjax.data import transforms
from medjax.prediction import windows

MESH = engine.make_mesh(jax.devices()[:2])


@jax.jit
def twice(inputs):
  """A 'network' without context: stitching must give its values back."""
  (images,) = inputs
  return {'map': jnp.concatenate([images, 2 * images], -1)}


def predict(forward, images, **options):
  samples = ({'image': x, 'id': str(i)} for i, x in enumerate(images))
  return [
    found['map']
    for _, found in windows.predict_samples(
      forward, samples, mesh=MESH, batch_size=3, **options
    )
  ]


def volumes(*shapes):
  rng = np.random.default_rng(0)
  return [rng.normal(size=(*s, 1)).astype(np.float32) for s in shapes]


@pytest.mark.parametrize(
  ('size', 'patch', 'overlap'),
  [(5, 5, 0.5), (3, 5, 0.5), (6, 5, 0.5), (100, 32, 0.5), (101, 7, 0.0)],
)
def test_windows_cover_the_axis(size, patch, overlap):
  starts = windows.window_starts(size, patch, overlap)
  covered = np.zeros(max(size, patch), int)
  for s in starts:
    covered[s : s + patch] += 1
  assert covered[:size].min() >= 1
  assert starts[-1] + patch == max(size, patch)
  assert np.diff(starts).max(initial=0) <= max(1, round(patch * (1 - overlap)))


@pytest.mark.parametrize('overlap', [0.0, 0.5, 0.8])
def test_stitching_gives_back_a_pointwise_network(overlap):
  images = volumes((20, 9, 7), (8, 8, 8), (5, 30, 3), (8, 8, 9))
  found = predict(twice, images, patch_size=(8, 8, 8), overlap=overlap)
  for image, prediction in zip(images, found, strict=True):
    expected = np.concatenate([image, 2 * image], -1)
    np.testing.assert_allclose(prediction, expected, rtol=1e-5, atol=1e-6)


def test_a_smaller_volume_lies_where_training_had_it():
  """In the middle of the patch, whichever axis is short."""
  rng = np.random.default_rng(0)
  for shape in ((5, 9), (9, 4), (3, 3), (12, 5)):
    (image,) = volumes(shape)
    seen = []

    def keep(inputs, seen=seen):
      seen.extend(np.asarray(inputs[0]))
      return {'map': inputs[0]}

    (found,) = predict(keep, [image], patch_size=(8, 8))
    np.testing.assert_allclose(found, image, rtol=1e-5)
    if max(shape) < 8:
      want = transforms.patch(
        {'image': image, 'affine': np.eye(3)}, rng, size=(8, 8)
      )
      np.testing.assert_array_equal(seen[0], want['image'])
      assert not seen[0][0].any()
      assert not seen[0][-1].any()


def test_two_dimensions_and_sink_slab_by_slab():
  images = volumes((33, 17), (64, 5))
  blocks = []

  def sink(sample, name):
    assert name == 'map'

    def argmax(probabilities):
      blocks.append(len(probabilities))
      return probabilities.argmax(-1).astype(np.uint8)

    return windows.Rows(argmax)

  found = predict(twice, images, patch_size=(16, 16), sink=sink)
  for image, prediction in zip(images, found, strict=True):
    assert prediction.dtype == np.uint8
    np.testing.assert_array_equal(prediction, (image[..., 0] > 0))
  assert max(blocks) <= 16  # never the whole volume
  assert sum(blocks) == 33 + 64


def test_whole_images_of_two_shapes_keep_their_order():
  images = volumes((4, 4), (4, 4), (6, 4), (4, 4))
  found = predict(twice, images)
  assert [p.shape for p in found] == [(*x.shape[:2], 2) for x in images]


def test_one_compiled_function_for_all_volumes():
  traces = []

  @jax.jit
  def forward(inputs):
    traces.append(inputs[0].shape)
    return {'map': inputs[0]}

  predict(
    forward, volumes((9, 9, 9), (20, 5, 8), (8, 8, 31)), patch_size=(8,) * 3
  )
  assert traces == [(4, 8, 8, 8, 1)]  # 3 rounded up to the two devices


def test_no_samples():
  assert predict(twice, []) == []


def test_vectors_are_averaged_over_windows_and_covariates_are_of_all():
  @jax.jit
  def forward(inputs):
    images, covariates = inputs
    return {'mean': images.mean((1, 2)) + covariates}

  image = np.arange(32.0, dtype=np.float32).reshape(8, 4, 1)
  samples = [
    {'image': image, 'covariates': np.array([k], np.float32)} for k in (1, 2)
  ]
  found = windows.predict_samples(
    forward, samples, mesh=MESH, batch_size=3, patch_size=(4, 4), overlap=0.0,
    inputs=('image', 'covariates'),
  )  # fmt: skip
  for k, (_, values) in enumerate(found):
    np.testing.assert_allclose(values['mean'], [15.5 + 1 + k], rtol=1e-6)
