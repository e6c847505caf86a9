"""From a file or a workdir, the variables that a model begins with."""

import dataclasses
import pathlib
import re
from collections.abc import Callable

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from medjax.finetune import adapted, files, fitting, names
from medjax.run.checkpoint import best_variables

_HEAD = re.compile(r'(head|aux)')
_BACKBONE = 'params/backbone/'
# Kernels that see the image beside a model's first: of MedNeXt, UNet2018, and
# of UNETR and SwinUNETR, whose decoder sees it too.
_SEES_IMAGE = re.compile(
  r'(backbone/)?(stem|encoder_0/residual|(image|skip_0)/(layer_0|shortcut)/conv)'
  '/kernel'
)
_COLLECTIONS = {'params', 'batch_stats'}


@dataclasses.dataclass
class Report:
  """The fate of each array; `str` is for the user."""

  source: str
  loaded: list = dataclasses.field(default_factory=list)
  reshaped: list = dataclasses.field(default_factory=list)
  zero: list = dataclasses.field(default_factory=list)
  one: list = dataclasses.field(default_factory=list)
  new: list = dataclasses.field(default_factory=list)
  missing: list = dataclasses.field(default_factory=list)
  unexpected: list = dataclasses.field(default_factory=list)
  unused: list = dataclasses.field(default_factory=list)

  def __str__(self):
    all_of_ours = self.loaded, self.zero, self.one, self.new, self.missing
    total = sum(map(len, all_of_ours))
    lines = [f'pretrained: {len(self.loaded)} of {total} arrays: {self.source}']
    for label, found in (
      ('reshaped', self.reshaped),
      ('zero, a bias that the file has not', self.zero),
      ('one, a scale that the file has not', self.one),
      ('new, not from the file', self.new),
      ('missing, left as initialised', self.missing),
      ('unexpected, not used', self.unexpected),
      ('head of the file, not used', self.unused),
    ):
      if found:
        lines.append(f'  {label}: {_some(found)}')
    return '\n'.join(lines)


def _some(items, most=4):
  rest = f' and {len(items) - most} more' if len(items) > most else ''
  return ', '.join(items[:most]) + rest


@dataclasses.dataclass
class _Source:
  """Weights by name."""

  text: str
  weights: dict
  name: Callable  # path of ours → name of theirs; None: is to be new
  is_head: Callable  # name of theirs → whether the model can do without
  torch: bool


def _from_run(path, outline):
  """A run's best variables. Either of the two models may have a backbone."""
  step, variables = best_variables(path)
  weights = flatten_dict(adapted.merge(variables), sep='/')
  # What a task kept beside the model, a queue of keys, say, is no weight.
  known = {k.partition('/')[0] for k in outline} | _COLLECTIONS
  weights = {k: v for k, v in weights.items() if k.partition('/')[0] in known}
  ours, theirs = (
    any(k.startswith(_BACKBONE) for k in tree) for tree in (outline, weights)
  )
  common = [k for k in outline if k in weights and k.startswith('params/')]
  if ours and theirs and all(k.startswith(_BACKBONE) for k in common):
    # Two models that have only the kind of their backbone in common.
    name = lambda path: path if path.split('/')[1] == 'backbone' else None
    is_head = lambda name: name.split('/')[1] != 'backbone'
    return _Source(f'{path}, step {step}', weights, name, is_head, False)

  def name(path):
    collection, rest = path.split('/', 1)
    if theirs and not ours:
      if _HEAD.match(rest):  # theirs said pixels
        return None
      rest = f'backbone/{rest}'
    elif ours and not theirs:
      if not rest.startswith('backbone/'):
        return None
      rest = rest.removeprefix('backbone/')
    return f'{collection}/{rest}'

  def is_head(name):
    rest = name.split('/', 1)[1]
    if theirs and not ours:
      inner = rest.removeprefix('backbone/')
      return inner == rest or bool(_HEAD.match(inner))
    return bool(_HEAD.match(rest))

  return _Source(f'{path}, step {step}', weights, name, is_head, False)


def _from_file(path, model, outline):
  """A file of another library."""
  weights = names.without_copies(files.read(path))
  inner = ''
  if any(k.startswith(_BACKBONE) for k in outline):
    model, inner = model.backbone, 'backbone/'

  def plain(path):
    rest = path.split('/', 1)[1]
    return rest.removeprefix(inner) if rest.startswith(inner) else None

  try:
    paths = filter(None, map(plain, outline))
    library, table = names.match(model, [*paths], weights)
  except ValueError as e:
    raise ValueError(f'{path}: {e}') from None

  def name(path):
    rest = plain(path)
    return rest and (names.translate(table, rest) or '')

  is_head = lambda name: names.is_head(table, name)
  return _Source(f'{path}, {library}', weights, name, is_head, True)


def load(path, model, outline, *, partial=False, head=True, channels='sum'):
  """(variables of a Linen module, or most of them, as numpy; a Report).

  `path` is a .safetensors or torch .pth file of a library whose names for
  this model are known (see `names`), or the workdir of a run. `outline` is
  that of the module, {'params/stem/conv/kernel': shape and dtype, …}, in its
  order.

  A head of other classes, or any with head=False, stays new, and so does the
  decoder around a pretrained backbone. The first convolution is adapted to
  the image's channels (`channels`, see `fitting.with_channels`), and 2-D
  kernels are inflated for a 3-D model. A bias that the file has not is zero,
  the scale of a norm of which it has nothing is one.

  Raises:
    FileNotFoundError: if there is nothing at `path`.
    ValueError: for an array that fits no way, and, unless `partial`, if any
      is missing or left over.
  """
  if pathlib.Path(path).is_dir():
    source = _from_run(path, outline)
  else:
    source = _from_file(path, model, outline)
  report, leaves, used = Report(source.text), {}, set()
  first = next((k for k, v in outline.items() if len(v.shape) > 2), None)
  rank = len(outline[first].shape) - 2 if first else 2
  mednext = type(model).__name__ == 'MedNeXt'
  for key, leaf in outline.items():
    name, rest = source.name(key), key.split('/', 1)[1]
    if name is None or (_HEAD.match(rest) and not head):
      report.new.append(key)
    elif name not in source.weights:
      if (value := _instead(report, source, name, key, outline)) is not None:
        leaves[key] = np.full(leaf.shape, value, np.float32)
    else:
      used.add(name)
      array = source.weights[name]
      if source.torch:
        bins = _bins(model, rest)
        array = fitting.from_torch(
          array, rest, leaf.shape, bins=bins, mednext=mednext
        )
      fitted = fitting.fit(
        array,
        leaf.shape,
        first=key == first or bool(_SEES_IMAGE.fullmatch(rest)),
        channels=channels,
        grid=_grid(model, rest, rank),
      )
      if _taken(report, fitted, key):
        leaves[key] = np.asarray(fitted[0], np.float32)
      elif key not in report.new:
        raise ValueError(
          f'{path}: {name} is {array.shape}, in our order of axes, and {key} '
          f'of the model {leaf.shape}'
        )
  _check_whole(report, source, used, path, partial)
  return unflatten_dict(leaves, sep='/'), report


def _instead(report, source, name, key, outline):
  """What stands for an array that the file has not, or None; reports it."""
  module, _, leaf = name.rpartition('.')
  if _HEAD.match(key.split('/', 1)[1]):
    report.new.append(key)
  elif source.torch and leaf == 'bias':
    report.zero.append(key)
    return 0
  elif (
    source.torch
    and key.endswith('/scale')
    and not any(k.startswith(f'{module}.') for k in source.weights)
    and _statistics_of(key) not in outline
  ):
    report.one.append(key)  # torch's instance norm has none, unless asked
    return 1
  else:
    report.missing.append(key)
  return None


def _statistics_of(key):
  """The running mean of the norm whose scale this is, if it has one."""
  path = key.removeprefix('params/').removesuffix('/scale')
  return f'batch_stats/{path}/mean'


def _taken(report, fitted, key):
  """Reports an array of the file; whether it fits. A head may be new."""
  if fitted:
    report.loaded.append(key)
    if fitted[1]:
      report.reshaped.append(f'{key} {fitted[1]}')
  elif _HEAD.match(key.split('/', 1)[1]):
    report.new.append(key)
  return bool(fitted)


def _check_whole(report, source, used, path, partial):
  """Reports what is left over; raises ValueError where that may not be."""
  left = sorted(set(source.weights) - used)
  report.unused = [name for name in left if source.is_head(name)]
  report.unexpected = [name for name in left if not source.is_head(name)]
  if (report.missing or report.unexpected) and not partial:
    raise ValueError(
      f'{path} and the model differ: missing in it are '
      f'{_some(report.missing, 2) or "none"}; left over '
      f'{_some(report.unexpected, 2) or "none"}. pretrained.partial=True '
      'loads what fits'
    )


def _bins(model, path):
  """Bins per axis that this dense layer sees, where torch flattens, or 0."""
  return getattr(model, 'grid', 0) if path == 'dense_0/kernel' else 0


def _grid(model, path, rank):
  """The grid of tokens that these learned positions are of, or ()."""
  model = getattr(model, 'backbone', model)
  if not path.endswith('positions') or not hasattr(model, 'patch_size'):
    return ()
  sizes = (model.image_size, model.patch_size)
  image, patch = (np.broadcast_to(size, rank) for size in sizes)
  return tuple(int(n) for n in -(-image // patch))
