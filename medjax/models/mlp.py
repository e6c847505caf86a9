"""Networks of a table: dense layers, and Cox-Time."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from medjax.models.layers import UNIFORM, classify, headless


def known(covariates):
  """(b, f) with NaN → (b, 2 f): zeros for what is missing, and where it is.

  Raises ValueError for what is no table.
  """
  if covariates.ndim != 2:
    raise ValueError(
      f'a table is (b, f), not {covariates.shape}: say '
      "task.inputs=('covariates',)"
    )
  missing = jnp.isnan(covariates)
  values = jnp.where(missing, 0, covariates)
  return jnp.concatenate([values, missing.astype(values.dtype)], -1)


class MLP(nn.Module):
  """Dense layers on the columns of a table; without any, a linear model.

  A missing value, NaN, becomes zero (the mean of standardised columns), and an
  indicator per column says that it is missing.

  Attributes:
    num_classes: channels of the logits.
    hidden: units of each layer; () is linear.
    norm: batch normalisation after each layer.
    dropout: rate after each layer.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  hidden: Sequence[int] = (32, 32)
  norm: bool = False
  dropout: float = 0.0
  dtype: Any = None

  @nn.compact
  def __call__(self, covariates, *, train=False, features=False):
    """(b, f) → logits (b, num_classes), float32.

    With features=True {'pooled': (b, c), 'logits': …}.
    """
    x = layers(self, known(covariates), train)
    logits = classify(x, self.num_classes, train, dtype=self.dtype)
    pooled = {'pooled': x.astype(jnp.float32), 'logits': logits}
    return pooled if features else logits


class CoxTime(nn.Module):
  """The log hazard of a case as a function of time; Kvamme et al. 2019.

  Time, from 0 to 1, is a further column of the table. With a `backbone` it is
  one beside the embedding of the image (and table, of a Fusion).

  Attributes: those of `MLP`, and
    num_classes: intervals of time; where no times are given, the hazard is that
      at the end of each.
    backbone: a module of medjax.models, or None.
  """

  num_classes: int
  hidden: Sequence[int] = (32, 32)
  norm: bool = False
  dropout: float = 0.0
  backbone: nn.Module | None = None
  dtype: Any = None

  def __post_init__(self):
    if self.backbone is not None:
      self.backbone = headless(self.backbone)
    super().__post_init__()

  @nn.compact
  def __call__(self, *inputs, times=None, train=False):
    """Inputs (b, …), times (b, m) → log hazards (b, m), float32."""
    if self.backbone is None:
      x = known(*inputs)
    else:
      x = self.backbone(*inputs, train=train, features=True)['pooled']
    if times is None:
      ends = jnp.arange(1, self.num_classes + 1) / self.num_classes
      times = jnp.broadcast_to(ends, (len(x), self.num_classes))
    b, m = times.shape
    both = [jnp.broadcast_to(x[:, None], (b, m, x.shape[1])), times[..., None]]
    x = layers(self, jnp.concatenate(both, -1), train)
    out = nn.Dense(1, kernel_init=UNIFORM, dtype=self.dtype, name='head')
    return out(x)[..., 0].astype(jnp.float32)


def layers(module, x, train):
  """The hidden layers of a module: dense, norm, ReLU, dropout."""
  for i, units in enumerate(module.hidden):
    x = nn.Dense(
      units, kernel_init=UNIFORM, dtype=module.dtype, name=f'hidden_{i}'
    )(x)
    if module.norm:
      x = nn.BatchNorm(
        use_running_average=not train, dtype=module.dtype, name=f'norm_{i}'
      )(x)
    x = nn.Dropout(module.dropout, deterministic=not train)(nn.relu(x))
  return x
