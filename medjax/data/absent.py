"""What stands for an input that a case lacks: NaN, in the shape of the others.

A model that takes it so (`optional = True`) has learnt what to make of it.
"""

import numpy as np


def like(value):
  """An array of the shape of another, without anything in it."""
  return np.full(np.shape(value), np.nan, np.float32)


def blank(facts, channels):
  """A case with nothing but an image of zeros, of the size of the first one.

  To be prepared as a real one, so that its shape is known. Its mask is there
  for preparations that ask for one.
  """
  spacing = facts.spacing or (1.0,) * facts.rank
  return {
    'image': np.zeros((*facts.shape, channels), np.float32),
    'mask': np.zeros(facts.shape, np.uint8),
    'affine': facts.affine(spacing),
    'spacing': np.array(spacing),
  }


def without(sample, names):
  """A sample that lacks these inputs."""
  return {**sample, **{name: like(sample[name]) for name in names}}
