import pytest

from medjax.data.sides import names_a_side


@pytest.mark.parametrize(
  'name',
  [
    'kidney_left', 'LeftKidney', 'kidneyLeft', 'lung.left', 'Kidney (L)',
    'lh_hippocampus', 'Parotid_Lt', 'rt lung', 'ctx-lh-cuneus', 'RIGHT LUNG',
    'LHippocampus', 'rib_left_1', 'left2', 'R', 'Kidney-R',
  ],
)  # fmt: skip
def test_a_side(name):
  assert names_a_side(name)


@pytest.mark.parametrize(
  'name',
  [
    'background', 'liver', 'vertebrae_L1', 'L5', 'LV', 'RV', 'cleft', 'bright',
    'alright', 'TZ', 'label 1', 'PZ', 'Rectum', 'T1', 'RNFL', 'portal_vein', '',
  ],
)  # fmt: skip
def test_no_side(name):
  assert not names_a_side(name)
