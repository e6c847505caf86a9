"""Tasks: what a model's outputs mean. The imports are the registry."""

from medjax.tasks.classification import Classification
from medjax.tasks.ordinal import Ordinal
from medjax.tasks.segmentation import Segmentation
from medjax.tasks.survival import Survival

__all__ = ['Classification', 'Ordinal', 'Segmentation', 'Survival']
