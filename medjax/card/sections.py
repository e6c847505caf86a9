"""The sections of a card, out of the files of a run."""

import dataclasses
from collections.abc import Sequence

from medjax.card.entries import Entry, pointer
from medjax.reports.measures import Measures
from medjax.reports.text import duration, interval, number

_SCORED = ('validation', 'test')


@dataclasses.dataclass(frozen=True)
class Section:
  """A heading and its statements; `about` says what the section is of."""

  name: str
  title: str
  entries: Sequence[Entry]
  about: str = ''

  @property
  def is_empty(self):
    """Whether nothing of it is stated."""
    return all(entry.value is None for entry in self.entries)


def sections(sources):
  """All `Section`s of a card, in the order of the page."""
  makers = (
    _identity, _use, _data, _training, _performance, _subgroups, _calibration,
    _robustness, _abstention, _explanations, _privacy, _failures, _monitoring,
    _versions,
  )  # fmt: skip
  return tuple(make(sources) for make in makers)


def _metrics(*keys):
  return f'metrics.json#/{pointer(*keys)}'


def _config(*keys):
  return f'config.json#/{pointer(*keys)}'


def _identity(s):
  return Section('identity', 'The model', [
    s.entry('Digest of the model', 'computed:digest'),
    s.entry('Network', _config('model', 'name')),
    s.entry('Task', _config('task', 'name')),
    s.entry('Checkpoint of step', _metrics('run', 'best_step')),
    s.entry('Chosen on validation by', _metrics('run', 'monitor')),
    s.fact('licence'),
    s.fact('contact'),
  ])  # fmt: skip


def _use(s):
  facts = ('intended_use', 'users', 'not_for', 'population', 'oversight',
           'limitations', 'risks', 'security')  # fmt: skip
  return Section('use', 'Use', [s.fact(name) for name in facts])


def _data(s):
  lines = [s.entry('Data set', _config('data', 'name'))]
  # Training cases have no scores: their numbers are facts of the run.
  for what in ('cases', 'patients'):
    source = _metrics('run', f'train_{what}')
    lines.append(s.entry(f'Train, {what}', source, number))
  for split in _SCORED:
    for what, title in (('n', 'cases'), ('patients', 'patients')):
      source = _metrics(split, what)
      lines.append(s.entry(f'{split.capitalize()}, {title}', source, number))
    support = s.value(_metrics(split, 'support')) or {}
    lines += [
      s.entry(f'{split.capitalize()}, cases of {name}',
              _metrics(split, 'support', name), number)
      for name in support
    ]  # fmt: skip
  lines += [
    s.entry('Patients in validation and in test', 'computed:patients_shared',
            number),
    s.entry('Channels', 'facts.json#/channels', number),
    s.entry('Axes', 'facts.json#/rank', number),
    s.entry('Spacing of a case', 'facts.json#/spacing',
            lambda v: ' × '.join(map(number, v))),
    s.entry('Unit of length', 'facts.json#/unit_of_length'),
    s.entry('Seed of the splits', _config('data', 'seed'), number),
  ]  # fmt: skip
  facts = ('leakage_check', 'data_provenance', 'data_licence',
           'reference_standard')  # fmt: skip
  return Section('data', 'Data', [*lines, *map(s.fact, facts)])


def _training(s):
  return Section('training', 'Training', [
    s.entry('Seed', _config('seed'), number),
    s.entry('Steps', _metrics('run', 'steps'), number),
    s.entry('Parameters', _metrics('run', 'parameters'), number),
    s.entry('Device', _metrics('run', 'device')),
    s.entry('Time', _metrics('run', 'seconds'), duration),
    s.entry('Most memory, GiB', _metrics('run', 'peak_memory_gib'), number),
    s.entry('Optimizer', _config('optimizer', 'name')),
    s.fact('energy'),
  ])  # fmt: skip


def _scores(s, split):
  """The scores of a split with their intervals, those of classes below."""
  title = Measures.of(s.json('metrics.json')).headline
  where = split.capitalize()
  lines = []
  for name in s.value(_metrics(split, 'scores')) or {}:
    lines.append(_scored(s, f'{where}, {title(name)}', split,
                         _metrics(split, 'scores', name),
                         _metrics(split, 'intervals', name)))  # fmt: skip
  classes = s.value(_metrics(split, 'classes')) or {}
  for label, table in classes.items() if len(classes) > 1 else ():
    for name in list(table)[:3]:
      at = _metrics(split, 'classes', label, name)
      lines.append(_scored(s, f'{where}, {title(name)} of {label}', split,
                           f'{at}/value', f'{at}/interval'))  # fmt: skip
  return lines


def _scored(s, title, split, value, bounds):
  found = s.entry(title, value, number)
  given = s.value(bounds)
  between = interval(given)
  if found.value is None or not between:
    return found
  text = f'{found.text} ({between})'
  return dataclasses.replace(
    found, text=text, interval=given, interval_source=bounds
  )


def _performance(s):
  lines = [
    s.entry('Positive class', _metrics('test', 'positive')),
    *_scores(s, 'test'),
    *_scores(s, 'validation'),
  ]
  about = 'With 95 % intervals, drawn by patient.'
  return Section('performance', 'Performance', lines, about)


def _subgroups(s):
  lines = []
  groups = s.value(_metrics('test', 'subgroups', 'groups')) or []
  for i, group in enumerate(groups):
    at = lambda *keys, i=i: _metrics('test', 'subgroups', 'groups', i, *keys)
    name = f'{group["attribute"]} {group["name"]}'
    lines.append(s.entry(f'{name}, cases', at('n'), number))
    for score in group.get('scores') or {}:
      lines.append(_scored(s, f'{name}, {score}', 'test',
                           at('scores', score, 'value'),
                           at('scores', score, 'interval')))  # fmt: skip
    lines.append(s.entry(f'{name}, verdict', at('verdict')))
  lines = lines or [Entry('Scores by subgroup (data.subgroups)')]
  return Section('subgroups', 'Subgroups', lines)


def _calibration(s):
  names = ('ece', 'nll', 'brier', 'ece_calibrated', 'nll_calibrated')
  title = Measures.of(s.json('metrics.json')).headline
  return Section('calibration', 'Calibration', [
    s.entry('Temperature', _metrics('calibration', 'temperature'), number),
    s.entry('Thresholds', _metrics('calibration', 'thresholds'),
            lambda v: ', '.join(map(number, v))),
    *(s.entry(f'Test, {title(name)}', _metrics('test', 'scores', name), number)
      for name in names),
  ])  # fmt: skip


def _robustness(s):
  lines = []
  for path in sorted(s.workdir.glob('stress/*/stress.json')):
    at = f'{path.relative_to(s.workdir)}#'
    monitor = s.value(f'{at}/monitor')
    suite = s.value(f'{at}/suite')
    score = lambda title, source: s.entry(title, source, number)
    lines.append(score(f'{suite}: {monitor} of the clean images',
                       f'{at}/clean/{monitor}'))  # fmt: skip
    lines += [
      score(f'{suite}: {monitor} under {name}',
            f'{at}/{pointer("corruptions", name, monitor)}')
      for name in s.value(f'{at}/corruptions') or {}
    ]  # fmt: skip
  lines = lines or [Entry('Scores under corruption (medjax.trust stress)')]
  return Section('robustness', 'Robustness', lines)


def _abstention(s):
  point = lambda name: _metrics('test', 'risk_coverage', name)
  return Section('abstention', 'Abstention', [
    s.entry('Error that is kept to', point('risk'), number),
    s.entry('Confidence needed for an answer', point('confidence'), number),
    s.entry('Share of the test cases answered', point('answered'), number),
    s.entry('Error of those', point('error'), number),
    s.entry('In the service, share of the validation cases answered',
            'abstention.json#/coverage', number),
    s.entry('In the service, error of those', 'abstention.json#/risk/0',
            number),
  ])  # fmt: skip


def _explanations(s):
  at = 'explain/explain.json#/methods'
  lines = [
    s.entry(f'Sanity of {row.get("method")}', f'{at}/{i}/verdict')
    for i, row in enumerate(s.value(at) or [])
  ]
  missing = 'Sanity checks (medjax.explain --out=WORKDIR/explain)'
  lines = lines or [Entry(missing)]
  return Section('explanations', 'Explanations', lines)


def _privacy(s):
  return Section('privacy', 'Privacy', [
    s.entry('Privacy budget, ε', 'privacy.json#/epsilon', number),
    s.entry('Privacy budget spent, ε', 'privacy.json#/spent/pld', number),
    s.entry('δ', 'privacy.json#/delta', '{:.1e}'.format),
    s.entry('Unit that is protected', 'privacy.json#/unit'),
  ])  # fmt: skip


def _failures(s):
  found = s.value('computed:worst')
  if not found:
    return Section('failures', 'Known failures', [Entry('The worst cases')])
  show = lambda v: ', '.join(map(number, v['values']))
  title = f'{found["measure"]} of the worst test cases'
  return Section('failures', 'Known failures', [
    s.entry(title, 'computed:worst', show)
  ])  # fmt: skip


def _monitoring(s):
  return Section(
    'monitoring', 'Monitoring', [s.fact('monitoring'), s.fact('changes')]
  )


def _versions(s):
  return Section('versions', 'Versions', [
    s.entry(name, _metrics('run', name)) for name in ('medjax', 'jax', 'python')
  ])  # fmt: skip
