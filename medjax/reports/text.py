"""Numbers and names as text: of pages, tables, figures and lines."""

import math


def is_defined(value):
  """Whether a value of metrics.json is a number: not null, not NaN."""
  return value is not None and not math.isnan(value)


def number(value):
  """A number as text: '0.912', '12.3', '1,024', '4e−06', '–' when undefined."""
  if isinstance(value, str):
    return value
  if not is_defined(value):
    return '–'
  if isinstance(value, int):
    return f'{value:,}'
  text = f'{value:.3f}' if abs(value) < 10 else f'{value:.1f}'
  if 0 < abs(value) < 0.0005:  # a distance under a microscope is not zero
    text = f'{value:.1g}'
  return text.replace('-', '−')


def interval(bounds):
  """[lo, hi] as text, '' when undefined."""
  if not bounds or not all(is_defined(b) for b in bounds):
    return ''
  return f'{number(bounds[0])} to {number(bounds[1])}'


def duration(seconds):
  """Seconds as '1:01:11 h:min:s'."""
  minutes, rest = divmod(round(seconds), 60)
  return f'{minutes // 60:,}:{minutes % 60:02d}:{rest:02d} h:min:s'


def shorten(text, length):
  """At most `length` characters, the middle left out."""
  text = str(text)
  half = (length - 1) // 2
  return text if len(text) <= length else f'{text[:half]}…{text[-half:]}'


def counted(n, what):
  """'1 case', '2 cases'."""
  return f'{n} {what}{"" if n == 1 else "s"}'


def spoken(results, split='test', most=4):
  """A line of what metrics.json holds of a split: its main scores.

  The score that chose the checkpoint first, then the first of the measures.
  Of validation where the split was not scored.
  """
  split = split if split in results else 'validation'
  found, measures = results[split], results['measures']
  scores, bounds = found['scores'], found.get('intervals') or {}
  first = results['run'].get('monitor')
  names = [n for n in dict.fromkeys([first, *measures]) if n in scores]
  parts = []
  for name in names[:most]:
    measure = measures.get(name) or {'title': name, 'unit': ''}
    unit = measure['unit']
    unit = results.get('unit_of_length', unit) if unit == 'mm' else unit
    score = number(scores[name]) if is_defined(scores[name]) else 'undefined'
    text = f'{measure["title"]} {score}'
    if between := interval(bounds.get(name)):
      text += f' ({between})'
    parts.append(f'{text} {unit}'.strip())
  if found.get('positive'):
    parts.append(f'the positive class being {found["positive"]}')
  cases = counted(found['n'], 'case')
  cases += f' of {counted(found["patients"], "patient")}'
  if again := found.get('repeated', {}).get('n'):
    cases += f', {again} of them also in training, exactly or nearly'
  if settings := changed(results['run']):
    cases += f'; {settings}'
  return f'{split}: {", ".join(parts)}; {cases}'


def changed(run):
  """What was set otherwise in an evaluation, of metrics.json's "run"; or ''."""
  settings = run.get('changed') or {}
  if not settings:
    return ''
  listed = ', '.join(f'{k}={v!r}' for k, v in settings.items())
  return f'evaluated with {listed}, which config.json has otherwise'
