"""Peaks of intensity: means over a ball of 1 cm³, on the host, by Fourier."""

import numpy as np
from scipy import signal

RADIUS = float(np.cbrt(3 / (4 * np.pi)) * 10)  # of a ball of 1 cm³, in mm


def peaks(region):
  """Local and global intensity peak (2,) of a `prepare.Region` (IBSI, 3.2).

  The mean around the voxel of the highest intensity, and the highest mean. Of a
  ball, what the image has. The box of a region has the ball around each voxel.
  """
  reach = [int(RADIUS / s) for s in region.spacing]
  at = np.stack(
    np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing='ij')
  )
  squares = (at * region.spacing[:, None, None, None]) ** 2
  ball = (squares.sum(0) <= RADIUS**2).astype(float)

  def summed(values):
    return signal.fftconvolve(values, ball, mode='same')[region.mask]

  total = summed(np.where(region.inside, region.values, 0))
  mean = total / np.rint(summed(region.inside.astype(float)))
  values = region.values[region.mask]
  return np.array([mean[values == values.max()].max(), mean.max()])
