"""Makes files of a run that predict without medjax, and checks them."""

import sys

from medjax import cli


def _export(arguments):
  parser = cli.parser(
    __doc__,
    'export --workdir=runs/unet --out=exported --onnx',
    'export check exported',
    'export import monai_bundle --out=runs/from_monai',
  )
  parser.add_argument('--workdir', required=True, help='a trained workdir')
  parser.add_argument('--out', required=True, help='folder for the files')
  parser.add_argument('--onnx', action='store_true', help='model.onnx, too')
  parser.add_argument(
    '--checkpoint', default='best', help='best, last or a step [best]'
  )
  parser.add_argument(
    '--trust', action='store_true', help='let the run name code of its own'
  )
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args(arguments)
  from medjax.export import artefact, report

  info = artefact.export(
    args.workdir,
    args.out,
    onnx=args.onnx,
    trust=args.trust,
    checkpoint=args.checkpoint,
  )
  print(report.contents(args.out, info))
  report.check(args.out)


def _check(arguments):
  parser = cli.parser(
    'Predicts the golden cases of an exported run again, and compares.',
    'export check exported',
    'export check exported --refresh',
  )
  parser.add_argument('folder', help='an exported run')
  parser.add_argument(
    '--refresh', action='store_true', help='write expired programs anew, first'
  )
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args(arguments)
  from medjax.export import artefact, report

  if args.refresh:
    info = artefact.refresh(args.folder)
    print(f'{args.folder}: programs written anew, until {info["expires"]}')
  report.check(args.folder)


def _import(arguments):
  parser = cli.parser(
    'Makes a workdir of a MONAI bundle or of a result folder of nnU-Net.',
    'export import spleen_ct_segmentation --out=runs/spleen',
    'export import nnUNetTrainer__nnUNetPlans__3d_fullres --out=runs/nnunet',
  )
  parser.add_argument('folder', help='a bundle, or a folder with plans.json')
  parser.add_argument('--out', required=True, help='a new workdir')
  parser.add_argument('--fold', default='0', help="nnU-Net's [0]")
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args(arguments)
  from medjax.export import foreign

  print(foreign.adopt(args.folder, args.out, fold=args.fold))


_VERBS = {'check': _check, 'import': _import}


def main():
  """Command line entry point."""
  verb, *rest = sys.argv[1:] or ['--help']
  with cli.one_line_errors():
    _VERBS[verb](rest) if verb in _VERBS else _export(sys.argv[1:])


if __name__ == '__main__':
  main()
