"""What the cases of a set say about themselves, and a run keeps beside it."""

import dataclasses

import numpy as np

# Told by the cases themselves, where they can.
_TOLD = (
  'regions', 'region_order', 'ignore', 'num_labels', 'channel_names',
  'normalisation', 'covariate_names', 'notes',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class DataFacts:
  """Facts of the data that an experiment is built on.

  channels, rank: of an image, and its spatial axes.
  spacing: of the first case, mm, (rank,).
  class_names: in the order of the labels; of masks the background is first.
  regions, region_order: sets of labels that are predicted as one, and the label
    that each writes, where the data say so.
  ignore: the label of voxels that count for nothing, or None.
  num_labels: of masks, background included, without the one to ignore; None
    where no file says it.
  channel_names: of the channels; normalisation: 'zscore', 'ct', 'none',
    'rescale_0_1' or 'rgb_0_1' for each, where the data say so.
  covariate_names: of the columns of the covariates.
  unit_of_length: 'mm', or 'px' of pictures that do not say their scale.
  notes: what was assumed when they were read, a line each.
  """

  channels: int
  rank: int
  spacing: tuple[float, ...] = ()
  class_names: tuple[str, ...] = ()
  regions: tuple[tuple[int, ...], ...] = ()
  region_order: tuple[int, ...] = ()
  ignore: int | None = None
  num_labels: int | None = None
  channel_names: tuple[str, ...] = ()
  normalisation: tuple[str, ...] = ()
  covariate_names: tuple[str, ...] = ()
  unit_of_length: str = 'mm'
  notes: tuple[str, ...] = ()

  @classmethod
  def of(cls, cases):
    """Of a sequence of raw cases, which is read as far as its first."""
    case = cases[0]
    *shape, channels = case['image'].shape
    unscaled = np.allclose(case['affine'], np.eye(len(shape) + 1))
    told = {
      name: getattr(cases, name)
      for name in _TOLD
      if getattr(cases, name, None) is not None
    }
    return cls(
      channels=int(channels),
      rank=len(shape),
      spacing=tuple(map(float, np.asarray(case['spacing']))),
      class_names=tuple(cases.class_names or ()),
      # Pictures without a scale are read as of 1 mm a pixel.
      unit_of_length='px' if len(shape) == 2 and unscaled else 'mm',
      **{k: _frozen(v) for k, v in told.items()},
    )

  @classmethod
  def read(cls, values):
    """From what JSON gives back of `dataclasses.asdict`."""
    return cls(**{k: _frozen(v) for k, v in values.items()})


def _frozen(value):
  if isinstance(value, list | tuple):
    return tuple(_frozen(v) for v in value)
  return value
