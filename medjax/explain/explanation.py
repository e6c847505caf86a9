"""Explains files: maps with their tests, and what else was asked for."""

import functools
import pathlib
import time
from typing import Any

import jax
import numpy as np

from medjax import cli, progress
from medjax.explain import (
  extras,
  faithfulness,
  methods,
  sanity,
  subjects,
  target,
  written,
)
from medjax.explain.options import Asked, Result, work_of
from medjax.finetune import adapted
from medjax.prediction import files, tables, trained
from medjax.reports.text import counted
from medjax.run.stop import Stopped, StopSignal

_GROUP = 16  # images whose maps are held at a time


def explain(workdir, inputs, out, asked=None, **options):
  """Explains images by a checkpoint of `workdir` into `out`.

  Writes explain.html, explain.csv with a line for each image and method,
  explain.json, and the maps on the grids of the inputs. `asked` is an `Asked`;
  `options` are those of `trained.load`: trust, checkpoint.

  Raises ValueError at the end where some of the images failed; the others are
  written. Told to stop (Ctrl-C, SIGTERM) it ends the method at hand, writes
  what there is without further checks, and raises Stopped.
  """
  asked = asked or Asked()
  run = trained.load(workdir, **options)
  score = score_of(run)
  output = target.output_of(run.task, asked.target) if asked.target else None
  extras.check(run, score, asked)
  found = _found(run, inputs, asked)
  out = pathlib.Path(out)
  errors: list[str] = []
  read = subjects.Reader(
    run, score, output=output, masks=asked.masks, regions=asked.region
  )
  given = _given_baseline(run, asked.baseline)
  total = len(found) * len(asked.methods)
  with StopSignal() as stop:
    pairs = _subjects(read, found, asked, given, errors)
    groups = _groups(pairs, asked.batch)
    with progress.bar('explaining', total) as advance:
      results = _results(score, groups, asked, errors, advance, stop)
    done = sum(len(r.maps) for r in results)
    if not results and not stop.exit_code(0):
      raise ValueError(f'no image could be explained: {errors[0]}')
    checks = _checks(run, score, results, asked, errors, stop)
    code, more = stop.exit_code(0), {}
    if not code:
      wanted = extras.wanted(run, score, results, asked, pathlib.Path(workdir))
      more = {k: _tried(work, errors) for k, work in wanted.items()}
      more = {k: v for k, v in more.items() if v is not None}
  if code and not done:
    raise Stopped(code, 'before the first map; nothing is written')
  _miss_masks(asked, results, errors)
  if code:
    errors.append(f'stopped after {done} of {total} maps; tests may be missing')
  path = written.write(out, run, asked, results, checks, more, errors)
  print(f'page: {path}')
  if code:
    raise Stopped(code, f'{done} of {total} maps are on the page')
  if errors:
    failed = counted(len(errors), 'explanation')
    raise ValueError(f'{failed} failed; the first: {errors[0]}')
  return path


def _tried(work, errors):
  """What a function gives; None, and a line in `errors`, where it cannot."""
  try:
    return work()
  except Exception as e:
    line = cli.said(e)
    if line is None:
      raise
    errors.append(line)
    print(f'failed: {line}', flush=True)


def _results(score, groups, asked, errors, advance, stop):
  """The results of all groups, or of those before it was told to stop."""
  results = []
  for group in groups:
    explain = functools.partial(
      _explained, score, group, asked, errors, advance, stop
    )
    # What the first group cannot have none can.
    results += (_tried(explain, errors) or []) if results else explain()
    if stop.exit_code(0):
      return [r for r in results if r.maps]
  return results


def _miss_masks(asked, results, errors):
  """A line in `errors` where --masks has none for any image."""
  if asked.masks and all(r.subject.mask is None for r in results):
    errors.append(
      f'--masks={asked.masks} has no mask that is called as an image is, '
      f'{results[0].subject.id}, say'
    )


def _found(run, inputs, asked):
  """The files to explain, or the rows of tables as raw cases."""
  if not tables.takes(run, inputs):
    return files.inputs_of(run, inputs)
  if asked.masks or asked.region:
    raise ValueError(
      '--masks and --region go with image files; a table has a column mask'
    )
  return [case for path in inputs for case in tables.cases(run, path)]


def score_of(run):
  """The `Score` of a trained run, of all of its members.

  Raises ValueError for folds that see one image in several ways.
  """
  if run.experiment.apart:
    raise ValueError(
      'each fold of this cross-validation prepares an image by numbers of its '
      'own training cases: explain one of them, WORKDIR/fold0'
    )
  members = tuple(adapted.merge(jax.device_put(v)) for v in run.variables)
  network = target.Network(run.model, target.of_task(run.task))
  return target.Score(members, network)


def _subjects(read, found, asked, given, errors):
  """Yields (subject, baseline); `errors` gets a line on each that cannot be."""

  def pair(file):
    one = read(file)
    return one, subjects.baseline(one.image, asked.baseline, given)

  for file in found:
    made = _tried(functools.partial(pair, file), errors)
    if made is not None:
      yield made


def _groups(items, batch):
  """Runs of pairs of one shape, at most `batch` and _GROUP of them."""
  group = []
  for item in items:
    full = len(group) == min(batch, _GROUP)
    if group and (full or item[0].image.shape != group[0][0].image.shape):
      yield group
      group = []
    group.append(item)
  if group:
    yield group


def _given_baseline(run, kind):
  """The prepared image of a file, None of a kind that has a name."""
  if kind in subjects.BASELINES:
    return None
  if not pathlib.Path(kind).exists():
    raise ValueError(
      f'--baseline={kind} is neither a file nor one of '
      f'{", ".join(subjects.BASELINES)}'
    )
  case = run.experiment.check(files.read_case(pathlib.Path(kind)))
  return np.asarray(run.experiment.preprocess(case)['image'], np.float32)


def _explained(score, group, asked, errors, advance, stop):
  """The results of pairs of one shape; without further maps once stopped."""
  work = work_of(group, asked)
  tcav = ('gradcam',) if asked.concepts else ()  # looks at a layer, too
  methods.check((*asked.methods, *tcav), score, work)
  shown = score.network.target.shown
  values = np.asarray(shown(score(work.images, work.about)), float)
  results = [
    Result(s, b, float(v), {}, {}, {}, {}, {})
    for (s, b), v in zip(group, values, strict=True)
  ]
  for name in asked.methods:
    if stop.exit_code(0):
      break
    begun = time.perf_counter()
    maps, notes = methods.run(name, score, work)
    seconds = (time.perf_counter() - begun) / len(group)
    fine = np.isfinite(maps.reshape(len(maps), -1)).all(1)
    areas = faithfulness.curves(
      score, *work.near, np.nan_to_num(maps),
      batch=asked.batch, shown=shown, seed=asked.seed,
    )  # fmt: skip
    for i, result in enumerate(results):
      if not fine[i]:
        errors.append(
          f'{subjects.called(result.subject.raw)}: {name} is NaN or infinite: '
          'the gradient of this model is not finite there'
        )
        print(f'failed: {errors[-1]}', flush=True)
        continue
      down, up = (x[i] for x in areas)
      empty = '' if maps[i].any() else ' (nothing: the map is 0)'
      result.maps[name], result.notes[name] = maps[i], notes[i] + empty
      result.areas[name], result.seconds[name] = (down, up), seconds
      result.tests[name] = _tests(maps[i], down, up, result.subject.mask)
    advance(len(group), f'explaining by {name}')
  return results


def _tests(values, down, up, mask):
  """The numbers beside a picture."""
  pick = lambda x, lower: float(faithfulness.chance(x[None], lower=lower)[0])
  tests = {
    'deletion': float(down[0]),
    'deletion_random': float(down[1:].mean()),
    'deletion_p': pick(down, True),
    'insertion': float(up[0]),
    'insertion_random': float(up[1:].mean()),
    'insertion_p': pick(up, False),
    'gini': faithfulness.gini(values),
    'entropy': faithfulness.entropy(values),
  }
  if mask is not None:
    tests |= faithfulness.localisation(values, mask)
  return tests


def _checks(run, score, results, asked, errors, stop):
  """{method: {…}} of the sanity checks: 'top', 'all', 'planted'."""
  checks: dict[str, dict[str, Any]] = {name: {} for name in asked.methods}
  if stop.exit_code(0):
    return checks
  shape = results[0].subject.image.shape
  few = [r for r in results if r.subject.image.shape == shape][: asked.sanity]
  if few:
    work = work_of([(r.subject, r.baseline) for r in few], asked)
    with progress.bar('sanity checks', len(asked.methods)) as advance:
      for name in asked.methods:
        if stop.exit_code(0):
          return checks
        maps = [r.maps.get(name) for r in few]
        if all(m is not None for m in maps):
          checks[name] |= sanity.randomised(name, score, work, maps)
        advance(text=f'sanity check of {name}')
  if asked.planted and not stop.exit_code(0):
    found = _tried(lambda: extras.planted(run, score, results, asked), errors)
    for name in asked.methods if found else ():
      checks[name] |= {'planted': found[0][name], 'learnt': found[1]}
  return checks
