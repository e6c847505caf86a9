"""The arguments of `medjax surgery`: its verbs, their options, their types."""

import argparse

from medjax import cli
from medjax.surgery import lines, page

_ABOUT = 'Plans on label maps: sizes, safe paths, ablation, resection.'
_VERBS = {
  'measure': (
    'size, position, distances, change since a visit before',
    'measure labels.nii.gz --target=tumour --out=measured',
    'measure now.nii.gz --before=then.nii.gz --out=measured',
  ),
  'path': (
    'safe paths from the skin to a target, ranked',
    "path ct.nii.gz labels.nii.gz --target=tumour --avoid='rib_*,aorta' "
    '--out=plan',
    'path ct.nii.gz labels.nii.gz --lumen=aorta --entry=0,10,-300 '
    '--target=5,12,-120 --out=way',
  ),
  'ablate': (
    'ellipsoids, or a margin, that cover a tumour',
    'ablate labels.nii.gz --target=tumour --radii=20,15,15 --out=ablation',
  ),
  'resect': (
    'a margin or a plane that takes a tumour out, and what it leaves',
    'resect labels.nii.gz --target=tumour --organ=liver --plane=best '
    '--out=resection',
  ),
}


def parser():
  """The parser of the command."""
  examples = [f'surgery {e}' for _, *more in _VERBS.values() for e in more]
  found = cli.parser(_ABOUT, *examples)
  found.epilog += f'\n\n{page.BANNER}'
  verbs = found.add_subparsers(dest='verb', required=True, metavar='VERB')
  for name, (about, *more) in _VERBS.items():
    verb = verbs.add_parser(
      name,
      help=about,
      description=f'{about[0].upper()}{about[1:]}. {page.BANNER}',
      epilog='\n'.join(['examples:', *(f'  medjax surgery {e}' for e in more)]),
      formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if name == 'path':
      verb.add_argument('image', metavar='IMAGE', help="on the labels' grid")
    verb.add_argument('labels', metavar='LABELS', help='a label map, a volume')
    _common(verb)
    _OPTIONS[name](verb)
  return found


def _common(verb):
  verb.add_argument('--out', required=True, help='folder for what is written')
  verb.add_argument(
    '--names', help='CSV with columns value and name, if the labels have none'
  )
  verb.add_argument(
    '--debug', action='store_true', help='show the traceback of an error'
  )


def _measure_options(verb):
  verb.add_argument('--image', help='an image on the same grid, for pictures')
  verb.add_argument('--target', help="the tumours, by name, as in 'tumour*'")
  verb.add_argument('--before', help='label map of an earlier visit')
  verb.add_argument('--organs', help='label map of organs on the same grid')
  verb.add_argument('--organs_names', help='CSV of their names')
  verb.add_argument('--organ', help='of which a resection leaves a part')
  verb.add_argument('--margin', type=_size, help='mm that go with the tumour')
  verb.add_argument(
    '--plane', type=_plane, help='x,y,z,nx,ny,nz: what is beyond goes'
  )
  _probabilities(verb)


def _path_options(verb):
  verb.add_argument(
    '--target', action='append', required=True, type=_target,
    help='a name, or x,y,z; several for several paths',
  )  # fmt: skip
  verb.add_argument('--avoid', type=_names, default=(), help='names, patterns')
  verb.add_argument(
    '--entry',
    default='skin',
    type=_target,
    help='[skin], a name, or, in a lumen, x,y,z',
  )
  defaults = lines.Limits()
  for name, unit in (
    ('clearance', 'mm'),
    ('length', 'mm'),
    ('angle', 'degrees'),
  ):
    value = getattr(defaults, name)
    kind = _size if name == 'clearance' else _above
    verb.add_argument(
      f'--{name}', type=kind, default=value, help=f'{unit} [{value:g}]'
    )
  verb.add_argument('--count', type=_count, default=10, help='paths shown [10]')
  verb.add_argument(
    '--apart', type=_size, default=10.0,
    help='mm between entries, and between the paths of several targets [10]',
  )  # fmt: skip
  verb.add_argument(
    '--grey', help='map of grey matter, 0 to 1, on the same grid'
  )
  verb.add_argument(
    '--bend', type=_size, help='curved paths, of at least this radius in mm'
  )
  verb.add_argument(
    '--lumen', help='a way inside this vessel, between two points'
  )
  verb.add_argument(
    '--moving', type=_names, default=(), help="what sags, or 'body' [nothing]"
  )
  verb.add_argument(
    '--gravity', default='P', help='the side that is down, of RLAPSI [P]'
  )
  verb.add_argument(
    '--shift', type=_size, default=10.0, help='mm that tissue sags at most [10]'
  )
  verb.add_argument(
    '--deflection', type=_size, default=3.0, help='mm of the tip at most [3]'
  )
  verb.add_argument(
    '--draws', type=_count, default=1000, help='of chance [1000]'
  )
  _probabilities(verb)


def _ablate_options(verb):
  verb.add_argument('--image', help='an image on the same grid, for pictures')
  verb.add_argument('--target', required=True, help='the tumour')
  verb.add_argument(
    '--radii', type=_three, help='a,b,c of the ellipsoid in mm; else the margin'
  )
  verb.add_argument('--margin', type=_size, default=5.0, help='mm [5]')
  verb.add_argument('--most', type=_count, default=4, help='ellipsoids [4]')
  verb.add_argument(
    '--avoid', type=_names, default=(), help='spared if it can be'
  )


def _resect_options(verb):
  verb.add_argument('--image', help='an image on the same grid, for pictures')
  verb.add_argument('--target', required=True, help='the tumour')
  verb.add_argument('--organ', required=True, help='the organ it is in')
  verb.add_argument('--margin', type=_size, default=5.0, help='mm [5]')
  verb.add_argument(
    '--plane', type=_plane, help="'best', or x,y,z,nx,ny,nz; else the margin"
  )
  verb.add_argument(
    '--avoid', type=_names, default=(), help='spared by the plane'
  )


def _probabilities(verb):
  verb.add_argument(
    '--probabilities', help='of the labels, as medjax predict writes them'
  )
  verb.add_argument(
    '--confidence', type=_share, default=0.95, help='of the segmentation [0.95]'
  )


def _names(text):
  return tuple(part.strip() for part in text.split(',') if part.strip())


def _numbers(text):
  try:
    return tuple(float(part) for part in text.split(','))
  except ValueError:
    return ()


def _target(text):
  numbers = _numbers(text)
  if len(numbers) == 3:
    return numbers
  if ',' in text or numbers:
    raise argparse.ArgumentTypeError(f'{text!r} is neither a name nor x,y,z')
  return text


def _three(text):
  numbers = _numbers(text)
  if len(numbers) != 3 or min(numbers) <= 0:
    raise argparse.ArgumentTypeError(
      f'{text!r} is not three sizes above 0: a,b,c'
    )
  return numbers


def _plane(text):
  if text == 'best':
    return text
  numbers = _numbers(text)
  if len(numbers) != 6 or not any(numbers[3:]):
    raise argparse.ArgumentTypeError(
      f'{text!r} is no plane: x,y,z,nx,ny,nz, a point and a normal'
    )
  return numbers[:3], numbers[3:]


def _size(text):
  numbers = _numbers(text)
  if len(numbers) != 1 or not 0 <= numbers[0] < 1e4:
    raise argparse.ArgumentTypeError(f'{text!r} is no size of 0 or more')
  return numbers[0]


def _above(text):
  if not (size := _size(text)):
    raise argparse.ArgumentTypeError('must be above 0')
  return size


def _count(text):
  if not text.isdecimal() or not 1 <= int(text) <= 10**6:
    raise argparse.ArgumentTypeError(f'{text!r} is no count from 1 on')
  return int(text)


def _share(text):
  numbers = _numbers(text)
  if len(numbers) != 1 or not 0.5 <= numbers[0] < 1:
    raise argparse.ArgumentTypeError(f'{text!r} is no share from 0.5 to 1')
  return numbers[0]


_OPTIONS = {
  'measure': _measure_options,
  'path': _path_options,
  'ablate': _ablate_options,
  'resect': _resect_options,
}
