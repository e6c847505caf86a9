"""How far a run may be relied on: sets, novelty and subgroups, as text."""

from medjax.reports.text import interval, number

_WAYS = {
  'lac': 'LAC', 'aps': 'APS', 'raps': 'RAPS', 'missed': 'masks',
  'labels': 'labels', 'any': 'Lower bounds, any censoring',
  'independent': 'Lower bounds, independent censoring',
}  # fmt: skip


def warnings(run):
  """Sentences on what does not hold as it says, and on what could not be."""
  found = run.summary.get('sets') or []
  lines = [t.get('warning') for t in found] + [
    f'{_way(t)}: {t["note"]}.' for t in found if t.get('note')
  ]
  lines.append((run.summary.get('risk_coverage') or {}).get('warning'))
  return list(dict.fromkeys(filter(None, lines)))


def _way(table):
  by_class = ', by class' if table.get('by_class') else ''
  way = _WAYS.get(table.get('method'), table.get('method'))
  return f'{way}{by_class}, {number(table.get("level"))}'


def set_table(run):
  """Header and rows of the conformal sets and their coverage; or None."""
  found = [t for t in _measured(run) if 'bound' not in t]
  if not found:
    return None
  names = list(dict.fromkeys(k for t in found for k in t.get('classes') or {}))
  rows = [
    [
      _way(t),
      number(t['coverage']),
      number(t.get('size')),
      number(t.get('empty')),
      *(number((t.get('classes') or {}).get(k, {}).get('coverage'))
        for k in names),
    ]
    for t in found
  ]  # fmt: skip
  return ['Sets at', 'Coverage', 'Size', 'Empty', *names], rows


def _measured(run):
  found = run.summary.get('sets') or []
  return [t for t in found if t.get('coverage') is not None]


def bounds(run):
  """Sentences on lower bounds of survival and how many outlived them."""
  unit = (run.summary.get('survival') or {}).get('unit')
  return [
    f'{_way(t)}: {number(t["coverage"])} of {number(t["n"])} patients outlived '
    f'theirs, in the median {number(t["bound"])}{f" {unit}" if unit else ""}. '
    f'{number(t["unknown"])} were censored before it; others stand for them, '
    'by inverse probability of censoring.'
    for t in _measured(run)
    if 'bound' in t
  ]


def operating_point(run):
  """Sentence on where to stop answering, '' where nothing was decided."""
  found = run.summary.get('risk_coverage') or {}
  if not found:
    return ''
  risk = number(found.get('risk'))
  if found.get('confidence') is None:
    return (
      f'Operating point: none. The {found.get("n")} validation patients do '
      f'not show an error of at most {risk} at any confidence.'
    )
  return (
    f'Operating point: answer at a confidence of {number(found["confidence"])} '
    f'or more. On validation that is shown to keep the error at {risk} or less '
    f'(confidence 90 %); here {number(found.get("answered"))} of the cases are '
    f'answered, with an error of {number(found.get("error"))}.'
  )


def novelty(run):
  """Sentence on what is taken for new, '' where that was not asked."""
  found = run.metrics.get('novelty') or {}
  if not found:
    return ''
  shares = found.get('abstained') or {}
  each = ', '.join(f'{k} {number(v)}' for k, v in shares.items() if k != 'p')
  return (
    f'Unlike the training, by p < {found.get("doubt")}: '
    f'{number(shares.get("p"))} of the test cases ({each} each by '
    'itself); of cases like those of '
    f'validation it would be {found.get("doubt")}. Fitted on '
    f'{number(found.get("train"))} training cases.'
  )


def group_table(run):
  """Header and rows of the subgroups; None where none were asked for."""
  found = (run.summary.get('subgroups') or {}).get('groups') or []
  if not found:
    return None
  names = list(dict.fromkeys(k for g in found for k in g.get('scores') or {}))
  head = ['Attribute', 'Group', 'Cases', 'Patients', 'Positive']
  rows = []
  for g in found:
    cells = []
    for name in names:
      one = (g.get('scores') or {}).get(name)
      cells.append(_score(one) if one else '–')
    sizes = [number(g.get(k)) for k in ('n', 'patients', 'positives')]
    rows.append([g['attribute'], g['name'], *sizes, *cells, g['verdict']])
  return [*head, *map(run.measures.title, names), 'Verdict'], rows


def _score(one):
  """'.912 (.88 to .94); −.03 (−.07 to .01), p .21, shows .06'."""
  text = f'{number(one["value"])} ({interval(one["interval"])})'
  if one.get('adjusted') is None:
    return text
  return (
    f'{text}; gap {number(one["gap"])} ({interval(one["gap_interval"])}), '
    f'p {number(one["adjusted"])}, would show {number(one["smallest"])}'
  )


def group_words(run):
  """Sentence on the worst group, or on why there are none."""
  found = run.summary.get('subgroups') or {}
  if found.get('note'):
    return f'{found["note"]}.'
  if not found.get('worst'):
    return '' if not found else 'No group is large enough to be compared.'
  attribute, name = found['worst']
  by = run.measures.plain_title(found['by'])
  return f'The worst group by {by}: {attribute} {name}.'
