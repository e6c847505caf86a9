"""A network for pictures that sees a volume slice by slice."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class SliceWise(nn.Module):
  """A 2-D network over the slices of a volume, each by itself.

  For stacks whose slices lie far apart. With a patch that is one slice thick,
  data.patch_size=(256, 256, 1), training sees single slices, and a volume is
  predicted slice by slice.

  Parameters lie under network/…, as the network has them.

  Attributes:
    num_classes: channels of the logits.
    network: a module of medjax.models that gives maps, in a config
      dict(name='UNet', …).
    axis: the spatial axis across the slices, 0, 1 or 2.
  """

  num_classes: int
  network: nn.Module
  axis: int = 2

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, *spatial, num_classes), float32.

    What the network gives, deep supervision and features among it, for all
    slices; vectors of features are the mean over them.

    Raises:
      ValueError: for what is no volume, another axis, or a network whose
        logits are no maps.
    """
    if x.ndim != 5 or self.axis not in (0, 1, 2):
      raise ValueError(
        f'SliceWise takes volumes and axis 0, 1 or 2, not {x.ndim - 2} spatial '
        f'axes and axis {self.axis}'
      )
    slices = jnp.moveaxis(x, 1 + self.axis, 1)
    batch, count = slices.shape[:2]
    options = {'features': True} if features else {}
    found = self.network(
      slices.reshape(-1, *slices.shape[2:]), train=train, **options
    )

    def joined(y):
      y = y.reshape(batch, count, *y.shape[1:])
      return jnp.moveaxis(y, 1, 1 + self.axis) if y.ndim == 5 else y.mean(1)

    logits = found['logits'] if features else found
    if jax.tree.leaves(logits)[0].ndim != 4:
      raise ValueError(
        f'{type(self.network).__name__} gives no maps: SliceWise is for '
        'segmentation'
      )
    return jax.tree.map(joined, found)
