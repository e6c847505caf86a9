"""Segmentations and reports before validators that others wrote."""

import os
import shutil
import subprocess
import types

import hospital
import numpy as np
import pytest

from medjax.data import formats
from medjax.prediction import files as prediction_files
from medjax.service import outcome, report, results

NAMES = tuple(f'structure {k}' for k in range(1, 8))
CODES = {n: ('91723000', 'SCT', 'Anatomical Structure') for n in NAMES}
FINDING = {n: ('121071', 'DCM', 'Finding') for n in NAMES}


def source(kind, shared_data, images, tmp_path):
  """The folder or file of a series, and its files."""
  if kind == 'MR':
    files = hospital.mr_series(images[0], tmp_path / 'mr')
    return tmp_path / 'mr', files
  if kind == 'DX':
    rng = np.random.default_rng(0)
    array = rng.integers(0, 255, (40, 30), np.uint8)
    file = hospital.x_ray(array, tmp_path / 'x.dcm')
    return file, [file]
  folder = shared_data('dicom_sts025') / {'PT': 'PET'}.get(kind, kind) / 'image'
  return folder, sorted(folder.iterdir())


def made(kind, count, what, shared_data, images, tmp_path):
  """The objects of an analysis of `count` segments, written into tmp_path."""
  place, files = source(kind, shared_data, images, tmp_path)
  sources = results.sources_of(files)
  uids = [str(d.SOPInstanceUID) for d in sources]
  identity = results.identity(uids, 'model', 'ab' * 32, sources, facts={})
  case, seg, names = prediction_files.read_case(place), None, NAMES[:count]
  if what == 'abstained':
    said = outcome.abstained('model unsure', 'x', measures={'confidence': 0.41})
  else:
    labels = np.zeros(case['image'].shape[:-1], np.uint8)
    if what == 'finding':
      edges = np.linspace(0, len(labels), count + 1).astype(int)
      for k in range(count):
        labels[edges[k] : edges[k + 1] - 1, 5:12] = k + 1
    facts = {'dense': True, 'names': names, 'codes': CODES, 'validation': {}}
    prediction = types.SimpleNamespace(labels=labels)
    said = outcome.found(
      facts, case, prediction, raw=None, doubts=(), measures={'confidence': 0.9}
    )
    data = results.write_seg(labels, place, names, CODES, identity)
    (tmp_path / 'seg.dcm').write_bytes(data)
    seg = results.read(data)
    masks = formats.read_segmentation(
      tmp_path / 'seg.dcm', formats.read(place)
    ) if what == 'finding' else {}  # fmt: skip
    for k, mask in enumerate(masks.values(), start=1):
      np.testing.assert_array_equal(mask, labels == k)
  data = report.write(said, identity=identity, sources=sources, seg=seg)
  (tmp_path / 'sr.dcm').write_bytes(data)
  return said, files


def errors_of(*command, **options):
  done = subprocess.run(
    command, capture_output=True, text=True, check=False, **options
  )
  lines = (done.stdout + done.stderr).splitlines()
  return done.returncode, [line for line in lines if line.startswith('Error')]


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('what', ['finding', 'no finding', 'abstained'])
@pytest.mark.parametrize(
  ('kind', 'count'), [('MR', 2), ('CT', 7), ('PT', 1), ('DX', 1), ('DX', 2)]
)
def test_dciodvfy(kind, count, what, shared_data, images, tmp_path):
  if shutil.which('dciodvfy') is None:
    pytest.skip('dciodvfy is not installed (dicom3tools)')
  said, files = made(kind, count, what, shared_data, images, tmp_path)
  assert said['summary'] == what
  written = [tmp_path / 'sr.dcm']
  if what != 'abstained':
    written.append(tmp_path / 'seg.dcm')
  for path in written:
    assert errors_of('dciodvfy', str(path))[1] == []
  if kind == 'MR':  # the others' sources have errors of their own
    both = [*map(str, files), *map(str, written)]
    assert errors_of('dcentvfy', *both)[1] == []
  if shutil.which('dsrdump'):
    assert errors_of('dsrdump', str(written[0])) == (0, [])


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('what', ['finding', 'no finding', 'abstained'])
@pytest.mark.parametrize(
  ('kind', 'count'), [('MR', 2), ('CT', 7), ('PT', 1), ('DX', 1), ('DX', 2)]
)
def test_dicom_sr_validator(kind, count, what, shared_data, images, tmp_path):
  if shutil.which('DicomSRValidator') is None:
    pytest.skip('DicomSRValidator is not installed (pixelmed-apps)')
  made(kind, count, what, shared_data, images, tmp_path)
  # Its style sheets exceed the limits that newer Javas set.
  options = (
    '-Djdk.xml.xpathTotalOpLimit=0 -Djdk.xml.xpathExprOpLimit=0 '
    '-Djdk.xml.xpathExprGrpLimit=0'
  )
  environment = {**os.environ, 'JAVA_TOOL_OPTIONS': options}
  found = errors_of(
    'DicomSRValidator', str(tmp_path / 'sr.dcm'), env=environment
  )[1]
  assert found == []


def test_moment_and_ids_are_of_the_images(images, tmp_path):
  files = hospital.mr_series(images[0], tmp_path / 'd')
  sources = results.sources_of(reversed(files))
  one = results.identity(['1', '2'], 'm', 'd' * 64, sources, facts={})
  assert one == results.identity(['2', '1'], 'm', 'd' * 64, sources, facts={})
  assert one.moment.isoformat() == '2026-11-01T10:17:00'
  again = results.identity(
    ['1', '2'], 'm', 'd' * 64, sources, facts={}, round_=1
  )
  assert len({one.seg, one.report, again.seg, again.report}) == 4
  # What it was installed with is a part of it, what its card says is not.
  of = lambda **facts: results.identity(['1'], 'm', 'd', sources, facts=facts)
  assert of(normal='a').report != of(normal='b').report
  assert of(normal='a', card='x', validation={}) == of(normal='a')
  assert len(one.report) <= 64
