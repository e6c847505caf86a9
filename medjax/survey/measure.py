"""What a data set is like: every case is read once, facts are kept.

`survey` measures the cases of all splits, one at a time, and keeps a few
hundred numbers of each; `fingerprint` sums them up as a dict for JSON, which
`medjax.plan` reads. Splits whose name begins with 'test' are surveyed but leave
no trace in the fingerprint.
"""

import ast
import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import json
import pathlib
import sys

import numpy as np

from medjax import cli, prepare
from medjax.build import closest
from medjax.config import default_config
from medjax.data import builders, folder, records, remote
from medjax.data.formats.volume import orientation_of
from medjax.survey import duplicates

PERCENTILES = (0.5, 50.0, 99.5)
# Values kept of the foreground of all cases together, an equal share of each.
_VALUES = 2_000_000
_LEVELS = np.linspace(0, 1, 33)  # quantiles kept of every whole image
_SORTED = 1_000_000  # voxels of one case that are sorted for quantiles
# A CT in Hounsfield units holds air (-1000); nothing else goes so far down.
_AIR = -500


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """Raw cases by split, and what is said of them beforehand.

  `config` holds the fields of config.data that open the same cases.
  `modalities` has one name per channel, or none.
  """

  name: str
  splits: dict
  class_names: tuple[str, ...] = ()
  modalities: tuple[str, ...] = ()
  config: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """The facts of one case; arrays are per axis (n,) or per channel (C,).

  label: class index or tuple of indices (multi-label), or None.
  cropped: shape of the bounding box of the voxels above 0.
  low, high, mean, deviation: of the whole image (C,).
  levels: quantiles `_LEVELS` of the whole image (C, 33).
  foreground: evenly spaced quantiles (C, m) of the labelled voxels, of all
    voxels where there is no mask, and (C, 0) where nothing is labelled.
  moments: mean and mean square of the same voxels (2, C).
  voxels: of each label of the mask (K,), or None.
  problem: why it cannot be read, else ''; then the rest is empty.
  """

  split: str
  index: int
  id: str = ''
  patient: str = ''
  label: object = None
  shape: tuple[int, ...] = ()
  channels: int = 0
  spacing: tuple[float, ...] = ()
  orientation: str = ''
  modality: str = ''
  cropped: tuple[int, ...] = ()
  low: np.ndarray | None = None
  high: np.ndarray | None = None
  mean: np.ndarray | None = None
  deviation: np.ndarray | None = None
  levels: np.ndarray | None = None
  foreground: np.ndarray | None = None
  moments: np.ndarray | None = None
  voxels: np.ndarray | None = None
  digest: bytes = b''
  mask_digest: bytes = b''
  thumbnail: np.ndarray | None = None
  problem: str = ''


@dataclasses.dataclass(frozen=True)
class Survey:
  """A source and the facts of its cases, in order."""

  source: Source
  cases: list[Case]

  @property
  def read(self):
    """The cases that could be read."""
    return [case for case in self.cases if not case.problem]

  @property
  def masks(self):
    """Whether the cases have masks."""
    return any(case.voxels is not None for case in self.cases)

  @property
  def labelled(self):
    """Whether the cases have labels; then the class names are theirs."""
    return any(case.label is not None for case in self.cases)

  @property
  def label_names(self):
    """Names of the classes of images; () where they have no label."""
    if not self.labelled:
      return ()
    labels = [np.atleast_1d(c.label) for c in self.read if c.label is not None]
    count = 1 + max((int(k) for label in labels for k in label), default=-1)
    return _filled(self.source.class_names, count, 'class')

  @property
  def mask_names(self):
    """Names of what masks show, background first; () without masks."""
    if not self.masks:
      return ()
    count = max(len(c.voxels) for c in self.read if c.voxels is not None)
    names = self.source.class_names
    if self.labelled or not names:
      names = ('background',)
    return _filled(names, count, 'label')


def _filled(names, count, kind):
  return (*names, *(f'{kind} {k}' for k in range(len(names), count)))


# Where the cases come from.


def open_source(
  name, *, data_dir=None, manual_dir=None, options=None, modalities=()
):
  """The `Source` of a data set of datasets/, prepared if need be, or a folder.

  A name that a builder has is that data set; './name' is always a folder.
  `options` are fields of config.data that say how to read the folder. Raises
  ValueError or FileNotFoundError that says what there is.
  """
  path = pathlib.Path(name).expanduser()
  try:
    builders.find(str(name))
    known = None
  except (ValueError, FileNotFoundError) as e:
    known = e
  if known is None:
    source = _prepared(str(name), data_dir, manual_dir)
  elif path.exists():
    source = _folder(path, options or {})
  else:
    raise FileNotFoundError(f'{known}; nor is there a folder {name}')
  if not any(len(cases) for cases in source.splits.values()):
    raise ValueError(f'{name}: has no cases')
  return dataclasses.replace(
    source, modalities=tuple(modalities) or source.modalities
  )


def _prepared(name, data_dir, manual_dir):
  target = prepare.prepare(name, data_dir=data_dir, manual_dir=manual_dir)
  if remote.is_remote(target):
    target = records.dataset_dir(name, data_dir)
  about = records.info_of(target)
  channels = [
    note.partition(':')[2].split(',')
    for note in about['notes']
    if note.startswith('channels:')
  ]
  config = {'name': name}
  if data_dir:
    config['data_dir'] = str(data_dir)
  return Source(
    name=name,
    splits={s: records.Cases(name, s, target) for s in about['splits']},
    class_names=about['class_names'],
    modalities=tuple(c.strip() for c in itertools.chain(*channels)),
    config=config,
  )


def _folder(path, options):
  splits = folder.open_splits(path, **options)
  first = next(iter(splits.values()))
  return Source(
    name=path.resolve().name,
    splits=splits,
    class_names=tuple(first.class_names),
    modalities=_declared(path / 'dataset.json'),
    config={'name': 'folder', 'path': str(path), **options},
  )


def _declared(path):
  """The modalities in a dataset.json of the Decathlon or of nnU-Net."""
  if not path.is_file():
    return ()
  try:
    about = json.loads(path.read_text(encoding='utf-8'))
    names = about.get('channel_names') or about.get('modality') or {}
    return tuple(str(names[k]) for k in sorted(names, key=int))
  except (ValueError, AttributeError, TypeError) as e:
    raise ValueError(f'{path}: not the dataset.json of a task ({e})') from None


def parse_arguments(parser, argv=None):
  """Parses a command line that says where cases come from.

  Fields of config.data, as in --config.data.table=cases.csv, are collected in
  `options`; one that a config does not have is an error.
  """
  parser.add_argument(
    '--data_dir', help='prepared sets [$MEDJAX_DATA_DIR or ~/medjax_data]'
  )
  parser.add_argument('--manual_dir', help='files at hand, for preparing')
  parser.add_argument(
    '--modality', help='CT, or MRI, …; of several channels: CT,PT'
  )
  parser.add_argument(
    '--config.data.…', metavar='', help='how to read a folder, as in training'
  )
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args, rest = parser.parse_known_args(argv)
  with cli.one_line_errors():
    args.options = _options(rest)
  return args


def _options(arguments):
  """{field: value} of arguments like --config.data.table=cases.csv."""
  data = default_config().data
  options = {}
  for argument in arguments:
    name, equals, text = argument.partition('=')
    field = name.removeprefix('--config.data.')
    if field == name or not equals:
      raise ValueError(
        f'unknown argument {argument!r}; fields of the config are set by '
        '--config.data.FIELD=VALUE'
      )
    try:
      value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
      value = text
    *parents, last = field.split('.')
    place, known = options, data
    for parent in parents:
      place = place.setdefault(parent, {})
      known = known.get(parent, {})
    if last not in known:
      raise ValueError(f'no config field data.{field}{closest(last, known)}')
    place[last] = value
  return options


def from_arguments(args):
  """The `Source` that a command line names."""
  return open_source(
    args.name,
    data_dir=args.data_dir,
    manual_dir=args.manual_dir,
    options=args.options,
    modalities=args.modality.split(',') if args.modality else (),
  )


# Reading.


def survey(source, *, workers=4):
  """Reads every case of all splits once, in threads; shows its progress."""
  total = sum(map(len, source.splits.values()))
  keep = int(np.clip(_VALUES // total, 50, 10_000))
  cases = []
  with (
    _progress(source.name, total) as advance,
    concurrent.futures.ThreadPoolExecutor(workers) as pool,
  ):
    waiting = collections.deque()
    for split, sequence in source.splits.items():
      for index in range(len(sequence)):
        # Few at a time: what waits holds its image.
        if len(waiting) > 4 * workers:
          cases.append(waiting.popleft().result())
          advance()
        waiting.append(pool.submit(measure, sequence, split, index, keep))
    for future in waiting:
      cases.append(future.result())
      advance()
  found = Survey(source, cases)
  if not found.read:
    raise ValueError(
      f'{source.name}: none of {total} cases can be read; the first: '
      f'{cases[0].problem}'
    )
  return found


@contextlib.contextmanager
def _progress(title, total):
  """A bar on a terminal, nothing elsewhere."""
  import rich.console
  import rich.progress

  with rich.progress.Progress(
    *rich.progress.Progress.get_default_columns(),
    rich.progress.MofNCompleteColumn(),
    console=rich.console.Console(stderr=True),
    disable=not sys.stderr.isatty(),
    transient=True,
  ) as progress:
    task = progress.add_task(f'reading {title}', total=total)
    yield lambda: progress.advance(task)


def measure(cases, split, index, keep=1000):
  """The `Case` of cases[index]; a case that cannot be read has a problem."""
  try:
    case = cases[index]
  except (ValueError, OSError) as e:
    return Case(
      split=split, index=index, problem=' '.join(str(e).split())[:500]
    )
  image, mask = case['image'], case.get('mask')
  rank = image.ndim - 1
  flat = image.reshape(-1, image.shape[-1])
  # Sums of a float32 image of 10^8 voxels would lose digits.
  mean = flat.mean(0, dtype=np.float64)
  square = np.array([_mean_square(c) for c in flat.T])
  inside = flat if mask is None else flat[mask.reshape(-1) > 0]
  foreground = np.zeros((flat.shape[1], 0), np.float32)
  moments = np.zeros((2, flat.shape[1]))
  if len(inside):
    levels = (np.arange(keep) + 0.5) / keep
    foreground = _quantiles(inside, levels)
    moments = np.stack(
      [
        inside.mean(0, dtype=np.float64),
        [_mean_square(channel) for channel in inside.T],
      ]
    )
  label = case.get('label')
  if label is not None:
    label = (
      int(label)
      if np.ndim(label) == 0
      else tuple(map(int, np.flatnonzero(label)))
    )
  return Case(
    split=split,
    index=index,
    id=case['id'],
    patient=case['patient'],
    label=label,
    shape=image.shape[:-1],
    channels=image.shape[-1],
    spacing=tuple(map(float, case['spacing'])),
    orientation=orientation_of(case['affine']) if rank == 3 else '',
    modality=case.get('modality', ''),
    cropped=_box(image),
    low=flat.min(0),
    high=flat.max(0),
    mean=mean,
    deviation=np.sqrt(np.maximum(square - mean**2, 0)),
    levels=_quantiles(flat, _LEVELS),
    foreground=foreground,
    moments=moments,
    voxels=None if mask is None else np.bincount(mask.reshape(-1)),
    digest=duplicates.digest(image),
    mask_digest=b'' if mask is None else duplicates.digest(mask),
    thumbnail=duplicates.thumbnail(image).astype(np.float16),
  )


def _mean_square(values):
  """In pieces: a float64 copy of a whole volume would be the largest array."""
  total = 0.0
  for start in range(0, len(values), 2**20):
    part = values[start : start + 2**20].astype(np.float64)
    total += part @ part
  return total / len(values)


def _quantiles(values, levels):
  """Quantiles (C, m) of values (voxels, C), of every k-th if there are many."""
  step = -(-len(values) // _SORTED)
  some = np.sort(values[::step].astype(np.float32), axis=0)
  place = np.clip(np.rint(levels * (len(some) - 1)), 0, len(some) - 1)
  return some[place.astype(int)].T


def _box(image):
  """Shape of the bounding box of image > 0, as `crop_foreground` cuts it."""
  inside = (image > 0).any(-1)
  shape = []
  for axis in range(inside.ndim):
    others = tuple(a for a in range(inside.ndim) if a != axis)
    (found,) = np.nonzero(inside.any(others))
    shape.append(int(found[-1] - found[0] + 1) if len(found) else 0)
  return tuple(shape) if all(shape) else inside.shape


# Summing up.


def fingerprint(surveyed):
  """What planning needs to know of the data, as a dict for JSON.

  Axes are in the order of the file; of volumes whose orientations differ, in
  that of RAS, as `reorient` brings them there ('reoriented' says so).
  Intensities are those of labelled voxels ('image': all voxels, without a
  mask), every case with the same weight: mean and standard deviation exactly,
  percentiles from evenly spaced quantiles of each case. 'geometries' lists
  each shape, its box above 0 and spacing once, with the number of cases.
  """
  cases = [c for c in surveyed.read if not is_test(c.split)]
  cases = cases or surveyed.read
  rank, channels = len(cases[0].shape), cases[0].channels
  cases = [c for c in cases if (len(c.shape), c.channels) == (rank, channels)]
  turned = len({c.orientation for c in cases}) > 1
  geometries = collections.Counter(_geometry(c, turned) for c in cases)
  shapes, boxes, spacings = (
    np.array([g[i] for g in geometries.elements()], float) for i in range(3)
  )
  low = min(float(c.low.min()) for c in cases)
  shrunk = float(np.median(boxes.prod(1) / shapes.prod(1)))
  median = np.median(spacings, 0)
  voxels = None
  if surveyed.masks:
    voxels = np.zeros(len(surveyed.mask_names), int)
    for case in cases:
      if case.voxels is not None:
        voxels[: len(case.voxels)] += case.voxels
  guessed, modalities = modality_of(surveyed, cases)
  return {
    'source': {'title': surveyed.source.name, **surveyed.source.config},
    'splits': {
      split: len(sequence) for split, sequence in surveyed.source.splits.items()
    },
    'cases': len(cases),
    'patients': len({c.patient for c in cases}),
    'rank': rank,
    'channels': channels,
    'modality': list(modalities),
    'modality_guessed': guessed,
    'classes': list(surveyed.mask_names or surveyed.label_names),
    'labelled': surveyed.labelled,
    'class_voxels': None if voxels is None else voxels.tolist(),
    'reoriented': turned,
    'spacing': _spread(spacings),
    'shape': _spread(shapes),
    'shape_resampled': _spread(np.rint(shapes * spacings / median)),
    'zero_background': low >= 0,
    'box_share': shrunk,
    'intensity_of': 'foreground' if surveyed.masks else 'image',
    'intensity': _intensity(cases, channels),
    'geometries': [
      {'shape': shape, 'box': box, 'spacing': spacing, 'cases': count}
      for (shape, box, spacing), count in sorted(geometries.items())
    ],
  }


def is_test(split):
  """Whether a split is set aside, and so none of planning's business."""
  return split.startswith('test')


def _geometry(case, turned):
  axes = range(len(case.shape))
  if turned:
    # The axis that runs right or left first, then to the front, then up.
    ends = ('RL', 'AP', 'SI')
    if '?' not in case.orientation:
      axes = [
        next(i for i, code in enumerate(case.orientation) if code in end)
        for end in ends
      ]
  return tuple(
    tuple(values[a] for a in axes)
    for values in (
      case.shape,
      case.cropped,
      [round(s, 9) for s in case.spacing],
    )
  )


def _spread(values):
  names = ('minimum', 'percentile_10', 'median', 'percentile_90', 'maximum')
  found = np.percentile(values, (0, 10, 50, 90, 100), axis=0)
  return dict(zip(names, found.tolist(), strict=True))


def _intensity(cases, channels):
  """Per channel: minimum, mean, std and percentiles; None without voxels."""
  held = [c for c in cases if c.foreground.shape[1]]
  if not held:
    return None
  summary = []
  for k in range(channels):
    mean, square = np.mean([c.moments[:, k] for c in held], 0)
    pooled = np.concatenate([c.foreground[k] for c in held])
    percentiles = np.percentile(pooled, PERCENTILES).tolist()
    summary.append(
      {
        'mean': float(mean),
        'std': float(np.sqrt(max(square - mean**2, 0))),
        'percentile_00_5': percentiles[0],
        'median': percentiles[1],
        'percentile_99_5': percentiles[2],
      }
    )
  return summary


def modality_of(surveyed, cases):
  """(whether it is a guess, one name per channel: 'CT', 'MRI', … or '')."""
  channels = cases[0].channels
  said = surveyed.source.modalities
  if not said and len({c.modality for c in cases}) == 1:
    said = (cases[0].modality,) if cases[0].modality else ()
  if len(said) == 1:
    said = said * channels
  if said:
    if len(said) != channels:
      raise ValueError(
        f'{surveyed.source.name}: {len(said)} modalities '
        f'({", ".join(said)}) for {channels} channels'
      )
    return False, said
  air = np.mean([c.low <= _AIR for c in cases], 0) > 0.5
  return bool(air.any()), tuple('CT' if a else '' for a in air)
