"""Searching and refining paths in a phantom whose answers are known."""

import dataclasses
import re

import numpy as np
import phantoms
import pytest

from medjax.surgery import (
  distance,
  electrodes,
  lines,
  path,
  plan,
  refine,
  rows,
  scene,
)

LIMITS = lines.Limits(4.0, 70.0, 60.0)
AVOID = ('vessel', 'rib_1')


@pytest.fixture(scope='module')
def phantom():
  return phantoms.body_scene()


@pytest.fixture(scope='module')
def setting(phantom):
  request = plan.Request('tumour', AVOID, 'skin', LIMITS)
  return plan.prepare(phantom, request, path._inside(phantom, ask()))


def ask(**more):
  values = dict(targets=('tumour',), avoid=AVOID, limits=LIMITS, draws=50)
  return path.Ask(**{**values, **more})


@pytest.fixture(scope='module')
def found(setting):
  return plan.search(setting, LIMITS)


def test_paths_are_safe_by_brute_force(phantom, setting, found):
  assert found.safe > 50
  prover = rows.Prover(
    setting, {n: phantom.mask(n)[setting.box] for n in AVOID}
  )
  for entry, target, score in zip(
    found.paths.entry, found.paths.target, found.scores.bound, strict=True
  ):
    each = prover(np.stack([entry, target]))
    assert min(each.values()) >= LIMITS.clearance
    assert min(each.values()) >= score - 0.02
    assert min(each.values()) - score < 1.0
  assert (np.diff(found.scores.score) <= 0).all()
  assert (found.scores.length <= LIMITS.length).all()
  assert (found.scores.angle <= LIMITS.angle).all()
  apart = np.linalg.norm(
    found.paths.entry[:, None] - found.paths.entry, axis=-1
  )
  # Entries are 10 mm apart before they slide along the skin.
  assert apart[np.triu_indices(len(apart), 1)].min() > 3


def test_every_path_called_safe_is(phantom, setting):
  """All entries with all targets: none is optimistic."""
  n, k = len(setting.surface.points), len(setting.targets)
  index = np.arange(n * k)
  paths = plan._paths(setting, index // k, index % k)
  scores = lines.score_all(
    setting.fields, LIMITS, paths, samples=setting.samples
  )
  safe = np.flatnonzero(scores.safe(LIMITS))[::7]
  mask = phantom.union(AVOID)[setting.box]
  centres = distance.surface_centres(mask, setting.spacing)
  for i in safe:
    line = np.stack([paths.entry[i], paths.target[i]])
    proven = distance.proven(line, mask, centres, setting.spacing)
    assert proven >= LIMITS.clearance - 0.01
  # And the exhaustive search finds none that is more than 2 % better.
  best = scores.score[scores.safe(LIMITS)].max()
  voxels = np.argwhere(phantom.mask('tumour')) - setting.corner
  voxels = voxels[np.random.default_rng(0).permutation(len(voxels))[:40]]
  deep = distance.ndimage.distance_transform_edt(
    phantom.mask('tumour'), sampling=phantom.spacing
  )
  depth = deep[tuple((voxels + setting.corner).T)]
  # Of the points that paths may aim at: at least half as deep as the deepest.
  every = voxels[depth >= deep.max() / 2] * setting.spacing
  order = np.argsort(-scores.score)[: n // 2] // k
  entry, aim = (x.ravel() for x in np.meshgrid(order, np.arange(len(every))))
  surface = setting.surface
  exhaustive = lines.score_all(
    setting.fields,
    LIMITS,
    lines.Paths(surface.points[entry], surface.normals[entry], every[aim]),
    samples=setting.samples,
  )
  most = exhaustive.score[exhaustive.safe(LIMITS)].max()
  assert plan.search(setting, LIMITS, count=3).scores.score[0] >= 0.98 * most
  assert best >= 0.95 * most


def test_refining_never_worsens(setting, found):
  order = np.random.default_rng(0).permutation(len(setting.surface.points))
  paths = plan._paths(setting, order, np.zeros(len(order), int))
  scores = lines.score_all(
    setting.fields, LIMITS, paths, samples=setting.samples
  )
  safe = np.flatnonzero(scores.safe(LIMITS))[:10]
  paths = lines.Paths(*(x[safe] for x in paths))
  moved, after = refine.refined(
    setting.fields, LIMITS, setting.surface.depth, paths,
    samples=setting.samples, reach=4.0,
  )  # fmt: skip
  assert (after.score >= scores.score[safe] - 1e-6).all()
  assert (after.score > scores.score[safe] + 1e-3).sum() >= 5
  assert after.safe(LIMITS).all()
  # Entries stay on the skin: 50 mm about the body's axis.
  axis = np.array([60.0, 60.0]) - (setting.corner * setting.spacing)[:2]
  radius = np.linalg.norm(moved.entry[:, :2] - axis, axis=-1)
  assert np.abs(radius - 49.2).max() < 1.5


@pytest.mark.parametrize(
  ('limits', 'said'),
  [
    (LIMITS._replace(clearance=30.0), 'clearance: .* of 30; the nearest is'),
    (LIMITS._replace(length=30.0), 'length: no point of the entry surface'),
    (LIMITS._replace(length=43.0), 'length: '),
    (LIMITS._replace(angle=0.001), 'angle: .* degrees of 0.001'),
  ],
)
def test_what_binds_is_named(phantom, limits, said):
  (one,), *_ = path.plan_paths(phantom, ask(limits=limits))
  assert one.table == []
  assert not one.best.any()
  assert re.search(said, one.binding), one.binding


def test_scores_do_not_depend_on_where_the_patient_lies(phantom, setting):
  tilted = phantoms.body_scene(
    frame=phantoms.rotation(np.random.default_rng(2))
  )
  request = plan.Request('tumour', AVOID, 'skin', LIMITS)
  inside = path._inside(phantom, ask())
  other = plan.prepare(tilted, request, inside)
  np.testing.assert_allclose(other.targets, setting.targets)
  np.testing.assert_array_equal(other.surface.voxels, setting.surface.voxels)


def test_several_electrodes_keep_apart(phantom):
  middle = phantom.to_ras([60.0, 55.0, 50.0])
  targets = tuple(tuple(middle + np.array(d)) for d in ((0, 0, -9), (0, 0, 9)))
  planned, *_ = path.plan_paths(phantom, ask(targets=targets, apart=15.0))
  first, second = [
    one.lines[0][[0, -1]] + one.setting.corner * one.setting.spacing
    for one in planned
  ]
  assert electrodes.apart(first, second) >= 15.0
  assert [len(one.table) for one in planned] == [1, 1]
  # The targets are 18 mm apart.
  planned, *_ = path.plan_paths(phantom, ask(targets=targets, apart=19.0))
  assert all(one.table == [] for one in planned)
  assert all('apart: no choice' in one.binding for one in planned)


def test_segments_apart():
  rng = np.random.default_rng(0)
  for _ in range(20):
    a, b = rng.normal(size=(2, 2, 3))
    t = np.linspace(0, 1, 400)[:, None]
    x, y = a[0] + t * (a[1] - a[0]), b[0] + t * (b[1] - b[0])
    true = np.sqrt(((x[:, None] - y) ** 2).sum(-1)).min()
    assert electrodes.apart(a, b) == pytest.approx(true, abs=5e-3)


def test_the_choice_of_electrodes_is_the_best():
  rng = np.random.default_rng(1)
  segments = [rng.uniform(0, 30, (6, 2, 3)) for _ in range(3)]
  scores = [rng.random(6) for _ in range(3)]
  found = electrodes.chosen(segments, scores, 5.0)
  best = (-1, None)
  for choice in np.ndindex(6, 6, 6):
    chosen = [segments[k][i] for k, i in enumerate(choice)]
    fits = all(
      electrodes.apart(chosen[i], chosen[j]) >= 5.0
      for i, j in ((0, 1), (0, 2), (1, 2))
    )
    value = sum(scores[k][i] for k, i in enumerate(choice))
    if fits and value > best[0]:
      best = value, choice
  assert found == best[1]
  assert electrodes.chosen(segments, scores, 100.0) is None


def test_uncertain_voxels_count_as_obstacles(phantom):
  p = np.zeros((*phantom.shape, 4), np.float32)
  for k in range(4):
    p[..., k] = phantom.labels == k
  grown = phantoms.ball(
    phantom.shape, phantom.spacing, np.array([60.0, 82.0, 50.0]), 12.0
  )
  p[grown, 2] = np.maximum(p[grown, 2], 0.1)
  sure = dataclasses.replace(phantom, probabilities=p)
  assert sure.union(['vessel']).sum() == phantom.mask('vessel').sum()
  assert sure.union(['vessel'], confidence=0.95)[grown].all()
  assert not sure.union(['vessel'], confidence=0.85)[grown].all()


def test_the_end_of_the_image_is_kept_away_from(phantom):
  cut = scene.make(
    phantom.labels[:, :, 10:], phantom.affine, phantom.names,
    image=phantom.image[:, :, 10:],
  )  # fmt: skip
  (one,), *_ = path.plan_paths(cut, ask())
  assert f'clearance_{path.END}_mm' in one.table[0]
  assert all(
    row[f'clearance_{path.END}_mm'] >= LIMITS.clearance for row in one.table
  )
