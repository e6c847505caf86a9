"""What a report says of who a model gives away (`medjax privacy attack`)."""

from medjax.reports.text import interval, number

_NAMES = {'likelihood_ratio': 'likelihood ratio', 'loss': 'loss'}
_AT = ('caught_at_0.01', 'caught_at_0.001')


def table(found):
  """Header and rows of an attack.json: a row of each attack on each way."""
  rows = []
  for arm in found['arms']:
    for name, scores in arm['attacks'].items():
      most = arm.get('allowed', {})
      rows.append(
        [
          _way(arm),
          _NAMES.get(name, name),
          _scored(scores['auroc']),
          *(_scored(scores[at], most.get(at)) for at in _AT),
          number(arm['right']['trained_on']),
          number(arm['right']['others']),
          str(arm['memorised']['cases']),
        ]
      )
  header = ['Trained', 'Attack', 'AUROC', 'Found at 1 % false alarms']
  header += ['… at .1 %', 'Right on its own', 'on others', 'Memorised']
  return header, rows


def words(found):
  """Sentences below the table."""
  said = [
    f'{found["runs"]} shadow runs like this one, each on a random half of '
    f'{found["cases"]} patients. Found: the share of those a run was trained '
    'on that an attacker names who, of the others, is wrong in 1 % or .1 %; '
    'who guesses finds as many. 95 % intervals: runs and cases resampled. '
    'Right: the true class has more than one half. Memorised: patients in whom '
    'a run is surer by more than .25 for having seen them.'
  ]
  if any('allowed' in arm for arm in found['arms']):
    said.append(
      'At most: what its epsilon promises of every attack, known or not.'
    )
  return said


def _way(arm):
  if arm['epsilon'] is None:
    return 'without privacy'
  return f'ε = {arm["epsilon"]:g}'


def _scored(score, most=None):
  text = f'{number(score["value"])} ({interval(score["interval"])})'
  return text if most is None else f'{text}, at most {number(most)}'
