"""Tables of a report: plain rows of text out of what a workdir holds."""

import json

import numpy as np

from medjax.reports import rows as rows_lib
from medjax.reports.text import duration, interval, number

# The percentile bootstrap covers less than it says below so many patients.
_FEW = 30
_COLUMNS = 12  # of a table of cases


def score_cards(run, limit=4):
  """[(title, value, interval)] of the scores one asks for first."""
  scores = run.summary.get('scores', {})
  intervals = run.summary.get('intervals', {})
  first = run.measures.ordered(scores, first=run.monitor)[:limit]
  return [
    (
      run.measures.headline(k),
      number(scores[k]),
      interval(intervals.get(k)),
    )
    for k in first
  ]


def score_rows(run):
  """[(title, [(value, interval) of each split])]."""
  summaries = run.summaries.values()
  names = dict.fromkeys(k for s in summaries for k in s.get('scores', {}))
  return [
    (
      run.measures.headline(name),
      [
        (
          number(s.get('scores', {}).get(name)),
          interval(s.get('intervals', {}).get(name)),
        )
        for s in summaries
      ],
    )
    for name in names
  ]


def has_intervals(summary):
  """Whether any score of a summary has one."""
  return any(map(interval, summary.get('intervals', {}).values()))


def few_patients(run):
  """Sentence on intervals of too few patients, '' for enough of them."""
  few = [
    f'{split} has {s["patients"]}'
    for split, s in run.summaries.items()
    if has_intervals(s)
    and s.get('patients') is not None
    and s['patients'] < _FEW
  ]
  if not few:
    return ''
  return (
    f'Few patients ({", ".join(few)}): with fewer than {_FEW}, intervals of '
    'the percentile bootstrap are too narrow and cover less than 95 %.'
  )


def repeated(run):
  """Sentence on test cases whose image training has seen, or ''."""
  found = run.summary.get('repeated')
  if not found:
    return ''
  if not found['n']:
    return 'No test image is one of training, or nearly one.'
  count = found['n']
  said = (
    f'{count} of {run.summary["n"]} test images {"is" if count == 1 else "are"}'
    ' also in training, exactly or nearly'
  )
  without = found.get('without')
  if not without:
    return f'{said}: no other is left to judge by.'
  first = run.measures.ordered(without['scores'], first=run.monitor)[:3]
  scores = [
    f'{run.measures.plain_title(k)} {number(without["scores"][k])}'
    + (f' ({bounds})' if (bounds := interval(without['intervals'][k])) else '')
    for k in first
  ]
  return (
    f'{said}. Without them: {", ".join(scores)}. Of a folder '
    "data.group='duplicates' keeps such images in one split."
  )


def positive_class(run):
  """Sentence on the class that the scores of two classes are of, or ''."""
  curves = run.summary.get('curves', {})
  if len(curves) != 1 or len(run.summary.get('classes', {})) != 2:
    return ''
  return (
    f'The positive class is {next(iter(curves))}: sensitivity, specificity, '
    'precision, F1 and the areas under the curves are of it.'
  )


def calibration(run):
  """Sentences on the thresholds and the temperature that validation chose."""
  chosen, sentences = run.metrics.get('calibration', {}), []
  values = run.summary.get('applied_thresholds') or chosen.get('thresholds')
  if values:
    names = list(run.summary.get('classes', {}))
    if len(values) == 1:  # of the class whose curves are drawn
      names = [*names[-1:], *run.summary.get('curves', {})][-1:]
    pairs = zip(names, values, strict=False)
    each = ', '.join(f'{name} above {number(v)}' for name, v in pairs)
    sentences.append(f'Threshold, chosen on the validation split: {each}.')
  value = run.summary.get('applied_temperature') or chosen.get('temperature')
  if value is not None:
    sentences.append(
      f'Temperature, chosen on the validation split: {number(value)}; '
      'above 1 the probabilities were too sure.'
    )
  return ' '.join(sentences)


def survival_conditions(run):
  """Sentences on how scores of survival were computed; [] of other tasks."""
  lines = []
  for name, about in (run.summary.get('about') or {}).items():
    dropped = about.get('horizons_dropped') or []
    beyond = ', '.join(map(number, dropped)) or 'none'
    no_model = number(about.get('brier_of_no_model'))
    lines.append(
      f'{name}: {about.get("events")} events; tau {number(about.get("tau"))}; '
      f'censoring distribution of {about.get("censoring_from")}; ties: '
      f'{about.get("ties")}; {number(about.get("n_pairs"))} pairs compared, '
      f'{number(about.get("n_dropped"))} not, as censored too early; Brier '
      f'score at {about.get("n_times")} times, '
      f'{about.get("n_times_dropped")} beyond follow-up left out, without a '
      f'model {no_model}; horizons beyond follow-up: {beyond}.'
    )
  return lines


def member_table(run):
  """Header and rows: an ensemble's members, or folds, on their own; or None."""
  members = run.metrics.get('members')
  if not members:
    return None
  known = dict.fromkeys(k for m in members.values() for k in m.get('test', {}))
  shown = run.measures.ordered(known, first=run.monitor)[:4]
  chosen = run.monitor or (shown[0] if shown else '')
  rows = [
    [
      name,
      number(m.get('best_step')),
      number(m.get('validation', {}).get(chosen)),
      *(number(m.get('test', {}).get(k)) for k in shown),
    ]
    for name, m in members.items()
  ]
  headline = run.measures.headline
  header = ['Member', 'Best step', f'{headline(chosen)} on validation']
  return [*header, *map(headline, shown)], rows


def uncertainty(run):
  """Sentence on the members' entropies, '' where there are none."""
  found = run.summary.get('uncertainty')
  if not found:
    return ''
  return (
    f'Mean over cases: entropy {number(found.get("entropy"))} nats, of it '
    f'{number(found.get("mutual_information"))} because the members differ '
    '(mutual information).'
  )


def class_table(run, split):
  """Names of counts, and [(class, its number of cases, its rows)] of a split.

  A row: title, value, interval, the counts.
  """
  summary = run.summaries[split]
  classes, support = summary.get('classes', {}), summary.get('support', {})
  known = ('n', 'undefined', 'missed', 'false_positive')
  found = {k for c in classes.values() for m in c.values() for k in m}
  counts = [k for k in known if k in found]
  rows = [
    (
      name,
      number(support[name]) if name in support else '',
      [
        (
          run.measures.headline(metric),
          number(entry.get('value')),
          interval(entry.get('interval')),
          [number(entry.get(k)) for k in counts],
        )
        for metric, entry in metrics.items()
      ],
    )
    for name, metrics in classes.items()
  ]
  return [k.replace('_', ' ') for k in counts], rows


def decision_table(run):
  """Header and rows of the 2 x 2 tables of a multi-label task, or None."""
  summary = run.summary
  table = summary.get('confusion_at_threshold') or summary.get('confusion')
  if table is None or np.ndim(table) != 3:
    return None
  header = ('Label', 'True negative', 'False positive')
  header += ('False negative', 'True positive')
  names = [str(name) for name in summary.get('classes') or range(len(table))]
  rows = [
    [name, *(number(n) for line in matrix for n in line)]
    for name, matrix in zip(names, table, strict=False)
  ]
  return header, rows


def worst_cases(run, limit=10):
  """Title, number of columns of words, header, rows of the cases gone worst.

  None where that is not known.

  Cases are ranked by the first measure of each case that has a direction, the
  mean of its classes; those of a classification by their errors.
  """
  ranking = [m for m in run.by_case if run.measures.higher(m) is not None]
  if not ranking:
    return _worst_errors(run, limit)
  (first, *_), title = ranking, run.measures.title
  values = case_means(run.column(first))
  if np.isnan(values).all():
    return None
  sign = 1 if run.measures.higher(first) else -1
  order = np.argsort(sign * values, kind='stable')  # NaN last
  order = order[: min(limit, np.isfinite(values).sum())]
  shown = {}
  for measure in [first, *(m for m in run.by_case if m != first)]:
    classes = run.column(measure)
    if len(shown) + len(classes) <= _COLUMNS and (
      measure != first or len(classes) > 1
    ):
      shown |= {
        f'{title(measure)}{": " if k else ""}{k}': v for k, v in classes.items()
      }
  mean = f'Mean {title(first)}' if len(run.column(first)) > 1 else title(first)
  return (
    'Worst cases',
    2,
    ['Id', 'Patient', mean, *shown],
    [
      [*_who(run.rows[i]), number(values[i])]
      + [number(column[i]) for column in shown.values()]
      for i in order
    ],
  )


def case_means(classes):
  """(n,) mean over the classes that a case defines, NaN without any."""
  table = np.stack([*classes.values()], -1)
  defined = np.isfinite(table)
  total = np.where(defined, table, 0).sum(-1)
  count = defined.sum(-1)
  return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _worst_errors(run, limit):
  """Errors by the probability of the predicted class, highest first."""
  probability = run.column('probability')
  if not probability or 'label' not in run.rows[0]:  # or several labels
    return None
  classes, table = list(probability), np.stack([*probability.values()], -1)
  numbers = lambda column: rows_lib.class_numbers(
    [row[column] for row in run.rows], classes
  )
  labels = numbers('label')
  if all(label is None for label in labels):  # of another task
    return None
  decided = numbers('decided') if 'decided' in run.rows[0] else table.argmax(1)
  wrong = []
  for row, label, best, p in zip(run.rows, labels, decided, table, strict=True):
    if label is None or best is None or np.isnan(p).any():
      raise ValueError(
        f'{run.folder / "per_case.csv"}: case {row.get("id")} has label '
        f'{row["label"]!r}, none of its classes, or no probability; '
        'evaluate again'
      )
    if best != label:
      wrong.append((p[best], [*_who(row), classes[label], classes[best]]))
  wrong.sort(key=lambda error: -error[0])
  return (
    'Errors, the most confident first',
    4,
    ['Id', 'Patient', 'Reference', 'Predicted', 'Probability'],
    [[*cells, number(float(p))] for p, cells in wrong[:limit]],
  )


def _who(row):
  return row.get('id'), row.get('patient') or '–'


def fact_rows(run):
  """[(what, value)] of metrics.json's "run"."""
  facts = []
  for key, value in run.facts.items():
    if key == 'seconds' and value is not None:
      key, value = 'time', duration(value)
    elif isinstance(value, dict):
      value = ', '.join(f'{k} {v}' for k, v in value.items())
    elif isinstance(value, list):
      value = ' '.join(map(str, value))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
      value = number(value)
    if key not in ('command', 'changed'):
      facts.append((key.replace('_', ' ').capitalize(), value))
  return facts


def config_rows(config, prefix=''):
  """[('data.name', 'mni152_tissue'), …]."""
  rows = []
  for key, value in config.items():
    if isinstance(value, dict) and value:
      rows += config_rows(value, f'{prefix}{key}.')
    elif isinstance(value, list) and any(isinstance(v, dict) for v in value):
      for i, v in enumerate(value):
        rows.append((f'{prefix}{key}[{i}]', json.dumps(v, ensure_ascii=False)))
    else:
      text = json.dumps(value, ensure_ascii=False)
      rows.append((prefix + str(key), value if text[0] == '"' else text))
  return rows
