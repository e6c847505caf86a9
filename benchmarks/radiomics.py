"""Speed of features beside PyRadiomics: python benchmarks/radiomics.py DATA

DATA holds lidc_nodules/ and pyradiomics_testdata/. Both sides have the images
in memory and measure all 107 features; PyRadiomics runs with --peer, the Python
of an environment that has it (see radiomics_peer.py), before and after ours.
CPU seconds count where the machine has other work; what compiling the programs
takes, once, is told beside it. First a voxel-wise map of a region of 64³.

Where the time goes, ms of CPU of a nodule of up to 2048 voxels and 48 levels,
each family compiled alone, before diameters, maximal correlation and mesh were
made a little quicker still: diameters 1.7, co-occurrence .7 for the counts, .8
for features and 1.1 for the maximal correlation, runs 1.2 and .6, zones .9,
mesh .7, statistics .6, dependence and tone .5; one program of all 6.4. Nine
programs take 111 s to compile.

Tried, and no gain: XLA's optimisation level 1 (compiles no faster, runs
slower) and 0 (10 s in place of 14, twice as slow); singular values by repeated
squaring of the matrices (slower than LAPACK's at 48 levels); sorting bits of
floats together with the floats (only bits alone are sorted fast). Not done: the
eigenvalue of Lanczos' matrix by counting signs saves .5 ms, for 15 lines more.
Scatter of whole numbers is no slow loop: 2 ns each.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from medjax import files, radiomics
from medjax.data import formats
from medjax.radiomics import prepare, settings

CASES = ('brain1', 'brain2', 'breast1', 'lung1', 'lung2')


def nodules(data, count):
  """[(image, mask, spacing)] of so many nodules, evenly from all."""
  paths = sorted((data / 'lidc_nodules/image').iterdir())
  found = []
  for path in paths[:: max(1, len(paths) // count)][:count]:
    mask = formats.read_mask(path.parents[1] / 'nodule_mask' / path.name).array
    volume = formats.read(path)
    found.append((volume.array[..., 0], mask > 0, volume.spacing))
  return found


def test_cases(data):
  """The five cases of PyRadiomics' own tests."""
  folder, found = data / 'pyradiomics_testdata', []
  for name in CASES:
    volume = formats.read(folder / f'{name}_image.nrrd')
    mask = formats.read_mask(folder / f'{name}_label.nrrd').array == 1
    found.append((volume.array[..., 0], mask, volume.spacing))
  return found


def peer(python, cases):
  """PyRadiomics' times, memory and values."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'cases.npz'
    arrays = {'count': len(cases)}
    for i, (image, mask, spacing) in enumerate(cases):
      arrays |= {f'image{i}': image, f'mask{i}': mask.astype(np.uint8)}
      arrays[f'spacing{i}'] = spacing
    np.savez(path, **arrays)
    script = pathlib.Path(__file__).with_name('radiomics_peer.py')
    # -P: `import radiomics` is the package, not this file beside it.
    done = subprocess.run(
      [python, '-P', script, path], capture_output=True, text=True, check=True
    )
  return json.loads(done.stdout.splitlines()[-1])


def ours(cases):
  """Our times of a first and a second run, memory and values."""
  chosen = settings.PRESETS['pyradiomics']

  def run():
    wall, cpu = time.perf_counter(), time.process_time()
    regions = [prepare.region(*case, chosen) for case in cases]
    values = radiomics.features_of(regions, chosen)
    return time.perf_counter() - wall, time.process_time() - cpu, values

  (first, *_), (wall, cpu, values) = run(), run()
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  return dict(first=first, wall=wall, cpu=cpu, peak=peak, values=values)


def compared(name, python, cases):
  """A row of the table: both sides, PyRadiomics twice around ours."""
  before = peer(python, cases)
  mine = ours(cases)
  after = peer(python, cases)
  theirs = [(sum(p['wall']), sum(p['cpu'])) for p in (before, after)]
  wall, cpu = np.mean(theirs, 0)
  worst = max(
    abs(a[k] - v) / max(abs(v), 1e-9)
    for a, b in zip(mine['values'], before['values'], strict=True)
    for k, v in b.items()
  )
  return {
    'cases': name,
    'n': len(cases),
    'pyradiomics cpu s': cpu,
    'medjax cpu s': mine['cpu'],
    'ratio cpu': mine['cpu'] / cpu,
    'pyradiomics wall s': wall,
    'medjax wall s': mine['wall'],
    'ratio wall': mine['wall'] / wall,
    'medjax first run, with compiling, wall s': mine['first'],
    'pyradiomics MiB': before['peak'],
    'medjax MiB': mine['peak'],
    'largest relative difference': worst,
  }


def voxelwise(side=64, feature='glcm_Contrast'):
  """A map of a region of so many voxels along each axis, all of it ROI."""
  rng = np.random.default_rng(0)
  image = rng.normal(0, 200, (side,) * 3)
  mask = np.ones(image.shape, bool)
  times = []
  for _ in range(2):
    wall, cpu = time.perf_counter(), time.process_time()
    found = radiomics.maps(image, mask, (1, 1, 1), feature, radius=2)
    times.append((time.perf_counter() - wall, time.process_time() - cpu))
  assert np.isfinite(found).all()
  names = 'first wall s', 'first cpu s', 'wall s', 'cpu s'
  return {
    'cases': f'{feature}, {side}³',
    **dict(zip(names, sum(times, ()), strict=True)),
  }


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('data', type=pathlib.Path)
  parser.add_argument('--peer', default=sys.executable)
  parser.add_argument('--count', type=int, default=200)
  parser.add_argument('--out', default='')
  args = parser.parse_args()
  rows = [voxelwise()]
  print(rows[-1], flush=True)
  for name, cases in (
    ("PyRadiomics' five", test_cases(args.data)),
    ('LIDC-IDRI nodules', nodules(args.data, args.count)),
  ):
    rows.append(compared(name, args.peer, cases))
    print(json.dumps(rows[-1], indent=1), flush=True)
  if args.out:
    files.write_json(args.out, rows)


if __name__ == '__main__':
  main()
