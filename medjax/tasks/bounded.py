"""Masks that find a stated share of each class: a part of a segmentation."""

import numpy as np

from medjax.metrics import risk_control
from medjax.tasks import sets, summary
from medjax.tasks.task import Calibration


class Bounded:
  """What a segmentation knows of the risk of missing a class.

  Of the task it needs `regions`, `num_classes`, `names` and `level`.
  """

  def missed(self, probabilities, case):
    """Share of each class below each threshold of a probability, (k, t).

    probabilities (*s, num_outputs), on the grid of the mask.
    """
    mask = np.asarray(case['mask'])
    regions = self.regions or [(v,) for v in range(1, self.num_classes)]
    reference = np.stack([member(mask, r) for r in regions], -1)
    return risk_control.missed(self._of_classes(probabilities), reference)

  def _of_classes(self, probabilities):
    return probabilities if self.regions else probabilities[..., 1:]

  def calibrate(self, rows):
    """How much of each class thresholds miss, where rows say it."""
    if 'missed' not in rows[0]:
      return Calibration()
    return Calibration(conformal={'missed': sets.risks(_missed(rows))})

  def within(self, probabilities, calibration, *, level):
    """{class: mask (*s,) bool} that find `level` of it, with 90 % confidence.

    The masks of two classes may overlap. Raises ValueError where validation
    does not show it, or was not asked: config.task.level.
    """
    if not calibration.conformal:
      raise ValueError(
        'this run has no thresholds of a bounded risk: evaluate again, with '
        '--config.task.level=0.9'
      )
    chosen = sets.thresholds(calibration.conformal, self.names, level=level)
    found = np.asarray(self._of_classes(probabilities)) >= chosen
    return {name: found[..., k] for k, name in enumerate(self.names)}

  def found_within(self, rows, calibration):
    """{'sets': [table]} of how much of each class thresholds find, or {}."""
    if not (calibration and calibration.conformal and 'missed' in rows[0]):
      return {}
    level, missed = self.level, _missed(rows)
    table = sets.found_within(missed, calibration, self.names, level=level)
    return {'sets': [table]}


def _missed(rows):
  """Share of each class that is missed of each patient, (p, k, t)."""
  missed = np.stack([np.asarray(row['missed'], float) for row in rows])
  return sets.by_patient(missed, summary.patients(rows))


def member(labels, region):
  """Where a label map (*s,) has one of the labels of a region, bool."""
  found = labels == region[0]
  for label in region[1:]:
    found = found | (labels == label)
  return found
