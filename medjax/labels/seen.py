"""What a model sees of an unlabelled case: how unsure, what it is like."""

import dataclasses

import numpy as np
from scipy import ndimage

from medjax.data import duplicates
from medjax.metrics.uncertainty import entropy

# How far around what a model marks its doubt is looked for, voxels.
_MARGIN = 2
UNSURE = ('entropy', 'margin', 'bald')


@dataclasses.dataclass(frozen=True)
class Seen:
  """A case as a model sees it.

  scores: by measure, more is less sure: `entropy` (nats), `margin` (1 less the
    lead of the likeliest class), and of several members `bald`, their mutual
    information. Of a map the mean over its region: what is marked, and two
    voxels around it; the whole image where nothing is.
  slices: of a volume, by measure, the slice along the last axis in which there
    is most of it.
  error: (K,), of the probabilities from their own decision; of a map that of
    their mean over the region.
  embedding: (d,), and `digest` and `thumbnail` of the image.
  """

  id: str
  scores: dict[str, float]
  slices: dict[str, int]
  error: np.ndarray
  embedding: np.ndarray
  digest: bytes
  thumbnail: np.ndarray
  split: str = ''


def seen(case, prediction, *, exclusive):
  """`Seen` of a raw case and its `Prediction` with probabilities, features."""
  p = np.asarray(prediction.probabilities, float)
  maps = {
    'entropy': entropy(p, exclusive=exclusive),
    'margin': margin(p, exclusive),
  }
  if prediction.uncertainty:
    known = prediction.uncertainty['mutual_information']
    maps['bald'] = np.asarray(known, float)
  region, slices = np.ones((), bool), {}
  if prediction.labels is not None:
    region = around(prediction.labels > 0)
    if region.ndim == 3:
      slices = {
        name: int(np.where(region, each, 0).sum((0, 1)).argmax())
        for name, each in maps.items()
      }
  return Seen(
    id=case['id'],
    scores={name: float(each[region].mean()) for name, each in maps.items()},
    slices=slices,
    error=_error(p[region].mean(0) if p.ndim > 1 else p, exclusive),
    embedding=np.asarray(prediction.embedding, float),
    digest=duplicates.digest(case['image']),
    thumbnail=duplicates.thumbnail(case['image']),
  )


def _error(p, exclusive):
  """Probabilities (K,) less what is decided by them."""
  return p - (np.eye(len(p))[p.argmax()] if exclusive else p > 0.5)


def glanced(case):
  """`Seen` of a raw case that no model has looked at: its image alone."""
  image, nothing = case['image'], np.zeros(0)
  return Seen(
    case['id'], {}, {}, nothing, nothing,
    duplicates.digest(image), duplicates.thumbnail(image),
  )  # fmt: skip


def around(marked):
  """What is marked (*s,) and its neighbours; all where nothing is."""
  if not marked.any():
    return np.ones_like(marked)
  return ndimage.binary_dilation(marked, iterations=_MARGIN)


def margin(p, exclusive):
  """1 less the lead of the likeliest of (…, K); of several labels the mean."""
  if not exclusive:
    return 1 - np.abs(2 * p - 1).mean(-1)
  second, first = np.moveaxis(np.sort(p, -1)[..., -2:], -1, 0)
  return 1 - (first - second)
