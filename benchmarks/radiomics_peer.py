"""PyRadiomics' side of benchmarks/radiomics.py, in its own environment.

python radiomics_peer.py CASES.npz → a line of JSON: seconds of each case, wall
and CPU, and the peak of memory in MiB.

PyRadiomics 3.0.1 on Python 3.11: pip install numpy 'setuptools<80' wheel
versioneer cython, then pip install --no-build-isolation pyradiomics==3.0.1.
"""

import json
import logging
import resource
import sys
import time

import numpy as np
import radiomics
import SimpleITK
from radiomics.featureextractor import RadiomicsFeatureExtractor


def images(path):
  """(image, mask) of all cases, in memory."""
  with np.load(path) as cases:
    for i in range(int(cases['count'])):
      spacing = [float(s) for s in cases[f'spacing{i}']]
      pair = []
      for name in ('image', 'mask'):
        one = SimpleITK.GetImageFromArray(cases[f'{name}{i}'].T)
        one.SetSpacing(spacing)
        pair.append(one)
      yield pair


def main():
  radiomics.setVerbosity(logging.CRITICAL)
  extractor = RadiomicsFeatureExtractor(additionalInfo=False)
  pairs, wall, cpu, values = list(images(sys.argv[1])), [], [], []
  for image, mask in pairs:
    before, spent = time.perf_counter(), time.process_time()
    found = extractor.execute(image, mask)
    wall.append(time.perf_counter() - before)
    cpu.append(time.process_time() - spent)
    values.append({k: float(v) for k, v in found.items() if 'original_' in k})
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  print(json.dumps(dict(wall=wall, cpu=cpu, peak=peak, values=values)))


if __name__ == '__main__':
  main()
