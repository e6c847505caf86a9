"""Tasks that compare views of an image: what their batches have in common."""

import jax


def check(batch, least=2, most=None):
  """Returns how many views each image of a batch has (b, v, *spatial, c).

  Raises ValueError for fewer than `least` or more than `most`.
  """
  image = batch['image']
  count = image.shape[1]
  if count < least or (most and count > most):
    wanted = f'{least}' if most == least else f'{least} or more'
    raise ValueError(
      f'this task compares {wanted} views of an image and is given {count}: '
      "the last of config.augment is dict(name='views', augment=(…), "
      f'count={least})'
    )
  return count


def together(forward, batch, count):
  """What `forward` gives of the first `count` views: arrays (b, count, …).

  One pass of them all: they share the statistics of the batch.
  """
  image = batch['image'][:, :count]
  outputs = forward(image.reshape(-1, *image.shape[2:]))
  if not hasattr(outputs, 'projection'):
    raise ValueError(
      'this task compares projections, which the model does not give: '
      "config.model = dict(name='Projected', backbone=dict(name=…))"
    )
  apart = lambda x: x.reshape(-1, count, *x.shape[1:])
  return jax.tree.map(apart, outputs)
