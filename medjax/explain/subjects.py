"""From files to what is explained of them, on the prepared grid, and back."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from medjax.data import folder, formats, transforms
from medjax.data.folder import grids
from medjax.explain import target
from medjax.prediction import files

BASELINES = ('minimum', 'mean', 'zero', 'blur')


@dataclasses.dataclass(frozen=True)
class Subject:
  """An image, and the number of it that is explained.

  raw: the case as read. image (*s, C), affine, spacing: prepared, or the window
  of it around the region. about: see `target.Score`, without the axis of the
  batch. name: of the output. mask (*s,) bool: where the thing lies, or None.
  note: what was decided about it.
  """

  raw: Mapping[str, Any]
  image: np.ndarray
  affine: np.ndarray
  spacing: np.ndarray
  about: dict
  name: str
  mask: np.ndarray | None = None
  note: str = ''

  @property
  def id(self):
    """The case's."""
    return self.raw['id']

  @property
  def is_native(self):
    """Whether a map can be brought to the grid of the input."""
    return self.affine.shape == self.raw['affine'].shape

  def native(self, array):
    """A map (*s,) on the grid of the input."""
    shape = self.raw['image'].shape[:-1]
    return transforms.to_grid(array, self.affine, self.raw['affine'], shape)


class Reader:
  """Makes subjects of files for a run and what is asked of it.

  output: index of an output, or None: what the model answers. masks, regions:
  a folder of masks by the images' names, or one file; None is none.
  """

  def __init__(self, run, score, *, output=None, masks=None, regions=None):
    self._run, self._score, self._output = run, score, output
    self._masks, self._regions = _Masks(masks), _Masks(regions)
    self._dense = 'mask' in run.task.fields

  def __call__(self, file):
    """The `Subject` of one of `prediction.files.input_files`, or a raw case.

    Raises ValueError for a file that cannot be explained.
    """
    given = isinstance(file, Mapping)  # a row of a table
    raw = dict(file) if given else files.read_case(file)
    known = raw.get('mask') if given else self._masks(file, raw)
    if known is not None:
      raw['mask'] = known
    run = self._run
    sample = run.experiment.prepare(run.experiment.check(raw))
    image = np.asarray(sample['image'], np.float32)
    if not np.isfinite(image).all():
      raise ValueError(f'{called(raw)}: has NaN or infinity in it')
    if np.ptp(image) == 0:
      raise ValueError(
        f'{called(raw)}: the prepared image is constant: there is nothing to '
        'explain'
      )
    inputs = tuple(np.asarray(sample[n]) for n in run.task.inputs[1:])
    mask = np.asarray(sample['mask']) if known is not None else None
    parts = dict(
      raw=raw, image=image, affine=sample['affine'], spacing=sample['spacing']
    )
    if self._dense:
      return self._of_a_map(file, parts, inputs, mask)
    about = {'output': np.int32(self._output or 0), 'inputs': inputs}
    if self._output is None:
      about['output'] = self._answer(image, about)
    name = target.name_of(run.task, int(about['output']))
    mask = None if mask is None else mask > 0
    note = _beside(run.task.inputs[1:], raw)
    return Subject(**parts, about=about, name=name, mask=mask, note=note)

  def _answer(self, image, about):
    """The output whose score is the highest."""
    count = self._run.task.num_outputs
    if not self._score.network.target.is_odds:
      return np.int32(0)
    one = {'inputs': tuple(x[None] for x in about['inputs'])}
    values = [
      float(self._score(image[None], {**one, 'output': np.array([k])})[0])
      for k in range(count)
    ]
    return np.int32(np.argmax(values))

  def _of_a_map(self, file, parts, inputs, mask):
    """Of a segmenter: one class, in the region where it sees it."""
    run, raw = self._run, parts['raw']
    given = self._regions(file, raw)
    if given is None and self._regions.asked:
      raise ValueError(
        f'{called(raw)}: --region has no mask that is called {raw["id"]}'
      )
    labels = run.predict_case(raw).labels if given is None else given
    region = run.experiment.prepare({**raw, 'mask': labels})['mask']
    output = self._output
    if output is None:
      output = _largest(run.task, region)
    inside = np.isin(region, _labels_of(run.task, output))
    inside = region > 0 if given is not None else inside
    name = target.name_of(run.task, output)
    if not inside.any():
      raise ValueError(
        f'{called(raw)}: the model sees no {name} here: say where to look with '
        '--region=MASK'
      )
    where = (
      'in the given region'
      if given is not None
      else ('where the model sees it')
    )
    note = f'{name} {where}, {int(inside.sum())} voxels'
    mask = None if mask is None else _of_class(run.task, output, mask)
    arrays = dict(image=parts['image'], region=inside, mask=mask)
    size = tuple(run.experiment.data.patch_size)
    if size:
      arrays, parts['affine'] = _window(arrays, parts['affine'], inside, size)
      note += f', in a window of {"×".join(map(str, size))} around it'
    parts['image'] = arrays['image']
    about = {
      'output': np.int32(output),
      'inputs': inputs,
      'region': arrays['region'].astype(np.float32),
    }
    return Subject(
      **parts, about=about, name=name, mask=arrays['mask'], note=note
    )


def _beside(inputs, raw):
  """What is said of the further inputs of a model, of which are no maps."""
  known = [name for name in inputs if name in raw]
  absent = [name for name in inputs if name not in raw]
  said = [f'{", ".join(known)} as in the table'] if known else []
  if absent:
    said.append(f'without {", ".join(absent)}: a table may have more')
  return '; '.join(said)


def called(raw):
  """The file of a case; of a row of a table its name."""
  return raw.get('path', raw['id'])


def _labels_of(task, output):
  """The labels of a map that an output stands for."""
  return (
    list(task.regions[output]) if getattr(task, 'regions', ()) else [output]
  )


def _of_class(task, output, mask):
  """Where a mask (*s,) shows an output: of several labels, at its own."""
  if len(np.unique(mask[mask > 0])) < 2:
    return mask > 0
  return np.isin(mask, _labels_of(task, output))


def _largest(task, labels):
  """The output whose labels are seen most, background left out."""
  first = 0 if getattr(task, 'regions', ()) else 1
  counts = {
    k: np.isin(labels, _labels_of(task, k)).sum()
    for k in range(first, task.num_outputs)
  }
  return max(counts, key=counts.get)


def _window(arrays, affine, inside, size):
  """The window around what is inside; a smaller image lies in its middle."""
  middle = np.array(ndimage.center_of_mass(inside))
  shape, size = np.array(inside.shape), np.array(size)
  start = np.rint(middle - (size - 1) / 2).astype(int)
  start = np.clip(start, 0, np.maximum(shape - size, 0))
  place = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
  missing = np.maximum(size - shape, 0)

  def cut(x):
    if x is None:
      return None
    part = x[place]
    pad = [(m // 2, m - m // 2) for m in missing]
    return np.pad(part, pad + [(0, 0)] * (part.ndim - len(size)))

  moved = affine.copy()
  moved[:-1, -1] += affine[:-1, :-1] @ (start - missing // 2)
  return {k: cut(x) for k, x in arrays.items()}, moved


class _Masks:
  """Masks by the names of the images: a folder, one file, or none."""

  def __init__(self, place):
    self._place = place and pathlib.Path(place)
    self.asked, self._named = bool(place), {}
    if self._place is None:
      return
    if not self._place.exists():
      raise FileNotFoundError(f'{self._place}: no such file or folder')
    if self._place.is_dir() and not formats.is_image(self._place):
      inside = sorted(p for p in self._place.iterdir() if formats.is_image(p))
      self._named = {formats.stem(p): p for p in inside}

  def __call__(self, file, raw):
    """The label map (*s,) on the grid of the image; None where none is."""
    if self._place is None:
      return None
    path = self._named.get(raw['id']) if self._named else self._place
    if path is None:
      return None
    image = folder.read_image(files.paths_of(file))
    mask = formats.read_mask(path)
    return grids.on_grid(path, mask, raw['path'], image).array


def baseline(image, kind, given=None):
  """The image (*s, C) that shows nothing: one of BASELINES, or `given`.

  'minimum' and 'mean' are of each channel; 'blur' is the image through a
  Gaussian of an eighth of each side. Raises ValueError where `given` has
  another shape.
  """
  axes = tuple(range(image.ndim - 1))
  if given is not None:
    if given.shape != image.shape:
      raise ValueError(
        f'--baseline is {given.shape} after preparation, the image is '
        f'{image.shape}: give one of that size, or one of '
        f'{", ".join(BASELINES)}'
      )
    return given
  if kind == 'blur':
    sigma = [n / 8 for n in image.shape[:-1]]
    return ndimage.gaussian_filter(image, [*sigma, 0], mode='nearest')
  value = {'minimum': image.min(axes), 'mean': image.mean(axes), 'zero': 0}[
    kind
  ]
  return np.broadcast_to(np.float32(value), image.shape).copy()
