"""The folder that a run is exported to: what is in it, and how it is made."""

import dataclasses
import datetime
import importlib.util
import pathlib
import shutil

import jax
import numpy as np

from medjax import __version__, config, experiment, files
from medjax.data.facts import DataFacts
from medjax.export import golden, onnx_file, preprocessing, program, weights
from medjax.prediction import trained

SHIPPED = pathlib.Path(__file__).parent / 'shipped'
SCRIPTS = ('run.py', 'programs.py', 'image_files.py')
WEIGHTS, ONNX, GOLDEN = 'weights.safetensors', 'model.onnx', 'golden.npz'
MODEL = 'model.json'
# What jax says of its serialised programs: read for six months.
_DAYS = 180
_KEPT = ('model', 'adapt', 'task', 'inference', 'optimizer')


def export(workdir, out, *, onnx=False, trust=False, checkpoint='best'):
  """Writes what `medjax.export` promises of a workdir into the folder `out`.

  Returns what model.json holds. Raises ValueError for what cannot be exported,
  FileNotFoundError where there is no run.
  """
  needs('flatbuffers', *(('onnx',) if onnx else ()))
  run = trained.load(workdir, trust=trust, checkpoint=checkpoint)
  return write(run, out, onnx=onnx)


def needs(*packages):
  """Raises ValueError for a package of the extra that is not there."""
  for name in packages:
    if importlib.util.find_spec(name) is None:
      raise ValueError(
        f"this needs the package {name}: pip install 'medjax[export]'"
      )


def write(run, out, *, onnx, programs=True):
  """The same of a `Trained`; without `programs` there is ONNX only."""
  made, out = run.experiment, pathlib.Path(out)
  if made.folds:
    raise ValueError(
      'a cross-validation is no model: export one of its folds, '
      '--workdir=RUN/fold0'
    )
  _check_folder(out)
  arrays = weights.flat(run.variables)
  info, cases = _described(made, run)
  function = _function(made, info)
  out.mkdir(parents=True, exist_ok=True)
  for name in SCRIPTS:
    with files.replacing(out / name, 'wb') as f:
      f.write((SHIPPED / name).read_bytes())
  info |= {'programs': {}, 'written': datetime.date.today().isoformat()}
  if programs:
    weights.write(out / WEIGHTS, arrays)
    _write_programs(out, info, function, arrays)
  if onnx:
    _write_onnx(out, info, function, arrays)
  golden.write(out / GOLDEN, run, cases, info)
  models = {WEIGHTS: programs, ONNX: onnx}
  for name in (name for name, wanted in models.items() if not wanted):
    (out / name).unlink(missing_ok=True)  # of the run that was here before
  _seal(out, info, [name for name, wanted in models.items() if wanted])
  return info


def _check_folder(out):
  """Raises ValueError for a folder that holds something else."""
  inside = [p.name for p in out.iterdir()] if out.is_dir() else []
  if inside and MODEL not in inside:
    raise ValueError(f'{out} holds other files: export into a new folder')


def _described(made, run):
  """(model.json without what is known last, cases of `golden`)."""
  facts, task, windows = made.facts, made.task, bool(made.data.patch_size)
  steps = preprocessing.translated(made.config['data']['preprocess'], facts)
  outside, inside, fill = preprocessing.divided(steps, windows=windows)
  unsupported = preprocessing.unsupported(outside, facts)
  # Of several images each has numbers of its own.
  if len(task.inputs) > 1 or unsupported:
    outside, inside, fill = steps, [], [0.0]
  baseline = _baseline(run)
  decided = baseline is not None or run.calibration.temperature is not None
  calibrated = decided and not windows
  cases = golden.cases(made)
  sample = made.prepare(cases[0])
  shape = tuple(made.data.patch_size)
  if 'image' in sample and not windows:
    shape = sample['image'].shape[:-1]
  return {
    'medjax': __version__,
    'task': type(task).__name__,
    'network': dict(made.config['model']),
    'steps': list(run.provenance.steps),
    'config_digest': made.digest,
    'members': len(run.variables),
    'channels': facts.channels,
    'channel_names': list(facts.channel_names),
    'columns': list(facts.covariate_names),
    'layout': f'batch, {facts.rank} axes as the file has them, channels',
    'values': 'as stored, slope and intercept applied',
    'trained_at_spacing': list(facts.spacing),
    'unit_of_length': facts.unit_of_length,
    'shape': [int(n) for n in shape],
    'windows': windows,
    'masks': 'mask' in task.fields,
    'overlap': made.inference.overlap,
    'inputs': _shapes(made, sample, shape, inside),
    'outside': outside,
    'inside': inside,
    'table': preprocessing.of_table(made.config['data']['preprocess'], facts),
    'measured': (inside[0].get('measured') if inside else None) or None,
    'fill': fill,
    'unsupported': unsupported,
    'names': list(_names(task)),
    'regions': list(getattr(task, 'region_order', ())),
    'thresholds': run.calibration.thresholds,
    'temperature': run.calibration.temperature,
    'baseline': baseline,
    'calibrated': calibrated,
    'batches': sorted({1, int(made.inference.batch_size)}),
    'rebuild': {
      'config': _rebuilt(made.config),
      # Notes may name the folders of patients.
      'facts': dataclasses.asdict(dataclasses.replace(facts, notes=())),
    },
  }, cases


def _names(task):
  """Of the channels of a map, or the entries of a vector."""
  if getattr(task, 'from_train', False):  # of a survival, cause and time
    return [f'{c}/{t:g}' for c in task.named_causes for t in task.grid]
  return (
    getattr(task, 'label_names', ()) if 'mask' in task.fields else task.names
  )


def _baseline(run):
  """The baseline hazard by cause and interval, of a Cox model; else None."""
  method = getattr(run.task, 'method', None)
  if not getattr(method, 'relative', False):
    return None
  if run.calibration.baseline is None:
    raise ValueError(
      'a Cox model is exported with the baseline hazard of its training cases: '
      'evaluate the run first, --mode=evaluate'
    )
  return [list(row) for row in run.calibration.baseline]


def _rebuilt(whole):
  """Of a config what a program is traced of; nothing of where data lie."""
  part = {k: whole[k] for k in _KEPT}
  part['optimizer'] = {'freeze': whole['optimizer']['freeze']}
  data = {k: whole['data'][k] for k in ('preprocess', 'patch_size')}
  return {**part, 'data': {**data, 'name': 'folder'}}


def _shapes(made, sample, shape, inside):
  """{input: its shape without the batch} of the program."""
  found = {}
  for name in made.task.inputs:
    array = np.asarray(sample[name])
    dense = array.ndim == len(shape) + 1
    found[name] = [*shape, array.shape[-1]] if dense else [*array.shape]
  if inside and inside[0].get('measured'):
    found['statistics'] = [2, found['image'][-1]]
  return {k: [int(n) for n in v] for k, v in found.items()}


def _function(made, info):
  return program.make(
    made,
    members=info['members'],
    inside=info['inside'],
    table=info.get('table', ()),
    # Over windows vectors are averaged first.
    temperature=None if info['windows'] else info['temperature'],
    baseline=info.get('baseline'),
  )


def _write_programs(out, info, function, arrays):
  """A program for each batch on CPUs, and the portable one."""
  info['programs'] = {'cpu': {}, 'portable': {}}
  info['forms'] = {}
  for batch in info['batches']:
    made, form = program.for_cpu(function, arrays, info['inputs'], batch)
    name = f'program.cpu-{batch}.stablehlo'
    _put(out / name, made)
    info['programs']['cpu'][str(batch)] = name
    info['forms'][name] = form
  name = 'program.stablehlo'
  _put(out / name, program.portable(function, arrays, info['inputs']))
  info['programs']['portable']['0'] = name
  last = datetime.date.today() + datetime.timedelta(_DAYS)
  info |= {
    'written': datetime.date.today().isoformat(),
    'expires': last.isoformat(),
    'jax': jax.__version__,
  }


def _put(path, exported):
  with files.replacing(path, 'wb') as f:
    f.write(exported.serialize())


def _write_onnx(out, info, function, arrays):
  """model.onnx, of any batch."""
  names = [*info['inputs']]
  outputs = _outputs(function, arrays, info)

  def of_arrays(*inputs):
    found = function(arrays, dict(zip(names, inputs, strict=True)))
    return [found[name] for name in outputs]

  inputs = {k: (tuple(v), np.float32) for k, v in info['inputs'].items()}
  try:
    model = onnx_file.convert(of_arrays, inputs, outputs)
  except NotImplementedError as e:
    raise ValueError(f'{e}; without --onnx the rest is exported') from None
  with files.replacing(out / ONNX, 'wb') as f:
    f.write(model.SerializeToString())


def _outputs(function, arrays, info):
  """Names of what the program gives."""
  like = {
    k: jax.ShapeDtypeStruct((1, *v), np.float32)
    for k, v in info['inputs'].items()
  }
  return [*jax.eval_shape(function, arrays, like)]


def _seal(out, info, models):
  """Writes model.json with the digests of all files.

  models: which of WEIGHTS and ONNX are of it.
  """
  names = [*SCRIPTS, GOLDEN, *_programs(info), *models]
  info['files'] = {name: files.digest_of(out / name) for name in names}
  files.write_json(out / MODEL, info, sealed=True)


def _programs(info):
  """The names of all programs of a model.json."""
  return [n for each in info['programs'].values() for n in each.values()]


def refresh(folder):
  """Writes the programs of a folder anew, from its weights and model.json."""
  folder = pathlib.Path(folder)
  needs('flatbuffers')
  info = files.read_json(folder / MODEL, mend='take another copy')
  if info is None:
    raise FileNotFoundError(f'{folder} holds no {MODEL}: export a run into it')
  if WEIGHTS not in info['files']:
    raise ValueError(f'{folder} holds {ONNX} only, which does not expire')
  for name in {*info['files']} - {*_programs(info)}:  # before it is sealed
    if files.digest_of(folder / name) != info['files'][name]:
      raise ValueError(f'{folder / name} was changed: take another copy')
  stored = config.default_config()
  stored.update(info['rebuild']['config'])
  experiment.refuse_foreign(stored, folder)
  facts = DataFacts.read(info['rebuild']['facts'])
  made = experiment.make(stored, facts=facts)
  arrays = golden.read_weights(folder)
  _write_programs(folder, info, _function(made, info), arrays)
  _seal(folder, info, [x for x in (WEIGHTS, ONNX) if x in info['files']])
  return info


def copy(folder, out, names):
  """Copies files of an exported folder."""
  for name in names:
    shutil.copyfile(pathlib.Path(folder) / name, pathlib.Path(out) / name)
