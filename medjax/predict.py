"""Predicts on files: python -m medjax.predict --workdir=… FILES… --out=…

Files are images, or tables where the run was trained on those: then
predictions.csv has a line per row, called by its id.
"""

import argparse
import pathlib

import numpy as np

from medjax import cli, progress
from medjax.data import formats
from medjax.prediction import files, tables, trained, written
from medjax.prediction import judge as judge_lib


def predict(
  workdir,
  inputs,
  out,
  *,
  seg=False,
  uncertainty=False,
  probabilities=False,
  calibrated=False,
  skip_existing=False,
  conformal=None,
  sets=None,
  by_class=False,
  ood=False,
  **options,
):
  """Predicts images with a checkpoint of `workdir` into `out`.

  `inputs` are files and folders. Segmentation: a mask per file, on its own grid
  (volumes → NIfTI with the same affine, pictures → PNG and an overlay; `seg`:
  DICOM → DICOM SEG). Classification: predictions.csv.

  Of several members, the mean of their probabilities counts. predictions.csv
  then says how sure it is; with `uncertainty` maps say so beside a mask, and
  with `probabilities` those of all classes lie there. `calibrated`
  probabilities of a classifier are those after temperature scaling
  (medjax.metrics.calibration); the measures of uncertainty stay as they are.
  `skip_existing` leaves out what `out` holds already, of the same files by the
  same run and options. `options` are those of `trained.load`: trust,
  checkpoint, flips, overlap, batch_size.

  conformal: a level, .9 say: predictions.csv has a set of classes that holds
  the truth so often, made as `sets` says ('lac', 'aps', 'raps'), or `by_class`;
  of a segmentation masks are written that find so much of each class; of
  survival there is a time that is outlived so often (`sets`: 'any' or
  'independent' censoring). `ood`: how unlike the training a case is, as p
  values. Either says in 'abstain' and 'reason' when not to rely on an answer.
  """
  run = trained.load(workdir, **options)
  maps = dict(seg=seg, uncertainty=uncertainty, probabilities=probabilities)
  judged = dict(conformal=conformal, sets=sets, by_class=by_class, ood=ood)
  tabular = tables.takes(run, inputs)
  _check_options(run, workdir, tabular, maps, calibrated, judged)
  judge = judge_lib.load(
    workdir, run, level=conformal, method=sets, by_class=by_class, ood=ood
  )
  out, parts = pathlib.Path(out), ()
  if tabular:
    found, parts = tables.sources(run, inputs, out)
  else:
    found = _images(run, workdir, inputs, out, maps)
  options = {**maps, **judged, 'calibrated': calibrated}
  by = written.made_by(workdir, run, options)
  results = written.Written(out, by, key='id' if tabular else 'file')
  if skip_existing:
    lines = _has_line(run, judge)
    found = results.lacking(found, run.task, lines=lines, segments=seg)
  for line in judge.said(workdir) if judge else ():
    print(line, flush=True)
  _write(run, found, parts, results, maps, judge, calibrated)


def _write(run, found, parts, results, maps, judge, calibrated):
  """Predicts all; raises ValueError for what failed, when the rest is done."""
  maps = _maps_of(run.task, **maps)
  results.begin(found)
  try:
    errors = _predict(run, found, results, maps, judge, calibrated)
  finally:  # what was predicted stays, whatever comes
    if path := results.write():
      print(path)
  for note in dict.fromkeys(note for part in parts for note in part.notes):
    print(f'note: {note}')
  if not found:
    print(f'nothing to do: {results.out} holds all of it')
  if errors:
    few = f'{len(errors)} of {len(found)} {results.kind} failed; the first: '
    raise ValueError(f'{few if len(found) > 1 else ""}{errors[0]}')


def _images(run, workdir, inputs, out, maps):
  """The `Source` of each image; `maps`: which of them are wanted, by name."""
  found = files.inputs_of(run, inputs)
  out.mkdir(parents=True, exist_ok=True)
  _check(run, workdir, found, out, **maps)
  return [files.source(file) for file in found]


def _check_options(run, workdir, tabular, maps, calibrated, judged):
  if tabular and 'mask' in run.task.fields:
    raise ValueError(
      f'{workdir} segments images: give their files or folders, not a table'
    )
  if tabular and (any(maps.values()) or calibrated or judged['ood']):
    raise ValueError(
      f'{workdir} predicts on tables: --seg, --uncertainty, --probabilities, '
      '--calibrated and --ood are for images'
    )
  if calibrated and (judged['conformal'] or judged['ood']):
    raise ValueError(
      'validation decided on the probabilities as they are: leave --calibrated '
      'with --conformal and --ood'
    )


def _maps_of(task, seg, uncertainty, probabilities):
  """Options of `files.write`: what is written of a case beside its mask."""
  most = None
  if uncertainty:
    most = np.log(task.num_outputs if task.exclusive else 2)
  maps = dict(segments=task.label_names if seg else None, most=most)
  if probabilities:
    maps['probabilities'] = task.label_names if task.exclusive else task.names
  return maps


def _predict(run, found, results, maps, judge, calibrated):
  """Writes the maps of cases, others into the table; lines on what failed."""
  errors, sources = [], {source.id: source for source in found}

  def refused(error):
    line = cli.said(error)
    if line is None:
      raise error
    errors.append(line)
    print(f'failed: {line}', flush=True)

  with progress.bar('predicting', len(found)) as advance:

    def watch(sample, window, count):
      name = sample['raw']['id']
      advance(0, f'{name}, window {window} of {count}' if count > 1 else name)

    predictions = run.predict_cases(
      _readable(found, refused),
      calibrated=calibrated,
      probabilities='probabilities' in maps or bool(judge and judge.maps),
      features=bool(judge and judge.known),
      refused=refused,
      watch=watch,
    )
    for i, (case, prediction) in enumerate(predictions):
      source = sources[case['id']]
      try:
        prediction = judge(prediction) if judge else prediction
      except ValueError as e:  # of this case: others go on
        refused(ValueError(f'{source.line}: {e}'))
        continue
      if prediction.labels is not None:
        if judge and judge.maps:
          files.write_within(
            results.out, case, judge.within(prediction), judge.level
          )
        result = files.write(results.out, case, prediction, **maps)
      else:
        result = answer(run.task, prediction)
      results.add(source, prediction if _has_line(run, judge) else None)
      if prediction.judgement.get('abstain'):
        result = f'{result}, but abstain: {prediction.judgement["reason"]}'
      advance()
      print(f'{i + 1}/{len(found)} {source.line} → {result}', flush=True)
      for note in case.get('notes', ()):
        print(f'  note: {note}', flush=True)
  return errors


def answer(task, prediction):
  """What a case is told to be, in words."""
  values = prediction.values
  if not task.names or not values.keys() >= {*task.names}:
    return f'{len(values)} numbers'
  decided = task.decode(np.array([values[name] for name in task.names]))
  if np.ndim(decided) == 0:
    return task.names[int(decided)]
  there = [n for n, d in zip(task.names, decided, strict=True) if d]
  return ', '.join(there) or 'no label above ½'


def _check(run, workdir, found, out, seg, uncertainty, probabilities):
  """Raises ValueError for what cannot be written of this run or these files."""
  if any(out.samefile(q.parent) for p in found for q in files.paths_of(p)):
    raise ValueError(f'{out} holds an input; results need another folder')
  writes_maps = 'mask' in run.task.fields
  if seg and not writes_maps:
    raise ValueError(f'{workdir} holds a classifier, which writes no DICOM SEG')
  if probabilities and not writes_maps:
    raise ValueError(
      f'{workdir} holds a classifier: its probabilities are in predictions.csv '
      'anyway'
    )
  if uncertainty and not (len(run.variables) > 1 and writes_maps):
    raise ValueError(
      f'{workdir} holds no members that segment, so there are no maps of '
      'uncertainty'
    )
  sources = [files.paths_of(p)[0] for p in found] if seg else ()
  odd = [p for p in sources if not formats.is_dicom(p)]
  if odd:
    raise ValueError(f'{odd[0]} is not DICOM, so no DICOM SEG can refer to it')


def _has_line(run, judge):
  """Whether predictions.csv has a line of each case."""
  return 'mask' not in run.task.fields or bool(judge and judge.known)


def _readable(found, refused):
  """Yields the cases of sources; `refused` is told of the damaged."""
  for source in found:
    try:
      case = source.read()
    except Exception as e:
      refused(e)
      continue
    yield case


# Of the command: name, what it does.
_SWITCHES = {
  'seg': 'write DICOM SEG, for DICOM inputs',
  'uncertainty': "maps of it, an ensemble's",
  'probabilities': 'those of all classes too: NIfTI of volumes, else NPZ',
  'calibrated': 'after temperature scaling',
  'skip_existing': 'leave out what --out holds already',
  'ood': 'say how unlike the training each case is',
  'by_class': 'with --conformal: cover each class alike (Mondrian)',
  'trust': 'let the run name code of its own',
}


def main():
  """Command line entry point."""
  parser = cli.parser(
    __doc__,
    'predict --workdir=runs/unet scans --out=predicted',
    'predict --workdir=runs/unet scans --out=predicted --flips --probabilities',
    'predict --workdir=runs/resnet films --out=predicted --conformal=.9 --ood',
  )
  parser.add_argument(
    'inputs', nargs='+', help='image files or folders, or tables'
  )
  parser.add_argument('--workdir', required=True, help='a trained workdir')
  parser.add_argument('--out', required=True, help='folder for the results')
  for name, what in _SWITCHES.items():
    parser.add_argument(f'--{name}', action='store_true', help=what)
  parser.add_argument(
    '--checkpoint', default='best', help='best, last or a step [best]'
  )
  parser.add_argument(
    '--conformal',
    type=float,
    metavar='LEVEL',
    help='sets of classes that hold the truth so often, .9 say; of a '
    'segmentation masks that find so much of each class; of survival a time '
    'that is outlived so often',
  )
  parser.add_argument(
    '--sets',
    help='with --conformal: lac, aps or raps [lac]; of survival, censoring '
    'that is any or independent [any]',
  )
  parser.add_argument(
    '--flips',
    action=argparse.BooleanOptionalAction,
    help="average over mirror images [the run's]",
  )
  parser.add_argument(
    '--overlap',
    type=float,
    help="of neighbouring windows, 0 to below 1 [the run's]",
  )
  parser.add_argument('--batch_size', type=int, help="of windows [the run's]")
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = vars(parser.parse_args())
  args.pop('debug')
  with cli.one_line_errors():
    predict(args.pop('workdir'), args.pop('inputs'), args.pop('out'), **args)


if __name__ == '__main__':
  main()
