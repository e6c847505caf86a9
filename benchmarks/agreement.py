"""Do an exported run, by StableHLO and by ONNX, and the run itself agree?

    python benchmarks/agreement.py runs/unet=exported runs/resnet=exported2

Pairs of a workdir and the folder that it was exported to, by `medjax export
--onnx`. On cases of the test split: the largest difference of a probability,
and voxels of another label where the two likeliest are no tie. Prints a table
of Markdown.
"""

import argparse

import numpy as np

from medjax.export import golden
from medjax.prediction import trained


def differences(workdir, folder, most):
  """(cases, {backend: (largest difference, other labels, voxels)})."""
  run, shipped = trained.load(workdir), golden.script()
  made = run.experiment
  cases = made.cases('test')
  cases = [cases[i] for i in range(min(len(cases), most))]
  models = {b: shipped.programs.Model(folder, b) for b in ('jax', 'onnx')}
  found = {backend: [0.0, 0, 0] for backend in models}
  for case in cases:
    wanted = run.predict_case(case, probabilities=True)
    p = wanted.probabilities
    ordered = np.sort(p, -1)
    sure = ordered[..., -1] - ordered[..., -2] > 2 * golden.TOLERANCE
    image = np.asarray(case['image'], np.float32)
    for backend, model in models.items():
      ours = shipped.predict(model, image, case['affine'])
      worst = found[backend]
      worst[0] = max(worst[0], float(np.abs(ours['prediction'] - p).max()))
      if wanted.labels is not None:
        worst[1] += int(((ours['labels'] != wanted.labels) & sure).sum())
        worst[2] += wanted.labels.size
  return len(cases), found


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('pairs', nargs='+', help='WORKDIR=FOLDER')
  parser.add_argument('--cases', type=int, default=20)
  args = parser.parse_args()
  print(
    '| run | cases | StableHLO | ONNX | other labels |\n' + '| --- ' * 5 + '|'
  )
  for pair in args.pairs:
    workdir, _, folder = pair.partition('=')
    count, found = differences(workdir, folder, args.cases)
    errors = ' | '.join(f'{found[b][0]:.1e}' for b in ('jax', 'onnx'))
    moved = max(found.values(), key=lambda x: x[1])
    text = f'{moved[1]} of {moved[2]}' if moved[2] else '–'
    print(f'| {workdir} | {count} | {errors} | {text} |', flush=True)


if __name__ == '__main__':
  main()
