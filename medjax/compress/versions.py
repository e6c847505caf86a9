"""The ways to make a run smaller: fewer bits, fewer channels, a student."""

import hashlib
import json
import pathlib
import shutil
import tempfile

import jax
import numpy as np

from medjax import config, experiment, files, public
from medjax.build import closest
from medjax.compress import exported, halves, narrow, price, quantise
from medjax.evaluate import evaluate
from medjax.export import adopted, artefact, report, weights
from medjax.finetune import adapted
from medjax.prediction import trained
from medjax.report import write_report
from medjax.train import train

TABLE = 'compression.json'
SOURCE = 'compression_of.json'
# What labels mean: a student has that of its teacher, as it has its data.
_OF_LABELS = (
  'inputs', 'num_classes', 'class_names', 'multi_label', 'positive', 'regions',
  'region_order', 'ignore',
)  # fmt: skip
_STEPS = 4  # of how many parts of the run's steps one is enough to mend a cut


def compress(workdir, to, out, *, steps=None, trust=False):
  """Writes a smaller version of a run into `out`; returns the table's rows.

  to: 'int8', 'float16', 'prune:SHARE' of the channels that stay, or
  'student:CONFIG'. Fewer bits are an exported folder, the others are workdirs.
  steps: of what trains.
  """
  kind, value = _way(to, steps)
  artefact.needs('onnx', 'onnxruntime')  # before what takes long
  run, out = trained.load(workdir, trust=trust), pathlib.Path(out)
  if not trust:  # whichever way, the run's data are opened
    experiment.refuse_foreign(config.load(workdir), workdir)
  with tempfile.TemporaryDirectory() as home:
    original = pathlib.Path(home) / 'original'
    version = pathlib.Path(home) / 'version'
    artefact.write(run, original, onnx=True, programs=False)
    if kind in _BITS:
      adopted.check_new(out)
      version.mkdir()
      _BITS[kind](run, version, original)
    else:
      _RUNS[kind](run, workdir, value, out, steps)
      smaller = trained.load(out, trust=trust)
      artefact.write(smaller, version, onnx=True, programs=False)
    rows = _priced(run.experiment, original, version, to)
    place = version if kind in _BITS else out
    files.write_json(place / TABLE, {'rows': rows})
    if kind in _BITS:
      _place(version, out)
  return rows


def _way(to, steps):
  """(kind, value) of --to; raises ValueError for what there is not."""
  kind, _, value = to.partition(':')
  known = {**_BITS, **_RUNS}
  if kind not in known:
    raise ValueError(f'--to={to}: no way {kind!r}{closest(kind, known)}')
  if kind in _BITS and (value or steps):
    raise ValueError(f'--to={kind} takes neither a value nor --steps')
  if kind == 'prune':
    try:
      value = float(value)
    except ValueError:
      value = 0
    if not 0 < value < 1:
      raise ValueError(f'--to={to}: say what stays, 0 to 1, as in prune:.5')
  if kind == 'student' and not value:
    raise ValueError('--to=student: names no config, student:configs/small.py')
  return kind, value


def _claim(out, run, workdir):
  """Says in `out` whose version it is; raises ValueError where another's is."""
  digest = hashlib.sha256()
  for name, array in sorted(weights.flat(run.variables).items()):
    digest.update(name.encode() + array.tobytes())
  place = str(pathlib.Path(workdir).resolve())
  source = {'workdir': place, 'weights': digest.hexdigest()}
  before = files.read_json(out / SOURCE, mend='take a new --out')
  if before is None:
    adopted.check_new(out)
    files.write_json(out / SOURCE, source)
  elif before['weights'] != source['weights']:
    raise ValueError(
      f'{out} was made of other weights than {workdir} has now, of those that '
      f'{before["workdir"]} had: take a new --out'
    )


def _place(folder, out):
  """Gives a folder its name when all of it is there."""
  out.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=out.parent) as beside:
    whole = shutil.copytree(folder, pathlib.Path(beside) / 'whole')
    if out.exists():
      out.rmdir()  # which is empty
    whole.rename(out)


def _priced(made, original, version, name):
  task = made.task
  (inputs,) = exported.fed(original, made.cases('test'), 1)
  before = price.rows_of(original, made, 'test')
  first = price.row('original', original, task, before, inputs)
  after = price.rows_of(version, made, 'test')
  return [first, price.row(name, version, task, after, inputs, before)]


def _int8(run, out, original):
  """Eight bits; the method of calibration is chosen on validation."""
  made = run.experiment

  def judge(folder):
    return price.score(made.task, price.rows_of(folder, made, 'validation'))

  scores, left = quantise.quantise(original, out, made.cases('train'), judge)
  for method, score in scores.items():
    print(f'{method}: validation {made.task.monitor} {score:.4f}')
  if left:
    kinds = ', '.join(f'{n} {kind}' for kind, n in left.items())
    print(f'left in float32: {kinds}')


def _float16(run, out, original):
  """Weights of sixteen bits; prints what they change of the golden cases."""
  halves.halve(original, out)
  report.check(out)


def _prune(run, workdir, share, out, steps):
  """Fewer channels, and training to mend it."""
  made = _single(run, workdir)
  whole = _restored(workdir)
  old = (
    made.model.model if isinstance(made.model, adapted.Adapted) else made.model
  )
  whole.model = narrow.narrower(made.config['model'], share)
  whole.adapt = dict(name='full')
  whole.optimizer.freeze = ()
  cut = out / 'cut'
  whole.pretrained.path = str(cut)
  _shorter(whole, steps)
  smaller = experiment.make(whole, facts=made.facts)
  inputs = _inputs(made)
  _claim(out, run, workdir)
  if not adopted.stored(cut):  # or was killed on the way
    outline = adapted.outline(smaller.model, inputs)
    variables = jax.tree.map(np.asarray, adapted.merge(run.variables[0]))
    adopted.store(smaller, cut, narrow.cut(old, variables, outline), inputs)
  _trained(smaller, out)


def _student(run, workdir, value, out, steps):
  """A network by another config, taught by the run."""
  made = _single(run, workdir)
  student, whole = public.read_config(value), _restored(workdir)
  student = config.complete(student)
  plain = lambda x: json.loads(config.to_json(x))
  ours, theirs = (plain(x)['data']['preprocess'] for x in (whole, student))
  if ours != theirs:
    raise ValueError(
      f'{value} prepares images otherwise than {workdir} does: a student sees '
      'what its teacher sees; give both the same data.preprocess'
    )
  task = dict(plain(student)['task'])
  kind = str(task.get('name'))
  if kind not in ('Classification', 'Segmentation'):
    raise ValueError(
      f'no student of a {kind}, only of a classifier or segmenter'
    )
  if whole.privacy.epsilon and not student.privacy.epsilon:
    raise ValueError(
      f'{workdir} is private, and its student learns from the same patients: '
      f'give {value} a privacy.epsilon, which adds to that of the run'
    )
  known = plain(whole)['task']
  task = {k: v for k, v in task.items() if k not in _OF_LABELS}
  task |= {k: v for k, v in known.items() if k in _OF_LABELS}
  task |= {
    'name': f'Distilled{kind}',
    'teacher': str(pathlib.Path(workdir).resolve()),
  }
  student.task = config.part(task)
  student.data.update(
    {
      k: v
      for k, v in whole.data.items()
      if k not in ('preprocess', 'batch_size')
    }
  )
  if whole.data.seed is None:  # patients are divided as the teacher's are
    student.data.seed = whole.seed
  if steps:
    student.train.steps = steps
  smaller = experiment.make(student, facts=made.facts)
  _claim(out, run, workdir)
  _trained(smaller, out)


def _single(run, workdir):
  """The experiment of a run that has no members."""
  if run.experiment.members:
    raise ValueError(
      f'{workdir} holds several runs: compress one, {workdir}/member0'
    )
  return run.experiment


def _restored(workdir):
  whole = config.part(config.load(workdir).to_dict())
  whole.train.writer = ''  # may be code, of which nobody was asked
  return whole


def _shorter(whole, steps):
  """Less training, of a lower rate: the weights are nearly right."""
  train_ = whole.train
  train_.steps = steps or max(train_.steps // _STEPS, 1)
  train_.eval_every = min(train_.eval_every, max(train_.steps // 2, 1))
  whole.optimizer.learning_rate *= 0.5


def _inputs(made):
  """Shapes of what the model is called with."""
  shape = made.data.patch_size or None
  sample = made.prepare(made.cases('train')[0])
  found = []
  for name in made.task.inputs:
    array = np.asarray(sample[name])
    dense = name == 'image' and shape
    sizes = (*shape, array.shape[-1]) if dense else array.shape
    found.append(jax.ShapeDtypeStruct((1, *sizes), np.float32))
  return tuple(found)


def _trained(made, out):
  """Trains and evaluates, unless that is done; goes on where it stopped."""
  facts = train(made, out)
  evaluate(made, out, facts=facts)
  write_report(out)


_BITS = {'int8': _int8, 'float16': _float16}  # exported folders
_RUNS = {'prune': _prune, 'student': _student}  # workdirs
