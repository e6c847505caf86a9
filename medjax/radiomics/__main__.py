"""Measures regions of images: size, intensity, texture, place.

python -m medjax.radiomics IMAGES MASKS --out=features.csv
"""

import argparse
import dataclasses
import sys

from medjax import cli
from medjax.radiomics import settings as settings_lib


def measure(args):
  """Features of cases into a table."""
  from medjax.radiomics import cases, cohort
  from medjax.run.programs import keep_programs

  settings = _settings(args)
  told = tuple(filter(None, map(str.strip, args.filters.split(';'))))
  job = cohort.Job(
    settings=settings,
    filters=told or settings.filters,
    labels=tuple(filter(None, map(str.strip, args.labels.split(',')))),
    spacing=_numbers('spacing', args.spacing, 3),
    maps=tuple(filter(None, args.maps.split(','))),
    radius=args.radius,
    out=args.out.removesuffix('.csv') + '_maps',
    perturbed=args.stability,
    seed=args.seed,
  )
  if not args.out.endswith('.csv'):
    raise ValueError(f'--out={args.out}: the table is a CSV: give a name.csv')
  cohort.check(job, args.processes)
  found = cases.find(args.images, args.masks, args.organs)
  keep_programs()
  rows = cohort.extract_table(found, job, args.out, processes=args.processes)
  failed = [r for r in rows if r.get('error')]
  print(f'{args.out}: {len(rows) - len(failed)} regions, {len(failed)} failed')
  if failed and len(failed) == len(rows):
    raise ValueError(f'all failed; the first: {failed[0]["error"]}')


def compare(args):
  """Two tables of features, side by side."""
  from medjax import files
  from medjax.radiomics import agreement

  found = agreement.compare(args.first, args.second, tolerance=args.tolerance)
  print(agreement.text(found, args.tolerance))
  for path, alone in zip(
    (args.first, args.second),
    agreement.unmatched(args.first, args.second),
    strict=True,
  ):
    if alone:
      print(f'only in {path}: {len(alone)} regions, as {alone[0]}')
  if args.out:
    files.write_csv(args.out, found)


def _settings(args):
  found = settings_lib.find(args.settings)
  changes = {}
  if args.bin_width is not None and args.bins is not None:
    raise ValueError('--bin-width and --bins exclude each other')
  if args.bin_width is not None:
    changes |= {'bin_width': args.bin_width, 'bins': None}
  if args.bins is not None:
    changes |= {'bins': args.bins, 'bin_width': None}
  if args.resample:
    changes['resample'] = _numbers('resample', args.resample, 3)
  if args.limits:
    changes['limits'] = _numbers('limits', args.limits, 2)
  return dataclasses.replace(found, **changes)


def _numbers(name, text, count):
  if not text:
    return None
  try:
    found = tuple(float(x) for x in text.split(','))
  except ValueError:
    found = ()
  if len(found) != count:
    raise ValueError(f'--{name}={text}: needs {count} numbers with commas')
  return found


def _parser():
  parser = cli.parser(
    __doc__,
    'radiomics images/ masks/ --out=features.csv',
    'radiomics cases.csv --out=features.csv --settings=ibsi_C --processes=4',
    "radiomics ct.nii.gz seg.nii.gz --out=f.csv --filters='log:1,3'",
    'radiomics compare features.csv other.csv',
  )
  parser.add_argument('images', help='a file, a folder, or a table of both')
  parser.add_argument('masks', nargs='?', help='a file or a folder')
  parser.add_argument('--out', required=True, help='the table, a .csv')
  parser.add_argument(
    '--settings', default='pyradiomics',
    help=f'{", ".join(settings_lib.PRESETS)} [pyradiomics]',
  )  # fmt: skip
  parser.add_argument('--bin-width', type=float, help='of grey levels')
  parser.add_argument('--bins', type=int, help='how many grey levels')
  parser.add_argument('--resample', default='', help='voxel size x,y,z in mm')
  parser.add_argument('--limits', default='', help='LOW,HIGH of intensities')
  parser.add_argument(
    '--filters', default='',
    help="'log:1,2,3;laws:E3W5R5;wavelet:coif1;mean:5;gabor:5,2;simoncelli:1'",
  )  # fmt: skip
  parser.add_argument('--labels', default='', help='regions, by number or name')
  parser.add_argument('--spacing', default='', help='mm, for images without it')
  parser.add_argument('--organs', help='label maps, for where a region lies')
  parser.add_argument(
    '--maps', default='', help='features to map, glcm_Contrast'
  )
  parser.add_argument(
    '--radius', type=int, default=2, help='of maps, voxels [2]'
  )
  parser.add_argument(
    '--stability', type=int, default=0, help='perturbed outlines of each [0]'
  )
  parser.add_argument(
    '--seed', type=int, default=0, help='of perturbations [0]'
  )
  parser.add_argument('--processes', type=int, default=1, help='[1]')
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  return parser


def _compare_parser():
  parser = argparse.ArgumentParser(
    prog='medjax radiomics compare', description=compare.__doc__,
    epilog='example:\n  medjax radiomics compare a.csv b.csv',
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )  # fmt: skip
  parser.add_argument('first', help='a table of features')
  parser.add_argument('second', help='another')
  parser.add_argument('--tolerance', type=float, default=1e-6, help='[1e-6]')
  parser.add_argument('--out', default='', help='all features, as CSV')
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  return parser


def main():
  """Command line entry point."""
  words = sys.argv[1:]
  if words[:1] == ['compare']:
    command, args = compare, _compare_parser().parse_args(words[1:])
  else:
    command, args = measure, _parser().parse_args(words)
  with cli.one_line_errors():
    command(args)


if __name__ == '__main__':
  main()
