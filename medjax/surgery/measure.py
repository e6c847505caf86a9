"""Measures structures: size, position, distances, change, what a cut leaves."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from medjax import files
from medjax.metrics import diameters
from medjax.metrics.surface import bounding_box
from medjax.reports import figures, page
from medjax.surgery import distance, pictures, resect, response
from medjax.surgery import page as page_lib

_SIZES = {
  'structure': 'Structure',
  'volume_ml': 'Volume, ml',
  'volume_low_ml': 'at least',
  'volume_high_ml': 'at most',
  'longest_axial_mm': 'Longest axial, mm',
  'across_mm': 'Across it, mm',
  'feret_mm': '3-D Feret, mm',
}
DISTANCES = {
  'target': 'Of',
  'structure': 'Structure',
  'distance_mm': 'Distance, mm',
  'at_least_mm': 'Margin, at least',
  'contact_share': 'Surface in contact',
}
PRINTED = ('volume_ml', 'longest_axial_mm', 'across_mm', 'feret_mm')
_LEAST = 0.1  # of what is around a structure is its organ, if there is one
_SIDES = ('left', 'right')
_PARTS = ('segment', 'lobe')


class Measured(NamedTuple):
  """What `measure` finds.

  sizes: a row per structure; distances: a row per lesion of the target and
  other structure; positions: of each lesion of the target; change:
  `response.change`, or None; remnant: `resect.remnant`, or None.
  """

  sizes: list[dict]
  distances: list[dict]
  positions: list[dict]
  change: dict | None
  remnant: dict | None


def measure(
  scene, *, target=None, before=None, organs=None, organ=None, margin=None,
  plane=None, confidence=0.95,
):  # fmt: skip
  """The `Measured` of a scene.

  Args:
    target: pattern of the tumour's names, each a lesion, of which distances and
      positions are measured. None: all are lesions.
    before: `Scene` of an earlier visit, on any grid; of its lesions none may
      be left.
    organs: `Scene` on the same grid that says which organ is where; None: the
      labels around the target say it.
    organ, margin, plane: of what a resection leaves: see `resect.remnant`.
    confidence: with probabilities, volumes from where one is at least so high
      to where it is at least 1 - confidence.
  """
  names = [*scene.names.values()]
  lesions = _lesions(scene, before, target) if target else names
  where = organs or scene
  rest = [
    n for n in where.names.values() if where is organs or n not in lesions
  ]
  sizes = [row(scene, name, confidence) for name in names]
  distances, positions, left = [], [], None
  for name in lesions if target else ():
    mask, own = scene.mask(name), {'target': name}
    distances += [{**own, **each} for each in to_others(mask, where, rest)]
    positions.append({**own, **positioned(mask, scene, where, rest)})
  if organ is not None:
    if not (target and lesions):
      raise ValueError('what a resection leaves needs a --target to take out')
    held = where.one(organ, 'organ')
    left = resect.remnant(
      where.mask(held), scene.union(lesions), scene, margin=margin, plane=plane
    )
  return Measured(
    sizes, distances, positions, _change(scene, before, lesions, target), left
  )


def _lesions(scene, before, target):
  """Those of a pattern: none where all that were there before are gone."""
  gone = before is not None and before.like([target])
  found = scene.like([target])
  return found if found or gone else scene.find([target], 'target')


def row(scene, name, confidence):
  """The sizes of one structure."""
  mask = scene.mask(name)
  box = bounding_box(mask)
  found = diameters.axial_diameters(mask[box], scene.affine, scene.spacing)
  centre = scene.to_ras(np.argwhere(mask).mean(0) * scene.spacing)
  ml = scene.voxel / 1000
  values = {'volume_ml': mask.sum() * ml}
  if scene.probabilities is not None:
    p = scene.probabilities[..., scene.value(name)]
    values['volume_low_ml'] = (p >= confidence).sum() * ml
    values['volume_high_ml'] = (p >= 1 - confidence).sum() * ml
  values |= {
    'longest_axial_mm': found.longest,
    'across_mm': found.across,
    'product_mm2': found.longest * found.across,
    'slice': found.slice + box[found.axis].start,
    'feret_mm': diameters.feret(mask[box], scene.spacing),
    **{f'centre_{a}': x for a, x in zip('xyz', centre, strict=True)},
  }
  return {
    'structure': name,
    **{k: round(float(v), 3) for k, v in values.items()},
  }


def to_others(mask, where, names):
  """Yields, nearest first, how far each structure is from a mask.

  Distances are between surfaces: of the two nearest centres of voxels, less
  half a voxel on either side; the margin is what it is at least, less half a
  voxel's diagonal on either side. In contact is the share of the mask's border
  voxels that have the structure among their 26 neighbours.
  """
  away, half = distance.to_centres(mask, where.spacing)
  diagonal = float(np.linalg.norm(where.spacing))
  box = tuple(
    slice(max(0, s.start - 2), s.stop + 2) for s in bounding_box(mask)
  )
  border = mask[box] & ~ndimage.binary_erosion(mask[box])
  found = []
  for name in names:
    other = where.mask(name)
    least = np.where(other, away, np.inf)
    at = np.unravel_index(least.argmin(), least.shape)
    touches = ndimage.binary_dilation(other[box], np.ones((3, 3, 3))) & border
    found.append(
      {
        'structure': name,
        'distance_mm': round(float(max(0, least[at] - 2 * half[at])), 3),
        'at_least_mm': round(float(max(0, least[at] - diagonal)), 3),
        'contact_share': round(float(touches.sum() / border.sum()), 4),
      }
    )
  yield from sorted(found, key=lambda row: row['distance_mm'])


def positioned(mask, scene, where, names):
  """Where a mask lies: its centre, and organ, side and segment if labels say.

  The organ is the structure with most voxels within the mask, or, where labels
  cannot overlap, in a shell of two voxels around it; none where that is less
  than a tenth of them.
  """
  centre = scene.to_ras(np.argwhere(mask).mean(0) * scene.spacing)
  shell = (
    mask
    if where is not scene
    else (ndimage.binary_dilation(mask, np.ones((3, 3, 3)), 2) & ~mask)
  )
  counts = {n: int((where.mask(n) & shell).sum()) for n in names}
  organ = max(counts, key=counts.get) if counts else None
  if organ is None or counts[organ] < _LEAST * shell.sum():
    organ = None
  words = organ.lower().split('_') if organ else []
  return {
    'centre': [round(float(x), 2) for x in centre],
    'organ': organ,
    'share': round(counts[organ] / shell.sum(), 3) if organ else None,
    'side': next((s for s in _SIDES if s in words), None),
    'segment': organ if any(p in words for p in _PARTS) else None,
  }


def _change(scene, before, lesions, target):
  if before is None:
    return None
  pattern = [target] if target else ['*']
  earlier = before.like(pattern)
  each = [
    {n: _diameters(s, n) for n in names}
    for s, names in ((before, earlier), (scene, lesions))
  ]
  return response.change(*each)


def _diameters(scene, name):
  mask = scene.mask(name)
  box = bounding_box(mask)
  return diameters.axial_diameters(mask[box], scene.affine, scene.spacing)


def write(out, scene, measured, title):
  """Writes sizes.csv, distances.csv, measure.json and the page."""
  columns = None if measured.sizes else _SIZES
  files.write_csv(out / 'sizes.csv', measured.sizes, columns=columns)
  (out / 'distances.csv').unlink(missing_ok=True)  # of an earlier run
  if measured.distances:
    files.write_csv(out / 'distances.csv', measured.distances)
  files.write_json(
    out / 'measure.json',
    {'research_only': page_lib.RESEARCH, **measured._asdict()},
  )
  saved = page.Pictures(out / 'figures', old='*.png')
  first = measured.sizes[0] if measured.sizes else _SIZES
  used = {k: v for k, v in _SIZES.items() if k in first}
  sections = [
    {
      'title': 'Sizes',
      'text': 'Diameters are between corners of voxels. Axial slices are those '
      'of the grid that are nearest to axial; across is the longest chord of '
      "the slice's convex hull at a right angle to the longest diameter.",
      'table': page_lib.cells(measured.sizes, used),
    }
  ]
  if measured.distances:
    sections.append(
      {
        'title': 'Distances of the target',
        'text': 'Between surfaces; the margin is what the voxels guarantee.',
        'table': page_lib.cells(measured.distances, DISTANCES),
      }
    )
  sections += [
    {'title': name, 'table': listed(found)}
    for name, found in (
      *((f'Position of {p["target"]}', p) for p in measured.positions),
      ('Change since the visit before', measured.change),
      ('What the resection leaves', measured.remnant),
    )
    if found
  ]
  if scene.names:
    sections.append(_view(saved, scene))
  return page_lib.write(
    out,
    title=title,
    kind='surgery measure',
    cards=[],
    sections=sections,
    name='measure.html',
  )


def listed(found):
  """(header, rows) of a dict of numbers and words, for the page."""
  return ['', 'Value'], [
    [key.replace('_', ' '), _text(value)] for key, value in found.items()
  ]


def _text(value):
  if isinstance(value, float):
    return f'{value:.3f}'
  if isinstance(value, list):
    return ', '.join(map(str, value))
  return '–' if value is None else str(value)


def _view(saved, scene):
  kept = sorted(scene.names, key=lambda k: -(scene.labels == k).sum())[:12]
  shown = np.where(np.isin(scene.labels, kept), scene.labels, 0)
  names = {k: scene.names[k] for k in sorted(kept)}
  up = np.array([0.0, 0.0, 1.0]) @ scene.directions
  view = pictures.view(
    shown, np.empty((0, 3)), scene.spacing, [], page_lib.colours(names), up=up
  )
  with page_lib.style():
    figure = figures.picture(view, page_lib.named_colours(names))
    return {
      'title': 'View',
      'pictures': (saved('view', figure, 'The structures in 3-D'),),
    }
