"""Two networks of one kind in one module, for tasks that train both."""

import flax.linen as nn


class Pair(nn.Module):
  """Two copies of a network, each with an initialisation of its own.

  In training it gives the outputs of both, else those of the first alone,
  which is the model. Parameters lie under first/… and second/….

  Attributes:
    num_classes: outputs of each.
    network: a module of medjax.models, in a config dict(name='UNet', …).
  """

  num_classes: int
  network: nn.Module

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → {'first': …, 'second': …}, or what the first gives.

    With features=True what the network gives then.
    """
    first, second = (self.network.copy(name=k) for k in ('first', 'second'))
    options = {'features': True} if features else {}
    if not (train or self.is_initializing()):
      return first(x, train=False, **options)
    both = [network(x, train=train, **options) for network in (first, second)]
    return dict(first=both[0], second=both[1]) if train else both[0]
