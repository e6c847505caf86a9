"""The skin of a thorax, whole and cut off by the field of view."""

import numpy as np
import phantoms
import pytest
from scipy import ndimage

from medjax.surgery import body, lines, path, scene

SPACING = np.array([3.0, 3.0, 5.0])
MIDDLE = np.array([150.0, 120.0, 30.0])  # of 300 x 240 x 60 mm
CUTS = {
  'both sides': np.s_[25:75],
  'one side': np.s_[:75],
  'front': np.s_[:, 30:],
  'a corner': np.s_[:70, :50],
  'all sides': np.s_[25:75, 20:60],
  'the trachea': np.s_[:50, :53],
}


def column(centre, radii):
  """Where an elliptic column along z is, (x, y, z) bool."""
  away = phantoms.grid((100, 80, 12), SPACING) - centre
  return ((away[..., :2] / radii) ** 2).sum(-1) <= 1


def thorax():
  """(image in HU, flesh with its skin, a vertebra) of lungs and a trachea."""
  rng = np.random.default_rng(0)
  flesh = column(MIDDLE, (135, 100))
  aside, front = np.array([65.0, 0, 0]), np.array([0, 40.0, 0])
  lungs = column(MIDDLE - aside, (45, 75)) | column(MIDDLE + aside, (45, 75))
  image = np.where(flesh, 40.0, -1000.0)
  image[lungs] = -860.0
  image[column(MIDDLE + front, (9, 9))] = -1000.0
  blanket = column(MIDDLE, (145, 110)) & ~column(MIDDLE, (139, 104))
  image[blanket] = -900.0
  vertebra = column(MIDDLE - 1.5 * front, (15, 15))
  image[vertebra] = 300.0
  image += rng.normal(0, 30, image.shape)
  return image.astype(np.float32), flesh, vertebra


def affine():
  return np.diag([*SPACING, 1.0])


def depth(flesh):
  """Mm from the true skin, within the flesh; 0 outside."""
  return ndimage.distance_transform_edt(flesh, sampling=SPACING)


def planned(cut, **limits):
  """(the paths to the vertebra, scene, flesh) of a thorax, cut."""
  image, flesh, vertebra = (x[CUTS[cut]] for x in thorax())
  labels = vertebra.astype(np.uint8)
  labels[24:26, -10:-8] = 2  # something to avoid
  names = {1: 'vertebra', 2: 'vessel'}
  found = scene.make(labels, affine(), names, image=image)
  ask = path.Ask(
    targets=('vertebra',), avoid=('vessel',), draws=20,
    limits=lines.Limits(**limits),
  )  # fmt: skip
  (one,), *_ = path.plan_paths(found, ask)
  return one, found, flesh


def test_the_whole_body_is_found():
  image, flesh, _ = thorax()
  assert (body.body(image, affine()) == flesh).mean() > 0.998


@pytest.mark.parametrize('cut', CUTS)
def test_what_the_image_cuts_off_is_no_skin(cut):
  image, flesh, _ = (x[CUTS[cut]] for x in thorax())
  found = body.body(image, affine())
  away = depth(flesh)
  skin = body.rim(found) & body.solid(image)
  assert away[skin].max(initial=0.0) <= 6
  # And the skin that can be seen is found, but for bits in the corners.
  seen = body.rim(flesh)
  assert (seen & ~skin).sum() <= 0.1 * seen.sum()


def test_paths_begin_at_the_skin_and_not_at_the_lung():
  one, found, flesh = planned('both sides', length=150.0)
  assert one.table
  away = depth(flesh)
  for row in one.table:
    assert away[found.at([row[f'entry_{a}'] for a in 'xyz'])] <= 6
  entries = one.setting.surface.voxels + one.setting.corner
  assert away[tuple(entries.T)].max() <= 6


def test_an_image_without_skin_says_so():
  one, *_ = planned('all sides')
  assert one.table == []
  assert 'shows no skin that near' in one.binding
  assert '--entry' in one.binding


def test_other_than_ct_there_is_doubt_where_the_sides_are_cut():
  image, *_ = thorax()
  other = (image + 1000) / 10
  for cut, doubted in ((np.s_[:], False), (CUTS['both sides'], True)):
    inside = body.body(other[cut], affine())
    assert bool(body.doubt(other[cut], inside, affine())) == doubted
    inside = body.body(image[cut], affine())
    assert body.doubt(image[cut], inside, affine()) == ''
