"""Reading a workdir: what is damaged is said in one line, and where."""

import json
import random
import re

import numpy as np
import pytest

from medjax.reports import gallery, workdir
from medjax.reports.report import write_report


def test_cases_survive_the_file(tmp_path, nasty):
  case = {
    'id': nasty,
    'caption': 'worst',
    'image': np.arange(12.0).reshape(3, 4),
    'mask': np.full((3, 4), 2),
    'prediction': np.full((3, 4), 300),
    'spacing': np.array([2.0, 0.5]),
  }
  path = tmp_path / 'figures/cases.npz'
  gallery.save_cases(path, [case, {'id': 'b', 'image': np.zeros((2, 2, 3))}])
  first, second = gallery.load_cases(path)
  assert first.keys() == case.keys()
  assert (first['id'], first['caption']) == (nasty, 'worst')
  for name in ('image', 'mask', 'prediction', 'spacing'):
    np.testing.assert_array_equal(first[name], case[name])
  assert first['mask'].dtype == np.uint8
  assert second['image'].shape == (2, 2, 3)
  assert [p.name for p in path.parent.iterdir()] == ['cases.npz']


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'image': np.zeros((2, 3, 4))}, "case 'x': image is"),
    ({'image': np.zeros((2, 3)), 'mask': np.zeros((3, 2))}, 'mask is'),
  ],
)
def test_cases_that_do_not_fit_are_refused(tmp_path, fields, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    gallery.save_cases(tmp_path / 'cases.npz', [{'id': 'x', **fields}])


FILES = 'config.json', 'metrics.json', 'per_case.csv', 'figures/cases.npz'


def _refused(folder, name):
  """The one line with which a damaged file is refused."""
  with pytest.raises((ValueError, OSError)) as error:
    workdir.read(folder)
  line = str(error.value)
  assert str(folder / name) in line
  assert '\n' not in line
  assert len(line) < 400
  return line


@pytest.mark.parametrize('name', FILES)
def test_a_file_cut_short_is_refused(segmentation, name):
  path = segmentation / name
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  assert _refused(segmentation, name).endswith(' again')


@pytest.mark.parametrize('name', FILES)
def test_what_is_no_text_or_archive_is_refused(segmentation, name):
  (segmentation / name).write_bytes(b'\xff\x00\xfe' * 40)
  _refused(segmentation, name)


@pytest.mark.parametrize(
  ('place', 'value', 'words'),
  [
    ((), [], 'metrics.json is damaged is not an object'),
    (('test',), 3, 'test is not an object'),
    (('test', 'scores', 'dice'), '0.9', "dice holds '0.9', not a number"),
    (('test', 'scores', 'dice'), float('inf'), 'dice holds inf'),
    (('test', 'intervals', 'dice'), [0, 912, 1], 'not an interval of two'),
    (('test', 'classes', 'grey', 'dice'), 'x', 'dice is not an object'),
    (('test', 'confusion'), [[1, 2], [3]], 'confusion is not a square matrix'),
    (('test', 'confusion'), [[1, 'x'], [3, 4]], "confusion holds 'x'"),
    (
      ('test', 'curves'),
      {'grey': {'roc': {'fpr': [0, 1], 'tpr': [0, 0.5, 1]}}},
      'roc has lists of different lengths',
    ),
    (('measures', 'dice', 'higher'), 'yes', "higher holds 'yes', not bool"),
    (('run', 'seconds'), 'long', "seconds holds 'long', not a number"),
  ],
)
def test_metrics_of_another_form_are_refused(segmentation, place, value, words):
  path = segmentation / 'metrics.json'
  metrics = tree = json.loads(path.read_text())
  for key in place[:-1]:
    tree = tree[key]
  if place:
    tree[place[-1]] = value
  path.write_text(json.dumps(metrics if place else value))
  line = _refused(segmentation, 'metrics.json')
  assert words in line.replace(': ', ' ')


@pytest.mark.parametrize('value', [None, {}, []])
@pytest.mark.parametrize(
  'key', ['scores', 'intervals', 'classes', 'curves', 'support', 'confusion']
)
def test_parts_of_a_summary_may_be_null(segmentation, key, value):
  path = segmentation / 'metrics.json'
  metrics = json.loads(path.read_text())
  metrics['test'][key] = value
  path.write_text(json.dumps(metrics))
  if value is None or (value == {} and key != 'confusion'):
    assert workdir.read(segmentation).split == 'test'
  else:
    _refused(segmentation, 'metrics.json')


@pytest.mark.parametrize(
  ('old', 'new', 'words'),
  [
    ('0.58', '0.5.8', "column dice/grey of case slice_001 holds '0.5.8', not"),
    ('0.58,', '0.58,0.1,', 'line 3 has more or fewer fields'),
    ('0.58,', '', 'line 3 has more or fewer fields'),
    ('split,id', 'split,name', 'has no column id'),
  ],
)
def test_a_damaged_table_of_cases_is_refused(segmentation, old, new, words):
  path = segmentation / 'per_case.csv'
  path.write_text(path.read_text().replace(old, new))
  with pytest.raises(ValueError, match=re.escape(words)) as error:
    workdir.read(segmentation).column('dice')
  assert str(path) in str(error.value)


def test_damaged_lines_of_the_log_are_left_out_and_counted(segmentation):
  path = segmentation / 'metrics.jsonl'
  lines = path.read_text().splitlines()
  lines[3:6] = ['{"step": 4,', '[]', '{"step": "x"}']
  path.write_text('\n'.join(lines))  # the last is not whole either: no damage
  run = workdir.read(segmentation)
  assert 'Damaged lines of metrics.jsonl, left out: 3.' in run.notes
  assert [e['step'] for e in run.log[:4]] == [1, 2, 3, 7]


def test_what_was_assumed_of_the_data_is_told(segmentation):
  """Which columns of a table were taken, say: it was in facts.json alone."""
  (segmentation / 'facts.json').write_text('{"notes": ["no patients"]}')
  assert 'Data: no patients.' in workdir.read(segmentation).notes
  (segmentation / 'facts.json').write_text('{"notes": 3}')
  with pytest.raises(ValueError, match=r'facts\.json.*notes'):
    workdir.read(segmentation)


@pytest.mark.parametrize('lost', ['0/id', '0/image', '0/mask'])
def test_cases_that_lack_a_part(segmentation, lost):
  path = segmentation / 'figures/cases.npz'
  with np.load(path) as arrays:
    kept = {k: v for k, v in arrays.items() if k != lost}
  np.savez(path, **kept)
  if lost == '0/mask':
    assert len(workdir.read(segmentation).cases) == 3
  else:
    assert 'without an id or an image' in _refused(
      segmentation, 'figures/cases.npz'
    )


def test_no_damage_ends_in_a_traceback(segmentation, undrawn):
  """Bytes flipped, cut out and doubled at places drawn by rule."""
  rng = random.Random(0)
  whole = {name: (segmentation / name).read_bytes() for name in FILES}
  for i in range(24):
    name = FILES[i % len(FILES)]
    data = bytearray(whole[name])
    k = rng.randrange(len(data))
    if i % 3 == 0:
      data[k] ^= 1 << rng.randrange(8)
    elif i % 3 == 1:
      del data[k : k + 5]
    else:
      data[k:k] = data[k : k + 20]
    (segmentation / name).write_bytes(data)
    line = _error(segmentation)
    assert line is None or str(segmentation / name) in line, (i, name)
    assert line is None or len(line.splitlines()) == 1
    (segmentation / name).write_bytes(whole[name])


def _error(folder):
  """What the user reads instead of a page, None with one."""
  try:
    write_report(folder)
  except (ValueError, OSError) as error:
    return str(error)
