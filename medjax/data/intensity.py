"""Transforms of intensities, as `transforms` says; all return float32."""

import numpy as np


def zscore(sample, *, nonzero=False, channels=None):
  """Zero mean and unit standard deviation, per image and channel.

  `nonzero`: over the voxels that are not 0, which are left at 0 (skull-stripped
  MRI). A constant channel becomes 0. `channels`: only these, by default all.
  """
  chosen = _channels('zscore', channels, sample['image'].shape[-1])

  def channel(x):
    inside = x[x != 0] if nonzero else x
    if inside.size == 0 or inside.min() == inside.max():
      return np.zeros_like(x)
    mean = np.float32(inside.mean(dtype=np.float64))
    deviation = np.float32(inside.std(dtype=np.float64))
    y = (x - mean) / deviation
    return np.where(x != 0, y, np.float32(0)) if nonzero else y

  return _per_channel(sample, channel, chosen)


def percentile(sample, *, low=0.5, high=99.5):
  """Maps percentiles low…high of each channel to 0…1 and clips (MRI)."""
  if not 0 <= low < high <= 100:
    raise ValueError(
      f'percentile: low ({low}) must be below high ({high}), both of 0 to 100'
    )

  def channel(x):
    bottom, top = np.percentile(x, (low, high))
    if top <= bottom:
      return np.zeros_like(x)
    return np.clip((x - bottom) / (top - bottom), 0, 1).astype(np.float32)

  return _per_channel(sample, channel)


def window(sample, *, low, high):
  """Maps low…high to 0…1 and clips: a CT window in HU, its two ends."""
  if high <= low:
    raise ValueError(f'window: high ({high}) must be above low ({low})')
  image = sample['image'].astype(np.float32)
  image = np.clip((image - low) / np.float32(high - low), 0, 1)
  return {**sample, 'image': image}


def scale(sample, *, mean=0.0, std=255.0, low=None, high=None, channels=None):
  """(x - mean) / std with given numbers, one each or one per channel.

  x is cut off at `low` and `high` first: with those of the foreground of a set
  this is how nnU-Net normalises CT. `channels`: only these, by default all.
  """
  if np.any(np.asarray(std) == 0):
    raise ValueError('scale: std must not be 0')
  image = sample['image'].astype(np.float32)
  chosen = slice(None)  # an index of all would copy them
  if channels is not None:
    chosen = _channels('scale', channels, image.shape[-1])
  part = image[..., chosen]
  if low is not None or high is not None:
    part = np.clip(part, low, high)
  image[..., chosen] = (part - np.float32(mean)) / np.float32(std)
  return {**sample, 'image': image}


def normalise(sample, *, schemes=('zscore',), statistics=()):
  """Normalises each channel by its own scheme, as nnU-Net does by its name.

  schemes: for each channel, or one for all: 'zscore'; 'none'; 'rescale_0_1', by
  the image's own least and largest value; 'rgb_0_1', from 0…255; 'ct', the
  z-score by `statistics` of the set's foreground after cutting off at its
  percentiles. statistics: (mean, std, 0.5 %, 99.5 %) for each channel.
  """
  image = sample['image'].astype(np.float32)
  count = image.shape[-1]
  each = schemes * count if len(schemes) == 1 else schemes
  if len(each) != count:
    raise ValueError(
      f'{sample.get("id")}: {len(each)} channels have a normalisation, the '
      f'image has {count}'
    )
  for c, scheme in enumerate(each):
    if scheme == 'zscore':
      image = zscore({'image': image}, channels=(c,))['image']
    elif scheme == 'rgb_0_1':
      image[..., c] /= 255
    elif scheme == 'rescale_0_1':
      low, high = image[..., c].min(), image[..., c].max()
      image[..., c] = (image[..., c] - low) / max(high - low, 1e-8)
    elif scheme == 'ct':
      mean, std, low, high = statistics[c]
      image[..., c] = (np.clip(image[..., c], low, high) - mean) / std
    elif scheme != 'none':
      raise ValueError(f'normalise: no scheme {scheme!r}')
  return {**sample, 'image': image}


def _per_channel(sample, function, chosen=None):
  image = sample['image'].astype(np.float32)
  for c in range(image.shape[-1]) if chosen is None else chosen:
    image[..., c] = function(image[..., c])
  return {**sample, 'image': image}


def _channels(name, channels, last):
  """The channels as a list; those that the image lacks are refused."""
  chosen = list(range(last) if channels is None else channels)
  if not set(chosen) <= set(range(last)):
    raise ValueError(f'{name}: channels {tuple(chosen)} of an image of {last}')
  return chosen


def standardise(sample, *, statistics=()):
  """Covariates − mean, over the standard deviation; what is missing stays NaN.

  statistics: (mean, standard deviation) of each column, by default those of the
  training split.
  """
  mean, deviation = np.array(statistics, np.float32).reshape(-1, 2).T
  values = np.asarray(sample['covariates'], np.float32)
  if values.shape != mean.shape:
    raise ValueError(
      f'{sample.get("id")}: standardise has the statistics of {mean.size} '
      f'columns, the case has {values.size}'
    )
  return {**sample, 'covariates': (values - mean) / deviation}


def compress(sample, *, factor=3.0):
  """Covariates as the inverse hyperbolic sine of `factor` times themselves.

  Long tails become short, and what is near 0 stays in proportion: after
  `standardise`, for columns such as radiomics' in a linear model.
  """
  values = np.asarray(sample['covariates'], np.float32)
  return {**sample, 'covariates': np.arcsinh(factor * values)}
