"""External validation: a run on data that it was not made with.

Beside the run's own results, in WORKDIR/evaluations/NAME, with the decisions
of the run's validation split.
"""

import contextlib
import filecmp
import functools
import pathlib
from collections.abc import Mapping

import jax

from medjax import cases as cases_lib
from medjax import config as config_lib
from medjax import experiment as experiment_lib
from medjax import files, prepare
from medjax.data import folder, pipeline, records, repeated
from medjax.data.facts import DataFacts
from medjax.evaluate import (
  OF_THE_MODEL,
  add_groups,
  best_of,
  completed,
  evaluate_cases,
  measures,
  predictor_of,
  summarized,
  write,
)
from medjax.prediction.trained import load_calibration
from medjax.reports.gallery import Gallery
from medjax.run import divided


def evaluate_on(
  experiment,
  workdir,
  data,
  *,
  split='',
  out=None,
  same_names=False,
  facts=None,
):
  """Evaluates the best checkpoint of a workdir on other data.

  `data` is a folder or table, read as config.data says, or a prepared set.
  `split` are parts of it: by default all of a folder, and of a set its test
  split if it has one. Several members are one, by the mean of their
  probabilities.

  Writes metrics.json, per_case.csv, figures/cases.npz and config.json into
  `out`, by default WORKDIR/evaluations/NAME. Returns what metrics.json holds,
  and that folder. Raises ValueError for cases and patients of the training;
  `same_names` says that they are others of the same name.
  """
  workdir = pathlib.Path(workdir)
  config_lib.compare(
    experiment.config,
    workdir,
    (*OF_THE_MODEL, 'task.positive'),
    mend='evaluate the run as it is',
  )
  cases, source, split = _open(experiment, data, split)
  _check_apart(workdir, data, cases, split, same_names)
  cases_lib.check_classes(experiment, data, cases)
  source = {**source, 'splits': {'test': split}}
  out = pathlib.Path(out or workdir / 'evaluations' / _name(data, source))
  _check_free(out, source)
  steps, variables = best_of(experiment, workdir)
  if jax.process_index() == 0:
    print(
      f'evaluating {len(cases)} cases of {data} by the checkpoint of step '
      f'{", ".join(map(str, steps))}',
      flush=True,
    )
  gallery = Gallery(experiment.task)
  calibration = load_calibration(workdir, steps)
  rows = _rows(experiment, cases, variables, gallery, calibration)
  _mark_repeated(workdir, cases, rows)
  results = {
    'run': {
      **(facts or {}),
      'workdir': str(workdir),
      'best_step': steps[0] if len(steps) == 1 else [*steps],
      'monitor': experiment.task.monitor,
    },
    **_scores(experiment, cases, rows, calibration),
  }
  if jax.process_index() == 0:
    _write(experiment, out, source, rows, results, gallery)
  return results, out


def _write(experiment, out, source, rows, results, gallery):
  """Writes the config that these data would have, and the results."""
  own = experiment.config
  config = {**own, 'data': {**own['data'], **source}}
  files.write_json(out / 'config.json', config)
  write(out, experiment.task, {'test': rows}, results, gallery)


def _rows(experiment, cases, variables, gallery, calibration):
  """The metrics of each case, made whole by what was decided."""
  samples = pipeline.Cached(
    cases,
    lambda case: experiment.prepare(experiment.check(case)),
    budget_bytes=0,
  )
  predictor = predictor_of(experiment).with_weights(*variables)
  task = experiment.task
  rows = evaluate_cases(predictor, task, samples, visit=gallery.visit)
  add_groups(experiment, cases, rows)
  return completed(task, rows, calibration)


def _scores(experiment, cases, rows, calibration):
  """What metrics.json says beside the facts of the run."""
  task, seed = experiment.task, experiment.seed
  return {
    'unit_of_length': DataFacts.of(cases).unit_of_length,
    'measures': measures(task),
    'test': {
      **summarized(
        task, rows, calibration, seed=seed, groups=experiment.data.subgroups
      ),
      **repeated.summarize(task, rows, calibration, seed=seed),
    },
  }


def _name(data, source):
  if source['name'] != 'folder':
    return data.replace('/', '_')
  return pathlib.Path(source['path']).name


def _manual_dir(data, own):
  """The folder of files at hand for a set, or None.

  The run's is that of its own set: another that is there was made of others.
  """
  if data != own['name']:
    with contextlib.suppress(FileNotFoundError):
      records.dataset_dir(data, own['data_dir'] or None)
      return None
  return own['manual_dir'] or None


def _open(experiment, data, split):
  """The cases, what config.data says of them, and their splits."""
  own = experiment.config['data']
  path = pathlib.Path(data).expanduser()
  if not path.exists():
    options = {'data_dir': own['data_dir'] or None}
    prepare.prepare(data, manual_dir=_manual_dir(data, own), **options)
    known = records.info(data, **options)['splits']
    split = split or ('test' if 'test' in known else '+'.join(known))
    return records.open_split(data, split, **options), {'name': data}, split
  options = cases_lib.options_of_others(experiment, path)
  if not split:  # Patients are not divided.
    options |= {'fractions': (0, 0, 1), 'folds': 0}
    split = '+'.join(folder.open_splits(path, **options))
  cases = folder.open_folder(path, split, **options)
  return cases, {'name': 'folder', 'path': str(path.resolve())}, split


def _check_free(out, source):
  """Raises ValueError where the results of other data lie in `out`."""
  path = out / 'config.json'
  before = files.read_json(path, mend='give another --out')
  if before is None and (out / 'checkpoints').exists():
    raise ValueError(f'{out} is the workdir of a run: give another --out')
  if before and {k: before['data'].get(k) for k in source} != source:
    raise ValueError(
      f'{out} holds the evaluation of other data: give another --out'
    )


# Not the cases of the training.


def _mark_repeated(workdir, cases, rows):
  """Tells rows whose image the run has learnt from, by whatever name.

  Not those of a cross-validation, whose folds learnt from different ones, nor
  where the training data are not at hand.
  """
  experiment = experiment_lib.restore(workdir, trust=True)
  if experiment.folds or jax.process_index():
    return
  run, _ = experiment.runs('')[0]
  data = experiment.config['data']
  try:
    if data['name'] != 'folder':  # prepared, or it would be fetched
      records.dataset_dir(data['name'], data['data_dir'] or None)
    found = repeated.places(run.cases('train'), cases)
  except (OSError, ValueError):
    return
  for row in rows if found is not None else ():
    row['repeated'] = row['case'] in found


def _check_apart(workdir, data, cases, split, same_names):
  # As it was trained, whatever is said of the other data; its code runs anyway.
  experiment = experiment_lib.restore(workdir, trust=True)
  own = experiment.config['data']
  runs = experiment.runs(workdir)
  # Who validates a fold trains another, and held-out cases are of train.
  both = not experiment.folds and not (own['held_out'] and own['name'] == data)
  learnt = divided.LEARNT if both else divided.LEARNT[:1]
  opened = {run.cases: run for run, _ in runs}  # members may share theirs
  given = functools.cache(lambda: _every_name(cases))
  if own['name'] == data:
    for run in opened.values():
      for name in learnt:
        parts = run.data.splits[name]
        if '[' in split and '[' in parts:
          _check_records(data, given(), name, _seen(run.cases(name)))
        else:
          config_lib.check_splits({name: parts, '--data': split})
    return
  in_folder = isinstance(cases, folder.FolderCases)
  if not in_folder and own['name'] != 'folder':  # of two sets that have names
    return
  for _, place in () if same_names else runs:  # whatever lies there now
    before = divided.read(place)
    for name in learnt if before else ():
      seen = {'id': {*before[name]}, 'patient': {*before[name].values()}}
      _check_records(data, given(), name, seen, _ONLY_NAMES)
  try:
    check_own(experiment, workdir)
    every = [(name, of(name)) for of in opened for name in learnt]
  except (OSError, ValueError) as e:
    print(f'note: not checked against the cases of the training: {e}')
    return
  for name, known in every:
    if in_folder and own['name'] == 'folder':
      _check_entries(data, cases.entries, name, known.entries, same_names)
    elif not same_names:  # one set, prepared and as it came
      _check_records(data, given(), name, _seen(known), _ONLY_NAMES)


def check_own(experiment, workdir):
  """Raises ValueError where a run's folder is another than it was before.

  Relative paths count from where a command is run: other data may lie there.
  """
  if experiment.config['data']['name'] != 'folder':
    return
  before = divided.judged(workdir)
  if not before:
    return
  now = set()
  for run, _ in experiment.runs(''):
    now |= {entry.id for entry in run.cases('test').entries}
  if not before & now:
    data = experiment.config['data']
    raise ValueError(
      f'{data["path"]}: holds none of the test cases of {workdir}: run the '
      'command where the training was run, or evaluate other data by --data'
    )


_ONLY_NAMES = ', or say --same_names if they only'
# What a run did on the cases of a split, by which it is not to be judged.
_DID = {'train': 'was trained', 'validation': 'chose its checkpoint'}


def _check_records(data, given, split, seen, mend=''):
  for name, patient in given:
    _refuse(data, name, patient, split, seen, mend)


def _every_name(cases):
  """[(id, patient)] of raw cases, or of the entries of a folder."""
  return [_names(case) for case in getattr(cases, 'entries', cases)]


def _seen(cases):
  """{'id', 'patient'} of raw cases, or of the entries of a folder."""
  names = _every_name(cases)
  return {'id': {i for i, _ in names}, 'patient': {p for _, p in names}}


def _names(case):
  """(id, patient) of a raw case, or of an entry of a folder."""
  if isinstance(case, Mapping):
    return case['id'], case['patient']
  return case.id, case.patient


def _check_entries(data, entries, split, known, same_names):
  """Refuses the same files, and unless told otherwise the same names."""
  sizes = {}
  for e in known:
    if e.images and not e.image.is_dir():
      sizes.setdefault(e.image.stat().st_size, []).append(e.image)
  seen = _seen(known)
  for e in entries:
    if not same_names:
      _refuse(data, e.id, e.patient, split, seen, _ONLY_NAMES)
    if not e.images:
      continue
    same = () if e.image.is_dir() else sizes.get(e.image.stat().st_size, ())
    if any(filecmp.cmp(e.image, other, shallow=False) for other in same):
      raise ValueError(f'{e.image} is an image that the run {_DID[split]} on')


def _refuse(data, name, patient, split, seen, mend=''):
  if name in seen['id'] or patient in seen['patient']:
    what = 'is one' if name in seen['id'] else 'is of a patient'
    more = f'{mend} share names with these' if mend else ''
    raise ValueError(
      f'{data}: case {name} {what} that the run {_DID[split]} on: give other '
      f'cases, as by --split=test{more}'
    )
