"""What one split knows of another: patients, copies, neighbouring slices."""

import collections
import itertools
import re

import numpy as np

from medjax.data import duplicates
from medjax.survey.finding import Finding, count, named


def leaks(surveyed, twins):
  """Findings about what lies in two splits, or twice in one."""
  cases = surveyed.read
  yield from _patients(surveyed)
  yield from _duplicates(cases, twins)
  yield from _conflicts(cases, twins, surveyed.label_names)
  yield from _neighbours(cases)


def has_patients(surveyed):
  """Whether patients are named: by the data set's builder, or by any case."""
  if surveyed.source.named is not None:
    return surveyed.source.named
  return any(c.patient != c.id for c in surveyed.read)


def _patients(surveyed):
  cases = surveyed.read
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
  if len(cases) > 1 and not has_patients(surveyed):
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
        else f'{what} much like one of {first} ({_limit(cases)}). '
        "data.group='duplicates' keeps such images in one split.",
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


# Slices.

_NUMBER = re.compile(r'^(.*?)(\d+)(\D*)$')  # the last number of a name
_SLICES = 0.3  # median correlation of consecutive images, if they are slices


def _neighbours(cases):
  """Pictures numbered one after the other that look alike: slices of a volume.

  They do if consecutive ones are alike more than 95 % of pairs drawn at random
  are, after what all images share is taken out.
  """
  pairs = _consecutive(cases)
  across = [(i, j) for i, j in pairs if cases[i].split != cases[j].split]
  if len(pairs) < duplicates.FEW or not across:
    return
  flat = np.stack([c.thumbnail.ravel().astype(np.float32) for c in cases])
  flat -= flat.mean(0)
  flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
  drawn = np.random.default_rng(0).integers(0, len(cases), (2, 1000))
  correlation = lambda i, j: np.einsum('nf,nf->n', flat[i], flat[j])
  alike = np.median(correlation(*np.transpose(pairs)))
  usual = np.percentile(correlation(*drawn[:, drawn[0] != drawn[1]]), 95)
  if alike > max(usual, _SLICES):
    yield Finding(
      'warning',
      f'{count(len(across), "pair")} of neighbouring images in two splits: '
      'images whose numbers follow each other look alike, as slices of one '
      'volume do. Split by volume (data.patient).',
      tuple(
        f'{cases[i].split}: {cases[i].id}; {cases[j].split}: {cases[j].id}'
        for i, j in across
      ),
    )


def _consecutive(cases):
  """Pairs of indices of pictures called x_1 and x_2, of whatever patient."""
  if any(len(c.shape) != 2 for c in cases):
    return []
  places = collections.defaultdict(list)
  for i, case in enumerate(cases):
    if match := _NUMBER.match(case.id.rpartition('/')[2]):
      before, number, after = match.groups()
      places[before, int(number), after].append(i)
  return [
    pair
    for (before, number, after), these in places.items()
    for pair in itertools.product(
      these[:3], places.get((before, number + 1, after), ())[:3]
    )
  ]
