"""The commands as a user has them: what they write, say and refuse."""

import dataclasses
import gzip
import json
import os
import shutil
import sys

import nibabel as nib
import numpy as np
import pydicom
import pytest
from privacy import made
from pydicom.data import get_testdata_file

from medjax import files
from medjax.privacy import __main__ as command
from medjax.privacy import dates, record
from medjax.privacy import deidentify as runs
from medjax.privacy import key as keys


def run(monkeypatch, capsys, *arguments):
  """(exit code, standard output, standard error)."""
  monkeypatch.setattr(sys, 'argv', ['medjax privacy', *map(str, arguments)])
  code = 0
  try:
    command.main()
  except SystemExit as e:
    code = e.code
  said = capsys.readouterr()
  return code, said.out, said.err


@pytest.fixture
def scans(tmp_path):
  folder = tmp_path / 'scans'
  folder.mkdir()
  for name in ('CT_small.dcm', 'MR_small.dcm', 'rtplan.dcm', 'test-SR.dcm'):
    ds = made.read(name)
    ds.PatientName, ds.PatientID = 'Zebrowski^Ophelia', f'QMR884{len(name)}'
    ds.BodyPartExamined = 'CHEST'  # else a thin MR may be of a head
    ds.save_as(folder / f'Zebrowski {name}')
  (folder / 'notes.txt').write_text('of Zebrowski')
  shutil.copy(get_testdata_file('DICOMDIR'), folder)
  return folder


def test_a_folder_and_its_check(scans, tmp_path, monkeypatch, capsys):
  out, key = tmp_path / 'out', tmp_path / 'keys/secret.key'
  code, said, err = run(
    monkeypatch, capsys, 'deidentify', scans, f'--out={out}', f'--key={key}',
    '--options=clean-descriptors,clean-structured', '--workers=1',
  )  # fmt: skip
  assert code == 0
  assert '4 files of' in said
  assert 'quarantined: 1' in said
  assert 'Zebrowski' not in said + err
  text = (out / record.NAME).read_text()
  assert 'Zebrowski' not in text
  assert 'QMR' not in text
  made_of_it = json.loads(text)
  assert made_of_it['counts']['files_written'] == 4
  assert len(made_of_it['safe_harbor']) == 18
  assert made_of_it['gdpr_article_30']['purposes of the processing']
  assert 'not anonymous' in made_of_it['state']
  listed = tmp_path / 'keys/secret.key.quarantine.csv'
  assert 'notes.txt' in listed.read_text()
  assert 'DICOMDIR' in listed.read_text()
  assert listed.stat().st_mode & 0o077 == 0
  assert key.stat().st_mode & 0o077 == 0
  report = tmp_path / 'check.html'
  code, said, _ = run(
    monkeypatch, capsys, 'check', out, f'--against={scans}', f'--key={key}',
    f'--report={report}',
  )  # fmt: skip
  assert code == 0, said
  assert '0 hits' in said
  assert '0' in report.read_text()


def test_the_check_finds_what_was_put_back(
  scans, tmp_path, monkeypatch, capsys
):
  out = tmp_path / 'out'
  run(monkeypatch, capsys, 'deidentify', scans, f'--out={out}', '--workers=1')
  path = next(out.rglob('*.dcm'))
  ds = pydicom.dcmread(path)
  ds.ImageComments = 'seen with ailehpO'
  ds.add_new(0x00091001, 'LO', 'x')
  ds.save_as(path)
  code, said, err = run(monkeypatch, capsys, 'check', out, f'--against={scans}')
  assert code == 1
  assert 'ImageComments: identifier' in said
  assert 'private attribute' in said
  assert 'still identify' in err
  assert 'ailehpO' not in said + err


def numbered(folder, ids, days):
  """CT slices of patients whose ids are digits alone, and their dates."""
  folder.mkdir()
  for i, (patient, day) in enumerate(zip(ids, days, strict=True)):
    ds = made.read('CT_small.dcm')
    ds.PatientID, ds.PatientName = patient, f'Zebrowski{i}^Ophelia'
    ds.SOPInstanceUID, ds.PatientBirthDate = f'1.2.3.{i}', '19600102'
    for keyword in ('StudyDate', 'SeriesDate', 'AcquisitionDate'):
      setattr(ds, keyword, day)
    ds.ContentDate = day
    ds.ImagePositionPatient = [f'-{ids[0][:2]}.{ids[0][2:]}', '1', '2']
    ds.AcquisitionTime = '123456'
    ds.save_as(folder / f'{i}.dcm')


def test_numbers_and_dates_that_come_by_chance_are_no_hits(
  tmp_path, monkeypatch, capsys
):
  secret = keys.Key(bytes.fromhex('ab' * 32))
  in_uid = secret.uid('1.2.3.0')[9:14].replace('.', '')
  ids = [in_uid, '54321', '123456']
  shifted = dates.shifted('20040119', 'DA', secret.days(ids[0]))
  numbered(tmp_path / 'in', ids, ['20040119', shifted, '20050301'])
  (tmp_path / 'key').write_text('ab' * 32)
  go = (f'--key={tmp_path / "key"}',)
  out = tmp_path / 'out'
  run(
    monkeypatch, capsys, 'deidentify', tmp_path / 'in', f'--out={out}', *go,
    '--options=retain-modified-dates,clean-descriptors', '--workers=1',
  )  # fmt: skip
  look = ('check', out, f'--against={tmp_path / "in"}')
  code, said, _ = run(monkeypatch, capsys, *look, *go)
  assert code == 0, said
  assert '0 hits' in said
  assert 'dates were not compared' not in said
  code, said, _ = run(monkeypatch, capsys, *look)
  assert code == 0, said
  assert 'dates were not compared' in said
  # What is there by no chance is found.
  paths = {str(pydicom.dcmread(p).PatientID): p for p in out.rglob('*.dcm')}
  path = paths[secret.patient(ids[0])]
  clean = path.read_bytes()
  for change, place in (
    (dict(StudyDate='20040119'), 'StudyDate: date'),
    (dict(ImageComments=f'of {ids[1]}, seen'), 'ImageComments: identifier'),
    (dict(ImageComments=f'ID{ids[0]}'), 'ImageComments: identifier'),
    (dict(ImageComments='born 02.01.1960'), 'ImageComments: identifier'),
    (dict(AcquisitionNumber='123456'), 'AcquisitionNumber: identifier'),
  ):
    ds = pydicom.dcmread(path)
    for keyword, value in change.items():
      setattr(ds, keyword, value)
    ds.save_as(path)
    code, said, _ = run(monkeypatch, capsys, *look, *go)
    assert code == 1
    assert place in said
    path.write_bytes(clean)
  path.write_bytes(clean + b'\0\0born 19600102\0')
  assert 'bytes of the file' in run(monkeypatch, capsys, *look, *go)[1]


def test_nifti_is_checked_too(tmp_path, monkeypatch, capsys):
  source, out = tmp_path / 'in', tmp_path / 'out'
  source.mkdir()
  for i, kind in enumerate((nib.Nifti1Image, nib.Nifti2Image)):
    image = kind(np.full((3, 4, 5), i, np.int16), np.eye(4))
    image.header['descrip'] = b'Zebrowski'
    nib.save(image, source / f'{i}.nii.gz')
  go = ('deidentify', source, f'--out={out}', '--faces=accept', '--workers=1')
  run(monkeypatch, capsys, *go)
  look = ('check', out, f'--against={source}')
  code, said, _ = run(monkeypatch, capsys, *look)
  assert code == 0, said
  assert '2 files' in said
  for change, place in (
    (lambda i: i.header.__setitem__('aux_file', b'QMR884'), 'aux_file: text'),
    (
      lambda i: i.header.extensions.append(
        nib.nifti1.Nifti1Extension('comment', b'Zebrowski')
      ),
      'extensions: text',
    ),
  ):
    image = nib.Nifti1Image(np.ones((2, 2, 2)), np.eye(4))
    change(image)
    nib.save(image, out / 'more.nii')
    code, said, _ = run(monkeypatch, capsys, *look)
    assert code == 1
    assert place in said
  (out / 'more.nii').write_bytes(b'x')
  assert 'no readable NIfTI file' in run(monkeypatch, capsys, *look)[1]


def test_without_a_key_nothing_joins_two_runs(
  scans, tmp_path, monkeypatch, capsys
):
  names = []
  for out in (tmp_path / 'a', tmp_path / 'b'):
    _, said, _ = run(
      monkeypatch, capsys, 'deidentify', scans, f'--out={out}', '--workers=1'
    )
    assert 'no --key' in said
    names.append({p.name for p in out.rglob('*.dcm')})
  assert not names[0] & names[1]


@pytest.mark.parametrize(
  ('more', 'line'),
  [
    (('--options=clean-everything',), 'is none of'),
    (('--options=retain-full-dates,retain-modified-dates',), 'choose one'),
    (('--options=clean-faces',), 'is called --faces=remove'),
    (('--key={out}/k',), 'a key beside its data'),
    (('--key={scans}/k',), 'a key beside its data'),
    (('--key={scans}/notes.txt',), 'a key beside its data'),
  ],
)
def test_bad_options(scans, tmp_path, monkeypatch, capsys, more, line):
  out = tmp_path / 'out'
  more = [m.format(out=out, scans=scans) for m in more]
  code, _, err = run(
    monkeypatch, capsys, 'deidentify', scans, f'--out={out}', *more
  )
  assert code == 1
  assert line in err
  assert err.count('\n') == 1
  assert not list(tmp_path.rglob('out/**/*.dcm'))


def test_bad_places(scans, tmp_path, monkeypatch, capsys):
  for source, out, line in (
    (tmp_path / 'none', tmp_path / 'o', 'no such file or folder'),
    (scans, scans / 'o', 'lie in one another'),
    (scans, tmp_path, 'lie in one another'),
    (scans, tmp_path / 'file', 'is a file'),
  ):
    (tmp_path / 'file').write_text('')
    code, _, err = run(
      monkeypatch, capsys, 'deidentify', source, f'--out={out}'
    )
    assert code == 1
    assert line in err
  (tmp_path / 'empty').mkdir()
  code, _, err = run(
    monkeypatch, capsys, 'deidentify', tmp_path / 'empty',
    f'--out={tmp_path / "o"}',
  )  # fmt: skip
  assert code == 1
  assert 'holds no file' in err


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_place_that_is_write_protected(scans, tmp_path, monkeypatch, capsys):
  (tmp_path / 'o').mkdir(mode=0o500)
  code, _, err = run(
    monkeypatch, capsys, 'deidentify', scans, f'--out={tmp_path / "o"}'
  )
  assert code == 1
  assert 'may not be written to' in err


@pytest.mark.parametrize(
  'name',
  [
    'MR_truncated.dcm', 'rtplan_truncated.dcm', 'badVR.dcm', 'no_meta.dcm',
    'empty_charset_LEI.dcm', 'meta_missing_tsyntax.dcm', 'priv_SQ.dcm',
    'reportsi_with_empty_number_tags.dcm', 'ExplVR_BigEndNoMeta.dcm',
    'JPEG2000-embedded-sequence-delimiter.dcm', 'SC_rgb_jpeg.dcm',
    'MR_small_padded.dcm', 'zipMR.gz',
  ],
)  # fmt: skip
def test_damaged_files_cost_no_other(tmp_path, clean, name):
  source = tmp_path / 'in'
  source.mkdir()
  shutil.copy(made.TEST_FILES / name, source)
  shutil.copy(made.TEST_FILES / 'CT_small.dcm', source)
  done, written = clean(source, trust_pixels=True)
  assert done.written + len(done.refused) == 2
  assert '1CT1' not in str(written)
  assert any(d.Modality == 'CT' for d in written)


def test_damaged_values_are_left_out(clean):
  ds = made.read('CT_small.dcm')
  for tag, vr, value in (
    (0x00080022, 'DA', '1960'), (0x00080023, 'DA', '200301'),
    (0x0008002A, 'DT', '2020'), (0x00080032, 'TM', 'noon'),
    (0x00101010, 'AS', '9Y'), (0x00180015, 'CS', 'Jane; Doe'),
    (0x00080005, 'CS', 'KLINGON'),
  ):  # fmt: skip
    ds._dict[pydicom.tag.BaseTag(tag)] = pydicom.DataElement(
      tag, vr, value, validation_mode=0
    )
  ds.PixelData = ds.PixelData[: ds.Rows * ds.Columns * 2]
  _, (new,) = clean(
    ds, 'retain-modified-dates', 'retain-patient-characteristics'
  )
  assert new.get('AcquisitionDate', '') == ''
  assert new.ContentDate == '19000101'
  assert 'PatientAge' not in new
  assert new.BodyPartExamined == 'REMOVED'
  assert new.get('SpecificCharacterSet') in (None, '', 'REMOVED')


def test_nifti_loses_the_texts_of_its_header(tmp_path, clean):
  source = tmp_path / 'in'
  source.mkdir()
  array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
  for kind in (nib.Nifti1Image, nib.Nifti2Image):
    image = kind(array, np.diag([2, 3, 4, 1]))
    image.header['descrip'] = b'Zebrowski^Ophelia'
    image.header['aux_file'] = b'QMR884'
    image.header.extensions.append(
      nib.nifti1.Nifti1Extension('comment', b'Zebrowski')
    )
    nib.save(image, source / f'Zebrowski{kind.__name__}.nii.gz')
  done, _ = clean(source)
  assert {why for _, why in done.refused} == {
    'a face could be made of it: --faces=remove or accept'
  }
  done, _ = clean(source, faces='accept')
  found = [*tmp_path.rglob('nifti/*.nii.gz')]
  assert len(found) == done.written == 2
  for path in found:
    data = gzip.decompress(path.read_bytes())
    assert b'Zebrowski' not in data
    assert b'QMR' not in data
    image = nib.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), array)
    np.testing.assert_array_equal(image.affine, np.diag([2, 3, 4, 1]))


def test_two_people_with_one_id_are_told(tmp_path, clean):
  source = tmp_path / 'in'
  source.mkdir()
  for i in range(2):
    ds = made.read('CT_small.dcm')
    ds.PatientBirthDate, ds.SOPInstanceUID = f'1960010{i + 1}', f'1.2.3.{i}'
    ds.save_as(source / f'{i}.dcm')
  done, _ = clean(source)
  assert done.doubtful == 1


def test_files_that_share_a_uid(tmp_path, clean):
  source = tmp_path / 'in'
  source.mkdir()
  ds = made.read('CT_small.dcm')
  for name in ('a', 'b'):
    ds.save_as(source / f'{name}.dcm')
  done, written = clean(source)
  assert len(written) == done.copies == 1
  ds.Rows = 64
  ds.save_as(source / 'c.dcm')
  done, written = clean(source)
  assert written == []
  assert {why for _, why in done.refused} == {
    'another file has its SOPInstanceUID and differs'
  }


def test_patients_are_those_of_whom_a_file_was_written(tmp_path, clean):
  source = tmp_path / 'in'
  source.mkdir()
  for i in range(3):
    ds = made.read('CT_small.dcm')
    ds.PatientID, ds.SOPInstanceUID = f'QMR88{i // 2}', f'1.2.3.{i}'
    if i == 2:
      ds.BodyPartExamined, ds.SliceThickness = 'HEAD', '1'
    ds.save_as(source / f'{i}.dcm')
  done, written = clean(source)
  assert len(done.people) == 1
  assert {d.PatientID for d in written} == done.people


def test_thin_heads_are_quarantined(tmp_path, clean):
  ds = made.read('MR_small.dcm')
  ds.SliceThickness, ds.BodyPartExamined = '1', 'BRAIN'
  done, written = clean(ds)
  assert written == []
  assert 'a face' in done.refused[0][1]
  done, written = clean(ds, faces='accept')
  assert len(written) == 1


@pytest.mark.parametrize('kind', ['dicom', 'nifti'])
def test_what_is_refused_now_does_not_stay_of_an_earlier_run(tmp_path, kind):
  source, out = tmp_path / 'in', tmp_path / 'out'
  source.mkdir()
  if kind == 'nifti':
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2)), np.eye(4)), source / 'a.nii')
  else:
    ds = made.read('MR_small.dcm')
    ds.BodyPartExamined = 'BRAIN'
    ds.save_as(source / 'a.dcm')
  shutil.copy(made.TEST_FILES / 'CT_small.dcm', source)
  plan = runs.Plan(b'k' * 32, faces='accept')
  assert runs.deidentify(source, out, plan, workers=1).written == 2
  plan = dataclasses.replace(plan, faces='quarantine')
  done = runs.deidentify(source, out, plan, workers=1)
  assert (done.written, done.taken_back, len(done.refused)) == (1, 1, 1)
  (left,) = (p for p in out.rglob('*') if p.is_file())
  assert pydicom.dcmread(left).Modality == 'CT'


def test_a_folder_holds_files_of_one_record(
  scans, tmp_path, monkeypatch, capsys
):
  out, key = tmp_path / 'out', tmp_path / 'secret.key'
  go = ('deidentify', scans, f'--out={out}', '--workers=1')
  assert run(monkeypatch, capsys, *go, f'--key={key}')[0] == 0
  for more, line in (
    ((f'--key={key}', '--faces=accept'), 'another --faces;'),
    ((f'--key={key}', '--options=retain-uids'), 'another --options;'),
    ((), 'another --key;'),
  ):
    code, _, err = run(monkeypatch, capsys, *go, *more)
    assert code == 1
    assert line in err
  assert run(monkeypatch, capsys, *go, f'--key={key}')[0] == 0  # once more


def test_the_list_of_refused_files_is_of_all_batches(
  tmp_path, monkeypatch, capsys
):
  key = tmp_path / 'secret.key'
  for batch in ('a', 'b', 'a'):
    source = tmp_path / batch
    source.mkdir(exist_ok=True)
    shutil.copy(made.TEST_FILES / 'CT_small.dcm', source)
    (source / f'{batch}.txt').write_text('no DICOM')
    run(
      monkeypatch, capsys, 'deidentify', source, f'--out={source}_out',
      f'--key={key}', '--workers=1',
    )  # fmt: skip
  listed = tmp_path / 'secret.key.quarantine.csv'
  rows, _ = files.read_csv(listed, mend='')
  assert sorted(r['file'] for r in rows) == ['a.txt', 'b.txt']
  (tmp_path / 'a/a.txt').unlink()
  run(
    monkeypatch, capsys, 'deidentify', tmp_path / 'a',
    f'--out={tmp_path / "a_out"}', f'--key={key}', '--workers=1',
  )  # fmt: skip
  rows, _ = files.read_csv(listed, mend='')
  assert [r['file'] for r in rows] == ['b.txt']
