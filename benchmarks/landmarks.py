"""What later visits add: PBC2 by landmarks of 0, 1, 3 and 5 years.

    python benchmarks/landmarks.py VISITS.csv OUT

writes OUT/visits.csv, whose events are 0, 1 (death) and 2 (transplant); trains
a Cox model for each cause on all visits up to each landmark, and one that knows
the first visit only; compares both at every landmark, on the same patients.
"""

import argparse
import csv
import math
import pathlib

from medjax import experiment, report
from medjax.evaluate import evaluate
from medjax.public import read_config
from medjax.reports import comparison
from medjax.reports.workdir import read_measures
from medjax.run import per_case
from medjax.train import train

LANDMARKS = (0.0, 1.0, 3.0, 5.0)
CAUSES = {'alive': 0, 'dead': 1, 'transplanted': 2}
LABORATORY = {
  'serBilir': 'bilirubin', 'albumin': 'albumin', 'prothrombin': 'prothrombin',
}  # fmt: skip
COVARIATES = ('age', 'edema', *LABORATORY.values())


def write_visits(source, path):
  """The visits with whole events, and logarithms of laboratory values."""
  with open(source, newline='') as lines:
    rows = list(csv.DictReader(lines))
  header = ['patient', 'year', 'time', 'event', *COVARIATES]
  with path.open('w', newline='') as file:
    out = csv.writer(file)
    out.writerow(header)
    for row in rows:
      values = [
        f'{math.log(float(row[k])):.6f}' if row[k] else '' for k in LABORATORY
      ]
      edema = int(row['edema'] != 'No edema')
      told = row['id'], row['year'], row['years'], CAUSES[row['status']]
      out.writerow([*told, row['age'], edema, *values])


def make_config(path, first_only=False, folds=5):
  """The experiment on a table of visits."""
  root = pathlib.Path(__file__).resolve().parents[1]
  config = read_config(f'{root}/configs/survival.py:folder,competing')
  changes = ['edema_change', *(f'{k}_change' for k in LABORATORY.values())]
  config.data.update(path=str(path), landmark=LANDMARKS, folds=folds)
  config.data.fields.visit = 'year'
  config.data.fields.covariates = ', '.join(
    [*COVARIATES, 'landmark', *([] if first_only else changes)]
  )
  if first_only:
    config.data.where = 'year=0.0'
  config.folds = folds
  config.task.update(
    time_unit='years', cause_names=('death', 'transplant'), horizons=(2.0, 5.0)
  )
  return config


def run(config, workdir):
  """Trains, evaluates and reports, if that has not been done."""
  if not (workdir / 'metrics.json').exists():
    made = experiment.make(config)
    train(made, workdir)
    evaluate(made, workdir)
    report.write_report(workdir)
  return per_case.read(str(workdir))


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('visits', help='visits.csv of PBC2')
  parser.add_argument('out', type=pathlib.Path)
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  table = args.out / 'visits.csv'
  write_visits(args.visits, table)
  first = run(make_config(table, first_only=True), args.out / 'first')
  every = run(make_config(table), args.out / 'every')
  measures = read_measures(str(args.out / 'every'))
  ids = per_case.match(first, every)
  for s in LANDMARKS:
    own = [i for i in ids if float(every[i]['landmark']) == s]
    found = comparison.compare(first, every, own, measures=measures)
    events = sum(every[i]['event'] == '1' for i in own)
    print(f'from {s:g} years: {len(own)} patients, {events} deaths')
    for line in found.lines:
      if line.of == 'cause 1':
        low, high = line.interval
        print(
          f'  {line.metric:9} first visit {line.a:.3f}, all {line.b:.3f}: '
          f'{line.difference:+.3f} ({low:+.3f} to {high:+.3f})'
        )


if __name__ == '__main__':
  main()
