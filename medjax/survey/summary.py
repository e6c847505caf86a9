"""A survey in words and tables."""

import collections

import numpy as np

from medjax import cli
from medjax.survey.classes import count_classes, shown_classes
from medjax.survey.finding import count, printable, times
from medjax.survey.leaks import has_patients

_COLUMNS = 12  # classes of a table beside each other


def count_table(surveyed):
  """Header and rows: split, images, patients, images that show each class."""
  names = shown_classes(surveyed)
  table = count_classes(surveyed)
  patients = collections.defaultdict(set)
  images = collections.Counter()
  for c in surveyed.read:
    patients[c.split].add(c.patient)
    images[c.split] += 1
  header = ['Split', 'Images', 'Patients', *names]
  rows = [
    [split, images[split], len(patients[split]), *counts]
    for split, counts in table.items()
  ]
  if len(rows) > 1:
    everyone = len(set().union(*patients.values()))
    counts = np.sum([*table.values()], 0)
    rows.append(['all', sum(images.values()), everyone, *counts])
  rows = [[row[0], *(f'{int(n):,}' for n in row[1:])] for row in rows]
  if len(names) <= _COLUMNS:
    return header, rows
  header, *rows = zip(header, *rows, strict=True)  # a row for each class
  return [*header], [[*row] for row in rows]


def console(surveyed, about, found):
  """The summary for a terminal."""
  header, rows = count_table(surveyed)
  rows = rows[: _COLUMNS + 2]  # the page has them all
  parts = [
    f'{printable(surveyed.source.name)}: {kind_of(about)}',
    cli.aligned([*map(printable, header)], rows, 'l' + 'r' * (len(header) - 1)),
  ]
  return '\n\n'.join([*parts, spoken(found)])


def spoken(found):
  """Findings as lines, each with a few of its cases."""
  lines = []
  for finding in found:
    lines.append(f'{finding.level}: {printable(finding.text, 1000)}')
    lines += [f'    {e}' for e in map(printable, finding.examples[:3])]
    if len(finding.examples) > 3:
      lines.append(f'    … and {len(finding.examples) - 3:,} more')
  return '\n'.join(lines) or 'nothing odd was found'


def kind_of(about):
  """What the images are, in a line."""
  shape, spacing = about['shape']['median'], about['spacing']['median']
  parts = [
    count(sum(about['splits'].values()), 'image'),
    f'{about["rank"]}-D',
    f'{times(shape)} {"voxels" if about["rank"] == 3 else "px"}',
  ]
  if about['unit'] == 'mm':
    parts.append(f'{times(spacing)} mm')
  names = [name for name in about['modality'] if name]
  guess = ' (a guess)' if about['modality_guessed'] else ''
  channels = count(about['channels'], 'channel')
  return ', '.join(
    [*parts, channels + (f': {", ".join(names)}{guess}' if names else '')]
  )


def cards(surveyed, found):
  """The numbers on top of the page: (name, value, remark)."""
  tally = collections.Counter(f.level for f in found)
  patients = count(len({c.patient for c in surveyed.read}), 'patient')
  if not has_patients(surveyed):
    patients = 'patients are not named'
  return [
    ('Images', f'{len(surveyed.read):,}', patients),
    (
      'Classes',
      str(len(surveyed.mask_names or surveyed.label_names)),
      'background included' if surveyed.masks else 'labels of images',
    ),
    ('Errors', str(tally['error']), 'to mend before training'),
    ('Warnings', str(tally['warning']), f'and {count(tally["note"], "note")}'),
  ]
