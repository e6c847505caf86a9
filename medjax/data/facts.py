"""What the cases of a set say about themselves, and a run keeps beside it."""

import dataclasses
import typing

import numpy as np

from medjax.data import grid, telling
from medjax.data.formats.volume import orientation_of

_QUANTILES = 201  # of event times
_BITS = {'uint8': 8, 'uint16': 16}  # of pictures, as they are stored
# By an image's own values, in whatever range they lie.
_RELATIVE = frozenset(('normalise', 'percentile', 'zscore'))
_APART = 1.5  # times the training's voxels: other anatomy fills a window
# Told by the cases themselves, where they can.
_TOLD = (
  'regions', 'region_order', 'ignore', 'num_labels', 'channel_names',
  'normalisation', 'covariate_names', 'notes',
)  # fmt: skip
# Of a data set, not of a split of it: the form that inputs and outputs have.
_FORM = (
  'channels', 'rank', 'class_names', 'regions', 'region_order', 'ignore',
  'num_labels', 'channel_names', 'normalisation', 'covariate_names',
  'unit_of_length',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class DataFacts:
  """Facts of the data that an experiment is built on.

  channels, rank: of an image, and its spatial axes; 0 of rows of a table.
  shape, spacing: of the first case's image, and of its voxels in mm, (rank,).
  class_names: in the order of the labels; of masks the background is first.
  regions, region_order: sets of labels that are predicted as one, and the label
    that each writes, where the data say so.
  ignore: the label of voxels that count for nothing, or None.
  num_labels: of masks, background included, without the one to ignore; None
    where no file says it.
  channel_names: of the channels; normalisation: 'zscore', 'ct', 'none',
    'rescale_0_1' or 'rgb_0_1' for each, where the data say so.
  statistics: (mean, std, 0.5 %, 99.5 %) of the foreground of each channel,
    where one is 'ct'.
  covariate_names: of the columns of the covariates.
  covariate_statistics: (mean, standard deviation) of each, of what is known.
  telling: of the columns those that tell the label alone.
  further_images, further_channels: the names of a case's other images, and how
    many channels each has.
  event_times: quantiles, from 0 to 1, of the times of events; causes: how many
    there are of these, which are numbered from 1.
  unit_of_length: 'mm', or 'px' of pictures that do not say their scale.
  stored: the dtype of the first case's image, as it was read.
  orientation: where the axes of the first case's image run to, as 'RAS'; '' of
    pictures, and where nothing says it.
  notes: what was assumed when they were read, a line each.
  """

  channels: int
  rank: int
  shape: tuple[int, ...] = ()
  spacing: tuple[float, ...] = ()
  class_names: tuple[str, ...] = ()
  regions: tuple[tuple[int, ...], ...] = ()
  region_order: tuple[int, ...] = ()
  ignore: int | None = None
  num_labels: int | None = None
  channel_names: tuple[str, ...] = ()
  normalisation: tuple[str, ...] = ()
  statistics: tuple[tuple[float, ...], ...] = ()
  covariate_names: tuple[str, ...] = ()
  covariate_statistics: tuple[tuple[float, ...], ...] = ()
  telling: tuple[str, ...] = ()
  further_images: tuple[str, ...] = ()
  further_channels: tuple[int, ...] = ()
  event_times: tuple[float, ...] = ()
  causes: int = 1
  unit_of_length: str = 'mm'
  stored: str = ''
  orientation: str = ''
  notes: tuple[str, ...] = ()

  @classmethod
  def of(cls, cases, *, count=False):
    """Of a sequence of raw cases.

    Read is the first; all are where an intensity of CT is to be normalised, and
    all masks where `count` asks for labels that nothing names.
    """
    case = cases[0]
    *shape, channels = np.shape(case.get('image', np.empty(0)))
    unscaled = np.allclose(case.get('affine', 0), np.eye(len(shape) + 1))
    told = {
      name: getattr(cases, name)
      for name in _TOLD
      if getattr(cases, name, None) is not None
    }
    if count and not (told.get('num_labels') or cases.class_names):
      told['num_labels'] = int(cases.num_classes)
    if 'ct' in told.get('normalisation', ()):
      told['statistics'] = _foreground(cases)
    if 'covariates' in case:
      columns = _column(cases, 'covariates')
      told['covariate_statistics'] = _moments(columns)
      told['telling'] = _telling(cases, columns)
    if further := _further(cases, case):
      told['further_images'] = tuple(further)
      told['further_channels'] = tuple(further.values())
    if 'time' in case and 'event' in case:
      told['event_times'], told['causes'] = _events(
        *(_column(cases, name) for name in ('time', 'event'))
      )
    return cls(
      channels=int(channels),
      rank=len(shape),
      shape=tuple(map(int, shape)),
      spacing=tuple(map(float, np.asarray(case.get('spacing', ())))),
      class_names=tuple(cases.class_names or ()),
      # Pictures without a scale are read as of 1 mm a pixel.
      unit_of_length='px' if len(shape) == 2 and unscaled else 'mm',
      stored=str(np.asarray(case['image']).dtype) if channels else '',
      orientation=_runs_to(case),
      **{k: _frozen(v) for k, v in told.items()},
    )

  def patch_size(self, steps=(), *, most=96, multiple=8):
    """A patch that fits the first volume; () for pictures, which are whole.

    steps: data.preprocess, of which `reorient` may put axes in another order.
    """
    if self.rank == 2:
      return ()
    shape = self.shape
    for step in steps:
      if step['name'] == 'reorient' and self.orientation:
        turned = grid.turn(self.affine(), step.get('codes', 'RAS'))
        shape = [shape[a] for a in np.argsort(turned[:, 0])]
        break
    return tuple(
      max(min(n, most) // multiple * multiple, multiple) for n in shape
    )

  def affine(self, spacing=None):
    """Of a volume whose axes run as the first case's, with voxels in mm."""
    spacing = np.ones(self.rank) if spacing is None else np.asarray(spacing)
    affine = np.diag([*spacing, 1.0])
    if self.orientation:
      turned = grid.axes_of(self.orientation)
      affine[:3, :3] = 0
      affine[turned[:, 0].astype(int), range(3)] = turned[:, 1] * spacing
    return affine

  def doubts(self, case, steps):
    """What to say of a case whose image is unlike the training's, lines."""
    found = [self.unlike(case.get('spacing', ()), steps)]
    if 'image' in case:
      found.append(self.other_depth(np.asarray(case['image']), steps))
      found.append(self.turned(case, steps))
    return tuple(filter(None, found))

  def unlike(self, spacing, steps):
    """What to say of voxels of another size than the training's; '' if none.

    steps: names of data.preprocess, of which some bring voxels to a size. Axes
    may lie otherwise; the training's are those of its first case.
    """
    given, known = np.sort(np.array(spacing)), np.sort(self.spacing)
    if {'resample', 'resize'} & steps or self.unit_of_length != 'mm':
      return ''
    if given.shape != known.shape or not known.size:
      return ''
    if (np.abs(np.log(given / known)) < np.log(_APART)).all():
      return ''
    sizes = (' × '.join(f'{x:.3g}' for x in s) for s in (spacing, self.spacing))
    return (
      'voxels of {} mm; training began with {} mm, and data.preprocess does '
      'not resample: doubt what was found'
    ).format(*sizes)

  def turned(self, case, steps):
    """What to say of a volume whose axes run elsewhere; '' if nothing.

    steps: names of data.preprocess. A mirrored body is still a body: nothing
    else would show that left and right were taken for each other.
    """
    given, known = _runs_to(case), self.orientation
    if 'reorient' in steps or not given or not known or given == known:
      return ''
    return (
      f'its axes run to {given}; those that training began with to {known}, '
      'and data.preprocess does not reorient: doubt what was found'
    )

  def other_depth(self, image, steps):
    """What to say of a picture of other bits than the training's; '' if none.

    steps: names of data.preprocess, of which some bring values to a range.
    """
    given, known = _BITS.get(str(image.dtype)), _BITS.get(self.stored)
    if _RELATIVE & steps or not given or not known or given == known:
      return ''
    return (
      f'stored with {given} bits a value; training began with {known}, and '
      'data.preprocess takes values as they are: doubt what was found'
    )

  def check(self, name, image, *, one_size=False):
    """Raises ValueError for an image (*s, C) that a model knows nothing about.

    one_size: images were learnt from as they are, so that all had one size.
    """
    *shape, channels = np.shape(image)
    if len(shape) != self.rank:
      raise ValueError(
        f'{name} has {len(shape)} spatial axes, the model was trained on '
        f'{self.rank}'
      )
    if channels != self.channels:
      raise ValueError(
        f'{name} has {channels} channels, the model was trained on '
        f'{self.channels}; convert the file'
      )
    if one_size and self.shape and tuple(shape) != self.shape:
      found, known = (' × '.join(map(str, s)) for s in (shape, self.shape))
      raise ValueError(
        f'{name} is of {found}, and all that the model was trained on of '
        f'{known}: bring it to that size, or train with resize in '
        'data.preprocess'
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


def alike(folds):
  """The facts of the folds of a data set, whose models have one form.

  What is measured of its training cases stays that of each.
  """
  further = {}
  for facts in folds:
    pairs = zip(facts.further_images, facts.further_channels, strict=True)
    further |= dict(pairs)
  form = {name: getattr(folds[0], name) for name in _FORM}
  form['causes'] = max(facts.causes for facts in folds)
  form['further_images'] = tuple(sorted(further))
  form['further_channels'] = tuple(further[name] for name in sorted(further))
  return [dataclasses.replace(facts, **form) for facts in folds]


def _runs_to(case):
  """Where the axes of a volume run to; '' of others, or if it is not known."""
  affine = case.get('affine')
  if 'image' not in case or np.shape(affine) != (4, 4):
    return ''
  codes = orientation_of(affine)
  return '' if '?' in codes else codes


def _check(facts):
  """Raises TypeError for a field that is of another type than it says."""
  for name, kind in typing.get_type_hints(DataFacts).items():
    if not _is(getattr(facts, name), kind):
      raise TypeError(f'{name} is {getattr(facts, name)!r}')
  if facts.rank not in (0, 2, 3) or facts.channels < bool(facts.rank):
    raise TypeError(f'{facts.channels} channels, {facts.rank} axes')


def _is(value, kind):
  """Whether a value is of a type, as JSON has it: 1 may stand for 1.0."""
  if typing.get_origin(kind) is tuple:
    inner, _ = typing.get_args(kind)
    return isinstance(value, tuple) and all(_is(v, inner) for v in value)
  if options := typing.get_args(kind):  # X | None
    return any(_is(value, each) for each in options)
  if kind is float:
    return isinstance(value, int | float)
  return isinstance(value, kind) and not isinstance(value, bool)


def _foreground(cases, *, drawn=10_000):
  """(mean, std, 0.5 %, 99.5 %) of the labelled voxels of each channel.

  As nnU-Net: at most `drawn` voxels of a case, by a fixed seed.
  """
  rng, found = np.random.default_rng(1234), []
  for case in cases:
    voxels = case['image'][case['mask'] > 0] if 'mask' in case else ()
    if len(voxels):
      found.append(rng.choice(voxels, min(drawn, len(voxels)), replace=False))
  if not found:
    raise ValueError('no training case has a labelled voxel to normalise CT by')
  voxels = np.concatenate(found).astype(np.float64)
  low, high = np.percentile(voxels, (0.5, 99.5), axis=0)
  rows = zip(voxels.mean(0), voxels.std(0), low, high, strict=True)
  return tuple(tuple(map(float, row)) for row in rows)


def _further(cases, case):
  """{name: channels} of the images that cases have besides the first.

  Of a folder each is looked for until a case has it; of a set the first is
  asked.
  """
  first = {}
  for i, entry in enumerate(getattr(cases, 'entries', ())):
    for name in entry.others:
      first.setdefault(name, i)
  found = {name: cases[i] for name, i in sorted(first.items())}
  for name in case:
    if f'{name}_affine' in case:
      found.setdefault(name, case)
  return {name: int(np.shape(one[name])[-1]) for name, one in found.items()}


def _column(cases, name):
  """A field of all cases that have it; of a folder without reading images."""
  if entries := getattr(cases, 'entries', None):
    return [e.extra[name] for e in entries if name in e.extra]
  return [case[name] for case in cases if name in case]


def _moments(rows):
  """(mean, standard deviation) of each column; (0, 1) where there is none."""
  found = []
  for column in np.asarray(rows, np.float64).T:
    known = column[~np.isnan(column)]
    spread = float(known.std()) if known.size else 0.0
    mean = float(known.mean()) if known.size else 0.0
    found.append((mean, spread or 1.0))
  return tuple(found)


def _telling(cases, columns):
  """The names of columns that give the label away."""
  names = getattr(cases, 'covariate_names', ())
  if entries := getattr(cases, 'entries', None):
    labels = [e.label for e in entries]
  else:
    labels = [case.get('label') for case in cases]
  if len(labels) != len(columns) or any(x is None for x in labels):
    return ()
  if len(names) != np.shape(columns)[-1]:
    return ()
  return tuple(name for name, _ in telling.columns(columns, labels, names))


def _events(time, event):
  """Quantiles of the times of events, () without any; the number of causes."""
  time, event = np.asarray(time, np.float64), np.asarray(event)
  seen = time[event > 0]
  if not seen.size:
    return (), 1
  levels = np.linspace(0, 1, _QUANTILES)
  return tuple(map(float, np.quantile(seen, levels))), int(event.max())


def _frozen(value):
  if isinstance(value, list | tuple):
    return tuple(_frozen(v) for v in value)
  return value
