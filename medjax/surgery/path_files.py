"""What `path` writes: a table, a map of entries, lines for Slicer, a page."""

import numpy as np

from medjax import cli, files
from medjax.data import formats
from medjax.reports import figures, page
from medjax.surgery import body, curved, markups, pictures, plan
from medjax.surgery import page as page_lib

_COLUMNS = {
  'target': 'Target',
  'rank': 'Rank',
  'score': 'Score',
  'clearance_mm': 'Clearance, mm',
  'at_least_mm': 'At least',
  'nearest': 'Nearest',
  'length_mm': 'Length, mm',
  'angle_deg': 'Angle, °',
  'risk_mm': 'Risk, mm',
  'grey_share': 'Grey',
  'bend_mm': 'Bend, mm',
  'p_safe': 'P(safe)',
  'miss_95_mm': 'Miss 95 %, mm',
}
_WRITTEN = ('paths.csv', 'entries.nii.gz', 'plan.json', 'lumen.csv')
_SHOWN = 11  # structures outlined on a cut


def said(target):
  """A target as text."""
  return (
    target if isinstance(target, str) else ','.join(f'{x:g}' for x in target)
  )


def _emptied(out):
  """A folder without what an earlier plan left there."""
  out.mkdir(parents=True, exist_ok=True)
  others = (out / name for name in _WRITTEN)
  for old in (*out.glob('path_*.mrk.json'), *others):
    old.unlink(missing_ok=True)


def write(out, scene, ask, planned, avoid, inside):
  """Writes all files into `out`; returns the path of the page.

  What an earlier plan left there is removed.
  """
  _emptied(out)
  table = [
    {'target': said(one.target), **row} for one in planned for row in one.table
  ]
  files.write_csv(out / 'paths.csv', table, columns=None if table else _COLUMNS)
  formats.write(out / 'entries.nii.gz', _entries(scene, planned), scene.affine)
  count = 0
  for one in planned:
    first = one.setting.corner * one.setting.spacing
    for i, line in enumerate(one.lines):
      count += 1
      points = line[[0, -1]] if one.bends is None else line[::4]
      name = f'{said(one.target)} {i + 1}'
      markups.write(
        out / f'path_{count:02d}.mrk.json',
        scene.to_ras(points + first),
        name=name,
      )
  files.write_json(out / 'plan.json', _summary(ask, planned, avoid))
  return _page(out, scene, ask, planned, avoid, inside, table)


def _entries(scene, planned):
  """The best score of a safe path from each voxel of the surface; 0: none."""
  found = np.zeros(scene.shape, np.float32)
  for one in planned:
    at = tuple((one.setting.surface.voxels + one.setting.corner).T)
    np.maximum.at(found, at, one.best)
  return found


def _summary(ask, planned, avoid):
  return {
    'research_only': page_lib.RESEARCH,
    'limits': ask.limits._asdict(),
    'avoid': list(avoid),
    'entry': ask.entry,
    'bend': ask.bend,
    'moving': list(ask.moving),
    'shift_mm': ask.shift if ask.moving else 0.0,
    'deflection_mm': ask.deflection,
    'draws': ask.draws,
    'targets': [
      {
        'target': said(one.target),
        'paths_tried': one.tried,
        'paths_safe': one.safe,
        'binding': one.binding or None,
        'paths': one.table,
      }
      for one in planned
    ],
  }


def _page(out, scene, ask, planned, avoid, inside, table):
  saved = page.Pictures(out / 'figures', old='*.png')
  sections = []
  if table:
    used = {k: v for k, v in _COLUMNS.items() if k in table[0]}
    if len(planned) == 1:
      used.pop('target')
    sections.append(
      {
        'title': 'Paths',
        'text': _explained(ask),
        'table': page_lib.cells(table, used),
      }
    )
  for one in planned:
    if one.table:
      sections.append(_pictured(saved, scene, ask, one, avoid))
    else:
      sections.append(
        {
          'title': f'No path to {said(one.target)}',
          'text': f'What binds: {one.binding}.',
        }
      )
  return page_lib.write(
    out,
    title=f'Paths to {", ".join(said(one.target) for one in planned)}',
    kind='surgery path',
    notes=_notes(scene, ask, inside),
    cards=_cards(planned, table),
    sections=sections,
  )


def _cards(planned, table):
  tried, safe = (sum(getattr(x, k) for x in planned) for k in ('tried', 'safe'))
  cards = [('Paths tried', f'{tried:,}', ''), ('Safe', f'{safe:,}', '')]
  if table:
    best = table[0]
    cards += [
      ('Clearance', f'{best["clearance_mm"]:.1f} mm', best['nearest']),
      ('P(safe)', f'{best["p_safe"]:.2f}', 'of the first path'),
    ]
  return cards


def _notes(scene, ask, inside):
  notes = []
  if doubt := doubted(scene, ask, inside):
    notes.append(doubt)
  if scene.probabilities is not None:
    notes.append(
      'Structures to avoid include every voxel with a probability of at least '
      f'{1 - ask.confidence:.2g} of being one.'
    )
  if not ask.moving:
    notes.append('P(safe) is of a bending needle; no tissue was said to move.')
  return notes


def doubted(scene, ask, inside):
  """What a reader must know of the skin that paths enter: a sentence, or ''."""
  if ask.entry != 'skin' or inside is None:
    return ''
  return body.doubt(scene.image, inside, scene.affine)


def _explained(ask):
  return (
    f'A safe path keeps {ask.limits.clearance:g} mm from the surface of all '
    f'that it avoids, is up to {ask.limits.length:g} mm long and at most '
    f'{ask.limits.angle:g}° off the normal of the skin. Clearance is exact, of '
    'every voxel; "at least" is the bound by which paths were chosen. 40 mm '
    f'is 40 or more. P(safe) is the share of {ask.draws:,} draws in which the '
    'path keeps its clearance.'
  )


def _pictured(saved, scene, ask, one, avoid):
  """The section of one target: cuts along its best path, and the view."""
  line, row, box = one.lines[0], one.table[0], one.setting.box
  shown, names = _outlined(scene, ask, one, avoid)
  volume = None if scene.image is None else scene.image[box]
  spacing = one.setting.spacing
  worst = line[_nearest(one, shown, line, names, row)]
  up = np.array([0.0, 0.0, 1.0]) @ scene.directions
  haze = one.setting.surface.points[::2]
  title = said(one.target)
  stem = ''.join(c if c.isalnum() else '_' for c in title)
  view = pictures.view(
    shown, haze, spacing, list(one.lines), page_lib.colours(names), up=up
  )
  with page_lib.style():
    cuts = figures.cuts(
      pictures.cuts(volume, shown, spacing, line, worst), names
    )
    solid = figures.picture(view, page_lib.named_colours(names))
    return {
      'title': f'Best path to {title}',
      'pictures': (
        saved(
          f'cuts_{stem}', cuts, f'Three cuts at the best path to {title}',
          'The red line runs from the skin (left) to the target (right); the '
          'cross is where the path crosses the third cut.',
        ),
        saved(
          f'view_{stem}', solid, f'Structures and paths to {title} in 3-D',
          'Red: the best path; dark: the others; the haze is the skin within '
          'reach.',
        ),
      ),
    }  # fmt: skip


def _outlined(scene, ask, one, avoid):
  """(labels (x, y, z), {label: name}) of the target and what is nearest."""
  box = one.setting.box
  near = sorted(avoid, key=lambda n: one.table[0][f'clearance_{n}_mm'])
  shown, names = np.zeros(one.setting.shape, np.int32), {}
  if isinstance(one.target, str):
    names[1] = one.target
    shown[scene.mask(one.target)[box]] = 1
  for k, name in enumerate(near[:_SHOWN], start=2):
    names[k] = name
    shown[scene.union([name], confidence=ask.confidence)[box]] = k
  return shown, names


def _nearest(one, shown, line, names, row):
  """The sample of the line that is nearest to what is nearest."""
  label = next((k for k, n in names.items() if n == row['nearest']), None)
  if label is None:
    return len(line) // 2
  voxels = np.argwhere(shown == label) * one.setting.spacing
  away = [((voxels - point) ** 2).sum(-1).min() for point in line]
  return int(np.argmin(away))


def write_lumen(out, scene, name, found):
  """Writes the way inside of a vessel; returns the path of the page."""
  _emptied(out)
  points = scene.to_ras(found.line)
  at = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=-1))]
  table = [
    {
      'along_mm': round(float(s), 3),
      **{a: round(float(x), 3) for a, x in zip('xyz', p, strict=True)},
      'to_wall_mm': round(float(w), 3),
    }
    for s, p, w in zip(at, points, found.width, strict=True)
  ]
  files.write_csv(out / 'lumen.csv', table)
  markups.write(out / 'path_01.mrk.json', points[::4], name=name)
  cards = [
    ('Length', f'{found.length:.0f} mm', f'{found.chord:.0f} mm straight'),
    ('Narrowest', f'{found.width.min():.1f} mm', 'to the wall'),
    ('Tightest bend', f'{found.bend:.0f} mm', 'radius'),
  ]
  saved = page.Pictures(out / 'figures', old='*.png')
  up = np.array([0.0, 0.0, 1.0]) @ scene.directions
  shown = scene.mask(name).astype(np.int32)
  view = pictures.view(
    shown, np.empty((0, 3)), scene.spacing, [found.line],
    page_lib.colours([1]), up=up,
  )  # fmt: skip
  with page_lib.style():
    solid = figures.picture(view, page_lib.named_colours({1: name}))
    section = {
      'title': 'Way',
      'pictures': (saved('view', solid, f'The way through {name} in 3-D'),),
    }
  return page_lib.write(
    out,
    title=f'A way through {name}',
    kind='surgery path',
    cards=cards,
    sections=[section],
  )


def run_lumen(out, scene, name, start, end):
  """Finds the way in a vessel between two points (RAS mm), and writes it."""
  for point in (start, end):
    plan.check_point(scene, point, 'the point')
  found = curved.lumen(
    scene.mask(name), scene.spacing, scene.to_grid(start), scene.to_grid(end)
  )
  print(
    f'{name}: {found.length:.0f} mm, narrowest {found.width.min():.1f} mm to '
    f'the wall, tightest bend {found.bend:.0f} mm'
  )
  return write_lumen(out, scene, name, found)


def tell(one):
  """Prints the paths to one target, or why there is none."""
  print(f'{said(one.target)}: {one.tried:,} paths tried, {one.safe:,} safe')
  if not one.table:
    print(f'no path; what binds is {one.binding}')
    return
  used = [k for k in _COLUMNS if k in one.table[0]]
  table = [
    [v if isinstance(v, str) else f'{v:g}' for v in map(row.get, used)]
    for row in one.table
  ]
  print(cli.aligned(used, table, 'r' * len(used)))
