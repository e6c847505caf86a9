"""Plans a segmentation: `python -m medjax.plan NAME|PATH --out=plan.json`.

Reads the data once (or the fingerprint.json that `medjax.inspect` wrote: give
its path), and writes a plan: voxel size, patch, network, batch, normalisation,
augmentation, each printed with its reason. configs/planned.py trains it. The
rules are nnU-Net's; medjax/survey/rules.py has them.
"""

import os
import pathlib
import shlex
import sys

from medjax import cli, untrusted
from medjax.survey import arguments, fingerprint, plans, rules, setup, source
from medjax.survey.finding import printable
from medjax.survey.measure import survey


def device_memory():
  """Gigabytes that the accelerator gives to jax."""
  import jax

  device = jax.local_devices()[0]
  known = device.memory_stats() or {}
  if 'bytes_limit' not in known:
    raise ValueError(
      f'{device.device_kind} does not say how much memory it has; give it in '
      'GB: --memory=8'
    )
  return known['bytes_limit'] / 1e9


def plan(args):
  """Plans what the arguments say, prints the table and writes the file."""
  plans.check_out(args.out)
  memory = _memory(args.memory or f'{rules.PRESETS[args.preset].memory_gb:g}')
  if args.minutes is not None and not 0 < args.minutes < float('inf'):
    raise ValueError(f'--minutes={args.minutes:g}: must be above 0')
  spacing = _numbers(args.spacing, '--spacing') if args.spacing else None
  options = {
    'memory_gb': memory,
    'spacing': spacing,
    'preset': args.preset,
    'variant': args.variant,
  }
  if args.previous:
    options['previous'] = os.path.abspath(args.previous)
  if args.name.endswith('.json'):
    about = fingerprint.read(args.name)
  else:
    about = fingerprint.fingerprint(survey(arguments.source(args)))
  if args.minutes is None:
    planned = setup.make_setup(about, **options)
  else:
    from medjax.survey import pace  # needs jax, which takes seconds

    planned = pace.fit(about, args.minutes, **options)
  data = planned.config['data']
  at_hand = 'path' in data and pathlib.Path(data['path']).exists()
  if at_hand or not args.name.endswith('.json'):
    source.check_splits(data)
  title = about['source']['title']
  plans.write(
    args.out,
    planned,
    title=title,
    made_by=shlex.join(['python', '-m', 'medjax.plan', *sys.argv[1:]]),
  )
  axes = 'rows, columns'
  if about['rank'] == 3:
    axes = "axes as in the file (nnU-Net's are reversed)"
  if about['reoriented']:
    axes = 'axes to the right, to the front, upwards (of RAS)'
  print(
    f'{printable(title)}: {about["rank"]}-D, from {about["cases"]} cases '
    f'outside the test split; {axes}\n'
  )
  rows = [tuple(printable(t, 1000) for t in row) for row in planned.table]
  print(cli.aligned(('', 'Value', 'Why'), rows, 'lll'))
  print(f'\nwritten: {args.out}\n{_next(args.out, about)}')


def _next(out, about):
  """The command that trains the plan."""
  command = [f'--config=configs/planned.py:{out}']
  if untrusted.is_code(about['source']['name']):  # a plan does not name it
    command.append(f'--config.data.name={about["source"]["name"]}')
  command.append(f'--workdir=runs/{pathlib.Path(out).stem}')
  return shlex.join(['python', '-m', 'medjax.main', *command])


def _memory(text):
  if text == 'auto':
    return device_memory()
  (memory,) = _numbers(text, '--memory')[:1]
  if not 0 < memory < float('inf'):
    raise ValueError(f'--memory={text}: must be above 0')
  return memory


def _numbers(text, name):
  try:
    return tuple(float(v) for v in text.split(','))
  except ValueError:
    raise ValueError(f'{name}={text}: needs numbers, as in 1,1,3') from None


def main():
  """Command line entry point."""
  parser = cli.parser(
    __doc__,
    'plan study --out=plan.json',
    'plan inspected/fingerprint.json --out=plan.json --memory=auto',
    'plan study --out=slices.json --variant=2d',
  )
  parser.add_argument(
    'name', metavar='NAME|PATH', help='data set, files or fingerprint.json'
  )
  parser.add_argument('--out', required=True, help='the .json file to write')
  parser.add_argument(
    '--memory',
    help="of the device in GB, or auto: what jax gets of it [the preset's]",
  )
  parser.add_argument(
    '--preset',
    default='unet',
    choices=rules.PRESETS,
    help="nnU-Net's U-Net for 8 GB, or its residual encoders for 8, 24, 40 GB",
  )
  parser.add_argument(
    '--spacing', help='in mm, instead of the rule: 1,1,3 (of RAS)'
  )
  parser.add_argument(
    '--variant',
    default='full',
    choices=setup.VARIANTS,
    help='of volumes: full, low (resolution), cascade or 2d (slices) [full]',
  )
  parser.add_argument(
    '--previous', help='workdir of --variant=low, for --variant=cascade'
  )
  parser.add_argument(
    '--minutes', type=float, help='that training may take on this device'
  )
  args = arguments.parse(parser)
  with cli.one_line_errors():
    plan(args)


if __name__ == '__main__':
  main()
