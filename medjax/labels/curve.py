"""A curve of labels: what each method makes of so many, beside two controls."""

import functools
import pathlib

import numpy as np

from medjax import experiment, files
from medjax.labels import forest, runs, select
from medjax.labels.scored import Scored
from medjax.labels.strategies import STRATEGIES
from medjax.prediction import trained
from medjax.run import per_case

FOREST = 'forest'
TABLE = 'forest_of_table'
RESULT = 'curve.json'


def curve(plan, out, *, labels, seeds, methods=(), show=print):
  """Trains what is not whole yet, and writes curve.json; returns what it holds.

  labels: numbers of labelled patients, rising; of an active strategy of cases.
  methods: words of the config, 'pretrained', or active strategies, which begin
  with the first number of labels, chosen as those of the supervised runs are.
  """
  out = pathlib.Path(out)
  labels = _checked(labels, seeds, methods)
  forests = {FOREST: None}  # on pixels
  if plan.table:
    forests[TABLE] = forest.read_table(plan.table)
  active = [m for m in methods if m in STRATEGIES]
  if active and 'random' not in active:
    active.append('random')  # without which a strategy shows nothing
  trained_ = [runs.SUPERVISED, *(m for m in methods if m not in STRATEGIES)]
  _check_all(plan, trained_, active, labels, seeds)
  rows, minutes = {}, {}

  def keep(method, count, seed, found):
    rows[method, count, seed], minutes[method, count, seed] = found
    show(f'{method}, {count} labels, seed {seed}: done')

  for seed in range(seeds):
    for count in labels:
      for method, table in forests.items():  # first: they cost nothing
        place = runs.folder(out, method, count, seed)
        keep(method, count, seed, _grown(plan, place, count, seed, table))
      for method in trained_:
        config = runs.configured(plan, method, count=count, seed=seed)
        place = runs.folder(out, method, count, seed)
        keep(method, count, seed, _trained(config, place))
    # All strategies begin with one run: what it sees is looked at once.
    look = functools.cache(functools.partial(_look, plan, seed))
    for method in active:
      for count, found in _active(plan, out, method, labels, seed, look):
        keep(method, count, seed, found)
  task = experiment.make(
    runs.configured(plan, runs.SUPERVISED, count=labels[0], seed=0)
  ).task
  order = [*trained_, *forests, *active]
  rows = dict(sorted(rows.items(), key=lambda row: order.index(row[0][0])))
  result = summed_up(Scored(task, rows), minutes)
  result |= {'config': plan.config, 'overrides': dict(plan.overrides)}
  files.write_json(out / RESULT, result, sealed=True)
  files.write_csv(out / 'curve.csv', result['table'])
  return result


def _checked(labels, seeds, methods):
  """The labels, rising. Raises ValueError for what gives no curve."""
  labels = sorted({*labels})
  if not labels or labels[0] < 1 or seeds < 1:
    raise ValueError('labels and seeds must be 1 or more: --labels=10,47,235')
  always = FOREST, TABLE, runs.SUPERVISED
  wrong = next((m for m in methods if m in always), None)
  if wrong:
    raise ValueError(f'{wrong} is always there: leave it out of --methods')
  return labels


def _check_all(plan, methods, active, labels, seeds):
  """Raises ValueError before hours of training, not after them."""
  for method in methods:
    config = runs.configured(plan, method, count=labels[0], seed=0)
    if not config.task.get('name'):
      raise ValueError(f'{plan.config} names no task')
  if config.folds:
    raise ValueError('a curve has one test split: folds=0')
  for strategy in active:
    select.check(strategy, config.members)
  for count in (labels[0], labels[-1]):  # too few of a class; too many
    for seed in range(seeds):
      config = runs.configured(plan, runs.SUPERVISED, count=count, seed=seed)
      experiment.make(config)
    for method in methods:  # of which some need unlabelled cases
      experiment.make(runs.configured(plan, method, count=count, seed=0))


def _trained(config, place):
  """(rows of the test split, minutes) of a run."""
  found = runs.work(config, place)
  return rows_of(place), found['run']['seconds'] / 60


def rows_of(place):
  """The rows of the test split of a workdir, as its task has made them."""
  found = []
  for row in per_case.read(place).values():
    one = {'id': row['id'], 'patient': row['patient']}
    vectors = {}
    for key, value in row.items():
      name, slash, _ = key.partition('/')
      if slash:
        vectors.setdefault(name, []).append(float(value or 'nan'))
      elif name == 'label':
        one[name] = int(value)
    one |= {k: np.array(v) for k, v in vectors.items()}
    if 'label' in vectors:
      one['label'] = one['label'].astype(int)
    found.append(one)
  return found


def _grown(plan, place, count, seed, table):
  """(rows, minutes) of a forest, kept as a run is."""
  config = runs.configured(plan, runs.SUPERVISED, count=count, seed=seed)
  before = files.read_json(place / 'metrics.json', mend='delete it')
  source = '' if table is None else plan.table
  if before and before.get('table', '') != source:
    raise ValueError(f'{place} is of {before["table"]}: take another --workdir')
  # Of a table that was corrected a forest grows again, and so do older ones,
  # which do not say of which config they are, or of which table.
  digest = '' if table is None else files.digest_of(plan.table)
  told = (place / 'config.json').exists() and before
  same = told and before.get('digest', '') == digest
  if not (same and runs.done(config, place)):
    made = experiment.make(config)
    made.store(place)
    rows, minutes = forest.rows(made, seed=seed, table=table)
    lines = [{'split': 'test', **row} for row in rows]
    per_case.write(place / 'per_case.csv', lines, made.task.names)
    before = {'minutes': minutes, 'table': source, 'digest': digest}
    files.write_json(place / 'metrics.json', before, sealed=True)
  return rows_of(place), before['minutes']


def _active(plan, out, strategy, labels, seed, look):
  """Yields (count, (rows, minutes)) of runs of which each chooses the next.

  look: workdir → what its run sees of all cases of training.
  """
  first = runs.configured(plan, runs.SUPERVISED, count=labels[0], seed=seed)
  place = runs.folder(out, runs.SUPERVISED, labels[0], seed)
  rows, minutes = _trained(first, place)
  yield labels[0], (rows, minutes)
  ids = [c['id'] for c in experiment.make(first).cases('train')]
  for count in labels[1:]:
    kept = runs.folder(out, strategy, count, seed) / 'picked.json'
    picked = files.read_json(kept, mend='delete it')
    if picked is None:
      picked = _next(look(place), ids, count - len(ids), strategy, seed)
      files.write_json(kept, {'ids': picked}, sealed=True)
    else:
      picked = picked['ids']
    ids = [*ids, *picked]
    config = runs.configured(
      plan, runs.SUPERVISED, count=count, seed=seed, ids=ids
    )
    place = kept.parent
    rows, minutes = _trained(config, place)
    yield count, (rows, minutes)


def _look(plan, seed, place):
  """`Seen` of each case of training by the run in a place."""
  whole = runs.configured(plan, runs.SUPERVISED, count=0, seed=seed)
  cases = [*experiment.make(whole).cases('train')]
  return select.look(trained.load(place), cases)


def _next(seen, ids, n, strategy, seed):
  """The ids that a strategy has labelled next, after these."""
  if n < 1:
    return []
  pool = [s for s in seen if s.id not in {*ids}]
  known = [s for s in seen if s.id in {*ids}]
  picks = select.ranked(pool, n, strategy, known=known, seed=seed)
  return [p.id for p in picks]


def summed_up(scored, minutes):
  """What curve.json holds of scores and {(method, count, seed): minutes}."""
  table, areas = [], []
  for method in scored.methods:
    control = _control(method)
    for count in scored.counts(method):
      mean, low, high = scored.mean(method, count)
      spent = [minutes[method, count, s] for s in scored.seeds]
      row = {
        'method': method, 'labels': count, 'seeds': len(scored.seeds),
        'score': mean, 'low': low, 'high': high,
        'each': scored.each(method, count),
        'minutes': float(np.mean(spent)),
      }  # fmt: skip
      if control in scored.methods and count in scored.counts(control):
        names = ('difference', 'difference_low', 'difference_high', 'p')
        found = scored.difference(method, control, count)
        row |= {'control': control, **dict(zip(names, found, strict=False))}
        row['wilcoxon_p'] = found[-1]
      table.append(row)
    if control in scored.methods and len(scored.counts(method)) > 1:
      names = ('area', 'difference', 'low', 'high', 'p')
      found = dict(zip(names, scored.areas(method, control), strict=True))
      areas.append({'method': method, 'control': control, **found})
  return {
    'monitor': scored.monitor,
    'measures': {
      k: {'title': m.title, 'unit': m.unit, 'higher': m.higher}
      for k, m in scored.task.measures.items()
    },
    'seeds': len(scored.seeds),
    'table': table,
    'areas': areas,
  }


def _control(method):
  """What a method has to beat: a strategy chance, all others supervision."""
  if method in (runs.SUPERVISED, 'random'):
    return None
  return 'random' if method in STRATEGIES else runs.SUPERVISED
