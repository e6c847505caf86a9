"""Looks at a data set: `python -m medjax.inspect NAME|PATH --out=DIR`.

NAME is a data set of datasets/, which is prepared if need be; PATH a folder or
table of your own files (medjax/data/folder says how it may look; './NAME' is
always a path), a single image or DICOM series, or a table of patients without
images. DIR gets inspect.html, its
figures, duplicates.csv and fingerprint.json, which `medjax.plan` reads. Cases
are called by their paths, and patients are printed nowhere else: where folders
or files have their names, --config.data.hash_ids=FILE, a salt, makes digests.
"""

import collections
import datetime
import pathlib

import numpy as np

from medjax import cli, files
from medjax.data import walk
from medjax.data.duplicates import find_twins
from medjax.reports import figures, page
from medjax.reports import text as text_lib
from medjax.reports.gallery import display_slice
from medjax.reports.measures import Measures
from medjax.survey import arguments, outcomes, panels, summary
from medjax.survey.finding import named, printable
from medjax.survey.findings import findings
from medjax.survey.fingerprint import fingerprint
from medjax.survey.measure import survey

SHOWN = 18  # images of the gallery
_EXAMPLES = 10
_VOLUMES = {
  'volume': {'title': 'Volume', 'unit': 'ml', 'higher': None},
  'area': {'title': 'Area', 'unit': 'share of the image', 'higher': None},
}


def inspect(source, out):
  """Surveys a `Source`, prints the summary and writes all files."""
  out = pathlib.Path(out)
  (out / 'figures').mkdir(parents=True, exist_ok=True)
  surveyed = survey(source)
  about = fingerprint(surveyed)
  twins = find_twins(surveyed.read)
  found = findings(surveyed, twins)
  print(summary.console(surveyed, about, found), flush=True)
  files.write_json(out / 'fingerprint.json', about)
  files.write_csv(
    out / 'duplicates.csv',
    _pairs(surveyed.read, twins),
    columns=('kind', 'correlation', 'split_a', 'id_a', 'split_b', 'id_b'),
  )
  return write_page(surveyed, twins, found, about, out)


def inspect_table(path, out, fields=None):
  """Looks at a table without images; prints, and writes inspect.html."""
  columns, found, rows = outcomes.read(path, fields)
  header = ['Column', 'Holds', 'Missing', '']
  lines = [
    [c.name, c.kind, str(c.missing), printable(c.about, 60)] for c in columns
  ]
  print(f'{pathlib.Path(path).name}: {rows:,} rows without images\n')
  print(cli.aligned([*map(printable, header)], lines, 'llrl'), end='\n\n')
  print(summary.spoken(found), flush=True)
  out = pathlib.Path(out)
  text = page.render(
    'inspect_table.html.jinja',
    title=pathlib.Path(path).name,
    kind=f'{rows:,} rows without images',
    written=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
    findings=[(f, f.examples[:_EXAMPLES]) for f in found],
    columns=(header, lines),
  )
  files.write_text(out / 'inspect.html', text)
  return out / 'inspect.html'


def _pairs(cases, twins):
  """A row per pair of duplicates; never the patients."""
  pairs = [('exact', 1.0, i, j) for i, j in twins.exact]
  pairs += [
    ('near', round(float(r), 4), i, j)
    for (i, j), r in zip(twins.near, twins.correlation, strict=True)
  ]
  for kind, correlation, i, j in pairs:
    a, b = cases[i], cases[j]
    yield {
      'kind': kind,
      'correlation': correlation,
      'split_a': a.split,
      'id_a': a.id,
      'split_b': b.split,
      'id_b': b.id,
    }


def write_page(surveyed, twins, found, about, out):
  """Writes inspect.html and figures/ into the folder `out`; returns its path.

  Reads the few cases of the gallery again.
  """
  text = page.render(
    'inspect.html.jinja',
    title=surveyed.source.name,
    kind=summary.kind_of(about),
    written=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
    cards=summary.cards(surveyed, found),
    findings=[(f, f.examples[:_EXAMPLES]) for f in found],
    counts=summary.count_table(surveyed),
    masks=surveyed.masks,
    labelled=surveyed.labelled,
    facts=_fact_table(about),
    **_pictures(surveyed, twins, about, out / 'figures'),
  )
  path = out / 'inspect.html'
  files.write_text(path, text)
  return path


def _pictures(surveyed, twins, about, folder):
  """All figures of the page, saved in a folder."""
  pictures = page.Pictures(folder, old='*.png')
  names = dict(enumerate(surveyed.mask_names))
  with figures.style():
    return dict(
      geometry=pictures(
        'geometry',
        figures.distributions(panels.geometry(surveyed, about['unit'])),
        'Shape and spacing by split',
      ),
      intensity=pictures(
        'intensity',
        figures.distributions(panels.intensity(surveyed, about['channels'])),
        'Intensities by split',
      ),
      volumes=pictures(
        'classes',
        figures.boxes(*panels.volumes(surveyed), Measures(_VOLUMES)),
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


def _fact_table(about):
  """Header and rows of the fingerprint's numbers per axis and channel."""
  axes = [f'Axis {k}' for k in range(about['rank'])]
  if about['reoriented']:
    axes = ['To the right', 'To the front', 'Upwards']
  rows = []
  sizes = [('Shape, voxels', 'shape')]
  if about['unit'] == 'mm':
    sizes += [
      ('Spacing, mm', 'spacing'),
      ('Shape at the median spacing', 'shape_resampled'),
    ]
  for title, key in sizes:
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
        text_lib.number(channel[name])
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
    'caption': '\n'.join([text_lib.shorten(case.id, 24), *lines]),
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


def main():
  """Command line entry point."""
  parser = cli.parser(
    __doc__,
    'inspect study --out=inspected',
    'inspect msd/hippocampus --out=inspected',
  )
  parser.add_argument('name', metavar='NAME|PATH', help='data set, or files')
  parser.add_argument('--out', required=True, help='folder for the page')
  args = arguments.parse(parser)
  with cli.one_line_errors():
    if pathlib.Path(args.name).is_dir():
      walk.check_apart(args.out, args.name)
    if outcomes.is_bare(args.name):
      path = inspect_table(args.name, args.out, args.options.get('fields'))
    else:
      path = inspect(arguments.source(args), args.out)
    print(f'\npage: {path}')


if __name__ == '__main__':
  main()
