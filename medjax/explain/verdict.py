"""What the tests of a method come to, over all images, in words."""

import numpy as np

from medjax.explain import faithfulness, methods, sanity
from medjax.reports.text import counted


def of_method(name, results, checks):
  """{…} of a method over the results that have it, with its 'verdict'.

  None where none has.
  """
  mine = [r for r in results if name in r.maps]
  if not mine:
    return None
  row = {'method': name, 'title': methods.METHODS[name].title, 'n': len(mine)}
  tests = {k: [r.tests[name].get(k) for r in mine] for k in mine[0].tests[name]}
  for key, values in tests.items():
    known = [v for v in values if v is not None and np.isfinite(v)]
    if not key.endswith('_p'):
      row[key] = float(np.mean(known)) if known else np.nan
  for k, (key, lower) in enumerate((('deletion', True), ('insertion', False))):
    areas = np.stack([r.areas[name][k] for r in mine])
    row[f'{key}_p'] = faithfulness.better(areas, lower=lower)
  row['seconds'] = float(np.mean([r.seconds[name] for r in mine]))
  row |= checks.get(name, {})
  row['verdict'] = '; '.join(_verdict(row))
  return row


def _verdict(row):
  """Sentences, the failures first."""
  failed, passed, open_ = [], [], []
  for part, what in (('top', 'the last layer'), ('all', 'all weights')):
    rho = row.get(part)
    if rho is not None and rho >= sanity.ALIKE:
      failed.append(
        f'FAILS: the map stays alike (rank correlation {rho:.2f}) when {what} '
        f'{"are" if part == "all" else "is"} drawn anew'
      )
  if 'top' in row and not failed:
    if np.isfinite([row['top'], row['all']]).all():
      passed.append('depends on the weights')
    else:
      open_.append('no map to draw anew: not tested against other weights')
  for key in ('deletion', 'insertion'):
    p = row[f'{key}_p']
    if not np.isfinite(p):
      continue
    if p >= 0.05:
      failed.append(f'{key} is NOT better than at random places (p {p:.2f})')
    else:
      passed.append(f'{key} is better than at random places (p {p:.3f})')
  if not np.isfinite(row['deletion_p']):
    open_.append(
      f'{counted(row["n"], "image")}: too few to test deletion over all of them'
    )
  if 'planted' in row:
    points = row['planted']
    if row['learnt'] < sanity.POINTS:
      open_.append('the model did not learn the planted marker: not tested')
    elif points < sanity.POINTS:
      failed.append(f'FAILS: finds the planted marker in {points:.0%} only')
    else:
      passed.append(f'finds the planted marker ({points:.0%})')
  return failed + passed + open_
