"""Copies of training images among others are found, and told."""

import numpy as np

from medjax.data import repeated


def cases(images):
  return [{'id': str(i), 'image': x} for i, x in enumerate(images)]


def test_copies_and_their_like_are_found_and_nothing_else(monkeypatch):
  rng = np.random.default_rng(0)
  images = rng.normal(100, 30, (60, 20, 20, 1)).astype(np.float32)
  train, test = images[:40], images[40:].copy()
  test[3] = train[7]  # the same
  test[5] = train[0] * 1.1 + rng.normal(0, 2, train[0].shape)  # nearly
  test[9] = test[8]  # within a split: another matter
  assert repeated.places(cases(train), cases(test)) == [3, 5]
  assert repeated.places(cases(train), cases(images[40:])) == []
  rows = [{'case': 5}, {'case': 4}]
  splits = {'train': cases(train), 'test': cases(test)}
  repeated.mark(rows, splits.__getitem__)
  assert [row['repeated'] for row in rows] == [True, False]
  monkeypatch.setattr(repeated, 'MOST', 1000)
  assert repeated.places(cases(train), cases(test)) is None
  assert repeated.places([{'id': '0'}], cases(test)) is None
