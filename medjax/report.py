"""report.html of a workdir: `python -m medjax.report WORKDIR`.

Reads only the files of the workdir (config.json, metrics.jsonl, metrics.json,
per_case.csv, figures/cases.npz), so that a report can be written again at any
time, also of a run that has not ended. What is missing is left out and said.
"""

import argparse
import contextlib
import csv
import datetime
import json
import math
import pathlib

import numpy as np

from medjax import cli
from medjax.reports import figures, page
from medjax.reports.gallery import load_cases

# What one asks for first, after the score that chose the checkpoint.
_FIRST = ('dice', 'nsd', 'hd95', 'auroc', 'auprc', 'balanced_accuracy')


def _headline(metric):
  base = metric.removesuffix('_calibrated')
  lower = figures.METRICS.get(base, ('', '', False))[2]
  return figures.metric_title(metric) + (' (lower is better)' if lower else '')


# --- what the workdir holds --------------------------------------------------


def _read_json(path):
  if not path.exists():
    return None
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except ValueError as e:
    raise ValueError(f'{path} is not JSON: {e}; evaluate again') from None


def _read_log(path):
  log = []
  if path.exists():
    for line in path.read_text(encoding='utf-8').splitlines():
      with contextlib.suppress(ValueError):  # half written
        log.append(json.loads(line))
  return [e for e in log if isinstance(e, dict) and 'step' in e]


def _read_rows(path):
  if not path.exists():
    return []
  with path.open(encoding='utf-8', newline='') as f:
    return list(csv.DictReader(f))


def _flatten(config, prefix=''):
  """[('data.name', 'mni152_tissue'), …]."""
  rows = []
  for key, value in config.items():
    if isinstance(value, dict) and value:
      rows += _flatten(value, f'{prefix}{key}.')
    elif isinstance(value, list) and any(isinstance(v, dict) for v in value):
      for i, v in enumerate(value):
        rows.append((f'{prefix}{key}[{i}]', json.dumps(v, ensure_ascii=False)))
    else:
      text = json.dumps(value, ensure_ascii=False)
      rows.append((prefix + str(key), value if text[0] == '"' else text))
  return rows


def _label_names(config):
  """{label of a mask: its class's name}, {} where there is no such name."""
  task = config.get('task') or {}
  names = () if task.get('regions') else task.get('class_names')
  return dict(enumerate(names or ()))


def _facts(run):
  """[(what, value)] of metrics.json's "run"."""
  facts = []
  for key, value in run.items():
    if key == 'seconds' and value is not None:
      value = f'{datetime.timedelta(seconds=round(value))} h:min:s'
      key = 'time'
    elif isinstance(value, dict):
      value = ', '.join(f'{k} {v}' for k, v in value.items())
    elif isinstance(value, list):
      value = ' '.join(map(str, value))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
      value = figures.number(value)
    if key != 'command':
      facts.append((key.replace('_', ' ').capitalize(), value))
  return facts


def _cards(summary, monitor):
  """[(title, value, interval)] of the scores one asks for first."""
  scores = summary.get('scores') or {}
  intervals = summary.get('intervals') or {}
  known = (monitor, *_FIRST, *scores)
  return [
    (
      _headline(k),
      figures.number(scores[k]),
      figures.interval(intervals.get(k)),
    )
    for k in dict.fromkeys(known)
    if k in scores
  ][:4]


def _thresholds(summary):
  """Sentence on the thresholds applied, '' where there are none."""
  values = summary.get('applied_thresholds')
  if not values:
    return ''
  names = list(summary.get('classes') or {})
  if len(values) == 1:
    each = f'{names[-1]} above {figures.number(values[0])}'
  else:
    pairs = zip(names, values, strict=False)
    each = ', '.join(f'{name} above {figures.number(v)}' for name, v in pairs)
  return f'Threshold, chosen on the validation split: {each}.'


def _decision_table(summary):
  """Header and rows of the 2 x 2 tables of a multi-label task, or None."""
  key = 'confusion_at_threshold'
  key = key if summary.get(key) else 'confusion'
  if np.ndim(summary.get(key) or ()) != 3:
    return None
  header = ('Label', 'True negative', 'False positive')
  header += ('False negative', 'True positive')
  names = list(summary.get('classes') or range(len(summary[key])))
  rows = [
    [str(name), *(figures.number(n) for line in table for n in line)]
    for name, table in zip(names, summary[key], strict=True)
  ]
  return header, rows


def _score_table(summaries):
  names = dict.fromkeys(
    name for s in summaries.values() for name in s.get('scores') or {}
  )
  rows = []
  for name in names:
    cells = [
      (
        figures.number((s.get('scores') or {}).get(name)),
        figures.interval((s.get('intervals') or {}).get(name)),
      )
      for s in summaries.values()
    ]
    rows.append((_headline(name), cells))
  return rows


def _temperature(summary):
  """Sentence on the temperature applied, '' where there is none."""
  value = summary.get('applied_temperature')
  if value is None:
    return ''
  return (
    f'Temperature, chosen on the validation split: {figures.number(value)}; '
    'above 1 the probabilities were too sure.'
  )


def _member_table(metrics, monitor):
  """Header and rows: an ensemble's members, or folds, on their own; or None."""
  members = metrics.get('members')
  if not members:
    return None
  known = {k for m in members.values() for k in m.get('test') or {}}
  shown = [k for k in dict.fromkeys((monitor, *_FIRST)) if k in known][:4]
  chosen = (monitor or shown[0]) if shown else ''
  rows = [
    [
      name,
      figures.number(m.get('best_step')),
      figures.number((m.get('validation') or {}).get(chosen)),
      *(figures.number((m.get('test') or {}).get(k)) for k in shown),
    ]
    for name, m in members.items()
  ]
  header = ['Member', 'Best step', f'{_headline(chosen)} on validation']
  return [*header, *map(_headline, shown)], rows


def _uncertainty(summary):
  """Sentence on the members' entropies, '' where there are none."""
  found = summary.get('uncertainty')
  if not found:
    return ''
  return (
    f'Mean over cases: entropy {figures.number(found["entropy"])} nats, of it '
    f'{figures.number(found["mutual_information"])} because the members differ '
    '(mutual information).'
  )


def _class_table(summary):
  """Columns of counts, and per class its rows (metric, value, …)."""
  classes = summary.get('classes') or {}
  known = ('n', 'undefined', 'missed', 'false_positive')
  found = {k for c in classes.values() for m in c.values() for k in m}
  counts = [k for k in known if k in found]
  rows = []
  for name, metrics in classes.items():
    lines = [
      (
        _headline(metric),
        figures.number(entry.get('value')),
        figures.interval(entry.get('interval')),
        [figures.number(entry.get(k)) for k in counts],
      )
      for metric, entry in metrics.items()
    ]
    rows.append((name, lines))
  return [k.replace('_', ' ') for k in counts], rows


def _report_table(summary):
  """Header and rows of the classification report."""
  report = summary.get('report') or []
  if isinstance(report, dict):
    report = [{'class': name, **row} for name, row in report.items()]
  header = list(dict.fromkeys(key for row in report for key in row))
  rows = [[figures.number(row.get(key)) for key in header] for row in report]
  return [h.replace('_', ' ') for h in header], rows


def _worst_segmentations(rows, limit=10):
  scored = [(_case_scores(row), row) for row in rows]
  scored = [(np.mean([*s.values()]), row) for s, row in scored if s]
  if not scored:
    return None
  scored.sort(key=lambda pair: pair[0])
  metrics = [k for k in rows[0] if k.split('/')[0] in ('dice', 'hd95')]
  if len(metrics) > 12:
    metrics = []
  titles = [
    f'{figures.metric_title(k.split("/")[0])}: {k.split("/", 1)[1]}'
    for k in metrics
  ]
  return ['Id', 'Patient', 'Mean Dice', *titles], [
    [row.get('id'), row.get('patient') or '–', figures.number(mean)]
    + [figures.number(figures.to_float(row[k])) for k in metrics]
    for mean, row in scored[:limit]
  ]


def _worst_classifications(rows, limit=10):
  """Errors by the probability of the predicted class, highest first."""
  columns = [k for k in rows[0] if k.startswith('probability/')]
  classes = [k.split('/', 1)[1] for k in columns]
  wrong, understood = [], False
  for row in rows:
    p = [figures.to_float(row[k]) for k in columns]
    label = row.get('label') or ''
    if label not in classes and label.isdigit() and int(label) < len(classes):
      label = classes[int(label)]
    if label not in classes:
      continue
    understood = True
    best = int(np.argmax(p))
    if classes[best] != label:
      wrong.append((p[best], row, label, classes[best]))
  if not understood:  # multi-label, or another task
    return None
  wrong.sort(key=lambda error: -error[0])
  header = ['Id', 'Patient', 'Reference', 'Predicted', 'Probability']
  return header, [
    [
      row.get('id'),
      row.get('patient') or '–',
      reference,
      predicted,
      figures.number(p),
    ]
    for p, row, reference, predicted in wrong[:limit]
  ]


def _case_scores(row, metric='dice'):
  """{class: value} of one row of per_case.csv, the defined ones."""
  values = {
    k.split('/', 1)[1]: figures.to_float(v)
    for k, v in row.items()
    if k and k.startswith(metric + '/')
  }
  return {k: v for k, v in values.items() if not math.isnan(v)}


# --- the page ----------------------------------------------------------------


def _case_pictures(cases, rows, names, label_names, pictures):
  found = []
  scores = {row.get('id'): row for row in rows}
  segmented = [c for c in cases if 'mask' in c and 'prediction' in c]
  for i, case in enumerate(segmented):
    row = scores.get(case['id'], {})
    dice = _case_scores(row)
    mean = f'Dice {np.mean([*dice.values()]):.3f}' if dice else ''
    heading = [case.get('caption', '').capitalize(), case['id'], mean]
    heading = ' · '.join(filter(None, heading))
    each = ', '.join(f'{k} {figures.number(v)}' for k, v in dice.items())
    each = f'Dice: {each}' if len(dice) > 1 else ''
    distance = _case_scores(row, 'hd95')
    if distance:
      far = ', '.join(f'{k} {figures.number(v)}' for k, v in distance.items())
      each += f'{"; " if each else ""}HD95, mm: {far}'
    figure = figures.segmentation_case(
      case, label_names, figures.shorten(heading, 110)
    )
    found.append(pictures(f'case_{i + 1:02d}', figure, heading, each))
  rest = [c for c in cases if 'mask' not in c]
  if rest:
    figure = figures.classification_cases(rest, names)
    alt = 'Images with their reference and predicted classes'
    found.append(pictures('case_images', figure, alt))
  return found


def _missing(config, log, metrics, rows, cases):
  """What is not there, in words."""
  notes = []
  if config is None:
    notes.append('config.json is missing: the configuration is not known.')
  if metrics and metrics.get('members'):
    return ['Learning curves, and more, are in the reports of the members.']
  if not log:
    notes.append('metrics.jsonl is missing or empty: no learning curves.')
  if metrics is None:
    notes.append('metrics.json is missing: the run is not evaluated yet.')
  else:
    for split in ('test', 'validation'):
      if not metrics.get(split):
        notes.append(f'There are no {split} results.')
  if not rows:
    notes.append('per_case.csv is missing or empty: no results by case.')
  if not cases:
    notes.append('figures/cases.npz is missing or empty: no pictures of cases.')
  return notes


def _plots(summary, rows, pictures):
  """Figures of one split: of its summary and of its rows of per_case.csv."""
  ece = (summary.get('scores') or {}).get('ece')
  found = [
    pictures(
      'discrimination',
      figures.discrimination(summary),
      'ROC and precision-recall curves',
    ),
    pictures(
      'reliability',
      figures.reliability(summary),
      'Reliability diagram',
      f'Expected calibration error (ECE): {figures.number(ece)}',
    ),
    pictures(
      'confusion',
      figures.confusion(summary),
      'Confusion matrix',
      'Confusion matrix: cases, and their share of the reference class.',
    ),
    pictures(
      'boxes',
      figures.boxes(rows, ('dice', 'hd95', 'nsd')),
      'Distribution over cases of each class',
      'One point per case in which the measure is defined; box: quartiles '
      'and median; whiskers: the furthest point within 1.5 box lengths.',
    ),
  ]
  return [picture for picture in found if picture]


def write_report(workdir):
  """Writes report.html and figures/*.png of a workdir; returns its path.

  Test results stand first, those of validation beside them. Raises
  FileNotFoundError when the folder holds nothing of a run.
  """
  workdir = pathlib.Path(workdir)
  config = _read_json(workdir / 'config.json')
  metrics = _read_json(workdir / 'metrics.json')
  log = _read_log(workdir / 'metrics.jsonl')
  rows = _read_rows(workdir / 'per_case.csv')
  npz = workdir / 'figures/cases.npz'
  cases = load_cases(npz) if npz.exists() else []
  if config is None and metrics is None and not log:
    raise FileNotFoundError(
      f'{workdir} holds no config.json, metrics.jsonl or metrics.json: '
      'give the workdir of a run'
    )
  notes = _missing(config, log, metrics, rows, cases)
  config, metrics = config or {}, metrics or {}
  run = metrics.get('run') or {}
  summaries = {s: metrics[s] for s in ('test', 'validation') if metrics.get(s)}
  split = next(iter(summaries), '')
  summary = summaries.get(split, {})
  rows = [r for r in rows if not split or r.get('split', split) == split]
  monitor = run.get('monitor') or (config.get('task') or {}).get('monitor')
  segmentation = bool(rows) and any(k.startswith('dice/') for k in rows[0])
  worst = _worst_segmentations if segmentation else _worst_classifications
  kind = [(config.get(k) or {}).get('name') for k in ('model', 'data', 'task')]
  pictures = page.Pictures(workdir / 'figures', old='case_*.png')
  with figures.style():
    curves = pictures(
      'learning_curves',
      figures.learning_curves(log, monitor, run.get('best_step')),
      'Loss, validation score and learning rate by training step',
    )
    plots = _plots(summary, rows, pictures)
    shown = _case_pictures(
      cases,
      rows,
      list(summary.get('classes') or {}),
      _label_names(config),
      pictures,
    )
  text = page.render(
    'report.html.jinja',
    title=workdir.resolve().name,
    kind=' · '.join(str(k) for k in kind if k),
    written=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
    notes=notes,
    split=split,
    splits=[(s, summaries[s].get('n')) for s in summaries],
    cards=_cards(summary, monitor),
    scores=_score_table(summaries),
    threshold=f'{_thresholds(summary)} {_temperature(summary)}'.strip(),
    members=_member_table(metrics, monitor),
    uncertainty=_uncertainty(summary),
    plots=plots,
    cases=shown,
    segmentation=segmentation,
    worst=worst(rows) if rows else None,
    classes=[(s, *_class_table(summaries[s])) for s in summaries],
    report=_report_table(summary),
    decisions=_decision_table(summary),
    curves=curves,
    command=run.get('command'),
    facts=_facts(run),
    config=_flatten(config),
  )
  path = workdir / 'report.html'
  page.write(path, text)
  return path


def main():
  """Writes the report of the workdir named on the command line."""
  parser = argparse.ArgumentParser(description=write_report.__doc__)
  parser.add_argument('workdir')
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args()
  with cli.one_line_errors():
    print(write_report(args.workdir))


if __name__ == '__main__':
  main()
