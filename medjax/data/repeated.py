"""Which cases of a split show an image that training has seen."""

import functools

from medjax import progress
from medjax.data import duplicates

MOST = 2**30  # bytes of images that are read again for it


def places(train, other):
  """Places among `other` raw cases of images that are one of `train`, nearly.

  As `duplicates.find_twins` has it: exactly, or much alike. None where it was
  not looked for, as there are no images, or too many: more than `MOST` bytes.
  """
  first = train[0].get('image')
  if first is None or first.nbytes * (len(train) + len(other)) > MOST:
    return None
  seen, of_other = [], []
  with progress.bar('looking for copies', len(train) + len(other)) as advance:
    for split, cases in (('train', train), ('other', other)):
      for i in range(len(cases)):
        if 'image' in (case := cases[i]):
          seen.append(duplicates.Seen.of(case['image'], split))
          of_other.append(i if split == 'other' else None)
        advance()
  twins = duplicates.find_twins(seen)
  pairs = [sorted(map(int, pair)) for pair in (*twins.exact, *twins.near)]
  found = {of_other[b] for a, b in pairs if of_other[a] is None}
  return sorted(found - {None})


@functools.lru_cache(maxsize=1)  # members of an ensemble have the same cases
def _of_test(cases):
  return places(cases('train'), cases('test'))


def mark(rows, cases):
  """Tells the rows of test cases, where it is known, if they are `repeated`.

  `cases` gives the raw cases of a split.
  """
  found = _of_test(cases)
  for row in rows if found is not None else ():
    row['repeated'] = row['case'] in found


def summarize(task, rows, calibration, *, seed):
  """What metrics.json says of cases whose image training has seen."""
  if not rows or any('repeated' not in row for row in rows):
    return {}
  rest = [row for row in rows if not row['repeated']]
  found = {'n': len(rows) - len(rest)}
  if found['n'] and rest:
    summary = task.summarize(rest, calibration=calibration, seed=seed)
    kept = ('n', 'patients', 'scores', 'intervals')
    found['without'] = {name: summary[name] for name in kept}
  return {'repeated': found}
