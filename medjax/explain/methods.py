"""The methods by name, each from a score and some images to maps (n, *s)."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from medjax.explain import gradients, network, perturbing, shapley
from medjax.explain.guided import Guided, has_relu


@dataclasses.dataclass(frozen=True)
class Work:
  """What methods are given beside the score.

  images, baseline: (n, *s, C). about: of each image; see `target.Score`.
  spacing: (rank,), of the supervoxels. batch: images computed at a time.
  layer: of Grad-CAM; '' chooses one. segments, samples: how many. most_steps:
  of integrated gradients. seed: of what is random.
  """

  images: np.ndarray
  about: Any
  baseline: np.ndarray
  spacing: np.ndarray
  batch: int = 32
  layer: str = ''
  segments: int = 50
  samples: int = 1000
  most_steps: int = gradients.MOST_STEPS
  seed: int = 0

  @functools.cached_property
  def supervoxels(self):
    """Segments (n, *s) of each image, about `segments` of them."""
    return self._segmented(self.segments)

  @functools.cached_property
  def few_supervoxels(self):
    """As many as exact Shapley values take, at most."""
    count = shapley.MOST_EXACT
    while (found := self._segmented(count)).max() >= shapley.MOST_EXACT:
      count -= 1
    return found

  def _segmented(self, count):
    return np.stack(
      [shapley.supervoxels(x, count, spacing=self.spacing) for x in self.images]
    )

  @property
  def near(self):
    """Images, about and baseline: what most methods begin with."""
    return self.images, self.about, self.baseline


class Method(NamedTuple):
  """A row of METHODS.

  function: (score, Work) → (maps (n, *s), a note of each image or '').
  title: for people. signed: whether what speaks against the answer is below 0.
  """

  function: Callable
  title: str
  signed: bool = True


def _summed(found):
  """Of the channels of an image, whose attributions add up, the sum."""
  return np.asarray(found, np.float32).sum(-1)


def _gradient(score, work):
  found = gradients.gradient(score, *work.near[:2], batch=work.batch)
  return _summed(found), None


def _ig(score, work):
  found, told = gradients.integrated(
    score, *work.near, batch=work.batch, most=work.most_steps
  )
  notes = []
  for steps, error in zip(told['steps'], told['error'], strict=True):
    note = f'{steps} steps'
    if not error <= gradients.TOLERANCE:
      note += f', incomplete: misses {error:.1%} of what it should sum to'
    notes.append(note)
  return _summed(found), notes


def _smoothgrad(score, work):
  found = gradients.smoothgrad(
    score, *work.near[:2], batch=work.batch, seed=work.seed
  )
  return _summed(found), None


def _guided(score, work):
  return _gradient(Guided(score), work)


def _gradcam(score, work, *, signed=False):
  layer, grid = chosen_layer(score, work)
  found = _cam(score, work, layer, grid, signed)
  return found, [f'layer {layer}'] * len(found)


def _cam(score, work, layer, grid, signed):
  """Of each member a map of its own; the mean is shown."""
  each, count = [], len(work.images)
  for start in range(0, count, work.batch):
    part = slice(start, start + work.batch)
    pick = lambda x, k=part: np.asarray(x)[k]
    images, about = jax.tree.map(pick, work.near[:2])
    maps = [
      network.gradcam(s, images, about, layer=layer, grid=grid, signed=signed)
      for s in score.alone()
    ]
    cam = sum(maps) / len(maps)
    each.append(network.enlarged(cam, work.images.shape[1:-1]))
  return np.concatenate([np.asarray(x) for x in each])


def check(names, score, work):
  """Raises ValueError where the model has not what a method of `names` needs.

  Asked before any of them, as the others may take long.
  """
  if any(name.startswith('gradcam') for name in names):
    _maps_of(score, work)
  if 'rollout' in names:
    _tokens_of(score, work)
  if 'guided' in names and not has_relu(score, *_first(work)):
    raise ValueError(
      'guided backpropagation changes ReLUs, and this model has none: it would '
      'be the gradient, --methods=gradient'
    )


def _maps_of(score, work):
  """{path: grid} of the layers that Grad-CAM may look at."""
  shapes = _layers(score, work)
  found = network.maps(shapes, work.images.ndim - 2)
  if not found:
    raise ValueError(
      'this model has no layer that gives a map of the image, so there is no '
      f'Grad-CAM of it; its layers are {", ".join(list(shapes)[:8])}'
    )
  if work.layer and work.layer not in found:
    has = 'gives no map' if work.layer in shapes else 'is not there'
    raise ValueError(
      f'--layer: {work.layer!r} {has}; those that give one are '
      f'{", ".join(network.candidates(found)[:12])}, …'
    )
  return found


def _layers(score, work):
  return score.layers(*_first(work))


def _first(work):
  """Image and about of the first image."""
  return jax.tree.map(lambda x: np.asarray(x)[:1], work.near[:2])


def chosen_layer(score, work):
  """(layer, grid) of Grad-CAM: the one asked for, or the likeliest.

  The likeliest is the last of the coarsest maps on which the score depends.
  Raises ValueError for a layer that there is not, or gives no map.
  """
  found = _maps_of(score, work)
  if work.layer:
    return work.layer, found[work.layer]
  for layer in network.candidates(found):
    maps = network.gradcam(
      score.alone()[0], *_first(work), layer=layer, grid=found[layer],
      signed=True,
    )  # fmt: skip
    if np.any(np.asarray(maps)):
      return layer, found[layer]
  raise ValueError('this score depends on none of the maps of the model')


def _occlusion(score, work):
  shape = work.images.shape[1:-1]
  window = [max(1, min(n, round(n / 6))) for n in shape]
  stride = [max(1, round(2 * w / 3)) for w in window]
  found = perturbing.occlusion(
    score, *work.near, batch=work.batch, window=window, stride=stride
  )
  note = f'window {"×".join(map(str, window))}'
  return found, [note] * len(found)


def _rise(score, work):
  found = perturbing.rise(
    score, *work.near, batch=work.batch, samples=work.samples, seed=work.seed
  )
  return found, [f'{work.samples} masks'] * len(found)


def _shap(score, work):
  return _fitted(shapley.kernel, score, work)


def _lime(score, work):
  return _fitted(shapley.lime, score, work)


def _fitted(function, score, work):
  segments = work.supervoxels
  values, error = function(
    score,
    *work.near,
    segments,
    batch=work.batch,
    samples=work.samples,
    seed=work.seed,
  )
  notes = [
    f'{int(s.max()) + 1} supervoxels, residual {e:.0%}'
    for s, e in zip(segments, error, strict=True)
  ]
  return shapley.spread(values, segments), notes


def _shapley(score, work):
  segments = work.few_supervoxels
  values = shapley.exact(score, *work.near, segments, batch=work.batch)
  notes = [f'{int(s.max()) + 1} supervoxels, all coalitions' for s in segments]
  return shapley.spread(values, segments), notes


def _rollout(score, work):
  grid = _tokens_of(score, work)
  each = [
    network.rollout(s, *work.near[:2]).reshape(-1, *grid) for s in score.alone()
  ]
  large = network.enlarged(sum(each) / len(each), work.images.shape[1:-1])
  return np.asarray(large), None


def _tokens_of(score, work):
  """The grid of the patches that a class token attends to."""
  shapes = _layers(score, work)
  tokens = {s[1] for k, s in shapes.items() if k.endswith('attention/qkv')}
  for grid in network.maps(shapes, work.images.ndim - 2).values():
    if tokens == {math.prod(grid) + 1}:
      return grid
  raise ValueError(
    'rollout is of the attention of a class token to the patches of an image, '
    'and this model has none: a ViT'
  )


METHODS = {
  'gradcam': Method(_gradcam, 'Grad-CAM', signed=False),
  'gradcam_signed': Method(
    functools.partial(_gradcam, signed=True), 'Grad-CAM, signed'
  ),
  'gradient': Method(_gradient, 'Gradient'),
  'ig': Method(_ig, 'Integrated gradients'),
  'smoothgrad': Method(_smoothgrad, 'SmoothGrad'),
  'guided': Method(_guided, 'Guided backprop (a control)'),
  'occlusion': Method(_occlusion, 'Occlusion'),
  'rise': Method(_rise, 'RISE'),
  'shap': Method(_shap, 'KernelSHAP'),
  'lime': Method(_lime, 'LIME'),
  'shapley': Method(_shapley, 'Shapley, exact'),
  'rollout': Method(_rollout, 'Attention rollout', signed=False),
}
DEFAULT = ('gradcam', 'ig', 'smoothgrad', 'occlusion', 'rise', 'shap')


def run(name, score, work):
  """(maps (n, *s) float32, notes) of a method.

  Raises ValueError where the model has not what the method needs.
  """
  found, notes = METHODS[name].function(score, work)
  return np.asarray(found, np.float32), notes or [''] * len(found)
