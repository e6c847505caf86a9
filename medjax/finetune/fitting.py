"""Arrays of another shape made to fit: channels, a third axis, layouts."""

import math
import re

import jax
import numpy as np

# Kernels of transposed convolutions, whose first axis is the input's in torch.
_TRANSPOSED = re.compile(r'(^|/)(skip_\d_)?(upsample|up)(_\d+)?/kernel$')
# Those of MedNeXt: one voxel wide, and ours between zeros, its taps flipped.
_OF_MEDNEXT = re.compile(r'(up_\d+/shortcut|head(_\d+)?)/kernel$')
_FLIPPED = re.compile(r'up_\d+/depthwise/kernel$')


def from_torch(array, path, shape, *, bins=0, mednext=False):
  """torch's (o, i, *window) as our (*window, i, o); other arrays as they are.

  `path` and `shape` are those of our parameter. torch flattens maps channels
  first, before a dense layer: `bins` is their side, in 2-D, where this is one.
  `mednext`: of a MedNeXt, whose heads are transposed convolutions.
  """
  if not path.endswith('kernel'):
    plain = np.squeeze(array).shape == tuple(n for n in shape if n != 1)
    return array.reshape(shape) if plain else array
  if bins and array.shape[1] % bins**2 == 0:
    array = array.reshape(len(array), -1, bins, bins)
    array = np.moveaxis(array, 1, -1).reshape(len(array), -1)
  if _FLIPPED.match(path):
    array = np.flip(array, tuple(range(2, array.ndim)))
  if _TRANSPOSED.search(path) or (mednext and _OF_MEDNEXT.match(path)):
    array = np.moveaxis(array, (0, 1), (-2, -1))
  else:
    array = np.moveaxis(array, (0, 1), (-1, -2))
  if len(shape) == 2 and math.prod(array.shape[:-2]) == 1:
    return array.reshape(array.shape[-2:])  # a 1-voxel convolution
  return array


def inflated(kernel, depth):
  """A 2-D kernel (h, w, i, o) as (depth, h, w, i, o), divided by the depth.

  What is the same in every slice then gives the same as in 2-D, away from the
  first and last (Carreira & Zisserman 2017, I3D).
  """
  return np.repeat(kernel[None] / depth, depth, 0)


def with_channels(kernel, channels, how):
  """A kernel (*window, i, o) for another number of input channels.

  'sum': all channels share the sum over the old ones, so that an image whose
  channels are alike gives what it gave. 'mean': each is their mean.

  Raises:
    ValueError: for anything else.
  """
  if how not in ('sum', 'mean'):
    raise ValueError(f"pretrained.channels is 'sum' or 'mean', not {how!r}")
  total = kernel.sum(-2, keepdims=True)
  parts = channels if how == 'sum' else kernel.shape[-2]
  return np.repeat(total / parts, channels, -2)


def positions(array, grid):
  """Learned positions (1 + n, c) of a square of tokens, for another grid.

  The class token's is the first and stays. As they are where n is no square,
  or the grid not 2-D.
  """
  token, rest = array[:1], array[1:]
  side = math.isqrt(len(rest))
  if len(grid) != 2 or side**2 != len(rest):
    return array
  square = rest.reshape(side, side, -1)
  resized = jax.image.resize(square, (*grid, square.shape[-1]), 'cubic')
  return np.concatenate([token, np.reshape(resized, (-1, square.shape[-1]))])


def fit(array, shape, *, first, channels, grid=()):
  """(array of `shape`, what was done to it), or None where none fits.

  `first` says that this is the kernel which sees the image, `channels` how
  another number of those is met. `grid` is that of learned positions.
  """
  done, had = [], array.shape
  if array.ndim == len(shape) - 1 == 4 and array.shape[:2] == shape[1:3]:
    array = inflated(array, shape[0])
    done.append('inflated')
  others = array.shape[:-2] + array.shape[-1:] == shape[:-2] + shape[-1:]
  if first and others and array.shape != shape:
    array = with_channels(array, shape[-2], channels)
    done.append(f'{channels} over channels')
  if grid and array.shape != shape:
    array = positions(array.reshape(-1, array.shape[-1]), grid)
    done.append('resized')
  if array.shape != shape:
    return None
  return array, f'{had} → {shape}, {", ".join(done)}' if done else ''
