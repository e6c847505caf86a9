"""Splits by patient, labels spread evenly, that stay when cases are added.

The patients of a class are put in an order that only the seed and their names
decide, and cut into runs whose lengths are the splits' shares. So shares are
exact to one patient of each class, and a new patient moves only those that
stand at the ends of a run.
"""

import collections
import dataclasses
import hashlib
import math

from medjax.data.folder.entry import SPLITS


def assigned(entries, has_reference=None, **options):
  """As `assign`; those without labels by statement stay aside.

  With `has_reference`, entry → bool, those that nobody can be judged by are of
  train, but for those of a patient who can: these are of that patient's split.
  """
  known = {}  # patient → a stated split, or ''
  for e in entries:
    if has_reference and has_reference(e):
      known[e.patient] = e.split or known.get(e.patient, '')
  groups = {'divided': [], 'aside': [], 'train': []}
  for e in entries:
    if e.split == 'unlabelled':
      kind = 'aside'
    elif not has_reference or e.split:
      kind = 'divided'
    elif e.patient in known:
      kind, e = 'divided', dataclasses.replace(e, split=known[e.patient])
    else:
      kind = 'train'
    groups[kind].append(e)
  train = [dataclasses.replace(e, split='train') for e in groups['train']]
  return [*assign(groups['divided'], **options), *groups['aside'], *train]


def assign(entries, *, seed, fractions, folds):
  """Gives every entry a split.

  Without `folds` they are train, validation and test, by the `fractions` of
  patients; with them fold0, fold1, …. Splits that are stated already stay: only
  train is divided then, into folds, or to give a validation split where there
  is none. Raises ValueError for a class that has fewer patients than folds.
  """
  stated = {e.split for e in entries} - {''}
  if stated and any(not e.split for e in entries):
    odd = next(e for e in entries if not e.split)
    raise ValueError(f'{odd.image}: has no split, though others have')
  if folds:
    shares = {f'fold{i}': 1 / folds for i in range(folds)}
  elif len(fractions) != len(SPLITS):
    raise ValueError(
      f'data.fractions={tuple(fractions)}: needs {len(SPLITS)} numbers, of '
      f'{", ".join(SPLITS)}; 0 for a split that is not wanted'
    )
  else:
    shares = dict(zip(SPLITS, fractions, strict=True))
  if folds < 0 or min(shares.values()) < 0 or sum(shares.values()) <= 0:
    raise ValueError(
      f'data.fractions {tuple(fractions)} and data.folds {folds} must be '
      'positive'
    )
  if not stated:
    return _divided(entries, seed, shares, folds)
  if folds and stated - {'test'} == set(shares):  # as they are
    return entries
  if folds and 'train' not in stated:
    raise ValueError(
      f'data.folds is {folds}, but the cases have splits '
      f'({", ".join(sorted(stated))}) and none is train; leave one out'
    )
  if 'train' not in stated or ('validation' in stated and not folds):
    return entries
  if not folds:
    del shares['test']
  train = [e for e in entries if e.split == 'train']
  rest = [e for e in entries if e.split != 'train']
  return _divided(train, seed, shares, folds) + rest


def strata(entries):
  """{patient: stratum}: of its classes the one that fewest patients have.

  Classes are the labels; where there are none, whether the event came.
  """
  classes = collections.defaultdict(set)
  for e in entries:
    classes[e.patient] |= _classes(e)
  patients = collections.Counter(c for s in classes.values() for c in s)
  return {
    patient: min(own, key=lambda c: (patients[c], c), default='')
    for patient, own in classes.items()
  }


def _classes(entry):
  if isinstance(entry.label, tuple):  # '' is none of them
    found = {f'label {i}' for i, on in enumerate(entry.label) if on > 0}
    return found or {''}
  if entry.label is not None:
    return {entry.label}
  if 'event' in entry.extra:
    return {f'event {entry.extra["event"]}'}
  return set()


def _divided(entries, seed, shares, folds):
  if folds:
    _check_folds(entries, folds)
  place = places(strata(entries), seed, shares)
  return [dataclasses.replace(e, split=place[e.patient]) for e in entries]


def places(strata, seed, shares):
  """{patient: split} of {patient: stratum}, the strata spread evenly.

  shares: {split: its share of the patients}.
  """
  groups = collections.defaultdict(list)
  for patient, stratum in strata.items():
    groups[stratum].append(patient)
  total = sum(shares.values())
  owed = dict.fromkeys(shares, 0.0)  # to each split, over all strata so far
  chosen = {}
  for stratum in sorted(groups):
    patients = sorted(groups[stratum], key=lambda p: _place(seed, p))
    exact = {s: len(patients) * share / total for s, share in shares.items()}
    counts = {s: math.floor(n + 1e-9) for s, n in exact.items()}
    # Whom the remainders go to: the largest; of equal ones who is owed most.
    order = sorted(
      shares,
      key=lambda s: (round(exact[s] - counts[s], 6), round(owed[s], 6)),
      reverse=True,
    )
    for split in order[: len(patients) - sum(counts.values())]:
      counts[split] += 1
    runs = [split for split in shares for _ in range(counts[split])]
    chosen.update(zip(patients, runs, strict=True))
    for split in shares:
      owed[split] += exact[split] - counts[split]
  return chosen


def _place(seed, patient):
  """Where in the order a patient stands: at random, and always there."""
  text = f'{seed}/{patient}'
  return hashlib.sha256(text.encode('utf-8', 'surrogateescape')).digest()


def _check_folds(entries, folds):
  patients = collections.defaultdict(set)
  for e in entries:
    for name in _classes(e) or {''}:
      patients[name].add(e.patient)
  for name, found in sorted(patients.items()):
    if name and len(found) < folds:
      raise ValueError(
        f'class {name!r} has {len(found)} patients, fewer than the {folds} '
        'folds: lower data.folds, or add cases'
      )
  everybody = len({e.patient for e in entries})
  if everybody < folds:
    raise ValueError(
      f'there are {everybody} patients, fewer than the {folds} folds: lower '
      'data.folds, or add cases'
    )
