"""Looks at a data set: `python -m medjax.inspect NAME|PATH --out=DIR`.

NAME is a data set of datasets/, which is prepared if need be; PATH a folder or
table of your own files (medjax/data/folder.py says how it may look; './NAME' is
always a path). DIR gets inspect.html, its figures, duplicates.csv and
fingerprint.json, which `medjax.plan` reads. Names of patients are printed
nowhere.
"""

import argparse
import collections
import csv
import dataclasses
import datetime
import json
import os
import pathlib

import numpy as np

from medjax import cli
from medjax.reports import figures, page
from medjax.reports.gallery import display_slice
from medjax.survey import measure as survey_lib
from medjax.survey.findings import (
  count,
  count_classes,
  find_twins,
  findings,
  has_patients,
  named,
  shown_classes,
  times,
)

SHOWN = 18  # images of the gallery
_EXAMPLES = 10
_COLUMNS = 12  # classes of a table beside each other
_BOXES = 30  # classes drawn


# As text.


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
    f'{surveyed.source.name}: {_kind(about)}',
    cli.aligned(header, rows, 'l' + 'r' * (len(header) - 1)),
  ]
  lines = []
  for finding in found:
    lines.append(f'{finding.level}: {finding.text}')
    lines += [f'    {figures.shorten(e, 160)}' for e in finding.examples[:3]]
    if len(finding.examples) > 3:
      lines.append(f'    … and {len(finding.examples) - 3:,} more')
  parts.append('\n'.join(lines) or 'nothing odd was found')
  return '\n\n'.join(parts)


def _kind(about):
  shape, spacing = about['shape']['median'], about['spacing']['median']
  parts = [
    count(sum(about['splits'].values()), 'image'),
    f'{about["rank"]}-D',
    f'{times(shape)} voxels' if about['rank'] == 3 else f'{times(shape)} px',
  ]
  if about['rank'] == 3:
    parts.append(f'{times(spacing)} mm')
  names = [name for name in about['modality'] if name]
  guess = ' (a guess)' if about['modality_guessed'] else ''
  channels = count(about['channels'], 'channel')
  return ', '.join(
    [*parts, channels + (f': {", ".join(names)}{guess}' if names else '')]
  )


# As a page.


def write_page(surveyed, twins, found, about, out):
  """Writes inspect.html and figures/ into the folder `out`; returns its path.

  Reads the few cases of the gallery again.
  """
  pictures = page.Pictures(out / 'figures', old='*.png')
  names = dict(enumerate(surveyed.mask_names))
  with figures.style():
    content = dict(
      geometry=pictures(
        'geometry',
        figures.distributions(_geometry_panels(surveyed)),
        'Shape and spacing by split',
      ),
      intensity=pictures(
        'intensity',
        figures.distributions(_intensity_panels(surveyed, about)),
        'Intensities by split',
      ),
      volumes=pictures(
        'classes',
        figures.boxes(*_volumes(surveyed)),
        'Size of each class',
        'One point per image that shows the class; box: quartiles and median.',
      ),
      gallery=pictures(
        'gallery',
        figures.contours(_gallery(surveyed), names),
        'Images of each split with the outlines of their masks',
        'The plane with most labels, without masks the middle one.'
        if about['rank'] == 3
        else '',
      ),
      twins=pictures(
        'duplicates',
        figures.contours(_twin_images(surveyed, twins), names),
        'Pairs of duplicates, side by side',
        'Duplicates, two and two; those across splits first.',
      ),
    )
  text = page.render(
    'inspect.html.jinja',
    title=surveyed.source.name,
    kind=_kind(about),
    written=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
    cards=_cards(surveyed, about, found),
    findings=[(f, f.examples[:_EXAMPLES]) for f in found],
    counts=count_table(surveyed),
    masks=surveyed.masks,
    labelled=surveyed.labelled,
    facts=_fact_table(about),
    **content,
  )
  path = out / 'inspect.html'
  page.write(path, text)
  return path


def _cards(surveyed, about, found):
  tally = collections.Counter(f.level for f in found)
  patients = count(len({c.patient for c in surveyed.read}), 'patient')
  if not has_patients(surveyed.read):
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


def _fact_table(about):
  """Header and rows of the fingerprint's numbers per axis and channel."""
  axes = [f'Axis {k}' for k in range(about['rank'])]
  rows = []
  for title, key in (
    ('Shape, voxels', 'shape'),
    ('Spacing, mm', 'spacing'),
    ('Shape at the median spacing', 'shape_resampled'),
  ):
    spread = about[key]
    ends = zip(spread['minimum'], spread['maximum'], strict=True)
    cells = [
      f'{middle:.4g} ({low:.4g} to {high:.4g})'
      for middle, (low, high) in zip(spread['median'], ends, strict=True)
    ]
    rows.append([title, *cells])
  geometry = ['Median (from, to)', *axes], rows
  header = ['Channel', 'Mean', 'Std', '0.5 %', 'Median', '99.5 %']
  lines = [
    [
      str(k) + (f': {about["modality"][k]}' if about['modality'][k] else ''),
      *(
        figures.number(channel[name])
        for name in (
          'mean',
          'std',
          'percentile_00_5',
          'median',
          'percentile_99_5',
        )
      ),
    ]
    for k, channel in enumerate(about['intensity'] or ())
  ]
  return geometry, (header, lines), about['intensity_of']


def _by_split(surveyed, value):
  groups = collections.defaultdict(list)
  for case in surveyed.read:
    groups[case.split].append(value(case))
  return groups


def _geometry_panels(surveyed):
  rank = len(surveyed.read[0].shape)
  same = [c for c in surveyed.read if len(c.shape) == rank]
  only = dataclasses.replace(surveyed, cases=same)
  for axis in range(rank):
    yield (
      f'Shape, axis {axis}',
      'voxels',
      _by_split(only, lambda c, a=axis: c.shape[a]),
    )
  for axis in range(rank):
    yield (
      f'Spacing, axis {axis}',
      'mm',
      _by_split(only, lambda c, a=axis: c.spacing[a]),
    )


def _intensity_panels(surveyed, about):
  channels = about['channels']
  same = [c for c in surveyed.read if c.channels == channels]
  only = dataclasses.replace(surveyed, cases=same)
  for k in range(channels):
    of = f', channel {k}' if channels > 1 else ''
    levels = _by_split(only, lambda c, k=k: c.levels[k])
    pooled = {s: np.concatenate(v) for s, v in levels.items()}
    low, high = np.percentile(np.concatenate([*pooled.values()]), (0.5, 99.5))
    yield (
      f'All voxels{of}',
      'intensity, 0.5 to 99.5 %',
      {s: v[(v >= low) & (v <= high)] for s, v in pooled.items()},
    )
    inside = _by_split(only, lambda c, k=k: c.foreground[k])
    inside = {s: np.concatenate(v) for s, v in inside.items()}
    if surveyed.masks and sum(map(len, inside.values())):
      low, high = np.percentile(np.concatenate([*inside.values()]), (0.5, 99.5))
      yield (
        f'Labelled voxels{of}',
        'intensity, 0.5 to 99.5 %',
        {s: v[(v >= low) & (v <= high)] for s, v in inside.items()},
      )
    yield (
      f'Mean of an image{of}',
      'intensity',
      _by_split(only, lambda c, k=k: c.mean[k]),
    )


def _volumes(surveyed):
  """Rows and metrics for `figures.boxes`: millilitres, or share of an image."""
  names = surveyed.mask_names[: _BOXES + 1]
  rows = []
  for case in surveyed.read:
    if case.voxels is None:
      continue
    solid = len(case.shape) == 3
    unit = np.prod(case.spacing) / 1000 if solid else 1 / np.prod(case.shape)
    metric = 'volume' if solid else 'area'
    counts = np.pad(case.voxels, (0, len(names)))[: len(names)]
    rows.append(
      {
        f'{metric}/{name}': n * unit if n else ''
        for name, n in list(zip(names, counts, strict=True))[1:]
      }
    )
  return rows[:5000], ('volume', 'area') if rows else ()


def _gallery(surveyed):
  """Slices of cases evenly spread over splits and classes."""
  groups = collections.defaultdict(list)
  for case in surveyed.read:
    label = case.label if np.ndim(case.label) == 0 else None
    groups[case.split, label].append(case)
  chosen = []
  each = max(1, SHOWN // len(groups))
  for members in list(groups.values())[:SHOWN]:
    places = np.linspace(0, len(members) - 1, min(each, len(members)))
    chosen += [members[place] for place in np.unique(places.astype(int))]
  names = surveyed.label_names
  return [
    _slice(
      surveyed,
      case,
      [case.split]
      + ([named(case.label, names)] if case.label is not None else []),
    )
    for case in chosen
  ]


def _slice(surveyed, case, lines):
  """A case, read again, as `figures.contours` takes it."""
  raw = surveyed.source.splits[case.split][case.index]
  masks = [raw['mask']] if 'mask' in raw else []
  image, *masks = display_slice(raw['image'], *masks, affine=raw['affine'])
  spacing = np.asarray(raw['spacing'])[:2]
  return {
    'image': image,
    'spacing': spacing[::-1] if len(case.shape) == 3 else spacing,
    'caption': '\n'.join([figures.shorten(case.id, 24), *lines]),
    **dict(zip(('mask',), masks, strict=False)),
  }


def _twin_images(surveyed, twins):
  """The two of each pair one after the other, those across splits first."""
  cases = surveyed.read
  pairs = [(i, j, 'the same') for i, j in twins.exact]
  pairs += [
    (i, j, f'alike, r = {r:.3f}')
    for (i, j), r in zip(twins.near, twins.correlation, strict=True)
  ]
  pairs.sort(key=lambda p: cases[p[0]].split == cases[p[1]].split)
  return [
    _slice(surveyed, cases[k], [cases[k].split, kind])
    for i, j, kind in pairs[: SHOWN // 2]
    for k in (i, j)
  ]


# Files.


def write_duplicates(path, cases, twins):
  """duplicates.csv: a line per pair; never the patients."""
  rows = [('exact', 1.0, i, j) for i, j in twins.exact]
  rows += [
    ('near', round(float(r), 4), i, j)
    for (i, j), r in zip(twins.near, twins.correlation, strict=True)
  ]
  temporary = path.with_name(path.name + '.tmp')
  with temporary.open('w', encoding='utf-8', newline='') as f:
    writer = csv.writer(f)
    writer.writerow(
      ['kind', 'correlation', 'split_a', 'id_a', 'split_b', 'id_b']
    )
    for kind, correlation, i, j in rows:
      a, b = cases[i], cases[j]
      writer.writerow([kind, correlation, a.split, a.id, b.split, b.id])
  os.replace(temporary, path)


def write_fingerprint(path, about):
  """fingerprint.json, put in place when it is whole."""
  temporary = path.with_name(path.name + '.tmp')
  temporary.write_text(json.dumps(about, indent=1) + '\n', encoding='utf-8')
  os.replace(temporary, path)


def inspect(source, out):
  """Surveys a `survey.Source`, prints the summary and writes all files."""
  out = pathlib.Path(out)
  (out / 'figures').mkdir(parents=True, exist_ok=True)
  surveyed = survey_lib.survey(source)
  about = survey_lib.fingerprint(surveyed)
  twins = find_twins(surveyed.read)
  found = findings(surveyed, twins)
  print(console(surveyed, about, found), flush=True)
  write_fingerprint(out / 'fingerprint.json', about)
  write_duplicates(out / 'duplicates.csv', surveyed.read, twins)
  return write_page(surveyed, twins, found, about, out)


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('name', metavar='NAME|PATH', help='data set, or folder')
  parser.add_argument('--out', required=True, help='folder for the page')
  args = survey_lib.parse_arguments(parser)
  with cli.one_line_errors():
    path = inspect(survey_lib.from_arguments(args), args.out)
    print(f'\npage: {path}')


if __name__ == '__main__':
  main()
