"""A network without its head, whose embeddings are compared, not classified."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from medjax.models.layers import headless, make_norm
from medjax.ops.normalization import unit


class Embedded(NamedTuple):
  """What a `Projected` gives of a batch, float32.

  projection: (b, k), compared. pooled: (b, d), the embedding, which is kept.
  prediction: (b, k) of the predictor, or the projection without one.
  """

  projection: jax.Array
  pooled: jax.Array
  prediction: jax.Array


class Projector(nn.Module):
  """Dense layers, each but the last with a batch norm and a ReLU.

  The last has no norm; no dense layer has a bias.
  """

  features: tuple[int, ...]
  dtype: Any = None

  @nn.compact
  def __call__(self, x, train):
    """(b, d) → (b, features[-1])."""
    *hidden, last = self.features
    dense = functools.partial(nn.Dense, use_bias=False, dtype=self.dtype)
    for i, n in enumerate(hidden):
      x = dense(n, name=f'dense_{i}')(x)
      norm = make_norm(
        'batch', n, train=train, dtype=self.dtype, name=f'norm_{i}'
      )
      x = nn.relu(norm(x))
    return dense(last, name='last')(x)


class Prototypes(nn.Module):
  """Cosines with learnt directions, as many as `count` (DINO's last layer)."""

  count: int

  @nn.compact
  def __call__(self, x):
    """(b, d) → (b, count)."""
    normal = nn.initializers.normal(1.0)
    kernel = self.param('kernel', normal, (x.shape[-1], self.count))
    return jnp.matmul(unit(x), unit(kernel.T).T)


class Projected(nn.Module):
  """A classification network without its head, and a projector.

  For tasks that compare views of an image: `SimCLR`, `MoCo`, `BYOL`, `DINO`,
  `VICReg`, `BarlowTwins`. The network is what other runs begin with
  (`pretrained.path`), the rest is a head that they leave.

  Parameters lie under backbone, head_projector, and with them head_predictor
  and head_prototypes.

  Attributes:
    num_classes: numbers of a projection, told by the task.
    backbone: a module of medjax.models, in a config dict(name='ResNet18'). One
      that gives a map of the image is refused: views do not train its decoder.
    hidden: units of the projector's hidden layers, and of the predictor's.
    layers: of the projector, dense ones.
    predictor: a further layer on the projection, of BYOL.
    prototypes: the projection is cosines with `num_classes` directions, of what
      the projector makes, which then has `bottleneck` numbers; of DINO.
    bottleneck: see prototypes.
    dtype: of the projector's computation.
  """

  num_classes: int
  backbone: nn.Module
  hidden: int = 256
  layers: int = 2
  predictor: bool = False
  prototypes: bool = False
  bottleneck: int = 64
  dtype: Any = None

  def __post_init__(self):
    self.backbone = headless(self.backbone)
    super().__post_init__()

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → `Embedded`.

    With features=True the dict of `layers.pyramid` of the backbone, its logits
    being the `Embedded`.

    Raises:
      ValueError: for a backbone that has no embedding, or that decodes maps.
    """
    found = embedding(self.backbone, x, train=train)
    if 'decoder_0' in found:
      raise ValueError(
        f'{type(self.backbone).__name__} decodes a map, which views of an '
        'image do not train: pre-train its encoder (a ResNet, for an '
        'EncoderDecoder), or all of it by the task MAE'
      )
    hidden = (self.hidden,) * (self.layers - 1)
    size = self.bottleneck if self.prototypes else self.num_classes
    projector = Projector(
      (*hidden, size), dtype=self.dtype, name='head_projector'
    )
    projection = projector(found['pooled'], train)
    if self.prototypes:
      projection = Prototypes(self.num_classes, name='head_prototypes')(
        projection
      )
    prediction = projection
    if self.predictor:
      predictor = Projector(
        (self.hidden, self.num_classes), dtype=self.dtype, name='head_predictor'
      )
      prediction = predictor(projection, train)
    outputs = Embedded(projection, found['pooled'], prediction)
    outputs = Embedded(*(y.astype(jnp.float32) for y in outputs))
    return {**found, 'logits': outputs} if features else outputs


def embedding(backbone, x, **options):
  """What a backbone gives for features=True; ValueError without 'pooled'."""
  try:
    found = backbone(x, features=True, **options)
  except TypeError as e:
    if 'features' not in str(e):
      raise
    found = {}
  if 'pooled' not in found:
    raise ValueError(
      f'{type(backbone).__name__} gives no embedding: a backbone must take '
      "features=True and return 'pooled'"
    )
  return found
