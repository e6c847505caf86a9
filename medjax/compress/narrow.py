"""Structured pruning: the same network with fewer channels, cut out of another.

Channels are known by the sets that layers share: what a residual stream holds
in all blocks of a stage, or what two convolutions of a block hand on. Of each
set those channels stay that count most: by the size of the kernels that write
them, times the scale of their norm (Li et al. 2017; Liu et al. 2017).
"""

import copy
import re

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

_LEAVES = ('scale', 'bias', 'mean', 'var')


def narrower(model, share):
  """The config entry of a model with `share` of its channels.

  Raises ValueError for a model whose channels are not known.
  """
  model = copy.deepcopy(dict(model))
  name = str(model.get('name'))
  if re.fullmatch(r'ResNet\d*', name):
    model['width'] = _count(model.get('width', 64), share)
  elif name == 'UNet':
    if model.get('residual') or model.get('attention'):
      raise ValueError('prune knows no residual UNet, nor one with attention')
    features = model.get('features') or (32, 64, 128, 256)
    model['features'] = tuple(_count(n, share) for n in features)
  else:
    raise ValueError(
      f'prune knows the channels of ResNet and UNet, not of {name}: distil it, '
      '--to=student:CONFIG'
    )
  return model


def _count(n, share):
  return max(round(n * share / 4) * 4, 4)


def cut(module, variables, outline):
  """Variables of a narrower module, out of those of `module`.

  outline: {path: shape} of the narrower one.
  """
  sets = _of_unet if type(module).__name__ == 'UNet' else _of_resnet
  arrays = flatten_dict(variables, sep='/')
  named = {path: sets(path, arrays) for path in arrays}
  chosen = _chosen(arrays, named, outline)
  found = {}
  for path, array in arrays.items():
    into, out = named[path]
    array = np.asarray(array)
    if array.ndim > 1 and into is not None:
      rows = [chosen[name] + start for name, start in into]
      array = array.take(np.concatenate(rows), -2)
    if out is not None:
      array = array.take(chosen[out], -1)
    if array.shape != outline[path].shape:
      raise ValueError(
        f'{path} would be {array.shape}, not {outline[path].shape}'
      )
    found[path] = array
  return unflatten_dict(found, sep='/')


def _chosen(arrays, named, outline):
  """{set: the channels that stay, in order}."""
  worth, kept = {}, {}
  for path, (_, out) in named.items():
    if out is None:
      continue
    kept[out] = outline[path].shape[-1]
    if not path.endswith('kernel'):
      continue
    array = np.abs(np.asarray(arrays[path], float))
    norm = re.sub(r'conv(_\d+)?/kernel$', r'norm\1/scale', path)
    size = array.reshape(-1, array.shape[-1]).sum(0)
    size = size / max(size.mean(), 1e-12)
    if norm != path and norm in arrays:
      size = size * np.abs(np.asarray(arrays[norm], float))
    worth[out] = worth.get(out, 0) + size
  return {
    name: np.sort(np.argsort(-worth[name], kind='stable')[:n])
    for name, n in kept.items()
  }


def _of_resnet(path, arrays):
  """(sets that a parameter reads, the set that it writes)."""
  if '/head/' in path:
    stages = max(
      int(m[1]) for m in map(re.compile(r'stage_(\d+)').search, arrays) if m
    )
    return [(f'stage {stages}', 0)], None
  projected = any('stage_0_block_0/shortcut' in p for p in arrays)
  stem = 'stem' if projected else 'stage 0'
  if '/stem/' in path:
    return None, stem
  i, j, layer = re.search(r'stage_(\d+)_block_(\d+)/(\w+)', path).groups()
  before = stem if i == '0' else f'stage {int(i) - 1}'
  before = before if j == '0' else f'stage {i}'
  if layer == 'shortcut':
    return [(before, 0)], f'stage {i}'
  k = int(layer.removeprefix('layer_'))
  last = f'stage_{i}_block_{j}/layer_{k + 1}/conv/kernel'
  ends = not any(p.endswith(last) for p in arrays)
  into = before if k == 0 else f'{i} {j} {k - 1}'
  return [(into, 0)], f'stage {i}' if ends else f'{i} {j} {k}'


def _of_unet(path, arrays):
  """(sets that a parameter reads, the set that it writes)."""
  convs = 1 + max(
    int(m[1])
    for m in map(re.compile(r'encoder_0/conv_(\d+)').search, arrays)
    if m
  )
  depth = max(
    int(m[1]) for m in map(re.compile(r'encoder_(\d+)').search, arrays) if m
  )
  part, i, rest = re.search(
    r'/(encoder|decoder|upsample|head)_?(\d*)/(.*)', path
  ).groups()
  i = int(i or 0)
  end = lambda kind, i: f'{kind} {i} {convs - 1}'
  below = end('encoder' if i + 1 == depth else 'decoder', i + 1)
  if part == 'head':
    return [(end('decoder', i), 0)], None
  if part == 'upsample':
    return [(below, 0)], f'upsample {i}'
  j = int(re.search(r'_(\d+)', rest)[1])
  into = [(f'{part} {i} {j - 1}', 0)]
  if j == 0 and part == 'encoder':
    into = [(end('encoder', i - 1), 0)] if i else None
  elif j == 0:
    wide = next(
      v.shape[-1] for k, v in arrays.items() if k.endswith(f'upsample_{i}/bias')
    )
    into = [(f'upsample {i}', 0), (end('encoder', i), wide)]
  return into, f'{part} {i} {j}'
