"""clean(…): de-identifies a data set or a folder."""

import pydicom
import pytest

from medjax.privacy import deidentify as runs


@pytest.fixture
def clean(tmp_path):
  """clean(dataset or folder, *options, …) → (`Done`, data sets written)."""

  def run(source, *options, secret=b'k' * 32, workers=1, **more):
    if isinstance(source, pydicom.Dataset):
      dataset, source = source, tmp_path / 'source'
      source.mkdir(exist_ok=True)
      dataset.save_as(source / 'a.dcm', enforce_file_format=True)
    out = tmp_path / f'out{len(list(tmp_path.iterdir()))}'
    plan = runs.Plan(secret, runs.checked(options), **more)
    done = runs.deidentify(source, out, plan, workers=workers)
    return done, [pydicom.dcmread(p) for p in sorted(out.rglob('*.dcm'))]

  return run
