"""Explains images: maps, their tests, concepts: python -m medjax.explain FILES.

Writes a page, explain.html, on which each map stands beside its own test:
deletion and insertion against random places, whether it changes with the
weights, and where a mask is given whether it lies there.
"""

from medjax import cli
from medjax.explain import methods, subjects
from medjax.explain.explanation import explain
from medjax.explain.options import Asked

_TEXTS = {
  'target': 'class by name or index [what the model answers]',
  'layer': 'of Grad-CAM and TCAV [the last of the coarsest maps]',
  'masks': 'where the thing lies: a folder of masks by name, or a file',
  'region': 'of a segmenter: where to look [where it sees the class]',
  'concepts': '[TABLE:]COLUMN,…: TCAV on the cases of the run',
}
_NUMBERS = {
  'batch': 'images computed at a time: bounds the memory',
  'segments': 'supervoxels of SHAP and LIME',
  'samples': 'of RISE, SHAP and LIME',
  'sanity': 'images whose maps are made again with weights drawn anew',
  'nearest': 'training cases to name that are nearest',
  'seed': 'of what is random',
}
_SWITCHES = {
  'planted': 'teach a copy a marker, and see which method finds it',
  'counterfactual': 'the smallest change that flips the answer',
}


def _settings(text):
  """'a=1,b=2' → {'a': 1.0, 'b': 2.0}."""
  settings = {}
  for part in filter(None, text.split(',')):
    name, _, value = part.partition('=')
    try:
      settings[name.strip()] = float(value)
    except ValueError:
      raise ValueError(
        f'--do={text} is not CONCEPT=NUMBER,CONCEPT=NUMBER,…'
      ) from None
  return settings


def main():
  """Command line entry point."""
  parser = cli.parser(
    __doc__,
    'explain --workdir=runs/resnet xrays --out=explained',
    'explain --workdir=runs/resnet scans --out=explained '
    '--methods=gradcam,ig,rise --masks=masks',
    'explain --workdir=runs/concepts scans --out=explained '
    '--do=Spiculation_value=1 --concepts=Spiculation_value,Margin_value',
  )
  defaults = Asked()
  parser.add_argument(
    'inputs', nargs='+', help='image files or folders, or tables'
  )
  parser.add_argument('--workdir', required=True, help='a trained workdir')
  parser.add_argument('--out', required=True, help='folder for the results')
  parser.add_argument(
    '--methods',
    default=','.join(methods.DEFAULT),
    help=f'of {", ".join(methods.METHODS)} [{",".join(methods.DEFAULT)}]',
  )
  parser.add_argument(
    '--baseline',
    default=defaults.baseline,
    help=f'the image that shows nothing: {", ".join(subjects.BASELINES)}, or '
    f'a file [{defaults.baseline}]',
  )
  parser.add_argument(
    '--do', default='', help='CONCEPT=VALUE,…: what a bottleneck would answer'
  )
  for name, what in _TEXTS.items():
    parser.add_argument(f'--{name}', default=getattr(defaults, name), help=what)
  for name, what in _NUMBERS.items():
    default = getattr(defaults, name)
    parser.add_argument(
      f'--{name}', type=int, default=default, help=f'{what} [{default}]'
    )
  for name, what in _SWITCHES.items():
    parser.add_argument(f'--{name}', action='store_true', help=what)
  parser.add_argument(
    '--checkpoint', default='best', help='best, last or a step [best]'
  )
  parser.add_argument(
    '--trust', action='store_true', help='let the run name code of its own'
  )
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = vars(parser.parse_args())
  args.pop('debug')
  with cli.one_line_errors():
    args['methods'] = tuple(filter(None, args['methods'].split(',')))
    args['do'] = _settings(args['do'])
    place = [args.pop(name) for name in ('workdir', 'inputs', 'out')]
    loaded = {name: args.pop(name) for name in ('checkpoint', 'trust')}
    explain(*place, Asked(**args), **loaded)


if __name__ == '__main__':
  main()
