"""Which embeddings are alike; host, float64."""

import numpy as np


def unit(x):
  """Rows (n, d) of length 1; a row of zeros stays one."""
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def nearest(queries, embeddings, count):
  """Indices and cosines (q, count) of the nearest of embeddings (n, d).

  Of embeddings less the mean of all, so that what all cases share says nothing.
  """
  queries, embeddings = (np.asarray(x, float) for x in (queries, embeddings))
  mean = embeddings.mean(0)
  cosines = unit(queries - mean) @ unit(embeddings - mean).T
  index = np.argsort(-cosines, axis=1, kind='stable')[:, :count]
  return index, np.take_along_axis(cosines, index, 1)
