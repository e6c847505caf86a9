"""What adapting to a patient is worth: benchmarks/personalise.py RUN OUT.

Each test case of a segmentation run is a patient. A stand-in for the earlier
scan is the case itself, turned by up to 15°, scaled by up to 10 %, of another
contrast and with noise, with its own mask: real earlier scans, of other days
and outlined by other hands, differ more. The model adapts to it and segments
the case as it is; Dice beside that of the model as it was.
"""

import argparse
import csv
import json
import pathlib

import numpy as np
from scipy import ndimage

from medjax import experiment, metrics
from medjax.metrics import bootstrap
from medjax.personal import WAYS, Personaliser

_HARM = 0.005  # Dice


def earlier(case, rng):
  """The case as another scan of the same anatomy might have been."""
  a, b, c = np.deg2rad(rng.uniform(-15, 15, 3))
  turn = (
    np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    @ [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    @ [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
  )
  matrix = turn / rng.uniform(0.9, 1.1)
  centre = (np.array(case['mask'].shape) - 1) / 2
  offset = centre - matrix @ centre + rng.uniform(-2, 2, 3)
  move = lambda x, order: ndimage.affine_transform(
    x, matrix, offset, order=order, mode='nearest'
  )
  image = move(case['image'][..., 0].astype(np.float32), 1)
  low, high = np.percentile(image, (0.5, 99.5))
  image = np.clip((image - low) / (high - low), 0, 1) ** rng.uniform(0.7, 1.4)
  image += rng.normal(0, 0.03, image.shape)
  return {
    **case,
    'image': image[..., None].astype(np.float32),
    'mask': move(case['mask'], 0),
  }


def main():
  """Writes cases.csv and summary.json."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('run')
  parser.add_argument('out')
  parser.add_argument('--way', choices=WAYS, default='bitfit')
  parser.add_argument('--steps', type=int, default=40)
  parser.add_argument('--split', default='test')
  parser.add_argument('--limit', type=int)
  args = parser.parse_args()
  out = pathlib.Path(args.out)
  out.mkdir(parents=True, exist_ok=True)
  fit = Personaliser(args.run, way=args.way, steps=args.steps)
  cases = experiment.restore(args.run).cases(args.split)
  rows = []
  for i in range(min(len(cases), args.limit or len(cases))):
    case, rng = cases[i], np.random.default_rng(i)
    outcome = fit([earlier(case, rng)], seed=i)
    before, after = (
      dice(fit, variables, case)
      for variables in (fit.variables, outcome.variables)
    )
    rows.append({
      'id': case['id'], 'patient': case['patient'], 'kept': outcome.kept,
      'steps': outcome.steps, 'held_before': outcome.held[0][1],
      'held_after': dict(outcome.held)[outcome.steps], 'before': before,
      'after': after,
    })  # fmt: skip
    print(rows[-1], flush=True)
    with (out / 'cases.csv').open('w', newline='') as f:
      writer = csv.DictWriter(f, rows[0])
      writer.writeheader()
      writer.writerows(rows)
    (out / 'summary.json').write_text(json.dumps(summary(rows), indent=2))


def dice(fit, variables, case):
  """Mean Dice of the classes of a case."""
  return fit.score(variables, [case], [...])


def summary(rows):
  """Gain with its interval by patient, and who was harmed."""
  before, after = (
    np.array([row[k] for row in rows]) for k in ('before', 'after')
  )
  gain = after - before
  bounds = bootstrap.intervals(
    lambda w: {'gain': bootstrap.weighted_mean(gain, w)},
    [row['patient'] for row in rows],
  )
  return {
    'n': len(rows),
    'kept': int(sum(row['kept'] for row in rows)),
    'before': float(before.mean()),
    'after': float(after.mean()),
    'gain': float(gain.mean()),
    'interval': bounds['gain'].tolist(),
    'harmed': int((gain < -_HARM).sum()),
    'p': metrics.paired.wilcoxon(gain),
  }


if __name__ == '__main__':
  main()
