"""What must stay: references, SUV, validity, and the same result every time."""

import random
import re
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from privacy import made

from medjax.data.formats import dicom
from medjax.privacy import deidentify as runs
from medjax.privacy import key

_RICH = (
  'clean-descriptors', 'clean-structured', 'retain-modified-dates',
  'retain-patient-characteristics', 'retain-device',
)  # fmt: skip
SECRET = b'k' * 32


def run(source, out, *options, workers=1, **more):
  more = dict(trust_pixels=True, faces='accept') | more
  plan = runs.Plan(SECRET, runs.checked(options), **more)
  return runs.deidentify(source, out, plan, workers=workers)


def contents(folder):
  return {
    str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*.dcm')
  }


def edges(folder, rename=lambda uid: uid):
  """{(object, what it refers to)} of all files of a folder."""
  found = set()
  for path in folder.rglob('*'):
    if not path.is_file():
      continue
    try:
      ds = pydicom.dcmread(path)
    except pydicom.errors.InvalidDicomError:
      continue
    if 'ReferencedStudySequence' in ds:  # which Table E.1-1 empties
      del ds.ReferencedStudySequence
    for element in ds.iterall():
      if element.keyword in (
        'ReferencedSOPInstanceUID', 'SeriesInstanceUID', 'StudyInstanceUID',
        'FrameOfReferenceUID', 'ReferencedFrameOfReferenceUID',
      ):  # fmt: skip
        found.add((rename(ds.SOPInstanceUID), rename(str(element.value))))
  return found


@pytest.mark.parametrize('name', ['dicom_highdicom', 'dicom_sts025'])
def test_the_graph_of_references_is_the_same(shared_data, tmp_path, name):
  source = tmp_path / 'in'
  source.mkdir()
  for i, path in enumerate(sorted(shared_data(name).rglob('*.dcm'))):
    # One of the files that share a UID, and not every slice.
    if path.name in ('sm_image.dcm',) or (i % 4 and 'sts' in name and i < 110):
      continue
    shutil.copy(path, source / f'{i}.dcm')
  done = run(source, tmp_path / 'out', *_RICH)
  assert done.refused == []
  before = edges(source, key.Key(SECRET).uid)
  after = edges(tmp_path / 'out')
  assert len(after) > 60
  assert after == before


def test_a_segmentation_is_read_by_highdicom(shared_data, tmp_path):
  hd = pytest.importorskip('highdicom')
  folder = shared_data('dicom_highdicom')
  source = tmp_path / 'in'
  source.mkdir()
  for name in ('seg_image_ct_binary.dcm', 'sr_document.dcm', 'ct_image.dcm'):
    shutil.copy(folder / name, source)
  run(source, tmp_path / 'out', *_RICH)
  old = hd.seg.segread(folder / 'seg_image_ct_binary.dcm')
  seen = set()
  for path in (tmp_path / 'out').rglob('*.dcm'):
    kind = pydicom.dcmread(path).Modality
    seen.add(kind)
    if kind == 'SEG':
      new = hd.seg.segread(path)
      np.testing.assert_array_equal(new.pixel_array, old.pixel_array)
    elif kind == 'SR':
      report = hd.sr.srread(path)
      assert report.content.get_image_measurement_groups is not None
  assert seen == {'SEG', 'SR', 'CT'}


def test_suv_is_the_same(shared_data, tmp_path):
  source = shared_data('dicom_sts025') / 'PET'
  run(source, tmp_path / 'out', *_RICH)
  (old,), (new,) = (
    dicom.list_series(p) for p in (source, tmp_path / 'out')
  )  # fmt: skip
  a, b = (dicom.read_files(s.files) for s in (old, new))
  assert 'SUV' in str(a.meta) or a.meta.get('units')
  np.testing.assert_allclose(b.array, a.array, rtol=1e-6)
  np.testing.assert_allclose(b.affine, a.affine)
  first, second = (pydicom.dcmread(s.files[0]) for s in (old, new))
  assert first.SeriesDate != second.SeriesDate
  assert first.SeriesTime == second.SeriesTime


def test_shifts_are_one_for_all_dates_of_a_patient(tmp_path):
  ds = made.read('CT_small.dcm')
  source = tmp_path / 'in'
  source.mkdir()
  for i, day in enumerate(('20040119', '20040219')):
    ds.StudyDate = ds.SeriesDate = day
    ds.AcquisitionDateTime = f'{day}120000.5+0100'
    ds.SOPInstanceUID = ds.StudyInstanceUID = f'1.2.3.{i}'
    ds.save_as(source / f'{i}.dcm')
  run(source, tmp_path / 'out', 'retain-modified-dates')
  days = sorted(
    (str(d.StudyDate), str(d.AcquisitionDateTime))
    for d in map(pydicom.dcmread, (tmp_path / 'out').rglob('*.dcm'))
  )
  stamps = [np.datetime64(f'{a[:4]}-{a[4:6]}-{a[6:]}') for a, _ in days]
  assert (stamps[1] - stamps[0]).astype(int) == 31
  assert all(b == f'{a}120000.5+0100' for a, b in days)
  assert days[0][0] not in ('20040119', '20040219')


def test_the_same_in_any_order_and_number_of_processes(tmp_path):
  names = ('CT_small.dcm', 'MR_small.dcm', 'rtplan.dcm', 'rtstruct.dcm',
           'test-SR.dcm', 'image_dfl.dcm', 'waveform_ecg.dcm',
           'examples_palette.dcm', 'liver_1frame.dcm')  # fmt: skip
  results = []
  for i, workers in enumerate((1, 3)):
    source = tmp_path / f'in{i}'
    source.mkdir()
    order = list(names)
    random.Random(i).shuffle(order)
    for j, name in enumerate(order):
      shutil.copy(made.TEST_FILES / name, source / f'{j}.dcm')
    done = run(source, tmp_path / f'out{i}', *_RICH, workers=workers)
    results.append(contents(tmp_path / f'out{i}'))
    assert done.written == len(names)
  assert results[0] == results[1]
  run(tmp_path / 'in0', tmp_path / 'out0', *_RICH)  # again, over itself
  assert contents(tmp_path / 'out0') == results[0]
  # What was de-identified with this key stays as it is.
  run(tmp_path / 'out0', tmp_path / 'twice', *_RICH)
  assert contents(tmp_path / 'twice') == results[0]


def test_another_key_gives_other_names(tmp_path):
  source = tmp_path / 'in'
  source.mkdir()
  shutil.copy(made.TEST_FILES / 'CT_small.dcm', source)
  run(source, tmp_path / 'a')
  plan = runs.Plan(b'z' * 32, (), True, 'accept')
  runs.deidentify(source, tmp_path / 'b', plan, workers=1)
  assert not set(contents(tmp_path / 'a')) & set(contents(tmp_path / 'b'))


def _errors(path):
  text = subprocess.run(
    ['dciodvfy', path], capture_output=True, text=True, errors='replace'
  ).stderr
  lines = [li for li in text.splitlines() if li.startswith('Error')]
  return {re.sub(r'[\d.]{5,}', 'UID', li) for li in lines}


@pytest.mark.skipif(
  not shutil.which('dciodvfy'), reason='dciodvfy (dicom3tools) is not there'
)
@pytest.mark.parametrize('options', [(), _RICH])
def test_no_file_becomes_less_valid(tmp_path, shared_data, options):
  source = tmp_path / 'in'
  source.mkdir()
  files = [made.TEST_FILES / n for n in (
    'CT_small.dcm', 'MR_small.dcm', 'rtplan.dcm', 'rtdose.dcm', 'test-SR.dcm',
    'waveform_ecg.dcm', 'liver_1frame.dcm', 'examples_overlay.dcm',
    'examples_ybr_color.dcm',
  )]  # fmt: skip
  folder = shared_data('dicom_highdicom')
  files += [folder / f'{n}.dcm' for n in (
    'seg_image_ct_binary', 'sr_document', 'sm_image_dots', 'dx_image',
  )]  # fmt: skip
  files += sorted(shared_data('dicom_sts025').rglob('*.dcm'))[::40]
  secret, worse = key.Key(SECRET), {}
  for i, path in enumerate(files):
    shutil.copy(path, source / f'{i}.dcm')
  run(source, tmp_path / 'out', *options)
  after = {p.stem: p for p in (tmp_path / 'out').rglob('*.dcm')}
  for i, path in enumerate(files):
    before = pydicom.dcmread(source / f'{i}.dcm')
    new = after[secret.uid(before.SOPInstanceUID)]
    more = _errors(new) - _errors(source / f'{i}.dcm')
    if more:
      worse[path.name] = more
  assert worse == {}
