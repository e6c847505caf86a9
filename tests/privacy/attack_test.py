"""A person in some 80 places of every file: nothing of it may come out."""

import collections
import warnings

import pydicom
import pytest
from privacy import planting
from privacy.made import TEST_FILES

from medjax.privacy import deidentify as runs

# Of each kind: what can be read and written again (native and compressed,
# both byte orders, deflated, SR, RT, waveform, multi-frame, colour).
_NAMES = (
  'CT_small.dcm', 'MR_small.dcm', 'MR_small_bigendian.dcm', 'rtplan.dcm',
  'rtstruct.dcm', 'rtdose.dcm', 'test-SR.dcm', 'reportsi.dcm',
  'image_dfl.dcm', 'JPEG2000.dcm', 'MR_small_RLE.dcm', 'SC_rgb_jpeg_dcmtk.dcm',
  'SC_ybr_full_422_uncompressed.dcm', 'MR_small_jp2klossless.dcm',
  'waveform_ecg.dcm',
  'liver_1frame.dcm', 'examples_palette.dcm', 'MR_small_jpeg_ls_lossless.dcm',
  'UN_sequence.dcm', 'nested_priv_SQ.dcm', 'ExplVR_BigEnd.dcm',
)  # fmt: skip
_FEW = ('CT_small.dcm', 'SC_rgb_jpeg_dcmtk.dcm')
_OPTIONS = {
  'basic': (),
  'all': (
    'clean-descriptors', 'clean-structured', 'clean-graphics',
    'retain-modified-dates', 'retain-patient-characteristics',
    'retain-safe-private',
  ),
}  # fmt: skip


def plant_all(files, folder):
  folder.mkdir()
  counts = []
  for path in files:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      ds = pydicom.dcmread(path, force=True)
      if 'SOPClassUID' not in ds or 'TransferSyntaxUID' not in ds.file_meta:
        continue
      person = planting.PEOPLE[len(counts) % len(planting.PEOPLE)]
      to = folder / f'{len(counts):04}_{person.given}.dcm'
      counts.append(planting.plant(ds, person, to, len(counts)))
  return counts


def hits(out):
  found = collections.Counter()
  for path in out.rglob('*'):
    assert not any(p.family in path.name for p in planting.PEOPLE)
    if path.suffix == '.dcm':
      found.update(where for where, _ in planting.leaks(path))
    elif path.is_file():
      text = path.read_text()
      found.update(
        n
        for person in planting.PEOPLE
        for n in planting.needles(person)[0]
        if n in text
      )
  return found


@pytest.fixture(scope='module')
def planted(tmp_path_factory):
  folder = tmp_path_factory.mktemp('planted') / 'in'
  counts = plant_all([TEST_FILES / n for n in _NAMES], folder)
  assert len(counts) >= 18
  assert min(counts) >= 40
  return folder


@pytest.mark.parametrize('options', _OPTIONS)
def test_nothing_of_a_person_is_left(planted, tmp_path, options):
  plan = runs.Plan(b'k' * 32, _OPTIONS[options], True, 'accept')
  done = runs.deidentify(planted, tmp_path / 'out', plan, workers=1)
  assert done.refused == []
  assert done.written == len(list(planted.iterdir()))
  assert hits(tmp_path / 'out') == {}


@pytest.fixture(scope='module')
def few(tmp_path_factory):
  """Native pixels and a JPEG stream."""
  folder = tmp_path_factory.mktemp('few') / 'in'
  plant_all([TEST_FILES / n for n in _NAMES if n in _FEW], folder)
  return folder


def test_the_search_finds_what_is_there(few):
  found = hits(few)
  assert found['bytes'] > 100
  assert len(found) > 80


@pytest.mark.parametrize(
  'hole', ['identifiers', 'words', 'comments', 'private', 'tail']
)
def test_the_attack_would_see_a_hole(few, tmp_path, monkeypatch, hole):
  """Each defence, taken away, lets something through."""
  from medjax.privacy import codestreams, header, identifiers, pixel_data, words

  never = lambda *a, **k: False
  if hole == 'identifiers':
    for name in ('within', 'is_number', 'in_bytes', 'is_word'):
      monkeypatch.setattr(identifiers.Identifiers, name, never)
  elif hole == 'words':
    monkeypatch.setattr(words, 'cleaned', lambda text, known=None: text)
    monkeypatch.setattr(identifiers.Identifiers, 'in_bytes', never)
  elif hole == 'comments':
    monkeypatch.setattr(codestreams, 'stripped', lambda frame: frame)
    monkeypatch.setattr(identifiers.Identifiers, 'in_bytes', never)
  elif hole == 'private':
    monkeypatch.setattr(
      header.Cleaner,
      '_of_private',
      lambda self, tag, creators: ('K' if tag.element > 0xFFF else 'X', ''),
    )
    monkeypatch.setattr(identifiers.Identifiers, 'in_bytes', never)
  else:
    monkeypatch.setattr(pixel_data, '_native', lambda data, length: data)
    monkeypatch.setattr(identifiers.Identifiers, 'in_bytes', never)
  plan = runs.Plan(b'k' * 32, _OPTIONS['all'], True, 'accept')
  runs.deidentify(few, tmp_path / 'out', plan, workers=1)
  assert hits(tmp_path / 'out')


@pytest.mark.slow
def test_no_readable_file_leaks(shared_data, tmp_path):
  places = [TEST_FILES]
  places += [shared_data(f'dicom_{n}') for n in ('highdicom', 'sts025',
                                                 'breast_dce')]  # fmt: skip
  files = [f for p in places for f in sorted(p.rglob('*')) if f.is_file()]
  counts = plant_all(files, tmp_path / 'in')
  assert len(counts) > 300
  for name, options in _OPTIONS.items():
    plan = runs.Plan(b'k' * 32, options, True, 'accept')
    out = tmp_path / name
    done = runs.deidentify(tmp_path / 'in', out, plan)
    assert done.written > 0.95 * len(counts)
    assert hits(out) == {}
