"""Scores of masks in a folder against those in another, whoever made them."""

import pathlib
import re

import numpy as np

from medjax import cli, files
from medjax.data import formats
from medjax.data.folder.grids import on_grid
from medjax.run import per_case
from medjax.tasks import Segmentation

_BESIDE = re.compile(r'_(overlay|probabilities|entropy|mutual_information)$')
_WITHIN = re.compile(r'_at_[\d.]+$')  # masks of a bounded risk
_MASK = re.compile(r'^(.+)_(mask|seg|label)$')


def score(masks, references, *, common=False, patient='', nsd_tolerance=1.0):
  """(results, rows, task) of predicted masks against references of their names.

  Both are folders of label maps; 'x_mask' and 'x_seg' are called x. There are
  as many classes as the largest label says. `common` leaves out what only one
  folder has. `patient` is a regular expression in the name whose first group,
  or whole match, is the patient by whom intervals are drawn; else each case is
  its own. `results` are as metrics.json's, `rows` as per_case.csv's.
  """
  pairs = _pairs(_named(masks), _named(references), common, (masks, references))
  highest = max(
    int(_read(path).array.max(initial=0)) for pair in pairs.values() for path in
    pair
  )  # fmt: skip
  task = Segmentation(
    num_classes=max(highest + 1, 2), nsd_tolerance=nsd_tolerance
  )
  rows, units = [], {}
  for name, (mask, reference) in pairs.items():
    found, known = _read(mask), _read(reference)
    found = on_grid(mask, found, reference, known)
    units.setdefault(known.meta['unit'], reference)
    if len(units) > 1:
      raise ValueError(
        f'{units["mm"]} says how large its pixels are and '
        f'{next(v for k, v in units.items() if k != "mm")} does not: score '
        'them apart, as millimetres and pixels have no mean'
      )
    case = {'id': name, 'mask': known.array, 'spacing': known.spacing}
    about = {'id': name, 'patient': _patient(name, patient, mask)}
    rows.append({**about, **task.metrics(found.array, case)})
  measures = {
    name: {'title': m.title, 'unit': m.unit, 'higher': m.higher}
    for name, m in task.measures.items()
  }
  found = task.summarize(rows)
  results = {
    'run': {'monitor': task.monitor},
    'unit_of_length': 'mm' if 'mm' in units else 'px',
    'measures': {k: m for k, m in measures.items() if k in found['scores']},
    'test': found,
  }
  return results, rows, task


def text(results):
  """A table: a line for each class and the mean, a column for each measure."""
  found, unit = results['test'], results['unit_of_length']
  shown = {
    name: m['title'] + (f' ({unit})' if m['unit'] == 'mm' else '')
    for name, m in results['measures'].items()
  }
  several = len(found['classes']) > 1
  lines = []
  for name, table in found['classes'].items():
    cells = [_cell(table[m]['value'], table[m]['interval']) for m in shown]
    first = table[next(iter(shown))]
    counts = [str(first[k]) for k in ('n', 'missed', 'false_positive')]
    lines.append([f'label {name}', *counts, *cells])
  if several:
    bounds = found['intervals']
    cells = [_cell(found['scores'][m], bounds[m]) for m in shown]
    lines.append(['mean', *[''] * 3, *cells])
  header = ['', 'n', 'missed', 'false positive', *shown.values()]
  said = f'{found["n"]} cases of {found["patients"]} patients'
  said += '; 95 % intervals by patient'
  return (
    f'{said}\n\n{cli.aligned(header, lines, "l" + "r" * (len(header) - 1))}'
  )


def write(out, results, rows, task):
  """Writes metrics.json and per_case.csv; returns their paths."""
  out = pathlib.Path(out)
  if (out / 'config.json').exists():
    raise ValueError(f'{out} holds a run, whose scores stay; choose another')
  files.write_json(out / 'metrics.json', results)
  table = [{'split': 'test', **row} for row in rows]
  per_case.write(out / 'per_case.csv', table, task.names)
  return out / 'metrics.json', out / 'per_case.csv'


def _cell(value, interval):
  if value is None:
    return 'undefined'
  if interval is None or interval[0] is None:
    return f'{value:.3f}'
  return f'{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})'


def _named(folder):
  """{name: path} of the masks in a folder."""
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise FileNotFoundError(f'{folder}: no such folder')
  found = {}
  inside = sorted(p for p in folder.iterdir() if p.name[0] != '.')
  paths = {}
  for path in filter(formats.is_image, inside):
    other = paths.setdefault(formats.stem(path), path)
    if other != path:
      raise ValueError(f'{path}: is called as {other}; keep one of them')
  for stem, path in paths.items():
    if _BESIDE.search(stem) and _BESIDE.sub('', stem) in paths:
      continue  # what predict writes beside a mask
    if _WITHIN.search(stem) and any(stem.startswith(f'{p}_') for p in paths):
      continue
    match = _MASK.match(stem)
    name = match[1] if match else stem
    if name in found:
      raise ValueError(f'{path}: second mask of {name}, after {found[name]}')
    found[name] = path
  if not found:
    raise FileNotFoundError(f'{folder} holds no masks')
  return found


def _pairs(masks, references, common, folders):
  names = per_case.match(references, masks, common=common, names=folders[::-1])
  return {name: (masks[name], references[name]) for name in names}


def _read(path):
  if formats.is_segmentation(path):
    raise ValueError(
      f'{path}: DICOM masks have the grid of their series, which is not here: '
      'give NIfTI, as medjax predict writes it without --seg'
    )
  volume = formats.read_mask(path)
  if volume.array.size and np.min(volume.array) < 0:
    raise ValueError(f'{path}: holds a label below 0')
  return volume


def _patient(name, rule, path):
  if not rule:
    return name
  match = re.search(rule, name)
  if match is None:
    raise ValueError(f'{path}: no patient: {rule!r} is not found in {name!r}')
  return match[1] if match.re.groups else match[0]
