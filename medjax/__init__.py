"""medjax: deep learning for medical images in JAX and Flax."""

__version__ = '0.1.0'
