"""Plans on label maps: `python -m medjax.surgery measure|path|ablate|resect`.

Distances are in mm, places in RAS coordinates. For research only.
"""

import pathlib

from medjax import cli
from medjax.surgery import arguments, lines, page, path, path_files, zones
from medjax.surgery import measure as measure_lib
from medjax.surgery import scene as scene_lib


def _measure(args):
  if args.plane == 'best':
    raise ValueError(
      'the best plane is found by resect; measure takes --plane=x,y,z,nx,ny,nz'
    )
  scene = _scene(args, empty=bool(args.before))
  before = organs = None
  if args.before:
    before = scene_lib.read(args.before, names=args.names)
  if args.organs:
    organs = scene_lib.read(args.organs, names=args.organs_names)
    scene_lib.same_place(args.organs, organs, scene)
  found = measure_lib.measure(
    scene,
    target=args.target,
    before=before,
    organs=organs,
    organ=args.organ,
    margin=args.margin,
    plane=args.plane,
    confidence=args.confidence,
  )
  written = measure_lib.write(
    pathlib.Path(args.out), scene, found, pathlib.Path(args.labels).name
  )
  rows = [
    [r['structure']] + [f'{r[k]:.1f}' for k in measure_lib.PRINTED]
    for r in found.sizes
  ]
  print(cli.aligned(['structure', *measure_lib.PRINTED], rows, 'lrrrr'))
  for found_part in (*found.positions, found.change, found.remnant):
    for key, value in (found_part or {}).items():
      print(f'{key.replace("_", " ")}: {"none" if value is None else value}')
  return written


def _path(args):
  scene = _scene(args)
  out = pathlib.Path(args.out)
  if args.lumen:
    ends = (args.entry, args.target[0])
    if any(isinstance(end, str) for end in ends) or len(args.target) > 1:
      raise ValueError(
        'a way in a lumen goes from one point to another: --entry=x,y,z '
        '--target=x,y,z'
      )
    name = scene.one(args.lumen, 'lumen')
    return path_files.run_lumen(out, scene, name, *ends)
  if not isinstance(args.entry, str):
    raise ValueError(
      "--entry is 'skin' or a structure; a point only with --lumen"
    )
  ask = path.Ask(
    targets=tuple(args.target),
    avoid=args.avoid,
    entry=args.entry,
    limits=lines.Limits(args.clearance, args.length, args.angle),
    confidence=args.confidence,
    grey=scene_lib.read_map(args.grey, scene) if args.grey else None,
    count=args.count,
    apart=args.apart,
    bend=args.bend,
    moving=args.moving,
    gravity=args.gravity,
    shift=args.shift,
    deflection=args.deflection,
    draws=args.draws,
  )
  planned, avoid, inside = path.plan_paths(scene, ask)
  for one in planned:
    path_files.tell(one)
  if doubt := path_files.doubted(scene, ask, inside):
    print(doubt)
  return path_files.write(out, scene, ask, planned, avoid, inside)


def _ablate(args):
  scene = _scene(args)
  target = scene.one(args.target, 'target')
  avoid = scene.find(args.avoid, 'avoid')
  written, found = zones.run_ablate(
    pathlib.Path(args.out), scene, target=target, radii=args.radii,
    margin=args.margin, most=args.most, avoid=avoid,
  )  # fmt: skip
  count = len(found.get('ellipsoids', ()))
  said = f'{count} ellipsoids' if count else 'a margin'
  print(
    f'{said}: {found["coverage"]:.1%} of {target} covered, margin '
    f'{found["margin_mm"]:.1f} mm, zone {found["zone_ml"]:.1f} ml'
  )
  if found['binding']:
    print(f'not complete: {found["binding"]}')
  return written


def _resect(args):
  scene = _scene(args)
  target = scene.one(args.target, 'target')
  organ = scene.one(args.organ, 'organ')
  written, found = zones.run_resect(
    pathlib.Path(args.out), scene, target=target, organ=organ,
    margin=args.margin, plane=args.plane,
    avoid=scene.find(args.avoid, 'avoid'),
  )  # fmt: skip
  print(
    f'removed {found["removed_ml"]:.1f} ml, margin {found["margin_mm"]:.1f} '
    f'mm, {found["remnant_share"]:.1%} of {organ} stays'
  )
  return written


def _scene(args, empty=False):
  return scene_lib.read(
    args.labels,
    image=getattr(args, 'image', None),
    names=args.names,
    probabilities=getattr(args, 'probabilities', None),
    empty=empty,
  )


def main():
  """Command line entry point."""
  args = arguments.parser().parse_args()
  with cli.one_line_errors():
    written = {
      'measure': _measure, 'path': _path, 'ablate': _ablate, 'resect': _resect,
    }[args.verb](args)  # fmt: skip
    print(f'\npage: {written}\n{page.BANNER}')


if __name__ == '__main__':
  main()
