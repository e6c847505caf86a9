"""What each site gains: its own model, the federated, and one of pooled cases.

All are tested on the same cases: those of the site, and those of all sites.
"""

import dataclasses
import pathlib

import numpy as np

from medjax import files
from medjax.data.part import Part
from medjax.evaluate import completed, evaluate_cases
from medjax.federated import simulate
from medjax.federated.algorithms import FedAvg
from medjax.metrics.paired import benjamini_hochberg
from medjax.prediction.predictor import Predictor
from medjax.prediction.samples import samples
from medjax.reports import comparison
from medjax.reports.comparison.result import MEAN
from medjax.reports.measures import Measures
from medjax.run import per_case

FOUND = 'gain.json'
LOCAL, POOLED = 'local', 'pooled'
ALL = 'all sites'


def compare(experiment, workdir, candidates, places, plan):
  """Trains federations and their baselines, and writes what each site gains.

  candidates: {name: algorithm}. places: {split: {site: places}}, of
  `division.divide`. The baselines are a model of each site's own cases and one
  of all cases together, of as many steps, and chosen by validation too. Test is
  read once all are trained. Writes gain.json and gain/ARM.csv; returns what
  gain.json holds.
  """
  workdir, names = pathlib.Path(workdir), sorted(places['train'])
  train, validation = (
    {n: Part(experiment.cases(split), places[split].get(n, ())) for n in names}
    for split in ('train', 'validation')
  )
  fit = lambda folder, algorithm, *cases, plan=plan: simulate.federate(
    experiment, workdir / folder, algorithm, *cases, plan
  )
  arms = {}
  for name, algorithm in candidates.items():
    print(f'{name}:', flush=True)
    arms[name] = fit(name, algorithm, train, validation)
  alone, plain = dataclasses.replace(plan, min_sites=1, declared=None), FedAvg()
  arms[LOCAL] = {}
  for name in names:
    print(f'{name} by itself:', flush=True)
    own = {name: train[name]}, {name: validation[name]}
    arms[LOCAL] |= fit(f'{LOCAL}/{name}', plain, *own, plan=alone)
  print('all cases in one place:', flush=True)
  whole = [
    {POOLED: Part(experiment.cases(s), range(len(experiment.cases(s))))}
    for s in ('train', 'validation')
  ]
  arms[POOLED] = dict.fromkeys(
    names, fit(POOLED, plain, *whole, plan=alone)[POOLED]
  )
  found = {
    'algorithms': {
      name: {'name': type(algorithm).__name__, **dataclasses.asdict(algorithm)}
      for name, algorithm in candidates.items()
    },
    'plan': dataclasses.asdict(plan),
    **judged(experiment, workdir, arms, places),
  }
  files.write_json(workdir / FOUND, found, sealed=True)
  return found


def judged(experiment, workdir, arms, places):
  """The scores of all arms on test, by site and of all, and their gains."""
  task, names = experiment.task, sorted(places['train'])
  measures = Measures(
    {
      name: {'title': m.title, 'unit': m.unit, 'higher': m.higher}
      for name, m in task.measures.items()
    }
  )
  rows = {arm: _by_model(experiment, models) for arm, models in arms.items()}
  test = {n: places['test'].get(n, ()) for n in names}
  everywhere = range(len(experiment.cases('test')))
  table = []
  for name in names:
    for on, where in ((name, test[name]), (ALL, everywhere)):
      if not len(where):  # those of test are patients of others
        continue
      own = {arm: [each[name][i] for i in where] for arm, each in rows.items()}
      table.append(
        {
          'site': name,
          'on': on,
          'train': len(places['train'][name]),
          'n': len(where),
          'scores': {arm: _score(task, each) for arm, each in own.items()},
          'gains': _gains(task, own, workdir, measures),
        }
      )
  _adjust(table)
  for arm, models in rows.items() if any(map(len, test.values())) else ():
    each = [
      {'site': name, **models[name][i]}
      for name, where in test.items()
      for i in where
    ]
    path = workdir / 'gain' / f'{arm}.csv'
    per_case.write(path, map(_shown, each), task.names)
  return {
    'monitor': task.monitor,
    'title': measures.title(task.monitor),
    'table': table,
  }


def _by_model(experiment, models):
  """{site: rows of all test cases by the model of that site}."""
  predictor, done, found = Predictor(experiment), {}, {}
  task = experiment.task
  for name, variables in models.items():
    if id(variables) not in done:
      own = predictor.with_weights(variables)
      rows = evaluate_cases(own, task, samples(experiment, 'test'))
      if getattr(task, 'from_train', False):
        each = evaluate_cases(own, task, samples(experiment, 'validation'))
        rows = completed(task, rows, task.calibrate(each))
      done[id(variables)] = rows
    found[name] = done[id(variables)]
  return found


def _score(task, rows):
  """{'value', 'interval', 'patients'} of the monitored score of rows."""
  found = task.summarize(rows)
  return {
    'value': found['scores'][task.monitor],
    'interval': found['intervals'].get(task.monitor),
    'patients': found['patients'],
  }


def _shown(row):
  hidden = ('case', 'signature', 'logits', 'missed')
  return {k: v for k, v in row.items() if k not in hidden}


def _gains(task, rows, workdir, measures):
  """{arm: its difference to what sites reach by themselves}."""
  read = {}
  for arm, each in rows.items():
    path = workdir / 'gain' / '.pair.csv'
    per_case.write(path, map(_shown, each), task.names)
    read[arm] = per_case.read(str(path))
    path.unlink()
  return {
    arm: _gain(task, read[LOCAL], read[arm], measures)
    for arm in read
    if arm != LOCAL
  }


def _gain(task, a, b, measures):
  """The paired difference b − a of the monitored score; {} if undefined."""
  try:
    lines = comparison.compare(a, b, sorted(a), measures=measures).lines
  except ValueError:  # a score that so few cases do not define
    return {}
  own = [line for line in lines if line.metric == task.monitor]
  if not own:
    return {}
  line = next((k for k in own if k.of == MEAN), own[0])
  tested = next((k for k in (line, *own) if not np.isnan(k.p)), line)
  return {
    'difference': line.difference,
    'interval': list(line.interval),
    'test': tested.test,
    'p': tested.p,
  }


def _adjust(table):
  """Adds p values adjusted over sites and arms: own cases, and all, apart."""
  for own in (True, False):
    gains = [
      gain
      for line in table
      if (line['on'] == line['site']) == own
      for gain in line['gains'].values()
      if gain
    ]
    p = benjamini_hochberg(np.array([gain['p'] for gain in gains], float))
    for gain, value in zip(gains, p, strict=True):
      gain['adjusted'] = float(value)
