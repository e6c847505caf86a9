"""What a report says of the inputs of a fusion."""

from medjax.reports.text import interval, number

_SAID = {
  'fusion': 'the fusion',
  'baseline': 'tabular baseline: a linear model of the table alone',
  'without': 'without {}',
  'only': '{} only',
  'permuted': '{} of another case',
}


def table(run):
  """Header and rows of what each input is worth; None of one input."""
  found = run.summary.get('modalities') or {}
  if not found.get('lines'):
    return None
  rows = []
  for line in found['lines']:
    gain = line.get('difference') or {}
    rows.append(
      [
        _SAID.get(line['way'], line['way']).format(line['input']),
        number(line['score']['value']),
        interval(line['score']['interval']),
        number(gain['value']) if gain else '',
        interval(gain.get('interval')),
      ]
    )
  title = run.measures.plain_title(found['score'])
  head = ['Inputs', title, '95 % interval']
  return [*head, 'the fusion is above it by', '95 % interval'], rows


def words(run):
  """Sentences on inputs that are not used, and on a baseline that lacks."""
  lines = (run.summary.get('modalities') or {}).get('lines') or []
  if not lines:
    return []
  said = []
  if not any(line['way'] == 'baseline' for line in lines):
    said.append(
      'No tabular baseline stands beside this fusion: it has no table, or was '
      'not trained by medjax main. Without one its score says nothing of what '
      'the images add.'
    )
  unused = [line['input'] for line in lines if _is_unused(line)]
  if unused:
    said.append(
      f'{", ".join(unused)}: with the rows of another case the score is no '
      'worse beyond doubt, so nothing shows that it is used.'
    )
  return said


def _is_unused(line):
  bounds = (line.get('difference') or {}).get('interval') or [None]
  return line['way'] == 'permuted' and bounds[0] is not None and bounds[0] <= 0
