"""Image and table in one network: late fusion."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from medjax.models.layers import UNIFORM, classify, headless
from medjax.models.mlp import known


class Fusion(nn.Module):
  """An image and the columns of a table, joined before the head.

  The embedding of the image and a hidden layer of the table are concatenated,
  and two dense layers classify both (late fusion; Huang et al. 2020, npj
  Digital Medicine 3:136). A missing value of the table is NaN: it becomes
  zero, which is the mean where columns are standardised, and an indicator per
  column says that it is missing.

  Parameters lie under backbone, table, hidden and head.

  Attributes:
    num_classes: channels of the logits.
    backbone: a module of medjax.models, in a config dict(name='ResNet18'); its
      own arguments (dtype, remat, drop_path, …) are given there.
    hidden: units of the table's layer, and of the layer before the head.
    dropout: rate before the hidden layer and before the head.
    dtype: of the computation after the backbone; parameters and logits are
      float32.
  """

  num_classes: int
  backbone: nn.Module
  hidden: int = 64
  dropout: float = 0.0
  dtype: Any = None

  def __post_init__(self):
    self.backbone = headless(self.backbone)
    super().__post_init__()

  @nn.compact
  def __call__(self, image, covariates, *, train=False, features=False):
    """(b, *spatial, c), (b, f) → logits (b, num_classes), float32.

    With features=True the dict of `layers.pyramid`; its maps are the
    backbone's, and 'pooled' is what the head sees, of image and table.

    Raises:
      ValueError: if the covariates are not (b, f), or the backbone has no
        embedding.
    """
    if covariates.ndim != 2 or len(covariates) != len(image):
      raise ValueError(
        f'covariates are (b, f) for images (b, …), not {covariates.shape} for '
        f'{image.shape}'
      )
    found = dict(self.backbone(image, train=train, features=True))
    if 'pooled' not in found:
      raise ValueError(
        f'{type(self.backbone).__name__} gives no embedding: the backbone of a '
        "Fusion must take features=True and return 'pooled'"
      )
    table = nn.relu(self._dense('table')(known(covariates)))
    x = jnp.concatenate([found['pooled'].astype(table.dtype), table], -1)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x = nn.relu(self._dense('hidden')(x))
    logits = classify(
      x, self.num_classes, train, dropout=self.dropout, dtype=self.dtype
    )
    joined = {'pooled': x.astype(jnp.float32), 'logits': logits}
    return found | joined if features else logits

  @nn.nowrap
  def _dense(self, name):
    return nn.Dense(
      self.hidden, kernel_init=UNIFORM, dtype=self.dtype, name=name
    )
