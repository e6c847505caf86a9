"""Does an exported run, by StableHLO and by ONNX, say what the run says?

    python benchmarks/agreement.py [CONFIG …] [--data=FOLDER] [--workdir=RUN …]

For each experiment of `CONFIGS`, by default all: a few steps of training on
real cases, `medjax export --onnx`, then what `medjax predict` says of real
cases against both programs, prepared by the scripts of the folder. With
--workdir runs that are trained already, instead. FOLDER holds the sets that are
no prepared ones. Prints a table of Markdown: the largest difference of each
output, the spread of the run's own (without one nothing is compared), and
voxels of another label where the two likeliest are no tie.
"""

import argparse
import dataclasses
import functools
import os
import pathlib
import tempfile

import numpy as np

from medjax import experiment, public
from medjax.data.part import Part
from medjax.evaluate import evaluate
from medjax.export import artefact, golden
from medjax.prediction import trained
from medjax.train import train

CASES = 20
RESULTS = pathlib.Path(__file__).parent / 'results' / 'agreement'
BACKENDS = ('jax', 'onnx')
_FEW = {
  'train.steps': 4,
  'train.log_every': 4,
  'train.eval_every': 4,
  'data.batch_size': 4,
  'inference.batch_size': 1,  # one program less to compile
}
_NONE = {}
# Config file:variant → fields that are set beside `_FEW`; {data}: --data.
CONFIGS = {
  'lenet:pneumoniamnist': _NONE,
  'resnet:pneumoniamnist': _NONE,
  'resnet:pneumoniamnist,private': {'data.batch_size': 16},
  'resnet:adrenalmnist3d': _NONE,
  'resnet:lidc_nodules': _NONE,
  'resnet:lidc_nodules_mask': _NONE,
  'resnet:folder': {
    'data.path': '{data}/covid_cxr_ccby/images.csv',
    'data.fields.label': 'view',
  },
  'unet:mni152_tissue': _NONE,
  'unet:hippocampus': _NONE,
  'unet:folder': {'data.path': '{data}/msd_hippocampus'},
  'semi:pneumoniamnist,fixmatch': {'data.labelled': 4000},
  'semi:pneumoniamnist,cps': {'data.labelled': 4000},
  'semi:hippocampus,uamt': {'data.labelled': 150},
  'concepts:lidc': {'data.path': '{data}/lidc_nodules'},
  'fusion:sts': {'data.path': '{data}/sts_sarcoma/patients.csv'},
  'fusion:sts,film': {'data.path': '{data}/sts_sarcoma/patients.csv'},
  'fusion:sts,attention': {'data.path': '{data}/sts_sarcoma/patients.csv'},
  'federated:pneumoniamnist': _NONE,
  'federated:adrenalmnist3d': _NONE,
  'federated:vessels': _NONE,
  'survival:pbc2': {'data.manual_dir': '{data}/pbc2'},
  'survival:metabric,deephit': {'data.manual_dir': '{data}/survival'},
  'pretrain:pneumoniamnist,simclr': {'data.batch_size': 16},
  'benchmarks/chase_db1': _NONE,
  'benchmarks/vessels_wnet': _NONE,
  'benchmarks/hippocampus:fold0': _NONE,
  'benchmarks/hippocampus:fold0,small-deep_supervision': _NONE,
  'benchmarks/lidc_nodules:malignancy,fold0': _NONE,
  'benchmarks/lidc_nodules:mask,fold0': _NONE,
  'benchmarks/medmnist:pneumoniamnist,official': _NONE,
  'benchmarks/medmnist:pneumoniamnist,best': _NONE,
  'benchmarks/medmnist:adrenalmnist3d,official': _NONE,
  'benchmarks/medmnist:adrenalmnist3d,best': _NONE,
  'benchmarks/laptop:resnet18': _NONE,
  'benchmarks/laptop:resnet50': _NONE,
  'benchmarks/laptop:mobilenet_v3': _NONE,
  'benchmarks/laptop:efficientnet_b0': _NONE,
}


def few(made):
  """An Experiment, and its members, that sees a few cases of each split."""

  @functools.cache
  def cases(split):
    return spread(made.cases(split))

  members = tuple((folder, few(each)) for folder, each in made.members)
  return dataclasses.replace(made, cases=cases, members=members)


def spread(cases, count=CASES):
  """So many cases, evenly of all; all of them where there are fewer."""
  places = np.linspace(0, len(cases) - 1, min(count, len(cases)))
  return Part(cases, np.rint(places).astype(int))


def trained_in(workdir, name, data):
  """The workdir of an experiment of `CONFIGS` after a few steps."""
  file, colon, variant = name.partition(':')
  config = public.read_config(f'configs/{file}.py{colon}{variant}')
  options = _FEW | CONFIGS[name]
  for field, value in options.items():
    value = value.format(data=data) if isinstance(value, str) else value
    config.update_from_flattened_dict({field: value})
  made = few(experiment.make(config))
  train(made, workdir)
  evaluate(made, workdir)  # decides a temperature, and other things
  return workdir


def compared(workdir, folder):
  """The lines of a run: (output, cases, spread, {backend: error}, voxels)."""
  run = trained.load(workdir)
  if not (folder / artefact.MODEL).exists():
    artefact.write(run, folder, onnx=True)
  models = {b: golden.script().programs.Model(folder, b) for b in BACKENDS}
  predictor, info = golden.predictor_of(run), models['jax'].info
  cases = spread(run.experiment.cases('test'))
  if len(cases) < CASES:
    cases = spread(run.experiment.cases('train'))
  lines = {}
  for case in cases:
    kept = golden.recorded(run, predictor, case, info)
    errors = {b: golden.errors(model, kept) for b, model in models.items()}
    for output in errors['jax']:
      line = lines.setdefault(output, dict.fromkeys(BACKENDS, 0.0))
      for backend in BACKENDS:
        error = errors[backend][output]
        if output == 'labels':
          line[backend] += error * kept['out/labels'].size
        else:
          line[backend] = max(line[backend], error)
      line.setdefault('values', []).append(kept[f'out/{output}'])
  return len(cases), lines


def row(name, count, lines):
  """A line of the table, for each output but labels."""
  moved = '–'
  if labels := lines.pop('labels', None):
    voxels = sum(x.size for x in labels['values'])
    most = max(labels[backend] for backend in BACKENDS)
    moved = f'{round(most)} of {voxels:,}'
  for output, line in lines.items():
    values = np.concatenate([np.ravel(x) for x in line['values']])
    errors = ' | '.join(f'{line[backend]:.1e}' for backend in BACKENDS)
    yield (
      f'| `{name}` | {output} | {count} | {values.std():.3f} | {errors} '
      f'| {moved} |'
    )


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('configs', nargs='*', default=[*CONFIGS])
  parser.add_argument('--workdir', nargs='+', default=[])
  parser.add_argument('--data', default=os.environ.get('MEDJAX_TEST_DATA'))
  args = parser.parse_args()
  print(
    '| config | output | cases | spread | StableHLO | ONNX | other labels |\n'
    + '| --- ' * 7 + '|'
  )  # fmt: skip
  for name in args.workdir or args.configs:
    with tempfile.TemporaryDirectory() as home:
      workdir, folder = pathlib.Path(name), pathlib.Path(home) / 'exported'
      try:
        if not args.workdir:
          place = ''.join(c if c.isalnum() else '-' for c in name)
          workdir = RESULTS / place
          if not (workdir / 'metrics.json').exists():
            trained_in(workdir, name, args.data)
        for line in row(name, *compared(workdir, folder)):
          print(line, flush=True)
      except Exception as e:  # the others are still worth knowing
        print(f'| `{name}` | {type(e).__name__}: {e} |' + ' |' * 5, flush=True)


if __name__ == '__main__':
  main()
