"""The U-Net of 2015, with valid convolutions, 2-D and 3-D."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from medjax.models.layers import (
  Conv,
  ConvTranspose,
  classify_voxels,
  global_mean,
  pyramid,
  recomputed,
)
from medjax.ops.pooling import max_pool

# Section 3: Gaussian of variance 2 / fan-in.
_HE = nn.initializers.variance_scaling(2, 'fan_in', 'normal')


class Stage(nn.Module):
  """Two 3-voxel convolutions without padding, a ReLU after each."""

  features: int
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    """(b, *spatial, c) → (b, *(spatial − 4), features)."""
    for i in range(2):
      x = Conv(
        self.features,
        (3,) * (x.ndim - 2),
        padding='VALID',
        kernel_init=_HE,
        dtype=self.dtype,
        name=f'conv_{i}',
      )(x)
      x = nn.relu(x)
    return x


class UNet2015(nn.Module):
  """U-Net as published (Ronneberger et al. 2015), for 2-D and 3-D.

  No convolution is padded, so a map of 572 pixels gives logits of 388. Their
  overlap-tile strategy is inside: the image is continued by mirroring at its
  borders (section 1), so that the logits have its size and every one of them
  has seen a full context. Under a sliding window that is the patch. Beside
  the patch the margins cost: 184 voxels per axis with five stages.

  Parameters lie under encoder_0 … encoder_n, upsample_i, decoder_i and head:
  encoder_0/conv_0/kernel.

  Attributes:
    num_classes: channels of the logits.
    features: channels of each stage.
    dropout: rate, of whole feature maps, at the end of the contracting path;
      the paper gives none.
    remat: recompute a stage's activations in the backward pass.
    dtype: of the computation; parameters and logits are float32.
  """

  num_classes: int
  features: Sequence[int] = (64, 128, 256, 512, 1024)
  dropout: float = 0.0
  remat: bool = False
  dtype: Any = None

  @nn.compact
  def __call__(self, x, *, train=False, features=False):
    """(b, *spatial, c) → logits (b, *spatial, num_classes), float32.

    With features=True the dict of `layers.pyramid`; its maps cover the mirrored
    margins too, the more the coarser they are.
    """
    size = x.shape[1:-1]
    stage = recomputed(Stage, self.remat)
    x = self._continued(x)
    encoder, decoder = [], []
    for i, n in enumerate(self.features):
      x = max_pool(x, 2) if i else x
      x = stage(n, self.dtype, name=f'encoder_{i}')(x, train)
      encoder.append(x)
    spatial = tuple(range(1, x.ndim - 1))
    x = nn.Dropout(
      self.dropout, broadcast_dims=spatial, deterministic=not train
    )(x)
    for i, n in reversed(list(enumerate(self.features[:-1]))):
      x = ConvTranspose(
        n, (2,) * (x.ndim - 2), _HE, self.dtype, name=f'upsample_{i}'
      )(x)
      x = jnp.concatenate([_centre(encoder[i], x.shape[1:-1]), x], -1)
      x = stage(n, self.dtype, name=f'decoder_{i}')(x, train)
      decoder.insert(0, x)
    x = x[(slice(None), *(slice(n) for n in size))]
    logits = classify_voxels(
      x, self.num_classes, kernel_init=_HE, dtype=self.dtype
    )
    if not features:
      return logits
    return pyramid(encoder, global_mean(encoder[-1]), logits, decoder)

  @nn.nowrap
  def _continued(self, x):
    """Mirrors the borders, so that no less than x comes out, from its start.

    What else comes out, where the pools want another size, is at the far end.
    """
    halvings = len(self.features) - 1
    for axis in range(1, x.ndim - 1):
      size = n = x.shape[axis]
      for _ in range(halvings):
        n = -(-(n + 4) // 2)
      out, n = n, n + 4
      for _ in range(halvings):
        out, n = 2 * out - 4, 2 * n + 4
      low = (n - out) // 2
      # A mirror at either end: 0 1 2 1 0 1 … for any distance.
      place = np.abs(np.arange(n) - low) % max(2 * (size - 1), 1)
      x = jnp.take(x, np.minimum(place, 2 * (size - 1) - place), axis)
    return x


def _centre(x, size):
  """The middle of x; what is cut is even."""
  starts = [(n - m) // 2 for n, m in zip(x.shape[1:-1], size, strict=True)]
  return x[
    (slice(None), *(slice(s, s + m) for s, m in zip(starts, size, strict=True)))
  ]
