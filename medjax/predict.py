"""Predicts on files: python -m medjax.predict --workdir=… FILES… --out=…"""

import argparse
import pathlib
import time

import numpy as np

from medjax import cli
from medjax.data import formats
from medjax.prediction import files, trained


def predict(
  workdir,
  inputs,
  out,
  *,
  seg=False,
  uncertainty=False,
  calibrated=False,
  trust=False,
):
  """Predicts images with the best checkpoint of `workdir` into `out`.

  `inputs` are files and folders. Segmentation: a mask per file, on its own grid
  (volumes → NIfTI with the same affine, pictures → PNG and an overlay; `seg`:
  DICOM → DICOM SEG). Classification: predictions.csv.

  Of several members, the mean of their probabilities counts. predictions.csv
  then says how sure it is; with `uncertainty` maps say so beside a mask.
  `calibrated` probabilities of a classifier are those after temperature scaling
  (medjax.metrics.calibration); the measures of uncertainty stay as they are.
  `trust` lets the run name code outside of medjax.
  """
  run = trained.load(workdir, trust=trust)
  config, task = run.experiment.config, run.task
  fields = config['data'].get('fields', {})
  found = files.input_files(inputs, fields.get('image', ''))
  out = pathlib.Path(out)
  out.mkdir(parents=True, exist_ok=True)
  _check(workdir, run, found, out, seg=seg, uncertainty=uncertainty)
  most = None
  if uncertainty:
    most = np.log(task.num_outputs if task.exclusive else 2)
  segments = task.label_names if seg else None
  errors = []

  def refused(error):
    line = cli.said(error)
    if line is None:
      raise error
    errors.append(line)
    print(f'failed: {line}', flush=True)

  predictions = run.predict_cases(
    _readable(found, refused), calibrated=calibrated, refused=refused
  )
  table = _Table(out)
  try:
    for i, (case, prediction) in enumerate(predictions):
      if prediction.labels is not None:
        result = files.write(
          out, case, prediction, segments=segments, most=most
        )
      else:
        table.add(case['path'], prediction)
        result = max(prediction.values, key=prediction.values.get)
      print(f'{i + 1}/{len(found)} {case["path"]} → {result}', flush=True)
  finally:  # what was predicted stays, whatever comes
    table.write()
  if errors:
    few = f'{len(errors)} of {len(found)} images failed; the first: '
    raise ValueError(f'{few if len(found) > 1 else ""}{errors[0]}')


def _check(workdir, run, found, out, *, seg, uncertainty):
  """Raises ValueError for what cannot be written of this run or these files."""
  if any(out.samefile(q.parent) for p in found for q in files.paths_of(p)):
    raise ValueError(f'{out} holds an input; results need another folder')
  writes_maps = 'mask' in run.task.fields
  if seg and not writes_maps:
    raise ValueError(f'{workdir} holds a classifier, which writes no DICOM SEG')
  if uncertainty and not (len(run.variables) > 1 and writes_maps):
    raise ValueError(
      f'{workdir} holds no members that segment, so there are no maps of '
      'uncertainty'
    )
  sources = [files.paths_of(p)[0] for p in found] if seg else ()
  odd = [p for p in sources if not formats.is_dicom(p)]
  if odd:
    raise ValueError(f'{odd[0]} is not DICOM, so no DICOM SEG can refer to it')


def _readable(found, refused):
  """Yields the cases of files; `refused` is told of those that are damaged."""
  for file in found:
    try:
      case = files.read_case(file)
    except Exception as e:
      refused(e)
      continue
    yield case


class _Table:
  """predictions.csv, written now and then while there are more."""

  _SECONDS = 10

  def __init__(self, out):
    self._out, self._rows, self._written = out, [], time.monotonic()

  def add(self, path, prediction):
    self._rows.append((path, prediction))
    if time.monotonic() - self._written > self._SECONDS:
      files.write_table(self._out, self._rows)
      self._written = time.monotonic()

  def write(self):
    if self._rows:
      print(files.write_table(self._out, self._rows))


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--workdir', required=True, help='a trained workdir')
  parser.add_argument('--out', required=True, help='folder for the results')
  parser.add_argument(
    '--seg', action='store_true', help='write DICOM SEG, for DICOM inputs'
  )
  parser.add_argument(
    '--uncertainty', action='store_true', help="maps of it, an ensemble's"
  )
  parser.add_argument(
    '--calibrated', action='store_true', help='after temperature scaling'
  )
  parser.add_argument(
    '--trust', action='store_true', help='let the run name code of its own'
  )
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  parser.add_argument('inputs', nargs='+', help='image files or folders')
  args = parser.parse_args()
  with cli.one_line_errors():
    predict(
      args.workdir,
      args.inputs,
      args.out,
      seg=args.seg,
      uncertainty=args.uncertainty,
      calibrated=args.calibrated,
      trust=args.trust,
    )


if __name__ == '__main__':
  main()
