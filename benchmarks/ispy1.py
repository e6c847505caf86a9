"""Who will have no tumour left? I-SPY 1, as the visits of the therapy come in.

    python benchmarks/ispy1.py PATIENTS.csv OUT

writes OUT/visits.csv, a row for each of up to four measurements of the tumour
with its lengths so far as shares of the first, and trains a logistic model of
the pathological complete response at each visit on what the visits so far say,
in five folds of patients; prints the areas under the ROC of the folds' test
cases together. The strength of L2 is what validation likes best of .06, .25, 1.
"""

import argparse
import csv
import pathlib

from medjax import experiment, report
from medjax.config import default_config
from medjax.evaluate import evaluate
from medjax.train import train

LENGTHS = (
  'ld_mm_1_baseline', 'ld_mm_2_early_ac', 'ld_mm_3_inter_regimen',
  'ld_mm_4_pre_surgery',
)  # fmt: skip
BASELINE = ('age', 'er', 'pgr', 'her2')
SHARES = ('share_2', 'share_3', 'share_4')


def write_visits(source, path):
  """A row per patient and measurement; who has no pCR in the table is left."""
  with open(source, newline='') as lines:
    rows = [row for row in csv.DictReader(lines) if row['pcr']]
  with path.open('w', newline='') as file:
    out = csv.writer(file)
    out.writerow(['patient', 'visit', 'label', *BASELINE, 'length', *SHARES])
    for row in rows:
      first = row[LENGTHS[0]]
      label = int(float(row['pcr']))
      told = [row[c] for c in BASELINE]
      shares = ['', '', '']
      for k, name in enumerate(LENGTHS):
        if k and first and row[name]:
          shares[k - 1] = f'{float(row[name]) / float(first):.4f}'
        out.writerow([row['patient'], k + 1, label, *told, first, *shares])


def make_config(path, visit, folds=5):
  """The logistic model of what is known at a visit."""
  config = default_config()
  config.data.update(
    name='folder', path=str(path), landmark=(float(visit),), folds=folds,
    batch_size=0,
  )  # fmt: skip
  config.data.fields.update(
    visit='visit', label='label',
    covariates=', '.join([*BASELINE, 'length', *SHARES[: visit - 1]]),
  )  # fmt: skip
  config.data.preprocess = (dict(name='standardise'),)
  config.folds = folds
  config.model = dict(name='MLP', hidden=())
  config.task = dict(name='Classification', inputs=('covariates',))
  config.optimizer.update(name='adam', learning_rate=3e-2, weight_decay=1.0)
  config.train.update(steps=300, log_every=100, eval_every=300)
  config.inference.batch_size = 256
  return config


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('patients', help='patients.csv of I-SPY 1')
  parser.add_argument('out', type=pathlib.Path)
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  table = args.out / 'visits.csv'
  write_visits(args.patients, table)
  for visit in (1, 2, 3, 4):
    made = experiment.make(make_config(table, visit))
    workdir = args.out / f'visit{visit}'
    train(made, workdir)
    found = evaluate(made, workdir)['test']
    report.write_report(workdir)
    low, high = found['intervals']['auroc']
    print(
      f'visit {visit}: AUROC {found["scores"]["auroc"]:.3f} '
      f'({low:.3f} to {high:.3f}), {found["n"]} patients',
      flush=True,
    )


if __name__ == '__main__':
  main()
