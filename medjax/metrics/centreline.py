"""clDice: do the centrelines of two tubular masks lie in each other; host.

Centrelines by thinning that keeps the topology: a voxel goes only if it is
simple, that is, if pieces, holes and tunnels stay as they are (Bertrand &
Malandain 1994), and no end of a line. Six (four) directions in turn keep it in
the middle; of each, eight (four) subfields without neighbours are decided at
once. Lines differ by a voxel from other programs' (Lee et al. 1994).
"""

import itertools

import numpy as np
from jaxtyping import Bool

from medjax.metrics import inputs
from medjax.metrics.inputs import Mask

_CUBE = np.array([*itertools.product((-1, 0, 1), repeat=3)])
_AROUND = _CUBE[np.abs(_CUBE).sum(1) > 0]  # the 26 neighbours
_STEPS = np.abs(_AROUND[:, None] - _AROUND)
_TOUCH = (_STEPS.max(-1) <= 1).astype(np.float32)  # by face, edge or corner
_NEAR = np.abs(_AROUND).sum(1) <= 2  # the 18 by face or edge
_FACE = np.abs(_AROUND).sum(1) == 1
_BESIDE = ((_STEPS.sum(-1) <= 1) & _NEAR & _NEAR[:, None]).astype(np.float32)


def _reached(seed, allowed, joined):
  """All of `allowed` (m, 26) that is joined to the seed."""
  while True:
    grown = ((seed.astype(np.float32) @ joined) > 0) & allowed
    if (grown == seed).all():
      return seed
    seed = grown


def _first(flags):
  """The first that is set in each row, alone."""
  return flags & (np.cumsum(flags, 1) == 1)


def _simple(around):
  """Whether voxels with these 26 neighbours (m, 26) may go, and are no ends."""
  pieces = (_reached(_first(around), around, _TOUCH) == around).all(1)
  outside = ~around & _NEAR
  doors = outside & _FACE
  one = (_reached(_first(doors), outside, _BESIDE) & doors == doors).all(1)
  return pieces & one & doors.any(1) & (around.sum(1) > 1)


def centreline(mask: Mask) -> Bool[np.ndarray, '*s']:
  """The mask (*s) thinned to lines one voxel wide, 2-D or 3-D."""
  mask = np.asarray(inputs.mask(mask))
  if mask.ndim not in (2, 3):
    raise ValueError(f'a mask has 2 or 3 axes, not {mask.ndim}')
  flat = mask.ndim == 2
  volume = np.pad(mask[None] if flat else mask, 1)
  strides = np.array(volume.strides) // volume.itemsize
  offsets = _AROUND @ strides
  axes = strides[1:] if flat else strides
  line = volume.reshape(-1)
  while True:
    before = np.count_nonzero(line)
    for step in np.concatenate([axes, -axes]):
      _peel(line, int(step), offsets, volume.shape)
    if np.count_nonzero(line) == before:
      break
  volume = line.reshape(volume.shape)[1:-1, 1:-1, 1:-1]
  return volume[0] if flat else volume


def _peel(line, step, offsets, shape):
  """Takes the simple voxels of one side away, in place."""
  at = np.flatnonzero(line)
  at = at[~line[at + step]]
  places = np.stack(np.unravel_index(at, shape), 1) % 2
  field = places @ (1, 2, 4)
  for f in range(8):
    some = at[field == f]
    if len(some):
      line[some[_simple(line[some[:, None] + offsets])]] = False


def cl_dice(prediction: Mask, reference: Mask) -> float:
  """Harmonic mean of two shares of centrelines that lie in the other mask.

  Shit et al. 2021, eq. 1 to 3. NaN when both masks are empty, 0 when one is.
  """
  prediction, reference = map(np.asarray, inputs.masks(prediction, reference))
  lines = centreline(prediction), centreline(reference)
  lengths = [np.count_nonzero(x) for x in lines]
  if not any(lengths):
    return float('nan')
  if not all(lengths):
    return 0.0
  precision = np.count_nonzero(lines[0] & reference) / lengths[0]
  recall = np.count_nonzero(lines[1] & prediction) / lengths[1]
  total = precision + recall
  return 2 * precision * recall / total if total else 0.0
