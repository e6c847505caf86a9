"""What CHASE_DB1 papers report of vessels: python benchmarks/vessels.py WORKDIR

Pixels of the test pictures inside the field of view, pooled: AUROC of the
probabilities; F1, sensitivity, specificity and accuracy at one half and at the
threshold of the best F1 on validation; and the same of the second observer,
who is judged by the first as the network is. Writes WORKDIR/vessels.json.
"""

import argparse
import pathlib

import numpy as np

from medjax.files import write_json
from medjax.metrics import classification
from medjax.prediction import trained


def pixels(run, split):
  """(truth, probability, second observer) of a split's pixels in the field."""
  cases, parts = run.experiment.cases(split), []
  for case, found in run.predict_cases(cases, probabilities=True):
    inside = case['field_of_view'] > 0
    probability = found.probabilities[..., 1]
    maps = (case['mask'], probability, case['second_observer'])
    parts.append([x[inside] for x in maps])
  truth, probability, observer = map(np.concatenate, zip(*parts, strict=True))
  return truth > 0, probability, observer > 0


def decisions(truth, said):
  """F1, sensitivity, specificity and accuracy of decisions."""
  c = classification.counts(truth[:, None], said[:, None])
  return {
    'f1': float(classification.f1(c)[0]),
    'sensitivity': float(classification.recall(c)[0]),
    'specificity': float(classification.specificity(c)[0]),
    'accuracy': float((truth == said).mean()),
  }


def judge(workdir):
  """All of it, as a dict."""
  run = trained.load(workdir)
  truth, probability, _ = pixels(run, 'validation')
  threshold = classification.threshold(truth, probability, criterion='f1')
  truth, probability, observer = pixels(run, 'test')
  auroc = classification.auroc(truth[:, None], probability[:, None])
  return {
    'auroc': float(auroc[0]),
    'at one half': decisions(truth, probability > 0.5),
    'threshold': threshold,
    'at the threshold': decisions(truth, probability > threshold),
    'second observer': decisions(truth, observer),
  }


def main():
  """Command line entry point."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('workdir', type=pathlib.Path)
  workdir = parser.parse_args().workdir
  said = judge(workdir)
  for name, value in said.items():
    print(f'{name}: {value}')
  write_json(workdir / 'vessels.json', said)


if __name__ == '__main__':
  main()
