"""Learned up-sampling as a matrix product, channels last."""

import math

from jaxtyping import Array, Float


def transposed_conv(
  x: Float[Array, 'b *spatial c'], kernel: Float[Array, '*window c o']
) -> Float[Array, 'b *out o']:
  """Transposed convolution whose stride is the size of its kernel.

  Windows do not overlap then, so every voxel becomes a block of `window`
  voxels by one matrix product, and no dilated input is needed: its gradient
  is slow in XLA. Agrees with `torch.nn.ConvTranspose2d/3d` of kernel_size =
  stride, padding 0, with kernel = weight (c, o, *window) moved to
  (*window, c, o); `lax.conv_transpose` flips the taps unless told otherwise.

  Args:
    x: (b, *spatial, c).
    kernel: (*window, c, o).

  Returns:
    (b, *(spatial × window), o).
  """
  *window, channels, features = kernel.shape
  rank = len(window)
  matrix = kernel.reshape(math.prod(window), channels, features)
  matrix = matrix.transpose(1, 0, 2).reshape(channels, -1)
  blocks = (x @ matrix).reshape(*x.shape[:-1], *window, features)
  # (b, d, h, w, kd, kh, kw, o) → (b, d, kd, h, kh, w, kw, o)
  order = [a for i in range(1, rank + 1) for a in (i, i + rank)]
  blocks = blocks.transpose(0, *order, 2 * rank + 1)
  sides = (n * k for n, k in zip(x.shape[1:-1], window, strict=True))
  return blocks.reshape(x.shape[0], *sides, features)
