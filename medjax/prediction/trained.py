"""A trained run as a thing that predicts: `medjax.load(workdir)`."""

import dataclasses
import pathlib
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from medjax import __version__, experiment, files
from medjax.data.formats import check_finite
from medjax.prediction import windows
from medjax.prediction.predictor import Predictor
from medjax.prediction.result import Prediction, Provenance
from medjax.run import checkpoint as checkpoint_lib
from medjax.tasks.task import Calibration

CALIBRATION = 'calibration.json'


def write_calibration(workdir, calibration, steps):
  """Writes what validation decided on checkpoints of these steps."""
  values = {**dataclasses.asdict(calibration), 'steps': list(steps)}
  files.write_json(pathlib.Path(workdir) / CALIBRATION, values, sealed=True)


def load_calibration(workdir, steps):
  """Reads the decisions of a run's validation split; none before evaluation.

  Those on weights of other `steps`, of each member, are left out, with a line.
  """
  path = pathlib.Path(workdir) / CALIBRATION
  values = files.read_json(path, mend='evaluate again')
  try:
    values = dict(values or {})
    if other := other_steps(values.pop('steps', None), steps):
      print(f'medjax: {path} is left out: {other}', file=sys.stderr)
      values = {}
    return Calibration.of(values)
  except (TypeError, ValueError) as e:
    raise ValueError(f'{path} is damaged: {e}; evaluate again') from None


def other_steps(of, steps):
  """A sentence where what was decided `of` steps is not for weights of `steps`.

  Else ''; of None is of a release that did not say.
  """
  if of is None or [*map(int, of)] == [*map(int, steps)]:
    return ''
  said = [', '.join(map(str, map(int, each))) for each in (of, steps)]
  return (
    f'it is of the weights of step {said[0]}, these are of {said[1]}: evaluate '
    'again, with --mode=evaluate, or take the best checkpoint'
  )


def load(workdir, *, trust=False, checkpoint='best', **inference):
  """A run with one of its checkpoints, or of each of its members, as `Trained`.

  `trust` lets the run name code outside of medjax. `checkpoint` is 'best',
  'last' or a step. `inference` may set fields of config.inference: flips,
  overlap, batch_size; None is the run's own. Raises FileNotFoundError where
  there is no checkpoint.
  """
  given = {k: v for k, v in inference.items() if v is not None}
  made = experiment.restore(workdir, trust=trust, inference=given)
  runs = [folder for _, folder in made.runs(workdir)]
  found = [checkpoint_lib.variables(folder, checkpoint) for folder in runs]
  steps, variables = zip(*found, strict=True)
  return Trained(made, variables, steps, load_calibration(workdir, steps))


class Trained:
  """A model with its weights on the devices, its task and its preparation.

  Attributes: `experiment`; `task`; `model`; `variables` of each member;
  `calibration`, what validation decided; `provenance`.
  """

  def __init__(self, experiment, variables, steps, calibration):
    self.experiment, self.calibration = experiment, calibration
    self.task, self.model = experiment.task, experiment.model
    self.provenance = Provenance(
      model=str(experiment.config['model'].get('name')),
      steps=tuple(map(int, steps)),
      digest=experiment.digest,
      medjax=__version__,
    )
    self.variables = variables
    self._predictors = {}
    self._features = None

  def predict(self, array=None, spacing=None, *, calibrated=False, **fields):
    """The `Prediction` of an image (*s, C), or (*s,) of one channel.

    `spacing` is that of its voxels, mm, by default 1. `fields` are what else
    the task takes, covariates, say; of a model of a table there is no image.
    The rest is as `predict_case`'s.
    """
    case = self._case(array, spacing, fields)
    return self.predict_case(case, calibrated=calibrated)

  def probabilities(self, array, spacing=None, **fields):
    """The probabilities of an image: (K,), or of a map (*s, K) on its grid."""
    case = self._case(array, spacing, fields)
    return self.predict_case(case, probabilities=True).probabilities

  def predict_case(self, case, **options):
    """The `Prediction` of one raw case; options are those of predict_cases."""
    ((_, prediction),) = self.predict_cases([case], **options)
    return prediction

  def predict_cases(
    self,
    cases,
    *,
    probabilities=False,
    features=False,
    calibrated=False,
    refused=None,
    **options,
  ):
    """Yields (raw case, its `Prediction`), in order.

    Windows of several cases share a batch. With `probabilities` those of a map
    are kept too, and with `features` the embedding and the logits, of windows
    their mean; `calibrated` are those of a vector after temperature scaling.
    `refused(error)` is told of a case that the model does not take, or gives no
    finite numbers of, and the others go on; by default it is raised. `options`
    may hold the `watch` of `windows.predict_samples`.

    Raises ValueError for such a case, and where nothing was decided by which to
    calibrate.
    """
    if calibrated and self.calibration.temperature is None:
      raise ValueError(
        'this run has no temperature: only evaluated classifiers have one, '
        'where validation has errors, and of a cross-validation each fold'
      )
    samples = self._samples(cases, refused)
    predictor = self._predictor(probabilities, features)
    for sample, found in predictor(samples, refused=refused, **options):
      case = sample['raw']
      yield case, self._prediction(case, found, calibrated)

  def features(self, array, spacing=None, *, member=0, **fields):
    """Returns the model's features of the prepared whole image.

    Maps of every resolution, the embedding and the logits, numpy, without the
    axis of the batch.
    """
    case = self.experiment.check(self._case(array, spacing, fields))
    made = self.experiment
    if made.apart:  # as the fold was trained
      made = made.members[member][1]
    sample = made.prepare(case)
    arrays = [np.asarray(sample[name]) for name in self.task.inputs]
    inputs = [jnp.asarray(x) for x in windows.stacked([arrays], 1)]
    if self._features is None:
      self._features = jax.jit(
        lambda variables, inputs: self.model.apply(
          variables, *inputs, train=False, features=True
        )
      )
    placed = self._predictor().weights[member]
    found = self._features(placed, inputs)
    return jax.tree.map(lambda x: np.asarray(x)[0], found)

  def _predictor(self, maps=False, features=False):
    """The predictor of this kind, compiled when it is first asked for."""
    kind = maps, features
    if kind not in self._predictors:
      predictor = Predictor(self.experiment, maps=maps, features=features)
      self._predictors[kind] = predictor.with_weights(
        *self.variables, fixed=True
      )
    return self._predictors[kind]

  def _case(self, array, spacing, fields):
    """The raw case of arrays, which are finite as those of files are."""
    name = {'id': 'image', 'patient': 'image'}
    for other in self.experiment.facts.further_images:
      if other in fields:
        check_finite(other, np.asarray(fields[other]))
    if array is None:
      return {**name, **fields}
    array, rank = np.asarray(array), self.experiment.facts.rank
    check_finite('image', array)
    array = array[..., None] if array.ndim == rank else array
    spacing = np.ones(rank) if spacing is None else np.asarray(spacing, float)
    if spacing.shape != (rank,) or not (spacing > 0).all():
      raise ValueError(f'spacing {spacing} is not {rank} lengths above 0')
    affine = self.experiment.facts.affine(spacing)
    case = {
      **name,
      'image': array,
      'affine': affine,
      'spacing': spacing,
      **fields,
    }
    made = self.experiment
    for note in made.facts.doubts(case, made.preprocess_names):
      warnings.warn(note, stacklevel=3)
    return case

  def _samples(self, cases, refused):
    for case in cases:
      try:
        sample = self.experiment.prepare(self.experiment.check(case))
      except ValueError as e:
        if refused is None:
          raise
        refused(e)
        continue
      yield sample

  def _prediction(self, case, found, calibrated):
    value, probabilities = found.prediction, found.probabilities
    is_map = not isinstance(value, dict) and value.ndim > 1
    if getattr(self.task, 'from_train', False):
      value = self.task.calibrated(value, self.calibration)
    if calibrated and not is_map:
      value = self.task.calibrated(value, self.calibration)
    if isinstance(value, dict):
      probabilities = value.get('probability')
    elif not is_map:
      probabilities = value
    return Prediction(
      id=case['id'],
      labels=value if is_map else None,
      values=self.task.columns(value),
      probabilities=probabilities,
      uncertainty=found.uncertainty,
      calibrated=calibrated and not is_map,
      logits=found.logits,
      embedding=found.embedding,
      signature=found.signature,
      provenance=dataclasses.replace(
        self.provenance, inputs=tuple(map(str, case.get('inputs', ())))
      ),
    )
