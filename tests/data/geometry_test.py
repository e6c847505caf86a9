"""The same voxel lies at the same millimetre for SimpleITK and nibabel."""

import pathlib
import runpy

import pytest

GEOMETRY = runpy.run_path(
  str(pathlib.Path(__file__).resolve().parents[2] / 'benchmarks/geometry.py')
)
SETS = {
  'dicom_sts025': 3,
  'dicom_breast_dce': 1,
  'totalseg_example': 7,
}


@pytest.mark.parametrize('name', SETS)
def test_real_images_lie_where_others_put_them(name, shared_data):
  found = list(GEOMETRY['rows']([shared_data(name)]))
  assert len(found) == SETS[name]
  for path, _, *errors in found:
    assert all(e is not None and e < 1e-3 for e in errors), (path, errors)
