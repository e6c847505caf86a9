"""Tasks: what a model's outputs mean. The imports are the registry."""

from medjax.tasks.byol import BYOL
from medjax.tasks.classification import Classification
from medjax.tasks.concepts import Concepts
from medjax.tasks.dino import DINO
from medjax.tasks.distillation import (
  DistilledClassification,
  DistilledSegmentation,
)
from medjax.tasks.group_dro import GroupDRO
from medjax.tasks.mae import MAE
from medjax.tasks.moco import MoCo
from medjax.tasks.ordinal import Ordinal
from medjax.tasks.redundancy import BarlowTwins, VICReg
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
from medjax.tasks.simclr import SimCLR
from medjax.tasks.survival import Survival

__all__ = [
  'BYOL',
  'DINO',
  'MAE',
  'BarlowTwins',
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
  'MoCo',
  'Ordinal',
  'Segmentation',
  'SimCLR',
  'Survival',
  'UncertaintyAwareSegmentation',
  'VICReg',
]
