"""Tasks: what a model's outputs mean. The imports are the registry."""

from medjax.tasks.classification import Classification
from medjax.tasks.distillation import (
  DistilledClassification,
  DistilledSegmentation,
)
from medjax.tasks.segmentation import Segmentation

__all__ = [
  'Classification',
  'DistilledClassification',
  'DistilledSegmentation',
  'Segmentation',
]
