"""Metrics: pure, per case; NaN = undefined.

One rule for all: a value is undefined only where the reference leaves it so,
or where no finite number would be honest (a distance to nothing). A model
cannot raise a mean by predicting nothing: what it misses counts as 0, or is
counted beside the mean as missed.

| reference, prediction | both empty | missed    | false positive |
|                       |            | (P empty) | (R empty)      |
|-----------------------|------------|-----------|----------------|
| dice, iou, nsd        | NaN        | 0         | 0              |
| precision             | NaN        | 0         | 0              |
| recall                | NaN        | 0         | NaN            |
| volume_error          | NaN        | -1        | NaN            |
| hausdorff, hd95, assd | NaN        | NaN       | NaN            |

Others: nnU-Net agrees on Dice. MONAI's DiceMetric calls every empty reference
NaN (ignore_empty=True) or 1 when both are empty; its Hausdorff distances are
NaN or inf for a miss; TransUNet's script gives a miss HD95 = 0, and BraTS
373.13 mm.
"""

from medjax.metrics import (
  bootstrap,
  calibration,
  classification,
  delong,
  paired,
  segmentation,
  surface,
  uncertainty,
)

__all__ = [
  'bootstrap',
  'calibration',
  'classification',
  'delong',
  'paired',
  'segmentation',
  'surface',
  'uncertainty',
]
