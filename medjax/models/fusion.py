"""Images, a table, a text in one network, any of which may be missing."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from medjax.models.layers import UNIFORM, classify, headless
from medjax.models.mlp import known

_HEADS = 4  # of attention, where they divide the units


class Fusion(nn.Module):
  """Encodes each input by itself, and joins the embeddings before the head.

  An image (b, *s, c) goes through the backbone, each through one of its own; a
  vector (b, f), of a table or a text, through a dense layer. All embeddings
  have `hidden` units. An input that is missing, NaN, is a learned embedding in
  the place of its own; so is one that `drop` leaves out in training, so that
  the network does without it. A column that is missing in a table that is there
  is zero (the mean of standardised columns), and an indicator per column says
  so, whose weight is what is learned of its absence.

  How they are joined, `fuse`:
    'concat': side by side, a dense layer (Huang et al. 2020).
    'gated': their sum, weighted per unit by a softmax over the inputs of all of
      them (after Arevalo et al. 2017).
    'film': the vectors scale and shift the embeddings of the images (Perez et
      al. 2018, of the embedding instead of its maps).
    'attention': a summary attends to them, one layer of a transformer.
    'late': the mean of the logits that each one that is there gives.

  Parameters lie under backbone, image, table (backbone_1, image_1, table_1 … of
  further ones), absent_image …, and those of the way they are joined, at its
  end head. A missing image passes the backbone as zeros and is then left out:
  where many are missing, take a backbone whose norm is not that of the batch.

  Attributes:
    num_classes: channels of the logits.
    backbone: a module of medjax.models, in a config dict(name='ResNet18'); its
      own arguments (dtype, remat, drop_path, …) are given there. None without
      images.
    fuse: how embeddings are joined.
    hidden: units of an embedding, and of the layer before the head.
    drop: rate at which training leaves out an input of a case; never all.
    dropout: rate before the hidden layer and before the head.
    dtype: of the computation after the backbone; parameters and logits are
      float32.
  """

  optional: ClassVar = True  # inputs of a case may be missing
  num_classes: int
  backbone: nn.Module | None = None
  fuse: str = 'concat'
  hidden: int = 64
  drop: float = 0.3
  dropout: float = 0.0
  dtype: Any = None

  def __post_init__(self):
    if self.backbone is not None:
      self.backbone = headless(self.backbone)
    if self.fuse not in _JOINED:
      raise ValueError(
        f'model.fuse={self.fuse!r} is none of {", ".join(_JOINED)}'
      )
    if not 0 <= self.drop < 1:
      raise ValueError(f'model.drop={self.drop} is a rate, 0 to below 1')
    super().__post_init__()

  @nn.compact
  def __call__(self, *inputs, train=False, features=False):
    """Each (b, *spatial, c) or (b, f) → logits (b, num_classes), float32.

    With features=True the dict of `layers.pyramid`; its maps are those of the
    first image, and 'pooled' is what the head sees, of all inputs.

    Raises:
      ValueError: for an input of another shape, or a backbone that has no
        embedding.
    """
    _check(inputs)
    embedded, present, maps = [], [], {}
    for name, x in zip(names(inputs), inputs, strict=True):
      there, pooled, found = _encoded(self, name, x, train)
      maps = maps or found
      embedded.append(_dense(self, name)(pooled))
      present.append(there)
    present = self._left(jnp.stack(present, 1), train)
    for i, name in enumerate(names(inputs)):
      absent = self.param(
        f'absent_{name}', nn.initializers.normal(0.02), (self.hidden,)
      )
      e = embedded[i]
      there = present[:, i, None]
      embedded[i] = jnp.where(there, e, absent.astype(e.dtype))
    pooled, logits = _JOINED[self.fuse](self, inputs, embedded, present, train)
    joined = {'pooled': pooled.astype(jnp.float32), 'logits': logits}
    return maps | joined if features else logits

  @nn.nowrap
  def _left(self, present, train):
    """Of what is there (b, m) what training leaves; at least one of it."""
    if not (train and self.drop):
      return present
    key = self.make_rng('dropout')
    left = present & jax.random.bernoulli(key, 1 - self.drop, present.shape)
    return jnp.where(left.any(1, keepdims=True), left, present)


def names(inputs):
  """'image' or 'table' for each input, further ones with a number."""
  counts, found = {'image': 0, 'table': 0}, []
  for x in inputs:
    kind = 'image' if x.ndim > 2 else 'table'
    found.append(f'{kind}_{counts[kind]}' if counts[kind] else kind)
    counts[kind] += 1
  return found


def _check(inputs):
  sizes = {x.shape[:1] for x in inputs}
  if len(sizes) > 1 or any(x.ndim < 2 for x in inputs):
    shapes = ', '.join(str(x.shape) for x in inputs)
    raise ValueError(
      f'covariates are (b, f) and images (b, …) of one b, not {shapes}'
    )


def _encoded(module, name, x, train):
  """(whether an input is there (b,), its vector (b, c), maps of an image)."""
  missing = jnp.isnan(x)
  # Sums, as ONNX has them of numbers only.
  count = missing.astype(jnp.float32).sum(tuple(range(1, x.ndim)))
  if x.ndim == 2:
    return count < x.shape[1], known(x), {}
  if module.backbone is None:
    raise ValueError('a Fusion with images needs a backbone')
  backbone = module.backbone
  if name != 'image':
    own = name.replace('image', 'backbone')
    backbone = backbone.clone(parent=module, name=own)
  found = backbone(jnp.where(missing, 0, x), train=train, features=True)
  if 'pooled' not in found:
    raise ValueError(
      f'{type(backbone).__name__} gives no embedding: the backbone of a '
      "Fusion must take features=True and return 'pooled'"
    )
  return count == 0, found['pooled'], dict(found)


def _dense(module, name, units=None):
  return nn.Dense(
    module.hidden if units is None else units,
    kernel_init=UNIFORM,
    dtype=module.dtype,
    name=name,
  )


# How embeddings, each (b, hidden), are joined: → (what the head sees, logits).


def _headed(module, x, train):
  logits = classify(
    x, module.num_classes, train, dropout=module.dropout, dtype=module.dtype
  )
  return x, logits


def _concat(module, inputs, embedded, present, train):
  x = nn.relu(jnp.concatenate(embedded, -1))
  x = nn.Dropout(module.dropout, deterministic=not train)(x)
  x = nn.relu(_dense(module, 'hidden')(x))
  return _headed(module, x, train)


def _gated(module, inputs, embedded, present, train):
  both = jnp.concatenate(embedded, -1)
  gates = _dense(module, 'gates', len(embedded) * module.hidden)(both)
  gates = gates.reshape(len(both), len(embedded), module.hidden)
  x = nn.softmax(gates, 1) * jnp.tanh(jnp.stack(embedded, 1))
  return _headed(module, x.sum(1), train)


def _film(module, inputs, embedded, present, train):
  images = [e for x, e in zip(inputs, embedded, strict=True) if x.ndim > 2]
  tables = [e for x, e in zip(inputs, embedded, strict=True) if x.ndim == 2]
  if not (images and tables):
    raise ValueError("model.fuse='film' needs an image and a table or a text")
  told = nn.relu(jnp.concatenate(tables, -1))
  film = _dense(module, 'film', 2 * len(images) * module.hidden)(told)
  scale, shift = jnp.split(film, 2, -1)
  x = nn.relu((1 + scale) * jnp.concatenate(images, -1) + shift)
  x = nn.relu(_dense(module, 'hidden')(x))
  return _headed(module, x, train)


def _attention(module, inputs, embedded, present, train):
  tokens = jnp.stack(embedded, 1)
  shape = (len(embedded) + 1, module.hidden)
  kinds = module.param('kinds', nn.initializers.normal(0.02), shape)
  summary = jnp.zeros_like(tokens[:, :1])
  x = jnp.concatenate([summary, tokens], 1) + kinds.astype(tokens.dtype)
  heads = next(n for n in (_HEADS, 2, 1) if module.hidden % n == 0)
  attend = nn.MultiHeadDotProductAttention(
    heads, dtype=module.dtype, name='attention'
  )
  x = x + attend(nn.LayerNorm(dtype=module.dtype, name='norm_0')(x))
  x = x[:, 0]
  y = nn.LayerNorm(dtype=module.dtype, name='norm_1')(x)
  x = x + nn.relu(_dense(module, 'hidden')(y))
  return _headed(module, x, train)


def _late(module, inputs, embedded, present, train):
  each = [
    _dense(module, f'head_{name}', module.num_classes)(
      nn.Dropout(module.dropout, deterministic=not train)(e)
    )
    for name, e in zip(names(inputs), embedded, strict=True)
  ]
  # Of a case of which nothing is there, what all absences say.
  weights = present.astype(jnp.float32)
  weights = weights + (weights.sum(1, keepdims=True) == 0)
  weights = weights / weights.sum(1, keepdims=True)
  logits = (jnp.stack(each, 1) * weights[..., None]).sum(1)
  return jnp.concatenate(embedded, -1), logits.astype(jnp.float32)


_JOINED = {
  'concat': _concat,
  'gated': _gated,
  'film': _film,
  'attention': _attention,
  'late': _late,
}
