"""Which cases are whose: sites by a column, by patient, or drawn."""

import re

import numpy as np

from medjax.data import groups

_FEWEST = 10  # training patients of a site that is drawn
_DRAWN = re.compile(r'dirichlet\(\s*([0-9.]+|inf)\s*,\s*(\d+)\s*\)')
_TRIES = 1000


def divide(cases, sites, *, seed=0):
  """{split: {site: places}} of the cases of a data set.

  cases: split → its cases. sites: a column of the table, a field of the set or
  what a DICOM header says of 'site'; 'patient'; or 'dirichlet(α, K)': K sites
  whose shares of each class are drawn with concentration α (Hsu et al. 2019),
  over patients, the same shares in every split.

  Raises ValueError where cases do not say their site.
  """
  splits = ('train', 'validation', 'test')
  if found := _DRAWN.fullmatch(sites.strip()):
    return _drawn(
      {split: cases(split) for split in splits},
      float(found[1]),
      int(found[2]),
      seed,
    )
  if sites.startswith('dirichlet'):
    raise ValueError(f"--sites={sites}: write 'dirichlet(0.5, 5)': α, sites")
  return {split: _named(cases(split), sites) for split in splits}


def _named(cases, column):
  if column == 'patient':
    names = _patients(cases)
  else:
    try:
      names = [g[column] for g in groups.groups_of(cases, (column,))]
    except ValueError as e:
      raise ValueError(str(e).replace('data.subgroups', '--sites')) from None
  if missing := names.count(groups.UNKNOWN):
    raise ValueError(
      f'--sites={column}: {missing} of {len(names)} cases do not say it; fill '
      'the column in'
    )
  return {
    site: [i for i, name in enumerate(names) if name == site]
    for site in sorted(set(names))
  }


def _patients(cases):
  entries = getattr(cases, 'entries', None)
  if entries is not None:
    return [str(entry.patient) for entry in entries]
  return [str(cases[i]['patient']) for i in range(len(cases))]


def _classes(cases):
  """{patient: (class of the first case, its cases)}; of masks all are one."""
  found = {}
  for i in range(len(cases)):
    case = cases[i]
    label = case.get('label', 0)
    kind = int(label) if np.ndim(label) == 0 else 0
    found.setdefault(str(case['patient']), (kind, []))[1].append(i)
  return found


def _drawn(cases, alpha, count, seed):
  if count < 2 or not alpha > 0:
    raise ValueError('dirichlet(α, K) needs an α above 0 and 2 sites or more')
  patients = {split: _classes(each) for split, each in cases.items()}
  kinds = sorted({kind for kind, _ in patients['train'].values()})
  few = min(_FEWEST, len(patients['train']) // (2 * count))
  rng = np.random.default_rng((seed, count))
  for _ in range(_TRIES):
    shares = {
      kind: np.full(count, 1 / count)
      if np.isinf(alpha)
      else rng.dirichlet(np.full(count, alpha))
      for kind in kinds
    }
    places = _placed(patients['train'], shares, count, seed)
    if min(map(len, places)) >= max(few, 1):
      break
  else:
    raise ValueError(
      f'dirichlet({alpha:g}, {count}): no draw gives each site {few} patients '
      'of training; a larger α, or fewer sites'
    )
  names = [f'site{k + 1:0{len(str(count))}}' for k in range(count)]
  return {
    split: {
      name: sorted(i for places in site for i in places)
      for name, site in zip(
        names, _placed(patients[split], shares, count, seed), strict=True
      )
    }
    for split in cases
  }


def _placed(patients, shares, count, seed):
  """[[the cases of each patient] of each site], by the shares of a class."""
  rng = np.random.default_rng((seed, 1))
  sites = [[] for _ in range(count)]
  for kind in sorted({kind for kind, _ in patients.values()}):
    own = [places for k, places in patients.values() if k == kind]
    share = shares.get(kind, np.full(count, 1 / count))
    ends = np.round(np.cumsum(share) * len(own)).astype(int)
    starts = [0, *ends[:-1]]
    order = rng.permutation(len(own))
    for site, start, end in zip(sites, starts, ends, strict=True):
      site.extend(own[i] for i in order[start:end])
  return sites
