"""Which cases a run learns from, kept beside it, and whether they still are.

WORKDIR/cases.json is {split: {id: patient}}, as per_case.csv has them. Only of
a folder, whose cases are named without being read, and not of a run with a
privacy budget, which names nobody that it was trained on.
"""

import pathlib

import numpy as np

from medjax import files
from medjax.data.facts import DataFacts

FILE = 'cases.json'
LEARNT = ('train', 'validation')  # by which weights and thresholds are chosen
_SPLITS = (*LEARNT, 'test')
_MOST = 500_000  # cases; the file of more would be too large to read
_MEND = 'train anew in a new workdir'
_MEASURED = ('statistics', 'covariate_statistics', 'event_times')


def store(experiment, workdir):
  """Writes cases.json, where it may be."""
  path = pathlib.Path(workdir) / FILE
  found = {split: _names(experiment.cases(split)) for split in _SPLITS}
  known = None not in found.values() and not experiment.privacy.epsilon
  if known and sum(map(len, found.values())) <= _MOST:
    files.write_json(path, found, sealed=True)
  else:
    path.unlink(missing_ok=True)


def extend(experiment, workdir):
  """Adds to cases.json the cases that a run learns from when it goes on."""
  if not (before := read(workdir)) or experiment.privacy.epsilon:
    return
  now = _now(experiment)
  known = {split: {**before[split], **now[split]} for split in _SPLITS}
  learnt = {**now['train'], **now['validation']}
  patients = {*learnt.values()}
  known['test'] = {
    name: patient
    for name, patient in known['test'].items()
    if name not in learnt and patient not in patients
  }
  if known != before:
    files.write_json(pathlib.Path(workdir) / FILE, known, sealed=True)


def read(workdir):
  """{split: {id: patient}} of a run; {} of one that has kept none."""
  path = pathlib.Path(workdir) / FILE
  found = files.read_json(path, mend='delete it, and go on unchecked')
  whole = isinstance(found, dict) and {*found} == {*_SPLITS}
  if found and not (whole and all(isinstance(v, dict) for v in found.values())):
    raise ValueError(f'{path} is damaged: delete it, and go on unchecked')
  return found or {}


def check(experiment, workdir):
  """Checks that the data are those that a run of a workdir has learnt from.

  Raises ValueError where a case or a patient of training or validation is now
  of another split, where classes have other names, and where what the training
  was told of the data is no longer so.
  """
  _check_facts(experiment, workdir)
  before = read(workdir)
  if not before and experiment.folds:  # each fold has its own
    return
  now = _now(experiment)
  if not before:
    _check_judged(workdir, now)
    return
  for split in LEARNT:
    ids, patients = {*before[split]}, {*before[split].values()}
    for other in _SPLITS:
      count = sum(
        (name in ids or patient in patients)
        and before[other].get(name) != patient  # it was there before
        for name, patient in now[other].items()
      )
      if count and other != split:
        cases = '1 case' if count == 1 else f'{count} cases'
        raise ValueError(
          f'{workdir}: {cases} of {split} {"is" if count == 1 else "are"} now '
          f'in {other}: the data have changed since the training; evaluate '
          f'with --data, or {_MEND}'
        )


def judged(workdir):
  """The ids of the test cases in per_case.csv; none of a run without it."""
  path = pathlib.Path(workdir) / 'per_case.csv'
  if not path.exists():
    return set()
  rows, _ = files.read_csv(path, mend='delete it')
  return {row['id'] for row in rows if row.get('split', 'test') == 'test'}


def _check_judged(workdir, now):
  """As `check`, of a run from before there was cases.json, if it was judged."""
  learnt = {*now['train'], *now['validation']}
  if count := len(learnt and judged(workdir) & learnt):
    raise ValueError(
      f'{workdir}: {count} of its test cases are now in train or validation: '
      f'the data, or how they are divided, have changed; {_MEND}'
    )


def _check_facts(experiment, workdir):
  """Raises ValueError where facts.json says something else than the data."""
  path = pathlib.Path(workdir) / 'facts.json'
  stored = files.read_json(path, mend=_MEND)
  if stored is None:
    return
  try:
    facts = DataFacts.read(stored)
  except ValueError as e:
    raise ValueError(f'{path} is damaged: {e}; {_MEND}') from None
  now = tuple(getattr(experiment.cases(LEARNT[1]), 'class_names', None) or ())
  if facts.class_names and now and facts.class_names != now:
    raise ValueError(
      f'{path}: trained on the classes {", ".join(facts.class_names)}, and the '
      f'data now have {", ".join(now)}: the data have changed since the '
      'training; give the folders, or the cells of the table, their old names, '
      f'or {_MEND}'
    )
  for name, *both in _measured(experiment, facts):
    old, new = map(np.array, both)
    if old.shape != new.shape or not np.allclose(old, new, rtol=1e-4):
      raise ValueError(
        f'{path}: {name} of the training cases are no longer these (the data '
        'have changed, or an older medjax measured other cases): the run '
        'cannot go on with others; evaluate it as it is, by --mode=evaluate, '
        f'or {_MEND}'
      )


def _measured(experiment, stored):
  """(name, stored, now) of what the training is told of the data."""
  facts, data = (stored, experiment.facts), experiment.config['data']
  yield from ((name, *(getattr(f, name) for f in facts)) for name in _MEASURED)
  if data['patch_size'] is None:
    patches = (f.patch_size(data['preprocess']) for f in facts)
    yield ('the size of patches', *patches)


def _now(experiment):
  """As cases.json, of the data as they are; {} of splits that name nobody."""
  return {split: _names(experiment.cases(split)) or {} for split in _SPLITS}


def _names(cases):
  """{id: patient} of raw cases; None where they would have to be read."""
  entries = getattr(cases, 'entries', None)
  return None if entries is None else {e.id: e.patient for e in entries}
