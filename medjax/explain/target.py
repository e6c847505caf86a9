"""What is explained: a number that a model gives of an image."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from medjax.explain import network
from medjax.tasks import objective


@dataclasses.dataclass(frozen=True)
class Target:
  """A number of the outputs of a model: (b,).

  kind: 'exclusive', the log-odds of one of several classes; 'label', those of
    a label by itself; 'value', a number as it is. Which output, of (b, K) or
    of a map (b, *s, K), `about['output']` (b,) says.
  risk: outputs → (b,), or (b, causes) of which `about['output']` says one;
    the larger the worse.

  Of a map it is the mean over `about['region']` (b, *s).
  """

  kind: str
  risk: Any = None

  def __call__(self, outputs, about):
    """The number (b,), float32, of the main head."""
    z = self.risk(outputs) if self.risk else objective.main_head(outputs)
    if z.ndim == 1:
      return z.astype(jnp.float32)
    index = about['output'].reshape(-1, *[1] * (z.ndim - 1))
    chosen = jnp.arange(z.shape[-1]) == index
    values = jnp.where(chosen, z, 0).sum(-1)
    if self.kind == 'exclusive':
      others = jnp.where(chosen, -jnp.inf, z)
      values = values - jax.nn.logsumexp(others, axis=-1)
    if values.ndim == 1:
      return values
    region, axes = about['region'], tuple(range(1, values.ndim))
    return (values * region).sum(axes) / jnp.maximum(region.sum(axes), 1)

  @property
  def is_odds(self):
    """Whether the number is the log-odds of a probability."""
    return self.kind in ('exclusive', 'label')

  def joined(self, scores):
    """Of members (m, b) one number (b,): the odds of their mean probability."""
    if len(scores) == 1 or not self.is_odds:
      return scores.mean(0)
    mean = lambda x: jax.nn.logsumexp(x, axis=0)
    return mean(jax.nn.log_sigmoid(scores)) - mean(jax.nn.log_sigmoid(-scores))

  def shown(self, scores):
    """Scores as they are read: probabilities of log-odds."""
    return jax.nn.sigmoid(scores) if self.is_odds else scores


def of_task(task):
  """The `Target` of a task; its own `risk` where it has one."""
  if callable(getattr(task, 'risk', None)):
    return Target('value', task.risk)
  if not {'label', 'mask'} & set(task.fields):  # its outputs are no classes
    return Target('value')
  return Target('exclusive' if task.exclusive else 'label')


def output_of(task, name):
  """The index of an output, given by its name or its index.

  Raises ValueError for one that there is not.
  """
  names = _names(task)
  if name in names:
    return names.index(name)
  if not name.isdigit() or int(name) >= len(names):
    has = 'one output' if len(names) == 1 else f'{len(names)} outputs'
    raise ValueError(
      f'class {name!r} is out of range: this model has {has}, '
      f'{", ".join(names[:12])}'
    )
  return int(name)


def name_of(task, output):
  """The name of an output of a task."""
  return _names(task)[output]


def _names(task):
  """Of all outputs that are explained; of masks the background is first."""
  if causes := getattr(task, 'named_causes', ()):
    return [f'risk of {cause}' for cause in causes]
  known = [getattr(task, 'label_names', ()), task.names]
  indices = [str(i) for i in range(task.num_outputs)]
  return next((list(n) for n in known if len(n) == len(indices)), indices)


class Network:
  """A model and what is read of its outputs; compiled once for itself."""

  def __init__(self, model, target):
    self.model, self.target = _whole(model), target

  def score(self, variables, images, about, change=lambda path, y: y):
    """The number (b,) of one member; layers pass through `change`."""
    inputs = (images, *about.get('inputs', ()))
    outputs = network.apply(self.model, variables, inputs, change)
    return self.target(outputs, about)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Score:
  """(images (b, *s, C), about) → (b,): a network with its members' weights.

  `about` holds the further `inputs` of the model and the `region` of a map. A
  tree of arrays, so that compiled programs take the weights as arguments.
  """

  members: tuple
  network: Network = dataclasses.field(metadata={'static': True})

  def __call__(self, images, about):
    """The number that is explained, of all members; compiled."""
    return _value(self, images, about)

  def alone(self):
    """A `Score` of each member."""
    return [dataclasses.replace(self, members=(v,)) for v in self.members]

  def tapped(self, layer, images, about, change):
    """(scores (b,), output of `layer`) of one member, `change` added to that.

    A layer that is called several times is tapped where it is called first.
    """
    found = []

    def add(path, y):
      if path != layer or found:
        return y
      found.append(y)
      return y + change

    (variables,) = self.members
    scores = self.network.score(variables, images, about, add)
    return scores, found[0]

  def layers(self, images, about):
    """{path: shape} of the model's layers for images of this shape."""
    inputs = (jnp.asarray(images), *about.get('inputs', ()))
    return network.layers(self.network.model, self.members[0], inputs)


@jax.jit
def _value(score, images, about):
  each = [score.network.score(v, images, about) for v in score.members]
  return score.network.target.joined(jnp.stack(each))


def _whole(model):
  """The model, of which nothing is computed twice: then it can be tapped."""
  if dataclasses.is_dataclass(model) and not hasattr(model, 'apply'):
    return model
  if getattr(model, 'remat', False):
    model = model.clone(remat=False)
  backbone = getattr(model, 'backbone', None)
  if getattr(backbone, 'remat', False):
    model = model.clone(backbone=backbone.clone(remat=False))
  return model
