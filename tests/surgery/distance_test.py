"""Distances: never too large, and near enough."""

import jax.numpy as jnp
import numpy as np
import phantoms
import pytest
from scipy import spatial

from medjax.surgery import distance, lines

SPACINGS = [(1.0, 1.0, 1.0), (0.8, 1.1, 2.5)]


def fields(mask, spacing):
  return lines.Fields(
    distance.field(mask, spacing),
    jnp.zeros(mask.shape, jnp.float32),
    None,
    jnp.asarray(spacing, jnp.float32),
  )


def scored(mask, spacing, entry, target, samples=96):
  paths = lines.Paths(entry, np.tile([0.0, 0.0, 1.0], (len(entry), 1)), target)
  return lines.score_all(
    fields(mask, spacing), lines.Limits(), paths, samples=samples
  )


def poses(rng, ends, count):
  """Segments, of which some lie on the lattice and along its axes."""
  a, b = rng.uniform(0, 1, (2, count, 3)) * ends
  k = count // 4
  a[:k], b[:k] = np.rint(a[:k]), np.rint(b[:k])
  axis = rng.integers(0, 3, k // 2)
  b[: k // 2] = a[: k // 2]
  b[np.arange(k // 2), axis] = ends[axis] - a[np.arange(k // 2), axis]
  return a, b


@pytest.mark.parametrize('spacing', SPACINGS)
@pytest.mark.parametrize('kind', ['ball', 'tube'])
def test_clearances_of_1000_poses_are_within_half_a_voxel(kind, spacing):
  rng = np.random.default_rng(len(kind))
  spacing = np.array(spacing)
  shape = tuple(np.ceil(48 / spacing).astype(int))
  ends = (np.array(shape) - 1) * spacing
  errors, slack = [], []
  for _ in range(4):
    middle = ends / 2 + rng.uniform(-3, 3, 3)
    radius = rng.uniform(5, 9)
    a, b = poses(rng, ends, 250)
    if kind == 'ball':
      mask = phantoms.ball(shape, spacing, middle, radius)
      true = [
        phantoms.segment_to_point(*ab, middle) for ab in zip(a, b, strict=True)
      ]
    else:
      along = phantoms.rotation(rng)[0]
      mask = phantoms.tube(shape, spacing, middle, along, radius)
      # The same, seen along the tube; its axis leaves the grid on both sides.
      flat = np.eye(3) - np.outer(along, along)
      true = [
        phantoms.segment_to_point(x @ flat, y @ flat, middle @ flat)
        for x, y in zip(a, b, strict=True)
      ]
    found = scored(mask, spacing, a, b)
    clear = np.maximum(np.array(true) - radius, 0)
    # Beyond 40 mm nothing is told apart, nor off the grid.
    errors.append(np.maximum(found.clearance, 0) - np.minimum(clear, 40))
    slack.append(found.bound - found.clearance)
  errors = np.concatenate(errors)
  # Half a voxel: where voxels are long, half of their longest edge. Distances
  # are stored in 128ths of a mm.
  limit = spacing.max() / 2
  assert np.abs(errors).max() <= limit + distance.UNIT
  assert np.abs(errors).mean() < 0.5 * limit
  assert np.concatenate(slack).max() <= 1e-4


@pytest.mark.parametrize('spacing', SPACINGS)
@pytest.mark.parametrize('samples', [16, 96])
def test_the_bound_is_never_above_brute_force(spacing, samples):
  rng = np.random.default_rng(samples)
  spacing = np.array(spacing)
  mask = rng.random((24, 26, 20)) < 0.002
  centres = np.argwhere(mask) * spacing
  ends = (np.array(mask.shape) - 1) * spacing
  # Some leave the grid: there, too.
  a, b = (rng.uniform(-0.2, 1.2, (400, 3)) * ends for _ in range(2))
  found = scored(mask, spacing, a, b, samples)
  true, half = [], []
  for x, y in zip(a, b, strict=True):
    least, away = distance.segment_to_points(x, y, centres)
    true.append(least)
    half.append(distance.half_towards(away, spacing))
  # The bound is of D less half a voxel of which the smallest is subtracted.
  over = found.bound + spacing.min() / 2 - np.array(true)
  assert over.max() <= 0.01
  inside = (np.minimum(a, b) >= 0).all(1) & (np.maximum(a, b) <= ends).all(1)
  near = found.bound + np.array(half) - np.array(true)
  if samples == 96:
    # Where voxels are long, half of one is that of the longest near by.
    slack = 0.1 if np.ptp(spacing) == 0 else 0.25 * spacing.max()
    assert np.median(near[inside]) > -slack


def test_a_coarser_field_bounds_too(monkeypatch):
  rng = np.random.default_rng(3)
  mask = rng.random((21, 24, 22)) < 0.002
  spacing = np.array((1.0, 1.2, 0.9))
  monkeypatch.setattr(distance, '_MOST', 2000)
  field = distance.field(mask, spacing)
  assert field.corners.shape[0] < 2000
  points = rng.uniform(0, 1, (500, 3)) * (np.array(mask.shape) - 1) * spacing
  _, square, _ = distance.around(field, jnp.asarray(points, jnp.float32))
  tree = spatial.KDTree(np.argwhere(mask) * spacing)
  true, _ = tree.query(points)
  assert (np.sqrt(np.asarray(square)) - np.minimum(true, 40)).max() <= 1e-3


def test_proven_is_exact_and_0_deep_within():
  mask = np.zeros((40, 40, 40), bool)
  mask[10:30, 10:30, 10:30] = True
  spacing = np.array((1.0, 1.0, 2.0))
  centres = distance.surface_centres(mask, spacing)
  beside = np.array([[0.0, 5, 40], [39, 5, 40]])
  assert distance.proven(beside, mask, centres, spacing) == pytest.approx(4.5)
  below = np.array([[0.0, 20, 10], [39, 20, 10]])
  assert distance.proven(below, mask, centres, spacing) == pytest.approx(9.0)
  within = np.array([[18.0, 20, 40], [22, 20, 40]])
  assert distance.proven(within, mask, centres, spacing) == 0
  assert distance.proven(beside, mask & False, centres[:0], spacing) == np.inf


def test_gold_clearances(shared_data):
  import csv

  from medjax.surgery import scene

  folder = shared_data('planning_thorax')
  found = scene.read(folder / 'labels.nii.gz', names=folder / 'labels.csv')
  with (folder / 'trajectories.csv').open() as f:
    gold = list(csv.DictReader(f))
  column = lambda *names: np.array([[float(g[n]) for n in names] for g in gold])
  entry = found.to_grid(column('entry_x', 'entry_y', 'entry_z'))
  target = found.to_grid(column('target_x', 'target_y', 'target_z'))
  vessels = [n for n in found.names.values() if n != 'vertebrae_T12']
  diagonal = np.linalg.norm(found.spacing)
  for names, field in (
    (vessels, 'vessel_clearance_mm'),
    (['vertebrae_T12'], 'vertebra_clearance_mm'),
  ):
    true = column(field)[:, 0]
    scores = scored(found.union(names), found.spacing, entry, target, 128)
    near = true < 39
    assert near.sum() > 50
    # The gold is of centres, half a voxel farther than the surface.
    error = scores.clearance + 0.75 - true
    assert np.abs(error[near]).max() <= 0.6
    assert np.abs(error[near & (true > 1)]).max() < 0.3
    # By brute force, as the table has it, nothing else is between them.
    mask = found.union(names)
    centres = distance.surface_centres(mask, found.spacing)
    for i in np.flatnonzero(near)[:60]:
      line = np.stack([entry[i], target[i]])
      proven = distance.proven(line, mask, centres, found.spacing)
      assert proven == pytest.approx(max(0, true[i] - 0.75), abs=0.05)
    # Never optimistic.
    for wanted in (1.0, 3.0, 5.0, 10.0):
      safe = scores.bound >= wanted
      assert (true[safe] >= wanted - diagonal / 2).all()
      assert (true[safe] >= wanted).all()
      missed = (true >= wanted + 1.5) & ~safe
      assert not missed[near].any()
