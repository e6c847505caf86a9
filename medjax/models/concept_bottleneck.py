"""A network that answers by concepts alone: the concept bottleneck."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from medjax.models.layers import UNIFORM, classify, headless


class ConceptBottleneck(nn.Module):
  """An image becomes numbers with names, and these alone the classes.

  The embedding of a backbone gives the concepts by one dense layer, in the
  units of their column; the logits are linear in them (Koh et al. 2020). So
  what a concept adds to an answer can be read, and set to another value.

  Parameters lie under backbone, concepts and head.

  Attributes:
    num_classes: channels of the logits.
    backbone: a module of medjax.models, in a config dict(name='ResNet18'); its
      own arguments (dtype, remat, drop_path, …) are given there.
    num_concepts: how many concepts there are.
    dropout: rate before the concepts.
    dtype: of the computation after the backbone; parameters, concepts and
      logits are float32.
  """

  num_classes: int
  backbone: nn.Module
  num_concepts: int
  dropout: float = 0.0
  dtype: Any = None

  def __post_init__(self):
    self.backbone = headless(self.backbone)
    super().__post_init__()

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → (logits (b, num_classes), concepts (b, num_concepts)).

    With features=True the dict of `layers.pyramid`, and 'concepts'.

    Raises:
      ValueError: if the backbone has no embedding.
    """
    found = dict(self.backbone(x, train=train, features=True))
    if 'pooled' not in found:
      raise ValueError(
        f'{type(self.backbone).__name__} gives no embedding: the backbone of a '
        "ConceptBottleneck must take features=True and return 'pooled'"
      )
    y = nn.Dropout(self.dropout, deterministic=not train)(found['pooled'])
    y = nn.Dense(
      self.num_concepts, kernel_init=UNIFORM, dtype=self.dtype, name='concepts'
    )(y)
    concepts = y.astype(jnp.float32)
    logits = classify(concepts, self.num_classes, train)
    if features:
      return found | {'concepts': concepts, 'logits': logits}
    return logits, concepts
