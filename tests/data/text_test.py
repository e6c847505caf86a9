import zlib

import numpy as np

from medjax.data import telling
from medjax.data.text import hash_text


def test_is_the_signed_counts_of_words_and_pairs():
  text = 'No nodule. NO effusion'
  found = hash_text({'text': text}, size=7)['text']
  counts = np.zeros(7)
  for gram in ('no', 'nodule', 'no', 'effusion', 'no nodule', 'nodule no',
               'no effusion'):  # fmt: skip
    code = zlib.crc32(gram.encode())
    counts[code // 2 % 7] += -1 if code % 2 else 1
  np.testing.assert_allclose(found, counts / np.sqrt((counts**2).sum()))
  assert found.dtype == np.float32
  words = hash_text({'text': 'a b'}, size=512, words=1)['text']
  assert (words != 0).sum() == 2


def test_no_text_is_missing_and_not_zero():
  for sample in ({}, {'text': ''}, {'text': '  '}):
    found = hash_text(sample, size=5)['text']
    assert np.isnan(found).all()
    assert found.shape == (5,)
  assert not hash_text({'text': '…'}, size=5)['text'].any()  # no words


def test_columns_that_give_the_label_away():
  rng = np.random.default_rng(0)
  label = np.array(['a', 'b', 'c'])[np.arange(90) % 3]
  noise = rng.normal(size=90)
  values = np.stack(
    [
      noise,
      0.01 * noise - 1.0 * (label == 'b'),
      np.where(label == 'a', np.nan, 1),
    ],
    1,
  )
  ((name, area),) = telling.columns(values, label, ('x', 'y', 'z'))
  assert (name, area) == ('y', 1.0)
  several = np.stack([label == 'a', label == 'b'], 1).astype(int)
  ((name, _),) = telling.columns(values, several, ('x', 'y', 'z'))
  assert name == 'y'
  few = np.array(['a'] * 4 + ['b'] * 86)  # says nothing
  assert not telling.columns((few == 'a')[:, None], few, ('x',))
