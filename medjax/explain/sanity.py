"""Sanity checks of methods: does a map depend on what the model has learnt?

Adebayo et al. (2018): where the weights are drawn anew, a map that explains
them must change. And a planted marker: taught to look at a mark, the model
looks at it, and a method must say so.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

from medjax.explain import methods
from medjax.finetune import adapted

ALIKE = 0.5  # rank correlation from which on a map has not changed
POINTS = 0.95  # share of images whose marker must be found
DRAWS = 3


def reinitialised(score, images, about, *, top, seed):
  """A score whose members' last layer, or `top=False` all, are drawn anew."""
  inputs = (jnp.asarray(images[:1]), *_first(about.get('inputs', ())))
  last = _last(score, inputs, _first(about)) if top else None
  members = []
  for i, variables in enumerate(score.members):
    key = jax.random.fold_in(jax.random.key(seed), i)
    fresh = _fresh(key, inputs, network=score.network)
    if top:
      old = adapted.merge(variables)
      params = {**old['params'], last: fresh['params'][last]}
      fresh = {**old, 'params': params}
    members.append(fresh)
  return dataclasses.replace(score, members=tuple(members))


def _last(score, inputs, about):
  """The last layer, by name, on which the score depends.

  Heads of deep supervision are later ones, and only the training looks at them.
  """
  slopes = _slopes(score.alone()[0], inputs[0], about)
  made = adapted.outline(score.network.model, inputs)
  order = dict.fromkeys(
    path.split('/')[1] for path in made if path.startswith('params/')
  )
  used = lambda k: any(np.any(x) for x in jax.tree.leaves(slopes[k]))
  return [k for k in order if used(k)][-1]


@jax.jit
def _slopes(score, images, about):
  """The gradient of the score with respect to the parameters."""
  variables = adapted.merge(score.members[0])

  def total(params):
    return score.network.score({**variables, 'params': params}, images, about)

  return jax.grad(lambda params: total(params).sum())(variables['params'])


@functools.partial(jax.jit, static_argnames='network')
def _fresh(key, inputs, *, network):
  """Variables of a network that has learnt nothing."""
  return adapted.merge(network.model.init(key, *inputs))


def _first(tree):
  return jax.tree.map(lambda x: np.asarray(x)[:1], tree)


def alike(a, b):
  """Spearman's rank correlation of a map `a` and another one.

  0 where the other is constant; NaN where `a` is, which says nothing that could
  change, and where either is not finite.
  """
  a, b = np.ravel(a), np.ravel(b)
  if np.ptp(a) == 0 or not np.isfinite([a, b]).all():
    return np.nan
  if np.ptp(b) == 0:
    return 0.0
  return float(stats.spearmanr(a, b).statistic)


def randomised(name, score, work, maps):
  """{'top', 'all'}: how alike `maps` stay when weights are drawn anew.

  Mean rank correlation over the images of `work` and DRAWS draws; NaN where no
  map says anything.
  """
  found = {}
  # How complete the map of a random model is does not matter here.
  work = dataclasses.replace(work, most_steps=100)
  for part in ('top', 'all'):
    values = []
    for seed in range(DRAWS):
      other = reinitialised(
        score, work.images, work.about, top=part == 'top', seed=seed
      )
      again, _ = methods.run(name, other, work)
      values += [alike(a, b) for a, b in zip(maps, again, strict=True)]
    known = [v for v in values if np.isfinite(v)]
    found[part] = float(np.mean(known)) if known else np.nan
  return found


def plant(images, *, seed=0):
  """Images with a marker burnt in, and where: (marked, boxes (n, *s) bool).

  A checked cube of the highest and lowest value, a fifth of each side,
  anywhere. The boxes have a margin of a fifteenth, as the pointing game has
  (Zhang et al. 2018).
  """
  rng, shape = np.random.default_rng(seed), images.shape[1:-1]
  size = [max(3, round(n / 5)) for n in shape]
  size = [min(s, n) for s, n in zip(size, shape, strict=True)]
  marked, boxes = images.copy(), np.zeros(images.shape[:-1], bool)
  checks = np.indices(size).sum(0) % 2
  for image, box in zip(marked, boxes, strict=True):
    start = [
      rng.integers(0, n - s + 1) for n, s in zip(shape, size, strict=True)
    ]
    place = tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))
    wide = [max(1, round(n / 15)) for n in shape]
    box[
      tuple(
        slice(max(0, a - m), a + s + m)
        for a, s, m in zip(start, size, wide, strict=True)
      )
    ] = True
    axes = tuple(range(len(shape)))
    low, high = image.min(axes), image.max(axes)
    image[place] = np.where(checks[..., None] > 0, high, low)
  return marked, boxes


def taught(score, images, about, *, steps=300, batch=16, rate=1e-3, seed=0):
  """The score of a model that has been taught to look for the marker.

  It goes on from the score's own weights, each member by itself: half of a
  batch of images (n, *s, C) get the marker, and the score learns, by the
  logistic loss, to be high for these and low for the others. Statistics of
  batch norms stay.

  Returns:
    (score, accuracy of the last fifty steps).
  """
  rng = np.random.default_rng(seed)
  optimizer = optax.adam(rate)
  members, right = [], []
  for one in score.alone():
    variables = adapted.merge(one.members[0])
    rest = {k: v for k, v in variables.items() if k != 'params'}
    params, state = variables['params'], optimizer.init(variables['params'])
    for step in range(steps):
      index = rng.integers(0, len(images), batch)
      with_mark = rng.permutation(batch) < batch // 2
      chosen = np.array(images[index])
      chosen[with_mark], _ = plant(chosen[with_mark], seed=seed + step)
      of_these = jax.tree.map(lambda x, k=index: np.asarray(x)[k], about)
      params, state, accuracy = _step(
        one, rest, params, state, chosen, of_these, with_mark,
        optimizer=optimizer,
      )  # fmt: skip
      if step >= steps - 50:
        right.append(accuracy)
    members.append({**rest, 'params': params})
  learnt = dataclasses.replace(score, members=tuple(members))
  return learnt, float(np.mean(jax.device_get(right)))


@functools.partial(jax.jit, static_argnames='optimizer')
def _step(score, rest, params, state, images, about, marked, *, optimizer):
  sign = jnp.where(marked, 1.0, -1.0)

  def loss(params):
    found = dataclasses.replace(score, members=({**rest, 'params': params},))
    values = found(images, about)
    return jax.nn.softplus(-sign * values).mean(), (sign * values > 0).mean()

  (_, accuracy), slope = jax.value_and_grad(loss, has_aux=True)(params)
  updates, state = optimizer.update(slope, state, params)
  return optax.apply_updates(params, updates), state, accuracy
