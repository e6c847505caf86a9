"""An objective: losses by name, combined by weights."""

import inspect

import jax.numpy as jnp
import numpy as np

from medjax import build, losses


def frozen(value):
  """Lists and arrays as tuples, so that a task built from them is hashable."""
  if isinstance(value, list | tuple | np.ndarray):
    return tuple(frozen(v) for v in value)
  return value


def parse(spec):
  """Config entry → ((name, weight, ((argument, value), …)), …), hashable.

  `spec` maps a name in medjax.losses to its weight, or to a dict with `weight`
  and arguments of the loss: dict(dice=1.0, focal=dict(weight=0.5, gamma=1.0)).
  Or it is one name, or entries in a tuple, which may name what lies outside of
  medjax: ('dice', dict(name='mine.loss:f', weight=0.5)). What parse() returned
  is returned as it is.
  """
  terms = []
  for name, entry in _entries(spec):
    if entry is None:  # parsed already
      return frozen(spec)
    arguments = dict(entry) if hasattr(entry, 'items') else {'weight': entry}
    weight = arguments.pop('weight', 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
      raise ValueError(
        f'loss {name!r}: weight must be a number, not {weight!r}'
      )
    build.build(losses, {**arguments, 'name': name})
    pairs = tuple((k, frozen(v)) for k, v in arguments.items())
    terms.append((name, float(weight), pairs))
  if not terms:
    raise ValueError('loss names no loss: e.g. loss=dict(cross_entropy=1.0)')
  return tuple(terms)


def _entries(spec):
  """Yields (name, weight or arguments) of a spec; None for what is parsed."""
  if hasattr(spec, 'items'):
    yield from spec.items()
    return
  for entry in (spec,) if isinstance(spec, str) else spec:
    if isinstance(entry, str):
      yield entry, 1.0
    elif hasattr(entry, 'items'):
      arguments = dict(entry)
      if 'name' not in arguments:
        raise ValueError(f'loss: {entry!r} is no entry dict(name=…, weight=…)')
      yield arguments.pop('name'), arguments
    else:
      yield '', None


def check_weights(terms, num_classes):
  """Raises ValueError for class weights that are not one for each class."""
  for name, _, pairs in terms:
    weights = dict(pairs).get('class_weights')
    if weights and len(weights) != num_classes:
      raise ValueError(
        f'loss {name!r}: class_weights has {len(weights)} entries, not '
        f'{num_classes}, one for each class'
      )


def check_entropy(terms, entropy):
  """Raises ValueError where the other of the two cross-entropies is asked."""
  names = {name for name, _, _ in terms}
  for wrong in {'cross_entropy', 'binary_cross_entropy'} - {entropy}:
    if wrong in names:
      raise ValueError(f'this task needs {entropy!r}, not {wrong!r}')


def over_batch(terms):
  """Whether any of the losses sums over the whole batch: batch=True."""
  return any(dict(pairs).get('batch', False) for _, _, pairs in terms)


def takes(terms, option):
  """Whether any of the losses has an argument of this name."""
  return any(
    option in inspect.signature(build.lookup(losses, name)).parameters
    for name, _, _ in terms
  )


def check_takes(terms, option, why):
  """Raises ValueError for a loss that has no argument of this name."""
  for name, _, _ in terms:
    known = inspect.signature(build.lookup(losses, name)).parameters
    if option not in known:
      raise ValueError(f'{why} wants losses that take {option}, not {name!r}')


def evaluate(terms, logits, target, **options):
  """Weighted sum of the losses: (b,).

  Each loss is given those options that it takes and the config did not set.
  """
  total = 0.0
  for name, weight, pairs in terms:
    function = build.lookup(losses, name)
    known = inspect.signature(function).parameters
    arguments = {k: v for k, v in options.items() if k in known} | dict(pairs)
    total = total + weight * function(logits, target, **arguments)
  return total


def over_heads(loss, outputs, weights, num_outputs):
  """Weighted sum of loss(logits) over the heads of a model: (b,).

  outputs: logits, or a tuple of them, the main head's first. weights gives
  one per head for their number; a head of weight 0 is left out.

  Raises:
    ValueError: for a head that has not num_outputs channels.
  """
  heads = outputs if isinstance(outputs, tuple | list) else (outputs,)
  for logits in heads:
    if logits.shape[-1] != num_outputs:
      raise ValueError(
        f'the model gives {logits.shape[-1]} outputs, the task needs '
        f'{num_outputs}'
      )
  pairs = zip(heads, weights(len(heads)), strict=True)
  return sum(weight * loss(logits) for logits, weight in pairs if weight)


def level_weights(given, levels):
  """Weights of the outputs of deep supervision, finest first, of sum 1.

  Those given, else 1/2^i and 0 for the lowest resolution. Raises ValueError
  where the model has another number of outputs, or none would count.
  """
  weights = list(given) or [0.5**i for i in range(levels)]
  if levels > 1 and not given:
    weights[-1] = 0.0
  if len(weights) != levels or min(weights) < 0 or not sum(weights):
    raise ValueError(
      f'task.level_weights {tuple(given)}: the model has {levels} outputs; '
      'give one weight for each, none negative'
    )
  return [w / sum(weights) for w in weights]


def main_head(outputs):
  """Logits of the main head, float32."""
  logits = outputs[0] if isinstance(outputs, tuple | list) else outputs
  return logits.astype(jnp.float32)


def check_resolution(outputs, mask):
  """Raises ValueError unless the main head's map is on the grid of the mask."""
  logits = outputs[0] if isinstance(outputs, tuple | list) else outputs
  if logits.shape[:-1] != mask.shape:
    raise ValueError(
      f'the model gives logits {logits.shape[1:]} for a mask {mask.shape[1:]}: '
      'it must give one vector for each voxel of its input'
    )
