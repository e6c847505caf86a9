"""Trains one model of several sites, whose cases stay there.

`simulate` runs all sites in one program and says what each of them gains.
`server` and `site` are the same between hospitals, over Flower: cases stay
where they are, parameters travel.
"""

import sys

from medjax import cli

_ALGORITHMS = 'fedavg, fedprox, scaffold, fedbn, fedadam'


def main():
  """Command line entry point."""
  verbs = {'simulate': _simulate, 'server': _server, 'site': _site}
  verb, argv = (sys.argv[1:2] or ['--help'])[0], sys.argv[2:]
  if verb in verbs:
    verbs[verb](argv)
    return
  parser = cli.parser(
    __doc__,
    'federated simulate --config=configs/federated.py --sites=site '
    '--workdir=runs/fed',
    'federated server --config=configs/federated.py --sites=3 '
    '--workdir=runs/fed',
    'federated site --server=HOST:9092 --name=a --config=configs/federated.py '
    '--workdir=runs/site',
  )
  parser.add_argument(
    'verb', choices=verbs, help='each has a --help of its own'
  )
  parser.parse_args(sys.argv[1:2] or ['--help'])


def _parser(doc, *examples):
  parser = cli.parser(doc, *examples)
  add = parser.add_argument
  add('--config', required=True, help='as in training')
  add('--set', action='append', default=[], metavar='FIELD=VALUE',
      help='a field of the config; again for more')  # fmt: skip
  add('--workdir', required=True, help='where all results go')
  add('--debug', action='store_true', help='show tracebacks')
  return parser


def _planned(parser):
  add = parser.add_argument
  add(
    '--algorithm',
    default='fedavg',
    help=f'{_ALGORITHMS}; of simulate several [fedavg]',
  )
  add('--options', default='{}', help='its own, as JSON: {"mu": 0.1}')
  add('--rounds', type=int, default=50, help='[50]')
  add('--steps', type=int, default=20, help='of a site in a round [20]')
  add('--every', type=int, default=1, help='rounds from score to score [1]')
  add('--min_sites', type=int, default=2,
      help='fewer in a round end it [2]')  # fmt: skip
  add('--range', type=float, metavar='R',
      help='masked rounds, of steps within ±R')  # fmt: skip
  add('--most', type=int, help='cases of a site at most, with --range')


def _simulate(argv):
  parser = _parser(
    'Simulates a federation of the sites of one data set, and its gain.',
    'federated simulate --config=configs/federated.py '
    "--sites='dirichlet(0.5, 5)' --algorithm=fedavg,fedbn --workdir=runs/fed",
  )
  _planned(parser)
  parser.add_argument(
    '--sites', required=True, help="a column, 'patient', 'dirichlet(0.5, 5)'"
  )
  args = parser.parse_args(argv)
  with cli.one_line_errors():
    from medjax.federated import division, gain, page, settings
    from medjax.run.programs import keep_programs

    keep_programs()
    experiment = settings.experiment(args.config, args.set)
    candidates = settings.candidates(experiment, args)
    places = division.divide(experiment.cases, args.sites, seed=experiment.seed)
    found = gain.compare(
      experiment, args.workdir, candidates, places, settings.plan(args)
    )
    print(page.text(found))
    print(f'page: {page.write(args.workdir)}')


def _server(argv):
  parser = _parser(
    'Runs the server of a federation; it holds no cases.',
    'federated server --config=configs/federated.py:folder --sites=3 '
    '--address=0.0.0.0:9092 --certificate=server.pem --key=server.key '
    '--workdir=runs/fed',
  )
  _planned(parser)
  add = parser.add_argument
  add('--sites', type=int, required=True, help='how many are waited for')
  add('--address', default='127.0.0.1:9092', help='[127.0.0.1:9092]')
  add('--certificate', default='', help='in PEM, for HTTPS')
  add('--key', default='', help='of the certificate, in PEM')
  add('--timeout', type=float, default=600,
      help='seconds for sites to come, and to answer [600]')  # fmt: skip
  args = parser.parse_args(argv)
  with cli.one_line_errors():
    from medjax.federated import link, serving, settings
    from medjax.run.programs import keep_programs

    keep_programs()
    config = settings.config(args.config, args.set)
    job = serving.Job(
      args.algorithm,
      settings.options(args.options),
      settings.plan(args),
    )
    with link.Link(
      args.address, certificate=args.certificate, key=args.key
    ) as found:
      print(f'waiting for {args.sites} sites at {found.address}', flush=True)
      scores = serving.serve(
        found, config, job, args.workdir,
        sites=args.sites, timeout=args.timeout,
      )  # fmt: skip
    for site, found in sorted(scores.items()):
      if not isinstance(found, str):
        found = f'{found["score"]} on its {found["n"]} test cases'
      print(f'{site}: {found}')


def _site(argv):
  parser = _parser(
    'Trains at a site of a federation; its cases stay there.',
    'federated site --server=HOST:9092 --authority=ca.pem --name=a '
    '--config=configs/federated.py:folder --set=data.path=/hospital/a '
    '--workdir=runs/site',
  )
  add = parser.add_argument
  add('--server', required=True, metavar='HOST:PORT', help='where it is')
  add('--name', required=True, help='of this site, not of a patient')
  add('--masked', action='store_true', help='take part in masked rounds only')
  add('--authority', default='', help='by which the server is known, in PEM')
  add('--timeout', type=float, default=600,
      help='seconds to wait for a server that is away [600]')  # fmt: skip
  args = parser.parse_args(argv)
  with cli.one_line_errors():
    from medjax.federated import hospital
    from medjax.run.programs import keep_programs

    keep_programs()
    site = hospital.Hospital(
      args.name, args.config, args.set, args.workdir, masked=args.masked
    )
    hospital.answer(
      site, args.server, authority=args.authority, patience=args.timeout
    )


if __name__ == '__main__':
  main()
