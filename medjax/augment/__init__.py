"""Random augmentation on the device: `f(key, example, *, p, …) -> example`.

An example is a dict: `image` (*spatial, C) float32 and, optionally, `mask`
(*spatial) integer and `label`. Every function is pure, works in 2-D and 3-D,
and leaves an example that its draw does not choose bitwise as it was. A
probability is drawn per example, but under `vmap` both outcomes are computed:
a small `p` costs what a large one does.
"""

from medjax.augment.intensity import (
  brightness,
  contrast,
  gamma,
  gaussian_noise,
)
from medjax.augment.mixing import mixup
from medjax.augment.resolution import gaussian_blur, low_resolution
from medjax.augment.spatial import affine, flip, rot90
from medjax.augment.style import amplitude_mix, histogram_match
from medjax.augment.views import strong, views

__all__ = [
  'affine',
  'amplitude_mix',
  'brightness',
  'contrast',
  'flip',
  'gamma',
  'gaussian_blur',
  'gaussian_noise',
  'histogram_match',
  'low_resolution',
  'mixup',
  'rot90',
  'strong',
  'views',
]
