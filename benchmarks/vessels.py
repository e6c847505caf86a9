"""What CHASE_DB1 papers report of vessels: python benchmarks/vessels.py WORKDIR

Pixels of the test pictures inside the field of view, pooled: AUROC of the
probabilities; F1, sensitivity, specificity and accuracy at one half and at the
threshold of the best F1 on validation; and the same of the second observer,
who is judged by the first as the network is. Writes WORKDIR/vessels.json.
"""

import argparse
import pathlib

import numpy as np

from medjax import config as config_lib
from medjax import experiment, tasks
from medjax.evaluate import Predictor, write_json
from medjax.metrics import classification
from medjax.run.checkpoint import best_variables


class Vessels(tasks.Segmentation):
  """Predicts the probability of a vessel, not a label."""

  def decode(self, probabilities):
    """The probability of class 1 (*s,)."""
    return np.asarray(probabilities)[..., 1]


def pixels(config, split, variables):
  """(truth, probability, second observer) of a split's pixels in the field."""
  cases = experiment.open_cases(config, split)
  experiment.adopt(config, cases)
  task = Vessels(
    num_classes=2, class_names=tuple(config.task.class_names), loss=None
  )
  predictor = Predictor(config, task, experiment.make_model(config, task))
  parts = []
  for case, probability in predictor(variables, cases):
    inside = case['field_of_view'] > 0
    observer = case['second_observer']
    parts.append([x[inside] for x in (case['mask'], probability, observer)])
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
  config = config_lib.load(workdir)
  _, variables = best_variables(workdir)
  truth, probability, _ = pixels(config, 'validation', variables)
  threshold = classification.threshold(truth, probability, criterion='f1')
  truth, probability, observer = pixels(config, 'test', variables)
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
