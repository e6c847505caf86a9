"""Lesion shape, intensity, texture and place, by IBSI and as PyRadiomics."""

from medjax.radiomics.extract import features, features_of
from medjax.radiomics.settings import PRESETS, Settings
from medjax.radiomics.voxelwise import maps

__all__ = ['PRESETS', 'Settings', 'features', 'features_of', 'maps']
