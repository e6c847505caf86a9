"""Pretrained weights: files of other libraries and our own runs → variables."""

from medjax.pretrained.loading import load as load
