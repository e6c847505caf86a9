"""Scenes whose answers are known: balls, tubes and boxes on tilted grids."""

import numpy as np

from medjax.surgery import scene


def rotation(rng):
  """A random rotation (3, 3)."""
  q, r = np.linalg.qr(rng.normal(size=(3, 3)))
  q *= np.sign(np.diag(r))
  return q * np.sign(np.linalg.det(q))


def grid(shape, spacing):
  """Centres (x, y, z, 3) of the voxels, mm on the grid."""
  axes = [np.arange(n) * s for n, s in zip(shape, spacing, strict=True)]
  return np.stack(np.meshgrid(*axes, indexing='ij'), -1)


def ball(shape, spacing, centre, radius):
  return ((grid(shape, spacing) - centre) ** 2).sum(-1) <= radius**2


def tube(shape, spacing, point, along, radius):
  away = grid(shape, spacing) - point
  along = along / np.linalg.norm(along)
  away = away - (away @ along)[..., None] * along
  return (away**2).sum(-1) <= radius**2


def ellipsoid(shape, spacing, centre, radii, frame):
  away = (grid(shape, spacing) - centre) @ frame.T / radii
  return (away**2).sum(-1) <= 1


def segment_to_point(a, b, p):
  t = np.clip((p - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
  return np.linalg.norm(a + t * (b - a) - p)


def body_scene(*, spacing=(2.0, 2.0, 2.5), frame=None):
  """A cylinder of flesh with a tumour, a vessel before it, and ribs.

  Everything is known in mm of the grid: the body is a tube of 50 mm radius
  about (60, 60), the tumour a ball of 8 mm at (60, 60, 50).
  """
  spacing = np.asarray(spacing, float)
  shape = tuple(int(n) for n in np.ceil(np.array([120, 120, 100]) / spacing))
  middle = np.array([60.0, 60.0, 50.0])
  flesh = tube(shape, spacing, middle, np.array([0.0, 0.0, 1.0]), 50.0)
  labels = np.zeros(shape, np.uint8)
  vessel = tube(
    shape,
    spacing,
    middle + np.array([0.0, 22.0, 0.0]),
    np.array([1.0, 0, 0]),
    4,
  )
  labels[vessel & flesh] = 2
  z = grid(shape, spacing)[..., 2]
  around = np.linalg.norm((grid(shape, spacing) - middle)[..., :2], axis=-1)
  ribs = (around > 38) & (around < 44) & (z % 25 < 8)
  labels[ribs & flesh] = 3
  labels[ball(shape, spacing, middle, 8.0)] = 1
  image = np.where(flesh, 40.0, -1000.0).astype(np.float32)
  image[labels == 3] = 600.0
  affine = np.eye(4)
  affine[:3, :3] = (np.eye(3) if frame is None else frame) * spacing
  affine[:3, 3] = (-60.0, -40.0, 10.0)
  names = {1: 'tumour', 2: 'vessel', 3: 'rib_1'}
  return scene.make(labels, affine, names, image=image)
