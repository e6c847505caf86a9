"""Damaged inputs for all readers: a line that names the file, or a read."""

import collections
import pathlib
import resource
import runpy

FUZZ = runpy.run_path(str(pathlib.Path(__file__).parents[1] / 'fuzz.py'))
READERS = {
  'NIfTI', 'NRRD', 'MetaImage', 'picture', 'TIFF', 'mask', 'DICOM',
  'multi-frame', 'series', 'PET', 'SEG', 'RTSTRUCT', 'convert',
}  # fmt: skip


def test_damage_ends_in_a_line_or_a_read(shared_data):
  home = shared_data('dicom_sts025').parent
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  outcomes = list(FUZZ['run'](home, seed=3, count=330))
  grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
  wrong = [o for o in outcomes if o.said not in ('read', 'refused')]
  assert not wrong
  said = collections.Counter(o.reader for o in outcomes)
  assert set(said) == READERS
  assert min(said.values()) >= 8
  assert len(outcomes) >= 420
  assert sum(o.said == 'refused' for o in outcomes) > len(outcomes) / 2
  assert max(o.seconds for o in outcomes) < 10
  assert grown < 300 * 2**10  # kB
