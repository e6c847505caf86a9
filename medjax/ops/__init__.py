"""Array primitives that models, metrics and augmentations share."""
