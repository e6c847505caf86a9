"""Metrics: pure, per case; NaN = undefined.

Of two label maps: `metrics.dice(prediction, reference, num_classes=3)`, and so
on for iou, precision, recall, volume_error, hausdorff, hd95, assd, masd and
nsd. What they are made of, and all other metrics, are in the modules.

Masks and truths are booleans, 0/1 or 0/255 of any type, label maps whole
numbers of any type. Anything else, a label map where a mask belongs among it,
is refused with a ValueError.

One rule for all: a value is undefined only where the reference leaves it so,
or where no finite number would be honest (a distance to nothing). A model
cannot raise a mean by predicting nothing: what it misses counts as 0, or is
counted beside the mean as missed.

| reference, prediction | both empty | missed    | false positive |
|                       |            | (P empty) | (R empty)      |
|-----------------------|------------|-----------|----------------|
| dice, iou, nsd        | NaN        | 0         | 0              |
| boundary_iou, cl_dice | NaN        | 0         | 0              |
| precision             | NaN        | 0         | 0              |
| recall                | NaN        | 0         | NaN            |
| volume_error          | NaN        | -1        | NaN            |
| hausdorff, hd95, assd | NaN        | NaN       | NaN            |
| masd                  | NaN        | NaN       | NaN            |

Others: nnU-Net agrees on Dice. MONAI's DiceMetric calls every empty reference
NaN (ignore_empty=True) or 1 when both are empty; its Hausdorff distances are
NaN or inf for a miss; TransUNet's script gives a miss HD95 = 0, and BraTS
373.13 mm.
"""

from medjax.metrics import (
  agreement,
  bootstrap,
  boundary,
  calibration,
  centreline,
  classification,
  concordance,
  cox,
  delong,
  diameters,
  embeddings,
  froc,
  growth,
  lesions,
  operating,
  paired,
  pixels,
  ranking,
  regression,
  segmentation,
  subvoxel,
  surface,
  survival_calibration,
  survival_curves,
  survival_error,
  uncertainty,
)
from medjax.metrics.label_maps import (
  assd,
  dice,
  hausdorff,
  hd95,
  iou,
  masd,
  nsd,
  precision,
  recall,
  volume_error,
)

__all__ = [
  'agreement',
  'assd',
  'bootstrap',
  'boundary',
  'calibration',
  'centreline',
  'classification',
  'concordance',
  'cox',
  'delong',
  'diameters',
  'dice',
  'embeddings',
  'froc',
  'growth',
  'hausdorff',
  'hd95',
  'iou',
  'lesions',
  'masd',
  'nsd',
  'operating',
  'paired',
  'pixels',
  'precision',
  'ranking',
  'recall',
  'regression',
  'segmentation',
  'subvoxel',
  'surface',
  'survival_calibration',
  'survival_curves',
  'survival_error',
  'uncertainty',
  'volume_error',
]
