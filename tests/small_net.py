"""A network with all that training and evaluation do otherwise."""

import flax.linen as nn


class Net(nn.Module):
  """With BatchNorm and dropout, so that members differ too."""

  num_classes: int
  dropout: float = 0.1

  @nn.compact
  def __call__(self, x, *, train=False):
    x = nn.Conv(4, (3, 3), use_bias=False)(x)
    x = nn.BatchNorm(use_running_average=not train)(x)
    x = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(x))
    return nn.Dense(self.num_classes)(x.mean((1, 2)))
