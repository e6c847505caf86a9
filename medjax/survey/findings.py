"""What is wrong or odd in a data set, from the facts of its cases."""

import collections
import dataclasses

import numpy as np
from scipy import stats

from medjax.survey import duplicates

LEVELS = ('error', 'warning', 'note')
_RARE = 0.05  # share of a class below which it is called rare
_COARSE = 10.0  # ratio of the largest to the smallest spacing
_SCALES = 20.0  # ratio of the standard deviations of images
_SHIFT = 0.05  # difference of a class's share between splits


@dataclasses.dataclass(frozen=True)
class Finding:
  """What is wrong or odd, in a sentence, with the cases it was seen in."""

  level: str
  text: str
  examples: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Twins:
  """Pairs of indices into the cases that show the same image.

  exact: the same values; near: alike (`duplicates.near`).
  """

  exact: np.ndarray
  near: np.ndarray
  correlation: np.ndarray
  complete: bool


def find_twins(cases):
  """Exact and near duplicates among the facts of cases.

  An image is paired with the first of its exact copies in each split; of near
  duplicates all pairs are kept.
  """
  exact = []
  for group in duplicates.exact([c.digest for c in cases]):
    if not cases[group[0]].thumbnail.any():
      continue  # constant images are reported as such
    first = {}
    for j in group:
      exact += [(i, j) for i in first.values()]
      first.setdefault(cases[j].split, j)
  shapes = collections.Counter(c.thumbnail.shape for c in cases)
  common = shapes.most_common(1)[0][0]
  places = [i for i, c in enumerate(cases) if c.thumbnail.shape == common]
  found = duplicates.near(np.stack([cases[i].thumbnail for i in places]))
  pairs = np.array(places)[found.indices].reshape(-1, 2)
  same = np.array([cases[i].digest == cases[j].digest for i, j in pairs], bool)
  return Twins(
    np.array(exact, int).reshape(-1, 2),
    pairs[~same],
    found.correlation[~same],
    found.complete,
  )


# What is wrong.


def findings(surveyed, twins):
  """Everything noteworthy, the gravest first."""
  cases = surveyed.read
  found = [
    *_unreadable(surveyed.cases),
    *_patients(cases),
    *_duplicates(cases, twins),
    *_conflicts(cases, twins, surveyed.label_names),
    *_flat(cases),
    *_intensities(cases),
    *_geometry(cases),
    *_labels(surveyed),
  ]
  return sorted(found, key=lambda f: LEVELS.index(f.level))


def _unreadable(cases):
  bad = [c for c in cases if c.problem]
  if bad:
    yield Finding(
      'error',
      f'{count(len(bad), "case")} cannot be read.',
      tuple(f'{c.split}, case {c.index}: {c.problem}' for c in bad),
    )


def _patients(cases):
  places = collections.defaultdict(dict)
  for c in cases:
    places[c.patient].setdefault(c.split, c.id)
  shared = [p for p in places.values() if len(p) > 1]
  if shared:
    yield Finding(
      'error',
      f'{count(len(shared), "patient")} in more than one split: a model may '
      'know a patient again. Split by patient.',
      tuple(
        '; '.join(f'{split}: {id_}' for split, id_ in p.items()) for p in shared
      ),
    )
  if not has_patients(cases):
    yield Finding(
      'note',
      'No patients are named: every image counts as one of its own, and a '
      'patient in two splits cannot be seen.',
    )


def _duplicates(cases, twins):
  for kind, pairs in (('exact', twins.exact), ('near', twins.near)):
    exactly = kind == 'exact'
    across = collections.defaultdict(list)
    within = []
    for i, j in pairs:
      a, b = cases[i], cases[j]
      if a.split == b.split:
        within.append(f'{a.split}: {a.id} = {b.id}')
      else:
        across[a.split, b.split].append((i, j))
    for (first, second), found in across.items():
      # The later split is the one that is measured on.
      again = len({j for _, j in found})
      verb = 'is' if again == 1 else 'are'
      what = f'{count(again, "image")} of {second} {verb}'
      yield Finding(
        'error' if exactly else 'warning',
        f'{what} also in {first}.'
        if exactly
        else f'{what} much like one of {first} ({_limit(cases)}).',
        tuple(f'{cases[i].id} = {cases[j].id}' for i, j in found),
      )
    if within:
      yield Finding(
        'note',
        f'{count(len(within), "pair")} of '
        f'{"the same image" if exactly else "images that look alike"} within '
        'a split.',
        tuple(within),
      )
  if not twins.complete:
    yield Finding(
      'warning',
      'There are more near duplicates than are kept; the most alike are.',
    )


def _limit(cases):
  limit = duplicates.threshold(len(cases), len(cases[0].shape))
  return f'correlation ≥ {limit}'


def _conflicts(cases, twins, names):
  for kind, pairs in (('exact', twins.exact), ('near', twins.near)):
    labels = [
      (cases[i], cases[j]) for i, j in pairs if cases[i].label != cases[j].label
    ]
    if labels:
      yield Finding(
        'error' if kind == 'exact' else 'warning',
        f'{count(len(labels), "pair")} of {kind} duplicates with different '
        'labels.',
        tuple(
          f'{a.id} ({named(a.label, names)}) = {b.id} ({named(b.label, names)})'
          for a, b in labels
        ),
      )
  masks = [
    f'{cases[i].id} = {cases[j].id}'
    for i, j in twins.exact
    if cases[i].mask_digest != cases[j].mask_digest
  ]
  if masks:
    yield Finding(
      'error',
      f'{count(len(masks), "pair")} of exact duplicates with different masks.',
      tuple(masks),
    )


def _flat(cases):
  constant = [c for c in cases if (c.low == c.high).all()]
  if constant:
    yield Finding(
      'error',
      f'{count(len(constant), "image")} constant: nothing is on them.',
      tuple(f'{c.split}: {c.id}, all {c.low[0]:g}' for c in constant),
    )
  partly = [
    c for c in cases if (c.low == c.high).any() and not (c.low == c.high).all()
  ]
  if partly:
    yield Finding(
      'warning',
      f'{count(len(partly), "image")} with a constant channel.',
      tuple(f'{c.split}: {c.id}' for c in partly),
    )


def _intensities(cases):
  channels = cases[0].channels
  levels = np.array([c.deviation for c in cases if c.channels == channels])
  for k, values in enumerate(levels.T):
    values = values[values > 0]
    low, middle, high = np.percentile(values if len(values) else 0, (1, 50, 99))
    if high > _SCALES * low > 0:
      of = f' in channel {k}' if channels > 1 else ''
      yield Finding(
        'warning',
        f'Images have different scales{of}: standard deviations from '
        f'{low:.3g} (1 %) over {middle:.3g} to {high:.3g} (99 %). Normalise '
        "each by itself ('zscore').",
      )


def _geometry(cases):
  kinds = collections.Counter((len(c.shape), c.channels) for c in cases)
  if len(kinds) > 1:
    said = ', '.join(
      f'{n} of {rank}-D with {count(channels, "channel")}'
      for (rank, channels), n in kinds.most_common()
    )
    yield Finding('error', f'Images of different kinds: {said}.')
  volumes = [c for c in cases if len(c.shape) == 3]
  if not volumes:
    return
  spacing = np.array([c.spacing for c in volumes])
  for level, which, text in (
    ('error', (spacing <= 0).any(1), 'with a spacing of 0 mm'),
    (
      'warning',
      spacing.max(1) > _COARSE * np.maximum(spacing.min(1), 1e-9),
      f'with an axis more than {_COARSE:g} times as coarse as another',
    ),
  ):
    if which.any():
      yield Finding(
        level,
        f'{count(int(which.sum()), "volume")} {text}.',
        tuple(
          f'{c.split}: {c.id}, {times(c.spacing)} mm'
          for c, odd in zip(volumes, which, strict=True)
          if odd
        ),
      )
  ones = (spacing == 1).all(1)
  if ones.any():
    yield Finding(
      'note',
      f'{count(int(ones.sum()), "volume")} of {len(volumes):,} with a spacing '
      'of exactly 1 mm everywhere: resampled to it, or a header that lost it.',
    )
  low, high = spacing.min(0), spacing.max(0)
  if (high > 2 * np.maximum(low, 1e-9)).any():
    yield Finding(
      'warning',
      f'Spacing differs between volumes, from {times(low)} to {times(high)} '
      'mm: resample (medjax.plan says to what).',
    )
  codes = collections.Counter(c.orientation for c in volumes)
  if len(codes) > 1:
    said = ', '.join(f'{n} {code}' for code, n in codes.most_common(6))
    yield Finding(
      'warning',
      f"Orientations differ ({said}): begin data.preprocess with 'reorient'.",
    )


def _labels(surveyed):
  cases, names = surveyed.read, shown_classes(surveyed)
  table = count_classes(surveyed)
  totals = np.sum([*table.values()], 0)
  nowhere = [k for k in range(len(names)) if not totals[k]]
  if nowhere:
    yield Finding('error', f'No case shows {_some(nowhere, names)}.')
  for split, counts in table.items():
    lacking = [
      k for k in range(len(names)) if not counts[k] and k not in nowhere
    ]
    if lacking:
      yield Finding('error', f'{split} has no case of {_some(lacking, names)}.')
  if surveyed.masks:
    yield from _masks(cases)
  if surveyed.labelled:
    of_labels = len(surveyed.label_names)
    labels = {split: counts[:of_labels] for split, counts in table.items()}
    yield from _balance(cases, labels, surveyed.label_names)


def _some(classes, names):
  few = ', '.join(str(names[k]) for k in classes[:8])
  more = f' and {len(classes) - 8} more' if len(classes) > 8 else ''
  return f'{few}{more}'


def _masks(cases):
  empty = [c for c in cases if c.voxels is not None and len(c.voxels) < 2]
  empty += [
    c
    for c in cases
    if c.voxels is not None and len(c.voxels) > 1 and not c.voxels[1:].any()
  ]
  if empty:
    yield Finding(
      'warning',
      f'{count(len(empty), "mask")} without any label.',
      tuple(f'{c.split}: {c.id}' for c in empty),
    )
  full = [c for c in cases if c.voxels is not None and not c.voxels[0]]
  if full:
    yield Finding(
      'warning',
      f'{count(len(full), "mask")} without background.',
      tuple(f'{c.split}: {c.id}' for c in full),
    )
  counts = sum(
    np.pad(c.voxels, (0, 256))[:256] for c in cases if c.voxels is not None
  )
  share = counts[1:].sum() / counts.sum()
  if 0 < share < 0.01:
    yield Finding(
      'note',
      f'{share:.2%} of all voxels are labelled: sample patches around them '
      '(data.foreground).',
    )


def _balance(cases, table, names):
  """Rare classes, and shares that differ between splits by more than chance."""
  sizes = collections.Counter(c.split for c in cases)
  shares = {s: np.array(counts) / sizes[s] for s, counts in table.items()}
  total = np.sum([*table.values()], 0) / len(cases)
  rare = [
    f'{n} ({share:.1%})'
    for n, share in zip(names, total, strict=True)
    if 0 < share < _RARE
  ]
  if rare:
    yield Finding(
      'warning',
      f'Rare classes: {", ".join(rare)}. Weigh them (task.class_weights), and '
      'read balanced scores.',
    )
  many = max(total)
  if not rare and len(names) == 2 and many > 0.7:
    yield Finding(
      'note',
      f'{many:.0%} of the images are {names[int(np.argmax(total))]}: always '
      f'saying so has that accuracy.',
    )
  first = next(iter(table))
  for split in list(table)[1:]:
    moved = []
    for k, name in enumerate(names):
      a, b = table[first][k], table[split][k]
      square = [[a, sizes[first] - a], [b, sizes[split] - b]]
      apart = abs(shares[first][k] - shares[split][k]) > _SHIFT
      tested = apart and np.sum(square, 0).all()
      if tested and stats.chi2_contingency(square).pvalue < 1e-3:
        moved.append(
          f'{name} {shares[first][k]:.0%} and {shares[split][k]:.0%}'
        )
    if moved:
      yield Finding(
        'warning',
        f'{first} and {split} are mixed differently: {", ".join(moved[:4])}. '
        'A threshold chosen on one may not suit the other.',
      )


# Counts and words.


def has_patients(cases):
  """Whether any case names a patient other than itself."""
  return any(c.patient != c.id for c in cases)


def count(n, noun):
  """'1 image', '1,024 images'."""
  return f'{n:,} {noun}{"" if n == 1 else "s"}'


def times(values):
  """'28 × 28'."""
  return ' × '.join(f'{v:.4g}' for v in values)


def named(label, names):
  """The names of a class index or a tuple of them."""
  if label is None:
    return 'none'
  return ', '.join(names[k] for k in np.atleast_1d(label)) or 'none'


def shown_classes(surveyed):
  """Names of all classes to count: of labels, and of masks but background."""
  return [*surveyed.label_names, *surveyed.mask_names[1:]]


def count_classes(surveyed):
  """{split: cases (K,) that have each of `shown_classes`}."""
  of_labels = len(surveyed.label_names)
  total = len(shown_classes(surveyed))
  table = {}
  for case in surveyed.read:
    counts = table.setdefault(case.split, [0] * total)
    if case.label is not None:
      for k in np.atleast_1d(case.label):
        counts[int(k)] += 1
    if case.voxels is not None:
      for k in np.flatnonzero(case.voxels[1:]):
        counts[of_labels + int(k)] += 1
  return table
