"""Intensities of a region: statistics, grey levels, histograms."""

import jax
import jax.numpy as jnp

from medjax.radiomics.averages import entropy


class Ordered:
  """The values of a mask in order, and percentiles by interpolation."""

  def __init__(self, values, mask):
    self.count = mask.sum()
    self.n = self.count.astype(values.dtype)
    self.sorted = _sorted(jnp.where(mask, values, jnp.inf))

  def at(self, place):
    """The value at a place of the order, 0 the least."""
    return self.sorted[jnp.clip(place, 0, self.count - 1)]

  def percentile(self, q):
    """Linear between the two nearest ranks, as numpy has it."""
    place = q / 100 * (self.n - 1)
    below = jnp.floor(place).astype(jnp.int32)
    low, high = self.at(below), self.at(below + 1)
    return low + (high - low) * (place - below)


@jax.custom_jvp
def _sorted(values):
  """Values (P,) in order, as whole numbers, which XLA sorts five times faster.

  Bits of floats have their order; of negative ones all but the sign are turned.
  """
  whole = jnp.int64 if values.dtype.itemsize == 8 else jnp.int32

  def turned(bits):
    return bits ^ ((bits >> 8 * bits.dtype.itemsize - 1) & jnp.iinfo(whole).max)

  bits = turned(jax.lax.bitcast_convert_type(values, whole))
  return jax.lax.bitcast_convert_type(turned(jnp.sort(bits)), values.dtype)


@_sorted.defjvp
def _of_order(primals, tangents):
  order = jnp.argsort(primals[0])
  return primals[0][order], tangents[0][order]


def statistics(values, mask):
  """{name: value} of the values (P,) in a mask (IBSI reference manual, 3.3)."""
  order = Ordered(values, mask)
  n = order.n

  def mean(x, where=mask):
    count = jnp.maximum(where.sum(), 1)
    return jnp.where(where, x, 0).sum() / count

  average = mean(values)
  centred = values - average
  variance = mean(centred**2)
  p10, p25, p50, p75, p90 = map(order.percentile, (10, 25, 50, 75, 90))
  robust = mask & (values >= p10) & (values <= p90)
  middle = mean(values, robust)
  safe = jnp.where(variance > 0, variance, 1)
  energy = jnp.where(mask, values**2, 0).sum()
  low, high = order.at(0), order.at(order.count - 1)
  return {
    'mean': average,
    'var': variance,
    'skew': jnp.where(variance > 0, mean(centred**3) / safe**1.5, 0),
    'kurt': jnp.where(variance > 0, mean(centred**4) / safe**2 - 3, 0),
    'median': p50,
    'min': low,
    'p10': p10,
    'p90': p90,
    'max': high,
    'iqr': p75 - p25,
    'range': high - low,
    'mad': mean(jnp.abs(centred)),
    'rmad': mean(jnp.abs(values - middle), robust),
    'medad': mean(jnp.abs(values - p50)),
    'cov': jnp.sqrt(variance) / average,
    'qcod': (p75 - p25) / (p75 + p25),
    'energy': energy,
    'rms': jnp.sqrt(energy / n),
  }


def levels(values, mask, *, width=None, bins=None, low=None, edges=False):
  """Grey levels (P,) int32, 1 and up in the mask, of a bin width or number.

  low: where the first bin of a `width` begins, by default the least value.
  edges: `bins` as numpy's histogram has them, whose rounding differs.
  """
  least = jnp.where(mask, values, jnp.inf).min()
  most = jnp.where(mask, values, -jnp.inf).max()
  if bins is None:
    start = least if low is None else low
    found = jnp.floor((values - start) / width).astype(jnp.int32) + 1
  elif edges:
    step = (most - least) / bins
    borders = jnp.arange(1, bins, dtype=values.dtype) * step + least
    found = (
      jnp.searchsorted(borders, values, side='right').astype(jnp.int32) + 1
    )
  else:
    span = jnp.where(most > least, most - least, 1)
    found = jnp.floor(bins * (values - least) / span).astype(jnp.int32) + 1
    found = jnp.minimum(found, bins)
  return jnp.where(mask, found, 0)


def histogram_features(levels, mask, histogram, num_bins):
  """{name: value} of grey levels: their statistics, and of the histogram (G,).

  num_bins: how many of the G the region may have (IBSI, 3.4).
  """
  dtype = jnp.result_type(float)
  found = statistics(levels.astype(dtype), mask)
  found = {k: v for k, v in found.items() if k not in ('energy', 'rms')}
  p = histogram / jnp.maximum(histogram.sum(), 1).astype(dtype)
  place = jnp.arange(histogram.size)
  counts = histogram.astype(dtype)
  before = jnp.where(place > 0, jnp.roll(counts, 1), counts)
  after = jnp.where(place < num_bins - 1, jnp.roll(counts, -1), counts)
  inner = (place > 0) & (place < num_bins - 1)
  slope = (after - before) / jnp.where(inner, 2, 1)
  there = place < num_bins
  most = jnp.where(there, slope, -jnp.inf)
  least = jnp.where(there, slope, jnp.inf)
  # Of several modes the one nearest to the mean.
  top = counts == counts.max()
  apart = jnp.where(top, jnp.abs(place + 1 - found['mean']), jnp.inf)
  return found | {
    'mode': apart.argmin() + 1,
    'entropy': entropy(histogram, 0),
    'uniformity': (p**2).sum(),
    'max_grad': most.max(),
    'max_grad_g': most.argmax() + 1,
    'min_grad': least.min(),
    'min_grad_g': least.argmin() + 1,
  }


def volume_histogram(values, mask, *, width=None, limits=None, bins=None):
  """{name: value} of the intensity-volume histogram (IBSI, 3.5).

  Values are whole numbers, or are counted in bins of `width`, whose centres
  then tell an intensity, or in a number of `bins`, which do. limits: the range
  of which a fraction is meant; by default that of the values.
  """
  dtype = jnp.result_type(float)
  start = jnp.where(mask, values, jnp.inf).min()
  if limits is not None and bins is None:
    start = jnp.asarray(limits[0], dtype)
  step = 1.0 if width is None else width
  if bins is None:
    level = jnp.floor((values - start) / step)
  else:
    level = levels(values, mask, bins=bins).astype(dtype) - 1
  order = Ordered(level, mask)
  least, most = order.at(0), order.at(order.count - 1)
  low, span = least, jnp.maximum(most - least, 1)
  if limits is not None and bins is None:
    low, span = jnp.zeros((), dtype), (limits[1] - limits[0]) / step

  def part(at_least):
    above = mask & (level >= at_least - 1e-9)
    return above.sum() / order.n

  def intensity(x):  # the least level with no more than x of the voxels above
    count = jnp.floor(x * order.n + 1e-9).astype(jnp.int32)
    found = order.at(order.count - count - 1) + 1
    if bins is not None:
      return found + 1
    return start + (found if width is None else (found + 0.5) * step)

  v10, v90 = part(low + 0.1 * span), part(low + 0.9 * span)
  i10, i90 = intensity(0.1), intensity(0.9)
  above = jnp.where(mask, level - least + 1, 0).sum() / order.n
  return {
    'v10': v10,
    'v90': v90,
    'i10': i10,
    'i90': i90,
    'diff_v10_v90': v10 - v90,
    'diff_i10_i90': i10 - i90,
    'auc': (above - (1 + part(most)) / 2) / jnp.maximum(most - least, 1),
  }
