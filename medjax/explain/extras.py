"""What may be asked for beside maps: concepts, do, neighbours, a marker."""

import numpy as np
from scipy import stats

from medjax import progress
from medjax.explain import (
  cohort,
  concept_table,
  concepts,
  counterfactual,
  intervention,
  methods,
  neighbours,
  options,
  sanity,
  subjects,
)
from medjax.metrics import embeddings
from medjax.prediction.predictor import check_features

_TAUGHT = 256  # training images that the marker is put into
_MARKED = 40  # others, on which a method must find it
_MOST = 2000  # cases of a split that a concept is looked for in


def check(run, score, asked):
  """Raises ValueError for what cannot be done with this run, before work."""
  task, target = run.task, score.network.target
  if task.inputs[0] != 'image':
    raise ValueError(
      f'this model takes {", ".join(task.inputs)}: explain is for models of '
      'images'
    )
  dense = 'mask' in task.fields
  numbers = target.kind == 'value' and not target.risk
  if numbers and task.num_outputs > 1 and not asked.target:
    raise ValueError(
      f'{type(task).__name__} gives {task.num_outputs} numbers that are no '
      'classes: say which is to be explained, --target=INDEX'
    )
  if asked.planted and dense:
    raise ValueError(
      '--planted teaches a score of the whole image; this model gives a map'
    )
  if asked.counterfactual and not target.is_odds:
    raise ValueError(
      '--counterfactual flips an answer, and this score has no threshold'
    )
  if asked.do:
    intervention.check(run)
    unknown = [c for c in asked.do if c not in task.concepts]
    if unknown:
      raise ValueError(
        f'--do: no concept {unknown[0]!r}; there are {", ".join(task.concepts)}'
      )
  if asked.nearest and dense:
    raise ValueError('--nearest asks for a classifier; this model segments')
  if asked.nearest:
    check_features(run.experiment)
  if asked.concepts and dense:
    raise ValueError('--concepts asks for a classifier; this model segments')
  if asked.concepts:  # before maps are made, which take long
    columns, told = _columns(run, asked)
    concept_table.check(columns, run.experiment.cases('train')[0], **told)


def wanted(run, score, results, asked, workdir):
  """{what: a function that finds it} of all that was asked for."""
  work = {
    'counterfactuals': lambda: _counterfactuals(run, score, results),
    'answers': lambda: _answers(run, score, results, asked),
    'nearest': lambda: _nearest(run, results, asked, workdir),
    'concepts': lambda: _concepts(run, score, results, asked),
  }
  used = (asked.counterfactual, asked.do, asked.nearest, asked.concepts)
  return {k: v for (k, v), one in zip(work.items(), used, strict=True) if one}


def goal(run, output):
  """The log-odds at which an answer flips: of the run's threshold, else 0."""
  task, thresholds = run.task, run.calibration.thresholds
  if not thresholds:
    return 0.0
  positive = getattr(task, 'positive_class', None)
  place = output if getattr(task, 'multi_label', False) else 0
  if place >= len(thresholds) or thresholds[place] is None:
    return 0.0
  t = float(np.clip(thresholds[place], 1e-6, 1 - 1e-6))
  odds = float(np.log(t / (1 - t)))
  return odds if positive in (None, output) else -odds


def _one(result):
  """Image and about of a result as a batch of one."""
  lead = lambda x: np.asarray(x)[None]
  about = {
    k: tuple(map(lead, v)) if isinstance(v, tuple) else lead(v)
    for k, v in result.subject.about.items()
  }
  return lead(result.subject.image), about


def _counterfactuals(run, score, results):
  rows = []
  for result in results:
    images, about = _one(result)
    level = goal(run, int(result.subject.about['output']))
    changed, passed = counterfactual.counterfactual(
      score, images, about, goal=np.array([level])
    )
    change = (changed - images)[0]
    shown = score.network.target.shown(score(changed, about))
    rows.append(
      {
        'id': result.subject.id,
        'before': result.value,
        'after': float(shown[0]),
        'threshold': float(score.network.target.shown(level)),
        'flipped': bool(passed[0]),
        'size': float(np.sqrt((change**2).mean()) / images.std()),
        'change': change.sum(-1),
      }
    )
  return rows


def _answers(run, score, results, asked):
  """{id: [Answer]} of the settings of concepts."""
  cases = run.experiment.cases('train')
  known = np.array([cases[i]['covariates'] for i in range(len(cases))])
  span = list(zip(np.nanmin(known, 0), np.nanmax(known, 0), strict=True))
  answers = {}
  for result in results:
    images, about = _one(result)
    (answers[result.subject.id],) = intervention.intervene(
      score,
      images,
      about,
      asked.do,
      names=run.task.concepts,
      goal=goal(run, int(result.subject.about['output'])),
      span=span,
    )
  return answers


def _nearest(run, results, asked, workdir):
  """{id: [(training id, label, cosine)]}, the case itself left out."""
  total = len(run.experiment.cases('train'))
  with progress.bar('embedding training cases', total) as advance:
    stored, ids, labels = neighbours.stored(
      run, workdir, batch=asked.batch, watch=advance
    )
  samples = [run.experiment.prepare({**r.subject.raw}) for r in results]
  queries = neighbours.embed(run, samples, batch=asked.batch)
  more = asked.nearest + 1  # one may be the case itself
  index, cosines = embeddings.nearest(queries, stored, more)
  rows = {}
  for r, row, near in zip(results, index, cosines, strict=True):
    pairs = zip(row, near, strict=True)
    others = [(str(ids[k]), str(labels[k]), float(c)) for k, c in pairs]
    others = [one for one in others if one[0] != str(r.subject.id)]
    rows[r.subject.id] = others[: asked.nearest]
  return rows


def planted(run, score, results, asked):
  """({method: share of markers found}, accuracy of the taught model)."""
  shape = results[0].subject.image.shape
  output = int(results[0].subject.about['output'])
  taken = cohort.prepared(
    run, 'train', _TAUGHT + _MARKED, 'reading training images', fits=shape
  )
  count = len(taken) - min(_MARKED, len(taken) // 3)
  images = np.stack([image for *_, image in taken])
  about = cohort.about_of(run, [s for _, s, _ in taken], output)
  part = lambda a, b: (
    images[a:b],
    {
      'output': about['output'][a:b],
      'inputs': tuple(x[a:b] for x in about['inputs']),
    },
  )
  print('teaching a copy of the model to look for a planted marker', flush=True)
  learnt, accuracy = sanity.taught(score, *part(0, count), seed=asked.seed)
  others, rest = part(count, len(images))
  marked, boxes = sanity.plant(others, seed=asked.seed + 10_000)
  kind = asked.baseline if asked.baseline in subjects.BASELINES else 'minimum'
  work = methods.Work(
    images=marked,
    about=rest,
    baseline=np.stack([subjects.baseline(x, kind) for x in marked]),
    spacing=results[0].subject.spacing,
    batch=asked.batch,
    layer=asked.layer,
    segments=asked.segments,
    samples=asked.samples,
    seed=asked.seed,
  )
  points = {}
  for name in asked.methods:
    maps, _ = methods.run(name, learnt, work)
    top = [m == m.max() for m in maps]
    hits = [b[t].mean() for t, b in zip(top, boxes, strict=True)]
    points[name] = float(np.mean(hits))
  return points, accuracy


def _columns(run, asked):
  """(columns of --concepts, options of `concept_table` that say whose)."""
  place, colon, names = asked.concepts.rpartition(':')
  covariates = run.experiment.facts.covariate_names
  told = {'table': place if colon else '', 'covariates': covariates}
  return [n.strip() for n in names.split(',') if n.strip()], told


def _concepts(run, score, results, asked):
  """{'layer', 'rows': [{'concept', …}], 'output'} of TCAV."""
  columns, told = _columns(run, asked)
  shape = results[0].subject.image.shape
  train, test = (
    cohort.prepared(run, split, _MOST, f'reading the {split} split', fits=shape)
    for split in ('train', 'test')
  )
  values = concept_table.concept_values(
    [case for case, *_ in train], columns, **told
  )
  output = int(results[0].subject.about['output'])
  work = options.work_of([(results[0].subject, results[0].baseline)], asked)
  layer, _ = methods.chosen_layer(score, work)
  run_layer = lambda taken: concepts.layer_means(
    score,
    np.stack([image for *_, image in taken]),
    cohort.about_of(run, [s for _, s, _ in taken], output),
    layer=layer,
    batch=asked.batch,
  )
  means, _ = run_layer(train)
  _, slopes = run_layer(test)
  patients = [str(c.get('patient') or c['id']) for c, *_ in train]
  rows = []
  for name in columns:
    one = concepts.tcav(
      means, values[name], slopes, patients=patients, seed=asked.seed
    )
    rows.append({'concept': name, **(one._asdict() if one else {})})
  _adjust(rows)
  return {'layer': layer, 'output': output, 'rows': rows, 'n': len(slopes)}


def _adjust(rows):
  """Adds q, p adjusted by Benjamini and Hochberg, to the rows that have p."""
  known = [row for row in rows if 'p' in row]
  if known:
    adjusted = stats.false_discovery_control([row['p'] for row in known])
    for row, q in zip(known, adjusted, strict=True):
      row['q'] = float(q)
