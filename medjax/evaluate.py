"""Cases → predictions → metrics, per case and summed up."""

import dataclasses
import pathlib

import jax
import numpy as np

from medjax import config as config_lib
from medjax import files, modalities, pooled, progress, subgroups
from medjax.data import repeated
from medjax.metrics.classification import defined_mean
from medjax.prediction import ensemble, novelty
from medjax.prediction.predictor import Predictor
from medjax.prediction.samples import samples
from medjax.prediction.scored import NoReferenceError, evaluate_cases
from medjax.prediction.trained import write_calibration
from medjax.reports.gallery import Gallery, save_cases
from medjax.run import divided, per_case
from medjax.run.checkpoint import best_variables

# Fields of the config that a checkpoint cannot do without.
OF_THE_MODEL = ('model', 'adapt', 'data.preprocess', 'task.regions')
# What a score or a threshold is of, to all who read it beside the config.
_OF_THE_MEANING = (
  'task.positive', 'task.class_names', 'task.ignore', 'data.mask_values',
  'data.ignore',
)  # fmt: skip
# Whatever they say, the results are the same.
_OF_THE_PACE = ('data.cache_gb', 'data.manual_dir', 'inference.batch_size')


def predictor_of(experiment):
  """A Predictor that gives what the experiment's options of trust need."""
  bounded = hasattr(experiment.task, 'missed') and experiment.task.level
  return Predictor(
    experiment,
    maps=bool(bounded),
    ranks=True,
    features=bool(experiment.inference.ood),
  )


def evaluate(experiment, workdir, *, facts=None, beside=None):
  """Evaluates the best checkpoint of a workdir on validation and test.

  What validation decides is saved and applied to the test split, which is read
  once. Writes calibration.json, metrics.json, per_case.csv and
  figures/cases.npz; `facts` about the run go under metrics.json's 'run'. Of
  a run of several inputs, what each is worth is there, too (`modalities`);
  `beside` are the test rows of its tabular baseline.

  Of several members each is evaluated alone, in its folder. Those of an
  ensemble are then evaluated as one, by the mean of their probabilities; of a
  cross-validation the test cases of all folds are summed up together.
  """
  workdir = pathlib.Path(workdir)
  return _evaluate(experiment, workdir, facts or {}, beside)[0]


def test_rows(experiment, workdir):
  """As `evaluate`, and returns the rows of the test split."""
  return _evaluate(experiment, pathlib.Path(workdir), {})[1]['test']


def _evaluate(experiment, workdir, facts, beside=None):
  """What metrics.json holds, the rows of each split, and of changed inputs."""
  _check_same(experiment.config, workdir)
  divided.check(experiment, workdir)
  novelty.check(experiment)
  task = experiment.task
  members = {
    folder: _evaluate(each, workdir / folder, facts)
    for folder, each in experiment.members
  }
  written = workdir / 'metrics.json'  # by the run, if this is done again
  before = files.read_json(written, mend='delete it, and evaluate again') or {}
  results = {'run': {**before.get('run', {}), **facts}}
  results['run'].pop('changed', None)
  gallery, calibration, changed = Gallery(task), None, {}
  if experiment.folds:
    rows = {'test': pooled.rows(experiment, members)}
    changed = pooled.changed(experiment, members)
  else:
    steps, variables = best_of(experiment, workdir)
    results['run']['best_step'] = steps[0] if len(steps) == 1 else [*steps]
    predictor = predictor_of(experiment).with_weights(*variables)
    validation = samples(experiment, 'validation')
    test = samples(experiment, 'test')
    _announce(validation, test, steps)
    rows = {
      'validation': evaluate_cases(predictor, task, validation),
      **_of_test(predictor, task, test, gallery.visit),
    }
    calibration = _decided(experiment, predictor, rows['validation'])
    if 'test' in rows:
      changed = _changed(experiment, predictor, test)
    rows, changed = (
      {k: completed(task, each, calibration) for k, each in part.items()}
      for part in (rows, changed)
    )
    results['calibration'] = _brief_calibration(calibration)
    if experiment.inference.ood and 'test' in rows:
      results['novelty'] = _novelty(experiment, predictor, rows, workdir, steps)
    if jax.process_index() == 0 and 'test' in rows:
      repeated.mark(rows['test'], experiment.cases)
  results['run']['monitor'] = task.monitor
  results['run'] |= _otherwise(experiment.config, workdir)
  results['unit_of_length'] = experiment.facts.unit_of_length
  results['measures'] = measures(task)
  results |= _summaries(experiment, rows, calibration)
  if changed:
    results['test']['modalities'] = modalities.summarize(
      task, rows['test'], changed, beside, calibration=calibration,
      seed=experiment.seed,
    )  # fmt: skip
  if members:
    results['members'] = pooled.brief(members)
  if jax.process_index() == 0:
    if calibration is not None:
      write_calibration(workdir, calibration, steps)
    write(workdir, task, rows, results, gallery)
  return results, rows, changed


def _summaries(experiment, rows, calibration):
  """What metrics.json says of each split."""
  task, found = experiment.task, {}
  for split, each in rows.items():
    if not experiment.folds:
      add_groups(experiment, experiment.cases(split), each)
    # What validation decided says nothing about validation itself.
    applied, groups = None, ()
    if split == 'test':
      applied, groups = calibration, experiment.data.subgroups
    seed = experiment.seed
    found[split] = {
      **summarized(task, each, applied, seed=seed, groups=groups),
      **repeated.summarize(task, each, applied, seed=seed),
    }
  return found


def _of_test(predictor, task, test, visit):
  """{'test': its rows}; {} where nobody drew or labelled any of its cases."""
  try:
    return {'test': evaluate_cases(predictor, task, test, visit=visit)}
  except NoReferenceError as e:
    if jax.process_index() == 0:
      print(
        f'note: nothing scores the test split: {e}; medjax predict reads it'
      )
    return {}


def _changed(experiment, predictor, test):
  """{(way, input): rows} of a run that does without some of its inputs."""
  inputs, task = experiment.task.inputs, experiment.task
  if not (experiment.optional and len(inputs) > 1 and len(test) > 1):
    return {}
  if not hasattr(task, 'monitored'):
    return {}
  return {
    (way, name): evaluate_cases(
      predictor,
      task,
      modalities.Changed(test, inputs, way, name, experiment.seed),
    )
    for way, name in modalities.changes(inputs)
  }


def _announce(validation, test, steps):
  if jax.process_index() == 0:
    print(
      f'evaluating {len(validation)} validation and {len(test)} test cases '
      f'by the checkpoint of step {", ".join(map(str, steps))}',
      flush=True,
    )


def _check_same(config, workdir):
  """Raises ValueError where model or data are not those of the training."""
  config_lib.compare(config, workdir, OF_THE_MODEL)
  config_lib.compare(
    config,
    workdir,
    config_lib.OF_THE_DATA,
    mend='evaluate other data with --data=FOLDER_OR_SET',
  )
  config_lib.compare(
    config,
    workdir,
    _OF_THE_MEANING,
    mend='scores and thresholds would be of something else; leave it as it is',
  )


def _otherwise(config, workdir):
  """What is set otherwise than config.json says, {'changed': {field: value}}.

  {} where nothing is.
  """
  changes = {
    name: new
    for name, (_, new) in config_lib.changes(config, workdir).items()
    if name.startswith(('task', 'data.', 'inference.'))
    and name not in _OF_THE_PACE
  }
  return {'changed': changes} if changes else {}


def best_of(experiment, workdir):
  """(steps, variables) of the best checkpoint of each member of a workdir."""
  found = [best_variables(folder) for _, folder in experiment.runs(workdir)]
  return tuple(zip(*found, strict=True))


def _decided(experiment, predictor, rows):
  """What validation decides, and where the task asks for it also training."""
  task = experiment.task
  if not getattr(task, 'from_train', False):
    return task.calibrate(rows)
  train = evaluate_cases(predictor, task, samples(experiment, 'train'))
  return task.calibrate(rows, train=train)


def completed(task, rows, calibration):
  """The rows, made whole by what was decided where the task asks for it."""
  if not getattr(task, 'from_train', False):
    return rows
  return task.completed(rows, calibration)


def measures(task):
  """What metrics.json says of the names of its scores."""
  return {
    name: {'title': m.title, 'unit': m.unit, 'higher': m.higher}
    for name, m in task.measures.items()
  }


def summarized(task, rows, calibration, *, seed, groups=()):
  """What metrics.json says of a split, and of its subgroups."""
  summary = task.summarize(rows, calibration=calibration, seed=seed)
  summary |= _mean_uncertainty(rows)
  if groups:
    summary['subgroups'] = subgroups.summarize(
      task, rows, groups, calibration=calibration, seed=seed
    )
  return summary


def add_groups(experiment, cases, rows):
  """Tells the rows of a split their subgroups, `data.subgroups`."""
  names = experiment.data.subgroups
  found = subgroups.read(cases, names) if names else ()
  for row in rows if names else ():
    row |= found[row['case']]


def _brief_calibration(calibration):
  """What validation decided, without the scores of its cases."""
  decided = dataclasses.asdict(calibration)
  return {k: v for k, v in decided.items() if k != 'conformal'}


def _novelty(experiment, predictor, rows, workdir, steps):
  """Fits and saves what is new to the run, and tells the rows of test.

  Returns what metrics.json says of it.
  """
  names = tuple(experiment.inference.ood)
  train = samples(experiment, 'train')
  places = novelty.drawn(len(train), experiment.seed)
  with progress.bar('learning what is known', len(places)) as advance:
    known = novelty.seen(predictor, (train[i] for i in places), advance)
  validation = novelty.of_rows(novelty.told(rows['validation']))
  found = novelty.Novelty.of(known, validation, names)
  if jax.process_index() == 0:
    found.save(workdir, steps)
  told = novelty.told(rows['test'])
  test = novelty.of_rows(told)
  p = found.p_values(test.signature, test.logits)
  for i, row in enumerate(told):
    row |= {novelty.column(name): float(p[name][i]) for name in p}
  return {
    'scores': list(names),
    'train': len(places),
    'validation': len(validation.ids),
    'doubt': novelty.DOUBT,
    'abstained': {k: float((v < novelty.DOUBT).mean()) for k, v in p.items()},
  }


def write(workdir, task, rows, results, gallery):
  """Writes metrics.json, per_case.csv and figures/cases.npz.

  `rows` are those of each split.
  """
  table = [{'split': split, **row} for split in rows for row in rows[split]]
  kept = ('case', 'signature', 'logits', 'missed', 'repeated')
  for row in table:
    for name in (*kept, *getattr(task, 'unwritten', ())):
      row.pop(name, None)
  per_case.write(workdir / 'per_case.csv', table, task.names)
  save_cases(workdir / 'figures' / 'cases.npz', gallery.chosen())
  results['per_case_sha256'] = files.digest_of(workdir / 'per_case.csv')
  files.write_json(workdir / 'metrics.json', results, sealed=True)


def _mean_uncertainty(rows):
  """Over the cases that have one."""
  table = {
    k: [row[k] for row in rows] for k in ensemble.MEASURES if k in rows[0]
  }
  means = {k: defined_mean(np.array(v, float)) for k, v in table.items()}
  return {'uncertainty': means} if means else {}
