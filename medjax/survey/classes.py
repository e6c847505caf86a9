"""How often each class occurs, and what is odd about that."""

import collections

import numpy as np
from scipy import stats

from medjax.survey.finding import Finding, count

_RARE = 0.05  # share of a class below which it is called rare
_SHIFT = 0.05  # difference of a class's share between splits


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


def about_classes(surveyed):
  """Findings about the classes of labels and masks."""
  cases, names = surveyed.read, shown_classes(surveyed)
  table = count_classes(surveyed)
  totals = np.sum([*table.values()], 0)
  nowhere = [k for k in range(len(names)) if not totals[k]]
  if nowhere:
    yield Finding('error', f'No case shows {_some(nowhere, names)}.')
  told = [c for c in cases if c.label is not None or c.voxels is not None]
  for split, counts in table.items():
    if all(c.split != split for c in told):
      what = 'has no masks or labels: nothing scores it'
      yield Finding('note', f'{split} {what}.')
      continue
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


def _some(classes, names):
  few = ', '.join(str(names[k]) for k in classes[:8])
  more = f' and {len(classes) - 8} more' if len(classes) > 8 else ''
  return f'{few}{more}'
