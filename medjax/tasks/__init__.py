"""Tasks: what a model's outputs mean. The imports are the registry."""

from medjax.tasks.classification import Classification
from medjax.tasks.concepts import Concepts
from medjax.tasks.segmentation import Segmentation

__all__ = ['Classification', 'Concepts', 'Segmentation']
