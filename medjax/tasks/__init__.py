"""Tasks: what a model's outputs mean. The imports are the registry."""

from medjax.tasks.classification import Classification
from medjax.tasks.concepts import Concepts
from medjax.tasks.distillation import (
  DistilledClassification,
  DistilledSegmentation,
)
from medjax.tasks.group_dro import GroupDRO
from medjax.tasks.ordinal import Ordinal
from medjax.tasks.segmentation import Segmentation
from medjax.tasks.semi import (
  CrossPseudoClassification,
  CrossPseudoSegmentation,
  FixMatchClassification,
  FixMatchSegmentation,
  MeanTeacherClassification,
  MeanTeacherSegmentation,
  UncertaintyAwareSegmentation,
)
from medjax.tasks.survival import Survival

__all__ = [
  'Classification',
  'Concepts',
  'CrossPseudoClassification',
  'CrossPseudoSegmentation',
  'DistilledClassification',
  'DistilledSegmentation',
  'FixMatchClassification',
  'FixMatchSegmentation',
  'GroupDRO',
  'MeanTeacherClassification',
  'MeanTeacherSegmentation',
  'Ordinal',
  'Segmentation',
  'Survival',
  'UncertaintyAwareSegmentation',
]
