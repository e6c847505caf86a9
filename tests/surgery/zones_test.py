"""Ablations and resections against closed forms."""

import numpy as np
import phantoms
import pytest

from medjax.surgery import ablate, resect, scene

SPACING = np.array((1.5, 1.5, 2.0))
SHAPE = (44, 44, 34)
MIDDLE = np.array([33.0, 33.0, 34.0])


def test_one_ball_covers_a_ball():
  tumour = phantoms.ball(SHAPE, SPACING, MIDDLE, 9.0)
  found = ablate.cover(tumour, SPACING, (18.0, 18.0, 18.0), margin=5.0)
  assert found.complete
  assert len(found.centres) == 1
  assert np.abs(found.centres[0] - MIDDLE).max() < 1.5
  assert found.coverage == 1.0
  assert found.margin >= 5.0
  # By the definition: no voxel outside is within the margin.
  away = phantoms.grid(SHAPE, SPACING) - MIDDLE
  outside = np.linalg.norm(away, axis=-1)[~found.zone]
  assert outside.min() >= 9.0 + 5.0 - 1.5
  np.testing.assert_allclose(
    found.axes[0] @ found.axes[0].T, np.eye(3), atol=1e-5
  )


def test_a_long_tumour_turns_its_ellipsoid_and_two_cover_more():
  frame = phantoms.rotation(np.random.default_rng(4))
  tumour = phantoms.ellipsoid(SHAPE, SPACING, MIDDLE, (16.0, 6, 6), frame)
  found = ablate.cover(tumour, SPACING, (27.0, 15.5, 15.5), margin=5.0)
  assert found.complete
  assert len(found.centres) == 1
  assert abs(found.axes[0][0] @ frame[0]) > 0.9
  two = ablate.cover(tumour, SPACING, (16.5, 16.5, 16.5), margin=4.0)
  assert two.complete
  assert len(two.centres) in (2, 3)
  none = ablate.cover(tumour, SPACING, (8.0, 8, 8), margin=5.0, most=1)
  assert not none.complete
  assert none.coverage < 1


def test_a_margin_all_around():
  tumour = phantoms.ball(SHAPE, SPACING, MIDDLE, 8.0)
  zone = resect.around(tumour, SPACING, 6.0)
  volume = zone.sum() * np.prod(SPACING)
  # Half a voxel more, of what is left.
  assert 14.0 < (volume * 3 / 4 / np.pi) ** (1 / 3) < 15.5


@pytest.fixture
def organ_scene():
  """A box of an organ with a tumour near one of its faces."""
  labels = np.zeros(SHAPE, np.uint8)
  labels[4:40, 4:40, 3:31] = 1
  labels[phantoms.ball(SHAPE, SPACING, np.array([50.0, 33, 34]), 6.0)] = 2
  affine = np.diag([*SPACING, 1.0])
  affine[:3, 3] = (-30, 20, 100)
  return scene.make(labels, affine, {1: 'liver', 2: 'tumour'})


def test_a_plane_leaves_the_rest(organ_scene):
  s = organ_scene
  point = s.to_ras([40.0, 33, 34])
  found = resect.remnant(
    s.mask('liver'), s.mask('tumour'), s, plane=(point, (1.0, 0, 0))
  )
  organ = s.mask('liver').sum() * s.voxel / 1000
  kept = s.mask('liver')[:27].sum() * s.voxel / 1000  # 40 / 1.5 = 26.7
  assert found['organ_ml'] == pytest.approx(organ)
  assert found['remnant_ml'] == pytest.approx(kept)
  assert found['remnant_share'] == pytest.approx(kept / organ)
  assert found['tumour_removed_share'] == 1.0
  assert 2.0 <= found['margin_mm'] <= 4.6
  through = resect.remnant(
    s.mask('liver'), s.mask('tumour'), s,
    plane=(s.to_ras([50.0, 33, 34]), (1.0, 0, 0)),
  )  # fmt: skip
  assert through['tumour_removed_share'] == pytest.approx(0.5, abs=0.1)
  assert through['margin_mm'] == 0
  with pytest.raises(ValueError, match='either --margin or --plane'):
    resect.remnant(s.mask('liver'), s.mask('tumour'), s)


def test_a_margin_of_thick_slices_is_none_too_large():
  """A plane at the tumour's surface leaves none, one slice further a slice."""
  labels = np.ones((20, 20, 12), np.uint8)
  labels[5:15, 5:15, 6:9] = 2
  s = scene.make(labels, np.diag([1.0, 1, 5, 1]), {1: 'liver', 2: 'tumour'})
  for first, margin in ((6, 0.0), (5, 5.0)):
    removed = np.zeros(labels.shape, bool)
    removed[..., first:] = True
    found = resect.left(s.mask('liver'), s.mask('tumour'), removed, s)
    assert found['margin_mm'] == pytest.approx(margin, abs=1e-5)


def test_the_best_plane_is_the_near_face(organ_scene):
  s = organ_scene
  point, normal = resect.best_plane(
    s, s.mask('liver'), s.mask('tumour'), margin=5.0
  )
  assert normal[0] > 0.85  # of 32 starts, none is told where the face is
  removed = resect.beyond(s, point, normal)
  found = resect.left(s.mask('liver'), s.mask('tumour'), removed, s)
  assert found['tumour_removed_share'] == 1.0
  assert found['margin_mm'] >= 4.5
  straight = resect.remnant(
    s.mask('liver'), s.mask('tumour'), s,
    plane=(s.to_ras([44 - 5.75, 33, 34]), (1.0, 0, 0)),
  )  # fmt: skip
  assert found['remnant_share'] >= straight['remnant_share'] - 0.01
