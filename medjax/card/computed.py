"""Statements of a card that stand in no file, computed out of them."""

import pathlib

import numpy as np

from medjax import files
from medjax.reports import workdir as workdir_lib
from medjax.run import identity, per_case

_TABLE = 'per_case.csv'
_WORST = 5


def patients_shared(workdir):
  """How many patients are in validation and in test; None without a table."""
  path = pathlib.Path(workdir) / _TABLE
  if not path.is_file():
    return None
  rows, _ = files.read_csv(path, mend='evaluate again')
  splits = {'validation': set(), 'test': set()}
  for row in rows:
    if row.get('split') in splits:
      splits[row['split']].add(row.get('patient') or row['id'])
  if not all(splits.values()):
    return None
  return len(splits['validation'] & splits['test'])


def worst(workdir):
  """The first measure of the five worst test cases, the worst first.

  {'measure', 'values'}; of a classification the probability of what is true.
  None where cases have no measure.
  """
  run = workdir_lib.read(workdir)
  if run.by_case:
    name = run.by_case[0]
    columns = np.array([*run.column(name).values()], float)
    defined = columns[:, ~np.isnan(columns).all(0)]
    values = np.nanmean(defined, 0)
    sign = 1 if run.measures.higher(name) else -1
    title = run.measures.plain_title(name)
  else:
    values, sign = _true_probability(run), 1
    title = 'Probability of what is true'
  if values is None or not len(values):
    return None
  order = np.argsort(sign * values, kind='stable')[:_WORST]
  return {'measure': title, 'values': [float(values[i]) for i in order]}


def _true_probability(run):
  """Of each case of a classification by one label, None for anything else."""
  names = [k for k in (run.rows or [{}])[0] if k.startswith('probability/')]
  if not names or 'label' not in run.rows[0]:
    return None
  classes = [name.removeprefix('probability/') for name in names]
  found = []
  for row in run.rows:
    place = per_case.class_of(row['label'], classes)
    found.append(float(row[names[place]]))
  return np.array(found)


FUNCTIONS = {
  'digest': identity.digest,
  'patients_shared': patients_shared,
  'worst': worst,
}
