"""Predicts whole cases, by one model or by several members as one."""

import copy
import functools
import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import errors

from medjax import engine
from medjax.finetune import adapted
from medjax.prediction import ensemble, forward, windows
from medjax.prediction.fixed import Fixed
from medjax.prediction.regrid import NativeMap


class Found(NamedTuple):
  """The prediction of a case, by one model or several.

  prediction: what the task decodes of a map, on the grid of the raw case; else
    its vector, or several by name.
  uncertainty: of several members what `ensemble.read` says; {} of one.
  probabilities: of a map (*s, K), where asked for.
  ranks: of the pixels of a map (*s,), where asked for and the task has them.
  embedding, signature, logits: (d,), (e,) and (K,), where features are asked
    for (`forward.signature`); of several members side by side, but of logits
    the mean. Logits that are a map are not kept: None.
  """

  prediction: np.ndarray | dict[str, np.ndarray]
  uncertainty: dict[str, np.ndarray]
  probabilities: np.ndarray | None
  ranks: np.ndarray | None = None
  embedding: np.ndarray | None = None
  signature: np.ndarray | None = None
  logits: np.ndarray | None = None


class Predictor:
  """Predicts whole cases on this process's devices.

  Compiled for an experiment; `with_weights` gives one that can be called.
  With `maps`, the probabilities of a map are kept too, as floats; with `ranks`,
  how its pixels rank by them; with `features` the embedding and the logits.
  Attribute: `weights`, the variables of each member, on the devices.
  """

  def __init__(self, experiment, *, maps=False, ranks=False, features=False):
    self._task, self._maps = experiment.task, maps
    self._apart = experiment.apart
    _check_form(experiment)
    self._ranks = ranks and getattr(self._task, 'ranked', False)
    settings = experiment.inference
    self._mesh = mesh = engine.make_mesh(jax.local_devices())
    make, batch_size = forward.make_forward, settings.batch_size
    patch_size = tuple(experiment.data.patch_size)
    if settings.shard_space:
      # One image at a time comes to the first device, and is spread from it.
      mesh = engine.make_mesh(jax.local_devices()[:1])
      make, batch_size, patch_size = forward.make_spatial_forward, 1, ()
    self._windows = dict(
      mesh=mesh,
      batch_size=batch_size,
      inputs=experiment.inputs,
      patch_size=patch_size,
      overlap=settings.overlap,
    )
    options, self._features = {'flips': settings.flips}, features
    if features:
      check_features(experiment)
      options['features'] = True
    self._compiled = make(experiment.model, self._task, self._mesh, **options)
    self._plain = None
    on_cpu = mesh.devices.flat[0].platform == 'cpu'
    if on_cpu and mesh.size == 1 and make is forward.make_forward:
      self._plain = forward.plain(experiment.model, self._task, **options)
    self.weights, self._alone = (), None

  def with_weights(self, *members, fixed=False):
    """This predictor with the variables of a model, or of each of several.

    `fixed` says that they stay: on a CPU one image by itself then has a program
    of these weights, which is faster and made anew for others.
    """
    other = copy.copy(self)
    other.weights = [self._placed(variables) for variables in members]
    if fixed and self._plain:
      other._alone = Fixed(self._plain, other.weights, self._mesh)
    return other

  def __call__(self, samples, *, refused=None, **options):
    """Yields (sample, Found), in order; samples of `Experiment.prepare`.

    `refused(error)` is told of a case of which the model gives no numbers, and
    the others go on; by default ValueError is raised. `options` may hold the
    `watch` of `windows.predict_samples`.
    """
    options = {**self._windows, 'sink': self._sink, **options}
    for sample, found in windows.predict_samples(
      self._forward, samples, **options
    ):
      if found is not None:
        yield sample, self._read(found)
        continue
      case = sample['raw']
      error = ValueError(
        f'{case.get("path", case["id"])}: the model gives no numbers of it, '
        'but NaN or infinity: look for extreme values in it, or take another '
        'checkpoint'
      )
      if refused is None:
        raise error
      refused(error)

  def nothing(self, sample):
    """The `Found` of a map without foreground, for want of numbers."""
    shape = sample['raw']['image'].shape[:-1]
    unknown = ensemble.MEASURES if len(self.weights) > 1 else ()
    more = {}
    if self._maps:
      more['probabilities'] = np.zeros((*shape, self._task.num_outputs))
    if self._ranks:
      more['ranks'] = np.zeros(shape, np.uint16)
    uncertainty = dict.fromkeys(unknown, np.array(np.nan))
    return Found(np.zeros(shape, np.uint8), uncertainty, **more)

  def _placed(self, variables):
    """Variables on the devices, merged here and not in every forward pass."""
    variables = jax.device_put(variables, engine.replicated(self._mesh))
    if adapted.FROZEN in variables:
      variables = jax.jit(adapted.merge)(variables)
    return variables

  def _forward(self, inputs):
    count = len(self.weights)
    own = [inputs] * count
    if self._apart:  # each member has inputs of its own
      split = [jnp.split(x, count, -1) for x in inputs]
      own = [list(parts) for parts in zip(*split, strict=True)]
    try:
      if self._alone and len(inputs[0]) == 1 and not self._apart:
        parts = self._alone(inputs)
      else:
        pairs = zip(self.weights, own, strict=True)
        parts = [self._compiled(w, each) for w, each in pairs]
    except errors.FlaxError as e:
      line = str(e).partition(' (https:')[0]
      raise ValueError(
        f'the weights of the checkpoint are not those of the model of the '
        f'config ({line[:200]}): was config.json changed?'
      ) from e
    found = parts[0]
    if len(parts) > 1:
      # What is too large for one device comes as numpy.
      on_host = isinstance(next(iter(found.values())), np.ndarray)
      join = (np if on_host else jnp).concatenate
      found = jax.tree.map(lambda *xs: join(xs, -1), *parts)
    if found.get('prediction', np.empty(0)).ndim > 2:
      kept = {'probabilities': self._maps, 'ranks': self._ranks}
      found |= {k: found['prediction'] for k, asked in kept.items() if asked}
    return found

  def _sink(self, sample, name):
    """Returns the collector that makes a case's map of its slabs."""
    raw, count = sample['raw'], len(self.weights)
    if name == 'prediction' and count > 1:
      function = functools.partial(ensemble.decode, self._task, count)
    elif name == 'prediction':
      function = self._task.decode
    elif name == 'ranks':
      function = lambda p: self._task.ranks(ensemble.mean(p, count))
    else:
      function = functools.partial(ensemble.mean, members=count)
    same = sample['image'].shape[:-1] == raw['image'].shape[:-1]
    if same and np.allclose(sample['affine'], raw['affine']):
      return windows.Rows(function)
    if getattr(self._task, 'exclusive', False):
      inside = function
      function = lambda p: inside(ensemble.surrounded(p, count))
    return NativeMap(sample, raw, function)

  def _read(self, found):
    """A `Found` of what all members gave of a case."""
    count = len(self.weights)
    kept = Found._fields[2:] if self._features else Found._fields[2:4]
    more = {name: found.pop(name, None) for name in kept}
    if more.get('logits') is not None:
      more['logits'] = ensemble.mean(more['logits'], count)
    if 'prediction' not in found:
      each = {k: ensemble.mean(v, count) for k, v in found.items()}
      return Found(each, {}, **more)
    if count == 1:
      return Found(found['prediction'], {}, **more)
    read = ensemble.read(self._task, count, found['prediction'])
    return Found(*read, **more)


def _check_form(experiment):
  """Raises ValueError for folds whose outputs mean different times."""
  times = {each.form[1] for _, each in experiment.members}
  if len(times) > 1:
    raise ValueError(
      'each fold of this cross-validation has the event times of its own '
      'training cases, so they give no mean: give one of them, WORKDIR/fold0'
    )


def check_features(experiment):
  """Raises ValueError for a model or a setting that gives no embedding."""
  model = getattr(experiment.model, 'model', experiment.model)
  if 'features' not in inspect.signature(model.__call__).parameters:
    raise ValueError(
      f'{type(model).__name__} gives no features: its __call__ must take '
      'features=True, as the models of medjax do'
    )
  if experiment.inference.shard_space:
    raise ValueError('inference.shard_space gives maps only, no embedding')
  task = experiment.task
  if 'image' not in task.inputs:
    raise ValueError(
      f'{type(model).__name__} of {", ".join(task.inputs)} gives no features '
      'of an image: leave inference.ood empty'
    )
  try:  # of what comes with features, `forward.plain` hands on logits alone
    logits = jax.ShapeDtypeStruct((3, task.num_outputs), jnp.float32)
    jax.eval_shape(task.predict, logits)
  except (AttributeError, TypeError, ValueError):
    raise ValueError(
      f'{type(task).__name__} predicts by more than logits, which is all that '
      'comes with features: leave inference.ood empty'
    ) from None


def local_variables(state):
  """A state's variables, whole, in this process: no cross-process arrays."""
  whole = engine.replicate(state.eval_variables, state.step.sharding.mesh)
  return jax.tree.map(lambda x: x.addressable_data(0), whole)
