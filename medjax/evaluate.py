"""Cases → predictions → metrics, per case and summed up."""

import collections
import csv
import functools
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from medjax import config as config_lib
from medjax import engine, experiment
from medjax.finetune import adapted
from medjax.metrics.classification import defined_mean
from medjax.prediction import ensemble, windows
from medjax.prediction.regrid import NativeLabels
from medjax.reports.gallery import Gallery, save_cases
from medjax.run.checkpoint import best_variables

# What the validation split decides for the test split.
_CHOSEN = ('thresholds', 'temperature')


class Predictor:
  """Predicts whole cases with fixed variables, on this process's devices."""

  def __init__(self, config, task, model):
    self._task, self._inference = task, config.inference
    self._preprocess = experiment.make_preprocess(config)
    self._mesh = mesh = engine.make_mesh(jax.local_devices())
    self._decode = task.decode
    make, batch_size = engine.make_forward, config.inference.batch_size
    patch_size = tuple(config.data.patch_size)
    if config.inference.get('shard_space'):
      if not task.dense:
        raise ValueError('inference.shard_space is for segmentation only')
      # One image at a time comes to the first device, and is spread from it.
      mesh = engine.make_mesh(jax.local_devices()[:1])
      make, batch_size, patch_size = engine.make_spatial_forward, 1, ()
    self._windows = dict(
      mesh=mesh, batch_size=batch_size, patch_size=patch_size
    )
    self._forward = make(model, task, self._mesh, flips=config.inference.flips)

  def __call__(self, variables, cases):
    """Yields (raw case, probabilities (K,) or label map on its own grid)."""
    variables = self._placed(variables)
    # A case with its preprocessed twin, read one ahead of the device.
    samples = ({**self._preprocess(case), 'raw': case} for case in cases)
    for sample, prediction in windows.predict_samples(
      self._forward,
      variables,
      samples,
      **self._windows,
      overlap=self._inference.overlap,
      sink=self._sink,
    ):
      yield sample['raw'], prediction

  def _placed(self, variables):
    """Variables on the devices, merged here and not in every forward pass."""
    variables = jax.device_put(variables, engine.replicated(self._mesh))
    if adapted.FROZEN in variables:
      variables = jax.jit(adapted.merge)(variables)
    return variables

  def _sink(self, sample):
    """What makes a case's prediction of its slabs."""
    raw = sample['raw']
    if not self._task.dense:
      return windows.Rows()
    same = sample['image'].shape[:-1] == raw['image'].shape[:-1]
    if same and np.allclose(sample['affine'], raw['affine']):
      return windows.Rows(self._decode)
    return NativeLabels(sample, raw, self._decode)


class EnsemblePredictor(Predictor):
  """Predicts whole cases with the mean of several members' probabilities."""

  def __init__(self, config, task, model):
    super().__init__(config, task, model)
    self._decode = functools.partial(ensemble.decode, task)
    forward = self._forward

    def side_by_side(members, images):
      parts = [forward(variables, images) for variables in members]
      # What is too large for one device comes as numpy.
      on_host = isinstance(parts[0], np.ndarray)
      return (np if on_host else jnp).concatenate(parts, -1)

    self._forward = side_by_side

  def __call__(self, members, cases):
    """Yields (raw case, prediction, uncertainty), of variables of each member.

    The prediction is as `Predictor`'s, the uncertainty `ensemble.read`'s.
    """
    for case, found in super().__call__(members, cases):
      yield case, *ensemble.read(self._task, found)

  def _placed(self, members):
    return [super(EnsemblePredictor, self)._placed(v) for v in members]


def local_variables(state):
  """A state's variables, whole, in this process: no cross-process arrays."""
  whole = engine.replicate(state.eval_variables, state.step.sharding.mesh)
  return jax.tree.map(lambda x: x.addressable_data(0), whole)


def _gathered(rows):
  """The rows of all processes, in the order of the cases."""
  if jax.process_count() > 1:
    # numpy values → lists, and text → bytes of one length everywhere.
    text = json.dumps(rows, default=lambda x: np.asarray(x).tolist())
    data = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(data.size))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: data.size] = data
    rows = []
    for part, size in zip(
      multihost_utils.process_allgather(padded), sizes, strict=True
    ):
      for row in json.loads(part[: int(size)].tobytes()):
        rows.append({k: _array(v) for k, v in row.items()})
  return sorted(rows, key=lambda row: row['case'])


def _array(value):
  return np.asarray(value) if isinstance(value, list | float) else value


def evaluate_cases(predictor, variables, task, cases, *, visit=None):
  """One row of metrics per case, from all processes.

  Each process predicts its share of the cases. `visit(case, prediction, row)`
  sees each as it comes.
  """
  mine = range(jax.process_index(), len(cases), jax.process_count())
  rows = []
  raw_cases = (cases[i] for i in mine)
  for i, (case, prediction, *uncertainty) in zip(
    mine, predictor(variables, raw_cases), strict=True
  ):
    row = {
      'case': i,
      'id': case['id'],
      'patient': case['patient'],
      **task.metrics(prediction, case),
      **(ensemble.means(*uncertainty) if uncertainty else {}),
    }
    if visit:
      visit(case, prediction, row)
    rows.append(row)
  return _gathered(rows)


def evaluate(config, workdir, *, facts=None):
  """Evaluates the best checkpoint of a workdir on validation and test.

  Thresholds and temperature are chosen on validation and the test split is read
  once. Writes metrics.json, per_case.csv and figures/cases.npz; `facts` about
  the run go under metrics.json's 'run'.

  Of several members each is evaluated alone, in its folder. Those of an
  ensemble are then evaluated as one, by the mean of their probabilities; of a
  cross-validation the test cases of all folds are summed up together.
  """
  return _evaluate(config, pathlib.Path(workdir), facts or {})[0]


def _evaluate(config, workdir, facts):
  """What metrics.json holds, and the rows of each split."""
  config_lib.compare(
    config, workdir, ('model', 'adapt', 'data.preprocess', 'task.regions')
  )
  runs = config_lib.members(config, workdir)
  members = {
    f.name: _evaluate(run, f, facts) for run, f in runs if f != workdir
  }
  # Members of an ensemble have the same cases.
  splits = {
    split: experiment.open_cases(runs[0][0], split)
    for split in ('validation', 'test')
  }
  experiment.adopt(config, splits['validation'])
  task = experiment.make_task(config)
  written = workdir / 'metrics.json'  # by the run, if this is done again
  run = json.loads(written.read_text())['run'] if written.exists() else {}
  results, gallery = {'run': {**run, **facts}}, Gallery(task)
  if config.get('folds'):
    rows = {'test': _pooled(members)}
  else:
    predictor, variables, step = load_predictor(config, task, workdir)
    rows = {}
    for split, cases in splits.items():
      visit = gallery.visit if split == 'test' else None
      rows[split] = evaluate_cases(
        predictor, variables, task, cases, visit=visit
      )
    results['run']['best_step'] = step
  chosen = {}
  for split, each in rows.items():
    summary = task.summarize(each, **chosen, seed=config.seed)
    chosen = {k: summary[k] for k in _CHOSEN if k in summary}
    results[split] = {**summary, **_mean_uncertainty(each)}
  if members:
    results['members'] = {name: _brief(r) for name, (r, _) in members.items()}
  if jax.process_index() == 0:
    table = [{'split': split, **row} for split in rows for row in rows[split]]
    write_per_case(workdir / 'per_case.csv', table, task)
    save_cases(workdir / 'figures' / 'cases.npz', gallery.chosen())
    write_json(written, results)
  return results, rows


def load_predictor(config, task, workdir):
  """(predictor, variables, step) of the best checkpoint in a run's workdir.

  Of an ensemble's, variables and steps are lists.
  """
  model = experiment.make_model(config, task)
  runs = config_lib.members(config, workdir)
  steps, variables = zip(*(best_variables(f) for _, f in runs), strict=True)
  if len(runs) == 1:
    return Predictor(config, task, model), variables[0], steps[0]
  return EnsemblePredictor(config, task, model), [*variables], [*steps]


def _pooled(members):
  """The test rows of all folds."""
  return [
    {'fold': name, **row}
    for name, (_, rows) in members.items()
    for row in rows['test']
  ]


def _brief(results):
  """What an ensemble's metrics.json says of a member."""
  parts = {k: results[k]['scores'] for k in ('validation', 'test')}
  return {'best_step': results['run']['best_step'], **parts}


def _mean_uncertainty(rows):
  """Over the cases that have one."""
  table = {
    k: [row[k] for row in rows] for k in ensemble.MEASURES if k in rows[0]
  }
  means = {k: defined_mean(np.array(v, float)) for k, v in table.items()}
  return {'uncertainty': means} if means else {}


def write_json(path, tree):
  """JSON with null for NaN, put in place when it is whole."""

  def plain(x):
    if isinstance(x, dict):
      return {str(k): plain(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
      return [plain(v) for v in x]
    if isinstance(x, np.ndarray):
      return plain(x.tolist())
    if isinstance(x, np.generic):
      return plain(x.item())
    if isinstance(x, float) and not np.isfinite(x):
      return None
    return x

  temporary = path.with_name(path.name + '.tmp')
  temporary.write_text(json.dumps(plain(tree), indent=1) + '\n')
  os.replace(temporary, path)


def write_per_case(path, rows, task):
  """One line per case; vectors become a column per class: 'dice/white'."""
  lines = []
  for row in rows:
    line = {}
    for key, value in row.items():
      if key == 'case':
        continue
      if np.ndim(value) == 0:
        line[key] = value
        continue
      line.update(
        {f'{key}/{n}': v for n, v in zip(task.names, value, strict=True)}
      )
    lines.append(line)
  fields = list(collections.ChainMap(*reversed(lines))) if lines else []
  temporary = path.with_name(path.name + '.tmp')
  with temporary.open('w', newline='') as f:
    writer = csv.DictWriter(f, fields)
    writer.writeheader()
    writer.writerows(lines)
  os.replace(temporary, path)
