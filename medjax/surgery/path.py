"""Plans paths to one target or to several, straight or curved."""

import dataclasses
from typing import NamedTuple

import numpy as np

from medjax.surgery import (
  body,
  chance,
  curved,
  electrodes,
  lines,
  plan,
  rows,
)

# What counts as bone by its name, and stays where tissue sags.
BONES = (
  'rib*', 'costal*', 'vertebra*', 'sternum*', 'skull*', '*bone*', 'scapula*',
  'clavicula*', 'hip_*', 'femur*', 'humerus*', 'sacrum*',
)  # fmt: skip
_DOWN = {
  'R': (1, 0, 0),
  'L': (-1, 0, 0),
  'A': (0, 1, 0),
  'P': (0, -1, 0),
  'S': (0, 0, 1),
  'I': (0, 0, -1),
}
_ALTERNATIVES = 40  # paths for each of several targets
END = 'end_of_image'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ask:
  """What a user asks of `plan_paths`.

  targets: names or points (RAS mm). avoid: patterns of names. entry: as of
  `plan.Request`. bend: least radius (mm) of curved ways; None: straight paths.
  apart: mm between entries that are shown, and between the paths of several
  targets. moving: patterns of what sags, 'body' for all soft tissue; () for
  none.
  gravity: the side that is down, a letter. shift, deflection: the most, mm.
  """

  targets: tuple
  avoid: tuple[str, ...]
  entry: str = 'skin'
  limits: lines.Limits = dataclasses.field(default_factory=lines.Limits)
  confidence: float = 0.95
  grey: np.ndarray | None = None
  count: int = 10
  apart: float = 10.0
  bend: float | None = None
  moving: tuple[str, ...] = ()
  gravity: str = 'P'
  shift: float = 10.0
  deflection: float = 3.0
  draws: int = 1000


class Planned(NamedTuple):
  """The paths to one target, best first.

  lines: (n, k, 3), mm on the setting's grid; scores: of each.
  bends: least radii of curved ways, or None. best: of each surface voxel.
  table: `rows.table`. tried, safe, binding: of the search. closest: a path
  that nearly keeps what binds, (1, k, 3).
  """

  target: str | tuple
  setting: plan.Setting
  lines: np.ndarray
  scores: lines.Scores
  bends: np.ndarray | None
  best: np.ndarray
  table: list[dict]
  tried: int
  safe: int
  binding: str
  closest: np.ndarray | None = None


def plan_paths(scene, ask):
  """([`Planned` of each target], names avoided, the body or None).

  Of several targets one path each, that are `apart` from each other. Raises
  ValueError for what is asked wrongly.
  """
  targets = [_target(scene, target) for target in ask.targets]
  avoid = _avoided(scene, ask, targets)
  inside = _inside(scene, ask)
  several = len(targets) > 1
  if several and ask.bend is not None:
    raise ValueError('curved ways are planned to one target at a time')
  found = []
  for target in targets:
    entry = ask.entry if ask.entry == 'skin' else scene.one(ask.entry, 'entry')
    request = plan.Request(
      target, avoid, entry, ask.limits, ask.confidence, ask.grey
    )
    setting = plan.prepare(scene, request, inside)
    found.append(_searched(setting, ask, target, several))
  if several:
    found = _together(found, ask.apart)
  return (
    [_finished(scene, ask, one, avoid, inside) for one in found],
    avoid,
    inside,
  )


def _target(scene, target):
  return scene.one(target, 'target') if isinstance(target, str) else target


def _avoided(scene, ask, targets):
  if not ask.avoid:
    raise ValueError(
      'nothing to avoid: --avoid names the structures that a path must miss, '
      f"as in --avoid='{next(iter(scene.names.values()))},…'"
    )
  for pattern in ask.avoid:
    if pattern in targets:
      raise ValueError(f'{pattern!r} is the target: it cannot be avoided')
  found = scene.find(ask.avoid, 'avoid', faint=True)
  own = {*targets, ask.entry}
  kept = tuple(
    name
    for name in found
    if name not in own and scene.union([name], confidence=ask.confidence).any()
  )
  if not kept:
    raise ValueError('nothing to avoid but the target and the entry themselves')
  return kept


def _inside(scene, ask):
  if scene.image is None:
    if ask.entry == 'skin':
      raise ValueError('the skin is found in the image; give one')
    return None
  inside = body.body(scene.image, scene.affine)
  if not inside.any():
    raise ValueError('the image shows no body: all of it is as dark as air')
  # A label map knows better than a threshold what belongs to the body.
  return inside | (scene.labels > 0)


def _searched(setting, ask, target, several):
  if ask.bend is None:
    count = _ALTERNATIVES if several else ask.count
    found = plan.search(
      setting, ask.limits, count=count, apart=4.0 if several else ask.apart
    )
    ways = rows.straight(found.paths, setting.samples)
    bends, safe, near = None, found.safe, found.closest
    near = None if near is None else rows.straight(near, setting.samples)
  else:
    found = curved.search(
      setting, ask.limits, radius=ask.bend, count=ask.count, apart=ask.apart
    )
    ways, bends, safe = found.lines, found.bend, int((found.best > 0).sum())
    near = None
  return Planned(
    target, setting, ways, found.scores, bends, found.best, [], found.tried,
    safe, found.binding, near,
  )  # fmt: skip


def _together(found, apart):
  """Of each target the one path that fits the others; none where none does."""
  missing = [one for one in found if not len(one.lines)]
  if missing:
    return [one if one in missing else _kept(one, []) for one in found]
  segments = [
    one.lines[:, [0, -1]] + one.setting.corner * one.setting.spacing
    for one in found
  ]
  choice = electrodes.chosen(
    segments, [one.scores.score for one in found], apart
  )
  if choice is None:
    why = f'apart: no choice of paths keeps {apart:g} mm between any two'
    return [_kept(one, [])._replace(binding=why) for one in found]
  return [_kept(one, [i]) for one, i in zip(found, choice, strict=True)]


def _kept(one, index):
  index = np.array(index, int)
  scores = lines.Scores(*(x[index] for x in one.scores))
  bends = None if one.bends is None else one.bends[index]
  return one._replace(lines=one.lines[index], scores=scores, bends=bends)


def _finished(scene, ask, one, avoid, inside):
  """A `Planned` with its table: proven, and with its odds."""
  box = one.setting.box
  masks = {
    name: scene.union([name], confidence=ask.confidence)[box] for name in avoid
  }
  if inside is not None and (end := plan.unseen(inside)[box]).any():
    masks[END] = end
  prover = rows.Prover(one.setting, masks)
  if not len(one.lines):
    if one.closest is None:
      return _without_skin(one, ask) if END in masks else one
    each = prover(one.closest[0][[0, -1]])
    nearest = min(each, key=each.get)
    return one._replace(binding=f'{one.binding}; the nearest is {nearest}')
  shift = _shift(scene, ask, inside, box)
  odds = rows.odds(one.setting, ask.limits, one.lines, shift, ask)
  table = rows.table(
    scene,
    one.setting,
    one.scores,
    one.lines,
    prover,
    bends=one.bends,
    odds=odds,
  )
  # What was proven counts: the bound takes half a voxel in one direction, and
  # may be off by hundredths of a mm.
  kept = [
    i for i, row in enumerate(table)
    if row['clearance_mm'] >= ask.limits.clearance - 5e-4
  ]  # fmt: skip
  if not kept:
    why = f'clearance: none of {len(table)} paths was proven by brute force'
    return _kept(one, [])._replace(binding=why)
  table = [{**table[i], 'rank': k + 1} for k, i in enumerate(kept)]
  return _kept(one, kept)._replace(table=table)


def _without_skin(one, ask):
  """A `Planned` with no way in that says so where the image is cut off."""
  if ask.entry != 'skin' or len(one.setting.surface.points):
    return one
  why = (
    'the image ends within the body there, and shows no skin that near: give '
    'one that does, or name with --entry a structure where paths may enter'
  )
  return one._replace(binding=f'{one.binding}; {why}')


def _shift(scene, ask, inside, box):
  """The `chance.Shift` that is asked for; None where nothing moves."""
  if not ask.moving:
    return None
  fixed = scene.union(scene.like(BONES))
  if ask.moving == ('body',):
    if inside is None:
      raise ValueError("moving 'body' needs the image, in which it is found")
    tissue = inside & ~fixed
  else:
    tissue = scene.union(scene.find(ask.moving, 'moving'))
  down = down_of(ask.gravity) @ scene.directions
  return chance.sagging(tissue[box], fixed[box], scene.spacing, down=down)


def down_of(letter):
  """The unit vector (RAS) of a side: R, L, A, P, S or I."""
  if letter not in _DOWN:
    raise ValueError(
      f'gravity {letter!r} is no side of the patient; one of R, L, A, P, S, I'
    )
  return np.array(_DOWN[letter], float)
