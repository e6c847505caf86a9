"""Draws of patients: their law, and that none depends on another."""

import numpy as np
import pytest
import scipy.stats

from medjax.data.poisson import Draws, PoissonStream

SECRET = bytes(range(32))


def samples_of(patients):
  return [
    {
      'image': np.full((2, 2, 1), i, np.float32),
      'label': np.int32(i),
      'id': str(i),
      'patient': p,
    }
    for i, p in enumerate(patients)
  ]


def stream(patients, *, rate, room, steps=100, **draws):
  options = dict(secret=SECRET, lanes=1) | draws
  return PoissonStream(
    samples_of(patients),
    draws=Draws(tuple(patients), rate, room, **options),
    batch_size=7,
    steps=steps,
    fields=('label',),
  )


def step_of(made, k, room):
  return [made[k * room + i] for i in range(room)]


def drawn(made, k):
  """Cases of a step."""
  return [case for _, case in made._draw(k)]


def test_the_size_of_batches_is_binomial():
  n, rate, steps = 50, 0.2, 3000
  made = stream([str(i) for i in range(n)], rate=rate, room=n)
  sizes = [len(drawn(made, k)) for k in range(steps)]
  values, counts = np.unique(sizes, return_counts=True)
  law = scipy.stats.binom(n, rate)
  # Kolmogorov and Smirnov; of a discrete law the level is kept.
  gap = np.abs(np.cumsum(counts) / steps - law.cdf(values)).max()
  assert gap < scipy.stats.kstwo.ppf(0.999, steps)
  fixed = np.abs((np.array([10.0]) <= values) - law.cdf(values)).max()
  assert fixed > 0.3  # a shuffled epoch of batches of ten would be seen


def test_every_patient_is_drawn_alike_and_by_itself():
  n, rate, steps = 20, 0.3, 4000
  made = stream([str(i) for i in range(n)], rate=rate, room=n)
  present = np.zeros((steps, n))
  for k in range(steps):
    present[k, drawn(made, k)] = 1
  counts = present.sum(0)
  z = (counts - steps * rate) / np.sqrt(steps * rate * (1 - rate))
  assert scipy.stats.chi2.sf((z**2).sum(), n) > 1e-3
  pairs = np.corrcoef(present.T)[np.triu_indices(n, 1)]
  assert np.abs(pairs).max() < 4.5 / np.sqrt(steps)
  after = np.corrcoef(present[1:, 0], present[:-1, 0])[0, 1]
  assert abs(after) < 4 / np.sqrt(steps)


def test_a_patient_gives_one_case_at_random():
  made = stream(['a', 'a', 'b', 'a'], rate=1.0, room=2)
  steps = [drawn(made, k) for k in range(600)]
  assert all(len(cases) == 2 and cases[1] == 2 for cases in steps)
  of_a = np.bincount([cases[0] for cases in steps], minlength=4)
  assert of_a[2] == 0
  assert (np.abs(of_a[[0, 1, 3]] - 200) < 50).all()


def test_the_last_patient_leaves_and_the_others_keep_what_they_drew():
  patients = [str(i // 2) for i in range(40)]
  both = stream(patients, rate=0.4, room=20)
  without = stream(patients[:-2], rate=0.4, room=20)
  seen = 0
  for k in range(20):
    others = [pair for pair in both._draw(k) if pair[0] != 19]
    seen += len(both._draw(k)) - len(others)
    assert without._draw(k) == others
  assert seen


def test_the_chance_of_an_example_is_of_its_patient_and_step():
  """Augmentation and dropout go by the index."""
  made = stream([str(i // 2) for i in range(40)], rate=0.4, room=20)
  for k in range(5):
    examples = [e for e in step_of(made, k, 20) if not e['padding']]
    own = {int(e['index']) - 20 * k: int(e['label']) for e in examples}
    assert own == dict(made._draw(k))


def test_places_that_are_left_over_are_padding():
  made = stream(['a', 'b', 'c'], rate=0.5, room=3)
  sizes = set()
  for k in range(30):
    examples = step_of(made, k, 3)
    cases = drawn(made, k)
    sizes.add(len(cases))
    filled = [not e['padding'] for e in examples]
    assert filled == [i < len(cases) for i in range(3)]
    assert [int(e['label']) for e in examples[: len(cases)]] == cases
    for e in examples[len(cases) :]:
      assert not e['image'].any()
      assert not e['valid']['label']
      assert e['image'].dtype == np.float32
  assert 0 in sizes  # an empty batch is one too


def test_what_there_is_no_room_for_is_left_out_at_random():
  made = stream([str(i) for i in range(6)], rate=1.0, room=4)
  kept = np.concatenate([drawn(made, k) for k in range(900)])
  counts = np.bincount(kept, minlength=6)
  assert len(kept) == 900 * 4
  assert (np.abs(counts - 600) < 75).all()


def test_lanes_are_filled_together():
  made = stream([str(i) for i in range(8)], rate=0.6, room=8, lanes=4)
  for k in range(20):
    filled = np.array([not e['padding'] for e in step_of(made, k, 8)])
    count = len(drawn(made, k))
    columns = filled.reshape(4, 2).T.reshape(-1)
    assert columns.tolist() == [i < count for i in range(8)]


def test_draws_are_of_the_secret_and_the_step():
  patients = [str(i) for i in range(30)]
  one, same = (stream(patients, rate=0.5, room=30) for _ in range(2))
  other = stream(patients, rate=0.5, room=30, secret=bytes(32))
  assert drawn(one, 5) == drawn(same, 5)
  assert drawn(one, 5) != drawn(one, 6)
  assert drawn(one, 5) != drawn(other, 5)


def test_lanes_that_do_not_fit():
  with pytest.raises(ValueError, match='9 places are not 4 equal lanes'):
    stream(['a'], rate=0.5, room=9, lanes=4)
