"""Diameters of ellipsoids, single voxels, and grids in another order."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from medjax.metrics import diameters


def ellipsoid(shape, spacing, middle, radii, frame):
  """Voxels (x, y, z) whose centres are within an ellipsoid, in mm."""
  at = (np.indices(shape).T + 0.5) * spacing - middle
  return (((at @ frame.T / radii) ** 2).sum(-1) <= 1).T


def rotation(rng):
  return Rotation.random(random_state=rng).as_matrix()


@pytest.mark.parametrize('spacing', [(1.0, 1.0, 1.0), (0.8, 1.0, 1.6)])
def test_ellipsoids(spacing):
  rng = np.random.default_rng(1)
  spacing = np.array(spacing)
  shape = tuple(np.ceil(74 / spacing).astype(int))
  for turned in (False, True, True):
    radii = rng.uniform(17, 30, 3)
    frame = np.eye(3)
    if turned:
      frame = rotation(rng)
    middle = np.array(shape) * spacing / 2 + rng.uniform(-1, 1, 3)
    mask = ellipsoid(shape, spacing, middle, radii, frame)
    volume = mask.sum() * np.prod(spacing)
    assert volume == pytest.approx(4 / 3 * np.pi * np.prod(radii), rel=0.01)
    affine = np.diag([*spacing, 1.0])
    found = diameters.axial_diameters(mask, affine, spacing)
    # The middle slice is the largest: the ellipse of the inverse's block.
    inverse = frame.T @ np.diag(1 / radii**2) @ frame
    axes = 2 / np.sqrt(np.linalg.eigvalsh(inverse[:2, :2]))
    # Corners lie up to half a diagonal beyond the centres, on either side.
    flat, voxel = np.linalg.norm(spacing[:2]), np.linalg.norm(spacing)
    assert abs(found.longest - axes.max()) <= flat
    assert abs(found.across - axes.min()) <= flat
    assert abs(diameters.feret(mask, spacing) - 2 * radii.max()) <= voxel
    assert abs(found.slice * spacing[2] - middle[2]) <= 4


def test_a_voxel_is_measured_by_its_corners():
  mask = np.zeros((5, 5, 5), bool)
  mask[2, 2, 2] = True
  found = diameters.axial_diameters(mask, np.diag([3.0, 4, 5, 1]), (3.0, 4, 5))
  assert found.longest == pytest.approx(5.0)  # of 3 x 4
  assert found.across == pytest.approx(5 * 3 / 4)  # from corner to side
  assert diameters.feret(mask, (3.0, 4, 5)) == pytest.approx(np.sqrt(50))
  assert np.isnan(diameters.feret(mask & False, (3.0, 4, 5)))


def test_axial_is_of_the_patient_whatever_the_order_of_axes():
  mask = np.zeros((6, 20, 20), bool)
  mask[3, 4:16, 5:7] = True
  affine = np.zeros((4, 4))
  affine[2, 0] = affine[0, 1] = affine[1, 2] = affine[3, 3] = 1  # S, R, A
  found = diameters.axial_diameters(mask, affine, (1.0, 1.0, 1.0))
  assert (found.axis, found.slice) == (0, 3)
  assert found.longest == pytest.approx(np.hypot(12, 2))


def test_slices_of_a_tilted_thick_stack_are_still_sagittal():
  """10° about the left–right axis: no slice of the stack is axial."""
  spacing, tilt = np.array([5.0, 0.7, 0.7]), np.deg2rad(10)
  turn = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0],
                   [-np.sin(tilt), 0, np.cos(tilt)]])  # fmt: skip
  affine = np.eye(4)
  affine[:3, :3] = turn * spacing
  assert abs(affine[2, 0]) > abs(affine[2, 2])
  mask = np.zeros((8, 60, 120), bool)
  mask[2:6, 10:38, 5:105] = True  # 20 × 20 × 70 mm
  found = diameters.axial_diameters(mask, affine, spacing)
  assert found.axis == 2
  assert found.longest == pytest.approx(np.hypot(20, 19.6))
