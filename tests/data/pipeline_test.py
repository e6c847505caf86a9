import jax
import numpy as np
import pytest

from medjax import engine
from medjax.data import absent, pipeline


def cases(n=7, shape=(6, 5)):
  return [
    {
      'image': np.full((*shape, 1), i, np.float32),
      'mask': np.full(shape, i % 2, np.uint8),
      'label': np.int32(i),
      'affine': np.eye(len(shape) + 1),
      'id': str(i),
    }
    for i in range(n)
  ]


def stream(n=7, **options):
  return pipeline.TrainStream(
    cases(n),
    **{
      'batch_size': 4,
      'steps': 20,
      'seed': 3,
      'fields': ('mask', 'label'),
      **options,
    },
  )


def labels(stream):
  return np.array([stream[i]['label'] for i in range(len(stream))])


def test_every_epoch_sees_every_case_once_in_another_order():
  seen = labels(stream())[:77].reshape(-1, 7)
  for epoch in seen:
    assert sorted(epoch) == list(range(7))
  assert len({tuple(epoch) for epoch in seen}) > 5


def test_other_seeds_shuffle_otherwise():
  assert (labels(stream()) != labels(stream(seed=4))).any()


@pytest.mark.parametrize('count', [2, 4])
def test_processes_share_each_batch(count):
  whole = labels(stream()).reshape(20, 4)
  parts = [
    labels(stream(process_index=p, process_count=count)).reshape(20, -1)
    for p in range(count)
  ]
  np.testing.assert_array_equal(np.concatenate(parts, 1), whole)


def test_a_batch_that_does_not_divide_is_refused():
  with pytest.raises(ValueError, match='cannot be split over 3 processes'):
    stream(process_count=3)


def test_threads_read_large_samples_and_one_thread_small_ones(monkeypatch):
  """Of small ones several would fight for the interpreter."""
  asked = []
  options = pipeline.grain.ReadOptions
  monkeypatch.setattr(
    pipeline.grain,
    'ReadOptions',
    lambda **o: asked.append(o['num_threads']) or options(**o),
  )
  for shape in ((6, 5), (200, 200)):
    patches = pipeline.TrainStream(
      cases(3, shape), batch_size=1, steps=1, patch_size=(3, 3)
    )
    next(pipeline.train_batches(patches, local_batch_size=1, start_step=0))
  assert asked == [1, 4]


@pytest.mark.parametrize(
  ('shape', 'advice'), [((6, 4, 1), 'set data.patch_size'), ((6, 5, 3), 'conv')]
)
def test_images_that_make_no_batch_are_refused(shape, advice):
  odd = {**cases(1)[0], 'image': np.zeros(shape, np.float32), 'id': 'odd'}
  samples = pipeline.TrainStream([*cases(3), odd], batch_size=4, steps=1)
  with pytest.raises(ValueError, match=f"'odd'.*{advice}"):
    next(pipeline.train_batches(samples, local_batch_size=4, start_step=0))


@pytest.mark.parametrize(
  ('first', 'other'),
  [
    (np.uint8, np.uint8),
    (np.int16, np.uint8),
    (np.float32, np.int32),
    (np.uint8, np.uint16),
    (np.uint8, np.float32),  # had the wanted size, and was resized
  ],
)
def test_batches_have_one_dtype(first, other):
  """A step is compiled for it; of several members or processes, once."""
  made = cases(4)
  for i, case in enumerate(made):
    case['image'] = case['image'].astype(other if i else first)
    case['ct'] = np.ones((6, 5, 1), other if i else first)
    case['label'] = np.array([1, -1 if i else 0], np.int8 if i else np.int16)
  made[1]['ct'] = absent.like(made[0]['ct'])
  stream = pipeline.TrainStream(
    made, batch_size=1, steps=8, inputs=('image', 'ct'), fields=('label',)
  )
  lacking = 0
  for batch in pipeline.train_batches(stream, local_batch_size=1, start_step=0):
    assert batch['image'].dtype == batch['ct'].dtype == np.float32
    assert batch['label'].dtype == np.int16
    lacking += np.isnan(batch['ct']).all()
  assert lacking == 2
  assert {x.dtype for x in stream.inputs} == {np.dtype(np.float32)}


def test_a_label_that_would_lose_numbers_is_refused():
  made = cases(4)
  for i, case in enumerate(made):
    case['label'] = np.array(i, np.float32 if i else np.int32)
  stream = pipeline.TrainStream(made, batch_size=4, steps=1, fields=('label',))
  with pytest.raises(ValueError, match=r'its label is float32, that of .* int'):
    next(pipeline.train_batches(stream, local_batch_size=4, start_step=0))


@pytest.mark.parametrize('small', [0, 2**16])  # of a sample: many threads, one
def test_starting_late_gives_the_rest(small, monkeypatch):
  monkeypatch.setattr(pipeline, '_SMALL', small)
  indices = lambda start: [
    b['index']
    for b in pipeline.train_batches(
      stream(), local_batch_size=4, start_step=start
    )
  ]
  batches, late = indices(0), indices(13)
  np.testing.assert_array_equal(np.concatenate(batches), np.arange(80))
  np.testing.assert_array_equal(late, batches[13:])


def numbered(n=3, shape=(9, 8)):
  """Cases of which every voxel differs from every other."""
  size = int(np.prod(shape))
  for i, case in enumerate(made := cases(n, shape)):
    voxels = np.arange(i * size, (i + 1) * size, dtype=np.float32)
    case['image'] = voxels.reshape(*shape, 1)
    case['mask'] = (np.arange(size).reshape(shape) % 7 == i).astype(np.uint8)
  return made


def patches(**options):
  """(image, mask) of every place of a stream of patches."""
  found = pipeline.TrainStream(
    numbered(),
    **{
      'batch_size': 4,
      'steps': 8,
      'seed': 3,
      'fields': ('mask',),
      'patch_size': (3, 3),
      'foreground': 0.5,
      **options,
    },
  )
  return [(found[i]['image'], found[i]['mask']) for i in range(len(found))]


def same(a, b):
  return [all(map(np.array_equal, x, y)) for x, y in zip(a, b, strict=True)]


def test_patches_are_a_function_of_seed_and_position():
  first = patches()
  assert all(same(first, patches()))
  for image, mask in first:
    assert image.shape == (3, 3, 1)
    assert mask.dtype == np.uint8  # int32 in a batch
    # Mask and image are of the same place.
    case, place = divmod(image[..., 0].astype(int), 72)
    np.testing.assert_array_equal(mask, (place % 7 == case))
  # Another seed cuts elsewhere, and so do other places of one case.
  assert sum(same(first, patches(seed=4))) < 3
  assert len({image.tobytes() for image, _ in first}) > 28


def test_patches_do_not_depend_on_processes_or_where_a_run_goes_on():
  whole = patches()
  parts = [patches(process_index=p, process_count=2) for p in range(2)]
  for k in range(8):
    joined = parts[0][2 * k : 2 * k + 2] + parts[1][2 * k : 2 * k + 2]
    assert all(same(whole[4 * k : 4 * k + 4], joined))
  late = pipeline.train_batches(
    pipeline.TrainStream(
      numbered(), batch_size=4, steps=8, seed=3, fields=('mask',),
      patch_size=(3, 3), foreground=0.5,
    ),
    local_batch_size=4,
    start_step=5,
  )  # fmt: skip
  for k, batch in enumerate(late, 5):
    images = np.stack([image for image, _ in whole[4 * k : 4 * k + 4]])
    np.testing.assert_array_equal(batch['image'], images)


def test_share_of_patches_around_the_foreground():
  """Of (9, 8) images with one voxel of foreground, in its corner."""
  made = numbered(1)
  made[0]['mask'] = np.zeros((9, 8), np.uint8)
  made[0]['mask'][0, 0] = 1

  def share(foreground):
    found = pipeline.TrainStream(
      made, batch_size=1, steps=400, fields=('mask',), patch_size=(3, 3),
      foreground=foreground,
    )  # fmt: skip
    return np.mean([found[i]['mask'].any() for i in range(400)])

  assert share(1.0) == 1
  anywhere = 1 / (7 * 6)
  assert share(0.0) == pytest.approx(anywhere, abs=0.03)
  assert share(0.5) == pytest.approx(0.5 + 0.5 * anywhere, abs=0.06)


def test_what_is_to_be_ignored_is_no_foreground():
  made = numbered(1, (20, 20))
  made[0]['mask'] = np.full((20, 20), 255, np.uint8)
  made[0]['mask'][0, 0] = 1
  stream = pipeline.TrainStream(
    made, batch_size=1, steps=20, fields=('mask',), patch_size=(3, 3),
    foreground=1.0, ignore=255,
  )  # fmt: skip
  assert all((stream[i]['mask'] == 1).any() for i in range(20))


def test_cases_without_a_field_share_batches_with_others():
  made = numbered(4)
  del made[0]['mask'], made[2]['label']
  stream = pipeline.TrainStream(
    made, batch_size=4, steps=3, fields=('mask', 'label'), patch_size=(3, 3)
  )
  for batch in pipeline.train_batches(stream, local_batch_size=4, start_step=0):
    case = (batch['image'][:, 0, 0, 0] // 72).astype(int)
    np.testing.assert_array_equal(batch['valid']['mask'], case != 0)
    np.testing.assert_array_equal(batch['valid']['label'], case != 2)
    assert (batch['mask'].dtype, batch['label'].dtype) == (np.int32, np.int32)
    assert {v.dtype for v in batch['valid'].values()} == {np.dtype(bool)}
    assert not batch['mask'][case == 0].any()
    np.testing.assert_array_equal(batch['label'], np.where(case == 2, 0, case))


def test_a_field_that_no_case_has_is_named():
  made = numbered(2)
  for case in made:
    del case['label']
  with pytest.raises(ValueError, match='no case of the training split has a l'):
    pipeline.TrainStream(made, batch_size=2, steps=1, fields=('label',))


def test_inputs_are_said_before_the_first_batch():
  made = cases(3)
  for case in made:
    case['covariates'] = np.zeros(5, np.float32)
  stream = pipeline.TrainStream(
    made, batch_size=2, steps=1, inputs=('image', 'covariates')
  )
  image, covariates = stream.inputs
  assert (image.shape, image.dtype) == ((1, 6, 5, 1), np.float32)
  assert covariates.shape == (1, 5)


def test_cache_prepares_once_within_its_budget():
  calls = []

  def preprocess(case):
    calls.append(case['id'])
    return case

  size = sum(cases(1)[0][k].nbytes for k in ('image', 'mask', 'affine'))
  held = pipeline.Cached(cases(4), preprocess, budget_bytes=2 * size + 8)
  for _ in range(3):
    for i in range(len(held)):
      assert held[i]['id'] == str(i)
  assert [calls.count(str(i)) for i in range(4)] == [1, 1, 3, 3]


def test_batches_lie_spread_over_the_mesh():
  mesh = engine.make_mesh(jax.devices()[:4])
  batches = pipeline.train_batches(stream(), local_batch_size=4, start_step=18)
  found = list(pipeline.to_device(batches, engine.sharded(mesh)))
  assert len(found) == 2
  assert found[0]['image'].sharding.num_devices == 4
  assert set(found[0]) == {'image', 'mask', 'label', 'valid', 'index'}
  assert found[0]['valid']['mask'].sharding.num_devices == 4


def test_one_case_only():
  assert set(labels(stream(1))) == {0}
