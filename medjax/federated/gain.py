"""What each site gains: its own model, the federated, and one of pooled cases.

All are tested on the same cases: those of the site, and those of all sites.
"""

import dataclasses
import pathlib

import numpy as np

from medjax import files
from medjax.evaluate import completed, evaluate_cases, samples
from medjax.federated import algorithms, simulate
from medjax.federated.division import Part
from medjax.metrics.paired import benjamini_hochberg
from medjax.prediction.predictor import Predictor
from medjax.reports import comparison
from medjax.reports.comparison.result import MEAN
from medjax.reports.measures import Measures
from medjax.run import per_case

FOUND = 'gain.json'
POOLED = 'all sites'


def compare(experiment, workdir, algorithm, places, plan):
  """Trains the federation and its baselines, and writes what each site gains.

  places: {split: {site: places}} of `division.divide`. The baselines are a
  model of each site's own cases and one of all cases together, by the same
  number of steps and the same choice by validation. Test is read once all are
  trained. Writes gain.json and gain/ARM.csv; returns what gain.json holds.
  """
  workdir = pathlib.Path(workdir)
  part = lambda split, names: {
    name: Part(experiment.cases(split), places[split].get(name, ()))
    for name in names
  }
  names = sorted(places['train'])
  train, validation = part('train', names), part('validation', names)
  arms = {
    'federated': simulate.federate(
      experiment, workdir, algorithm, train, validation, plan
    )
  }
  alone = dataclasses.replace(plan, min_sites=1)
  fit = lambda folder, cases, validation: simulate.federate(
    experiment, workdir / folder, algorithms.FedAvg(), cases, validation, alone
  )
  arms['local'] = {}
  for name in names:
    print(f'{name} by itself:', flush=True)
    own = {name: train[name]}, {name: validation[name]}
    arms['local'] |= fit(f'local/{name}', *own)
  print('all cases in one place:', flush=True)
  whole = {'pooled': experiment.cases('train')}
  (pooled,) = fit(
    'pooled', whole, {'pooled': experiment.cases('validation')}
  ).values()  # fmt: skip
  arms['pooled'] = dict.fromkeys(names, pooled)
  found = judged(experiment, workdir, arms, places, plan, algorithm)
  files.write_json(workdir / FOUND, found, sealed=True)
  return found


def judged(experiment, workdir, arms, places, plan, algorithm):
  """The scores of all arms on test, by site and of all, and their gains."""
  task, names = experiment.task, sorted(places['train'])
  rows = {  # {arm: {site whose model it is: the rows of all test cases}}
    arm: _by_model(experiment, models, places, shared=arm == 'pooled')
    for arm, models in arms.items()
  }
  measures = Measures(
    {
      name: {'title': m.title, 'unit': m.unit, 'higher': m.higher}
      for name, m in task.measures.items()
    }
  )
  table = []
  test = {n: places['test'].get(n, ()) for n in names}
  everywhere = range(len(experiment.cases('test')))
  for name in names:
    for on, where in ((name, test[name]), (POOLED, everywhere)):
      if not len(where):
        continue
      own = {arm: [each[name][i] for i in where] for arm, each in rows.items()}
      line = {
        'site': name,
        'on': on,
        'train': len(places['train'][name]),
        'n': len(where),
        **{arm: _score(task, each) for arm, each in own.items()},
        'gain': _gain(workdir, task, own, 'local', 'federated', measures),
        'to_pooled': _gain(workdir, task, own, 'federated', 'pooled', measures),
      }
      table.append(line)
  whole = _whole(task, rows, test)
  _adjust(table)
  found = {
    'monitor': task.monitor,
    'title': measures.title(task.monitor),
    'algorithm': {
      'name': type(algorithm).__name__,
      **dataclasses.asdict(algorithm),
    },
    'plan': dataclasses.asdict(plan),
    'table': table,
  }
  if not any(map(len, test.values())):  # those of test are patients of others
    return found
  for arm, each in whole.items():
    path = workdir / 'gain' / f'{arm}.csv'
    per_case.write(path, map(_shown, each), task.names)
  return {
    **found,
    'own_cases': {arm: _score(task, each) for arm, each in whole.items()},
    'gain': _gain(workdir, task, whole, 'local', 'federated', measures),
  }


def _by_model(experiment, models, places, *, shared):
  """{site: rows of all test cases by the model of that site}."""
  predictor, done, found = Predictor(experiment), {}, {}
  for name, variables in models.items():
    if id(variables) not in done:
      own = predictor.with_weights(variables)
      validation = samples(experiment, 'validation')
      rows = evaluate_cases(own, experiment.task, samples(experiment, 'test'))
      if getattr(experiment.task, 'from_train', False):
        decided = experiment.task.calibrate(
          evaluate_cases(own, experiment.task, validation)
        )
        rows = completed(experiment.task, rows, decided)
      done[id(variables)] = rows
    found[name] = done[id(variables)]
  return found


def _whole(task, rows, test):
  """{arm: each site's test cases by that site's model}."""
  return {
    arm: [
      {'site': name, **each[name][i]} for name, where in test.items()
      for i in where
    ]
    for arm, each in rows.items()
  }  # fmt: skip


def _score(task, rows):
  """{'value', 'interval', 'n'} of the monitored score of rows."""
  found = task.summarize(rows)
  return {
    'value': found['scores'][task.monitor],
    'interval': found['intervals'].get(task.monitor),
    'patients': found['patients'],
  }


def _shown(row):
  hidden = ('case', 'signature', 'logits', 'missed')
  return {k: v for k, v in row.items() if k not in hidden}


def _gain(workdir, task, rows, a, b, measures):
  """The paired difference b − a of the monitored score, or {}."""
  read = {}
  for arm in (a, b):
    path = workdir / 'gain' / '.pair.csv'
    per_case.write(path, map(_shown, rows[arm]), task.names)
    read[arm] = per_case.read(str(path))
    path.unlink()
  try:
    found = comparison.compare(
      read[a], read[b], sorted(read[a]), measures=measures, names=(a, b)
    )
  except ValueError:  # a score that so few cases do not define
    return {}
  own = [line for line in found.lines if line.metric == task.monitor]
  if not own:
    return {}
  line = next((k for k in own if k.of == MEAN), own[0])
  tests = [k.p for k in own if not np.isnan(k.p)]
  return {
    'difference': line.difference,
    'interval': list(line.interval),
    'test': next((k.test for k in own if k.test), ''),
    'p': line.p if not np.isnan(line.p) else (tests[0] if tests else None),
  }


def _adjust(table):
  """Adds p values adjusted over all sites, for their own cases and for all."""
  for kind in ('gain', 'to_pooled'):
    lines = [line[kind] for line in table if line[kind]]
    p = [np.nan if k['p'] is None else k['p'] for k in lines]
    for line, value in zip(lines, benjamini_hochberg(np.array(p)), strict=True):
      line['adjusted'] = float(value)
