"""What `ablate` and `resect` do and write: a mask, a table, a page."""

import numpy as np

from medjax import files
from medjax.data import formats
from medjax.metrics import diameters
from medjax.metrics.surface import bounding_box
from medjax.reports import figures, page
from medjax.surgery import ablate, measure, pictures, resect
from medjax.surgery import page as page_lib

_ZONE = 'zone'


def run_ablate(out, scene, *, target, radii, margin, most, avoid):
  """Plans an ablation and writes it; returns (the page, a summary).

  `radii` None: the zone is all within the margin. avoid: names, kept out
  where they can be.
  """
  tumour = scene.mask(target)
  spare = scene.union(avoid) if avoid else None
  found = {}
  if radii is None:
    zone = resect.around(tumour, scene.spacing, margin)
    found |= {'complete': True, 'coverage': 1.0, 'margin_mm': margin}
  else:
    planned = ablate.cover(
      tumour, scene.spacing, radii, margin=margin, most=most, spare=spare
    )
    zone = planned.zone
    found |= {
      'complete': planned.complete,
      'coverage': planned.coverage,
      'margin_mm': planned.margin,
      'ellipsoids': _ellipsoids(scene, planned),
    }
  found |= {
    'target': target,
    'wanted_margin_mm': margin,
    'tumour_ml': float(tumour.sum() * scene.voxel / 1000),
    'zone_ml': float(zone.sum() * scene.voxel / 1000),
    'largest_diameter_mm': diameters.feret(
      zone[bounding_box(zone)], scene.spacing
    ),
  }
  why = '' if found['complete'] else _uncovered(found, radii, most)
  found['binding'] = why or None
  return _written(out, scene, target, zone, found, 'ablate', why), found


def _ellipsoids(scene, planned):
  return [
    {
      'centre': scene.to_ras(c).round(3).tolist(),
      'axes': (frame @ scene.directions.T).round(5).tolist(),
      'radii_mm': list(map(float, planned.radii)),
    }
    for c, frame in zip(planned.centres, planned.axes, strict=True)
  ]


def _uncovered(found, radii, most):
  said = ' x '.join(f'{r:g}' for r in radii)
  return (
    f'radii: {most} ellipsoids of {said} mm cover {found["coverage"]:.1%} of '
    f'the tumour with a margin of {found["margin_mm"]:.1f} mm, of '
    f'{found["wanted_margin_mm"]:g} wanted'
  )


def run_resect(out, scene, *, target, organ, margin, plane, avoid):
  """Plans a resection and writes it; returns (the page, a summary).

  plane: 'best' for the one found by gradient, (point, normal) in RAS, or None:
  the margin goes with the tumour. avoid: names that a best plane spares.
  """
  tumour, organ_mask = scene.mask(target), scene.mask(organ)
  point = normal = None
  if plane is None:
    removed = resect.around(tumour, scene.spacing, margin)
  else:
    point, normal = (
      plane
      if plane != 'best'
      else resect.best_plane(
        scene,
        organ_mask,
        tumour,
        margin=margin,
        spare=scene.union(avoid) if avoid else None,
      )
    )
    removed = resect.beyond(scene, point, normal)
  found = {
    'target': target,
    'organ': organ,
    'wanted_margin_mm': margin,
    **resect.left(organ_mask, tumour, removed, scene),
    'spared_removed_ml': {
      n: float((scene.mask(n) & removed).sum() * scene.voxel / 1000)
      for n in avoid
    },
  }
  if plane is not None:
    found |= {
      'point': np.round(point, 3).tolist(),
      'normal': np.round(normal, 5).tolist(),
    }
  why = ''
  if found['tumour_removed_share'] < 1:
    why = f'plane: {1 - found["tumour_removed_share"]:.1%} of the tumour stays'
  elif margin is not None and found['margin_mm'] < margin - 0.05:
    why = f'the margin is {found["margin_mm"]:.1f} mm, not {margin:g}'
  zone = removed & (organ_mask | tumour)
  return _written(out, scene, target, zone, found, 'resect', why), found


def _written(out, scene, target, zone, found, verb, why):
  """Writes zone.nii.gz, distances.csv, the summary and the page."""
  out.mkdir(parents=True, exist_ok=True)
  formats.write(out / 'zone.nii.gz', zone.astype(np.uint8), scene.affine)
  others = [n for n in scene.names.values() if n != target]
  distances = list(measure.to_others(zone, scene, others)) if others else []
  (out / 'distances.csv').unlink(missing_ok=True)  # of an earlier run
  if distances:
    files.write_csv(out / 'distances.csv', distances)
  files.write_json(
    out / f'{verb}.json', {'research_only': page_lib.RESEARCH, **found}
  )
  saved = page.Pictures(out / 'figures', old='*.png')
  sections = [
    {'title': 'Plan', 'text': why, 'table': measure.listed(_flat(found))},
    _pictured(saved, scene, target, zone, distances),
  ]
  if distances:
    sections.append(
      {
        'title': 'Distances of the zone',
        'table': page_lib.cells(distances, measure.DISTANCES),
      }
    )
  return page_lib.write(
    out,
    title=f'{target}: {verb}',
    kind=f'surgery {verb}',
    cards=[],
    sections=sections,
    name=f'{verb}.html',
  )


def _flat(found):
  """What a table of one column shows: no lists of ellipsoids."""
  flat = {k: v for k, v in found.items() if not isinstance(v, list | dict)}
  if 'ellipsoids' in found:
    flat['ellipsoids'] = str(len(found['ellipsoids']))
  for name, ml in found.get('spared_removed_ml', {}).items():
    flat[f'{name}_removed_ml'] = ml
  return flat


def _pictured(saved, scene, target, zone, distances):
  near = [row['structure'] for row in distances[:8]]
  shown, names = np.where(zone, 2, 0).astype(np.int32), {2: _ZONE, 1: target}
  for k, name in enumerate(near, start=3):
    names[k] = name
    shown[scene.mask(name) & ~zone] = k
  shown[scene.mask(target)] = 1
  middle = np.argwhere(zone).mean(0) * scene.spacing
  size = np.ptp(np.argwhere(zone) * scene.spacing, axis=0)
  across = np.abs(scene.directions[0]).argmax()
  reach = np.eye(3)[across] * size[across] / 2
  line = np.stack([middle - reach, middle + reach])
  panels = pictures.cuts(
    scene.image, shown, scene.spacing, line, middle, wide=size.max() / 2 + 15
  )
  for panel in panels:
    panel.pop('lines', None), panel.pop('dots', None)
  up = np.array([0.0, 0.0, 1.0]) @ scene.directions
  view = pictures.view(
    shown, np.empty((0, 3)), scene.spacing, [], page_lib.colours(names), up=up
  )
  captions = ('through the middle', 'through the middle, turned', 'across')
  panels = [{**p, 'caption': c} for p, c in zip(panels, captions, strict=True)]
  with page_lib.style():
    cuts = figures.cuts(panels, names)
    solid = figures.picture(view, page_lib.named_colours(names))
    return {
      'title': 'Zone',
      'pictures': (
        saved('cuts', cuts, 'Three cuts through the zone'),
        saved('view', solid, 'The zone and what is near it in 3-D'),
      ),
    }
