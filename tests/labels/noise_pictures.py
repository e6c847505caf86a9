"""Pictures of noise, with something in it or not."""

import numpy as np
from PIL import Image


def picture(path, rng, *, bright):
  """Noise, with a bright spot or not."""
  array = rng.integers(0, 150, (12, 12))
  array[3:8, 3:8] += 100 * bright
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(array.astype(np.uint8)).save(path)
