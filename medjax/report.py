"""Writes report.html of a workdir: `python -m medjax.report WORKDIR`."""

import argparse

from medjax import cli
from medjax.reports.report import write_report


def main():
  """Writes the report of the workdir named on the command line."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('workdir', help='of a run, also of one that goes on')
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args()
  with cli.one_line_errors():
    print(write_report(args.workdir))


if __name__ == '__main__':
  main()
