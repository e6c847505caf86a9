import jax
import numpy as np
import pytest

from medjax import engine
from medjax.data import pipeline


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
    cases(n), **{'batch_size': 4, 'steps': 20, 'seed': 3, **options}
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


@pytest.mark.parametrize(
  ('shape', 'advice'), [((6, 4, 1), 'set data.patch_size'), ((6, 5, 3), 'conv')]
)
def test_images_that_make_no_batch_are_refused(shape, advice):
  odd = {**cases(1)[0], 'image': np.zeros(shape, np.float32), 'id': 'odd'}
  samples = pipeline.TrainStream([*cases(3), odd], batch_size=4, steps=1)
  with pytest.raises(ValueError, match=f"'odd'.*{advice}"):
    next(pipeline.train_batches(samples, local_batch_size=4, start_step=0))


@pytest.mark.parametrize('threads', [0, 4])
def test_starting_late_gives_the_rest(threads):
  batches = [
    b['index']
    for b in pipeline.train_batches(
      stream(), local_batch_size=4, start_step=0, threads=threads
    )
  ]
  late = [
    b['index']
    for b in pipeline.train_batches(
      stream(), local_batch_size=4, start_step=13, threads=threads
    )
  ]
  np.testing.assert_array_equal(np.concatenate(batches), np.arange(80))
  np.testing.assert_array_equal(late, batches[13:])


def test_patches_are_a_function_of_seed_and_position():
  options = dict(patch_size=(3, 3), foreground=0.5)
  a, b = stream(**options), stream(**options)
  for i in reversed(range(30)):
    np.testing.assert_array_equal(a[i]['mask'], b[i]['mask'])
    assert a[i]['image'].shape == (3, 3, 1)
    assert a[i]['mask'].dtype == np.uint8  # int32 in a batch


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
  assert set(found[0]) == {'image', 'mask', 'label', 'index'}


def test_one_case_only():
  assert set(labels(stream(1))) == {0}
