"""Makes a run smaller and faster, and prints what that costs."""

from medjax import cli


def main():
  """Command line entry point."""
  parser = cli.parser(
    __doc__,
    'compress --workdir=runs/unet --to=int8 --out=runs/unet-int8',
    'compress --workdir=runs/resnet --to=prune:.5 --out=runs/half',
    'compress --workdir=runs/resnet --to=student:configs/lenet.py '
    '--out=runs/student',
  )
  parser.add_argument('--workdir', required=True, help='a trained workdir')
  parser.add_argument(
    '--to', required=True, help='int8, float16, prune:SHARE or student:CONFIG'
  )
  parser.add_argument('--out', required=True, help='folder for the version')
  parser.add_argument('--steps', type=int, help='of training, if it trains')
  parser.add_argument(
    '--trust', action='store_true', help='let the run name code of its own'
  )
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args()
  with cli.one_line_errors():
    from medjax.compress import price, versions

    rows = versions.compress(
      args.workdir, args.to, args.out, steps=args.steps, trust=args.trust
    )
    print(price.text(rows))


if __name__ == '__main__':
  main()
