"""What the cases of a set say about themselves, and a run keeps beside it."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class DataFacts:
  """Facts of the data that an experiment is built on.

  channels, rank: of an image, and its spatial axes.
  spacing: of the first case, mm, (rank,).
  class_names: in the order of the labels; of masks the background is first.
  regions, region_order: sets of labels that are predicted as one, and the label
    that each writes, where the data say so.
  ignore: the label of voxels that count for nothing, or None.
  columns: names of the covariates.
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
  columns: tuple[str, ...] = ()
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
      for name in ('regions', 'region_order', 'ignore', 'columns', 'notes')
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
    """From what JSON gives back of `dataclasses.asdict`.

    Raises ValueError for what is not that.
    """
    try:
      facts = cls(**{k: _frozen(v) for k, v in values.items()})
      _check(facts)
    except (AttributeError, TypeError) as e:
      raise ValueError(f'no facts of data: {e}') from None
    return facts


def _check(facts):
  """Raises TypeError for a field that is of another kind."""
  texts = (*facts.class_names, *facts.columns, *facts.notes)
  whole = (
    facts.channels,
    facts.rank,
    *facts.region_order,
    *(label for region in facts.regions for label in region),
    *(() if facts.ignore is None else (facts.ignore,)),
  )
  if not all(isinstance(t, str) for t in (*texts, facts.unit_of_length)):
    raise TypeError('a name is no text')
  if any(isinstance(n, bool) or not isinstance(n, int) for n in whole):
    raise TypeError('a number is no whole number')
  if facts.rank not in (2, 3) or facts.channels < 1:
    raise TypeError(f'{facts.channels} channels, {facts.rank} axes')
  if not all(isinstance(s, int | float) and s > 0 for s in facts.spacing):
    raise TypeError(f'a spacing of {facts.spacing}')


def _frozen(value):
  if isinstance(value, list | tuple):
    return tuple(_frozen(v) for v in value)
  return value
