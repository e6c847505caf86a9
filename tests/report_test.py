"""The report: from the files of a workdir to one page, whatever is there."""

import base64
import csv
import html.parser
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from medjax import report
from medjax.reports import figures, gallery

# A file name may hold markup, quotes, mathematics and other scripts.
NASTY = '<script>alert("1")</script> & $x_1$ 患者'


class _Page(html.parser.HTMLParser):
  """Text, images and scripts of a page; fails on tags that do not match."""

  VOID = ('meta', 'img', 'link', 'br')

  def __init__(self, text):
    super().__init__()
    self.open, self.words, self.images, self.scripts = [], [], [], 0
    self.links = []
    self.feed(text)
    self.close()
    assert self.open == []

  def handle_starttag(self, tag, attrs):
    if tag not in self.VOID:
      self.open.append(tag)
    attrs = dict(attrs)
    self.links += [v for k, v in attrs.items() if k in ('href', 'src')]
    self.scripts += tag == 'script'
    if tag == 'img':
      self.images.append(attrs)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.words += data.split()

  @property
  def text(self):
    return ' '.join(self.words)


def _page(workdir):
  path = report.write_report(workdir)
  assert path == workdir / 'report.html'
  page = _Page(path.read_text(encoding='utf-8'))
  assert page.scripts == 1  # ours
  assert all(link.startswith('data:') for link in page.links)
  for image in page.images:
    png = base64.b64decode(image['src'].split(',')[1])
    assert Image.open(io.BytesIO(png)).format == 'PNG'
    assert image['alt']
  return page


def _json(path, value):
  path.write_text(json.dumps(value), encoding='utf-8')


def _log(workdir, score):
  with (workdir / 'metrics.jsonl').open('w') as f:
    for step in range(1, 40):
      line = {'step': step, 'train/loss': 1 / step, 'train/learning_rate': 1e-3}
      if step == 5:
        line['train/loss'] = None
      f.write(json.dumps(line) + '\n')
      if step % 10 == 0:
        line = {'step': step, f'validation/{score}': 1 - 1 / step}
        f.write(json.dumps(line) + '\n')
    f.write('{"step": 40, "tra')  # the run goes on


def _entry(value, n=6, **counts):
  counts = {'undefined': 0, 'missed': 0, 'false_positive': 0} | counts
  interval = None if value is None else [value - 0.02, value + 0.01]
  return {'value': value, 'interval': interval, 'n': n, **counts}


RUN = {
  'command': 'python -m medjax.main --config=configs/unet.py',
  'versions': {'jax': '0.10.2', 'flax': '0.12.8'},
  'device': 'cpu',
  'seconds': 3671.4,
  'parameters': 1234567,
  'best_step': 30,
}


@pytest.fixture
def segmentation(tmp_path):
  rng = np.random.default_rng(0)
  _json(
    tmp_path / 'config.json',
    {
      'data': {'name': 'mni152_tissue', 'batch_size': 16},
      'augment': [{'name': 'flip', 'p': 0.5}],
      'task': {
        'name': 'Segmentation',
        'num_classes': 3,
        'class_names': ['background', 'grey', 'white'],
      },
      'note': NASTY,
    },
  )
  _log(tmp_path, 'dice')
  summary = {
    'n': 6,
    'scores': {'dice': 0.912, 'hd95': 2.5, 'volume_error': -0.25},
    'intervals': {'dice': [0.9, 0.92], 'hd95': [2, 3], 'volume_error': None},
    'classes': {
      'grey': {'dice': _entry(0.9), 'hd95': _entry(3.0, n=5, missed=1)},
      'white': {'dice': _entry(0.924), 'hd95': _entry(None, n=0)},
    },
  }
  _json(
    tmp_path / 'metrics.json',
    {'run': RUN, 'validation': summary, 'test': summary},
  )
  ids = [NASTY, *(f'slice_{i:03d}' for i in range(1, 6))]
  with (tmp_path / 'per_case.csv').open('w', newline='', encoding='utf-8') as f:
    writer = csv.writer(f)
    writer.writerow(
      ['split', 'id', 'patient', 'dice/grey', 'dice/white', 'hd95/grey']
    )
    for split in ('validation', 'test'):
      for i, name in enumerate(ids):
        grey = 'nan' if i == 3 else 0.5 + 0.08 * i
        writer.writerow([split, name, f'p{i}', grey, 0.9, '' if i == 1 else i])
  mask = np.zeros((24, 30), int)
  mask[4:20, 0:14] = 1  # touches the border
  mask[8:16, 4:10] = 2
  cases = [
    {
      'id': name,
      'caption': caption,
      'image': rng.normal(size=(24, 30)),
      'mask': mask,
      'prediction': np.roll(mask, shift, 1),
      'spacing': np.array([3.0, 1.0]),
    }
    for name, caption, shift in zip(
      ids, ('worst', 'median', 'best'), (3, 1, 0), strict=False
    )
  ]
  gallery.save_cases(tmp_path / 'figures/cases.npz', cases)
  return tmp_path


@pytest.fixture
def classification(tmp_path):
  x = [0.0, 0.2, 1.0]
  summary = {
    'n': 10,
    'scores': {'auroc': 0.88, 'accuracy': 0.8, 'ece': 0.031},
    'intervals': {'auroc': [0.8, 0.95]},
    'classes': {
      'normal': {'auroc': _entry(0.88), 'f1': _entry(0.7)},
      'pneumonia': {'auroc': _entry(0.88), 'f1': _entry(0.8)},
    },
    'support': {'normal': 4, 'pneumonia': 6},
    'confusion': [[3, 1], [1, 5]],
    'report': {
      'normal': {'precision': 0.75, 'recall': 0.75, 'support': 4},
      'pneumonia': {'precision': 0.8333, 'recall': None, 'support': 6},
    },
    'thresholds': [0.37],
    'applied_thresholds': None,
    'curves': {
      'pneumonia': {
        'roc': {'fpr': x, 'tpr': [0.0, 0.8, 1.0]},
        'precision_recall': {'recall': x, 'precision': [1.0, 0.9, 0.6]},
        'reliability': {
          'confidence': [0.1, None, 0.9],
          'frequency': [0.2, None, 0.8],
          'count': [4, 0, 6],
        },
      }
    },
  }
  test = summary | {
    'applied_thresholds': [0.37],
    'confusion_at_threshold': [[2, 2], [0, 6]],
  }
  _log(tmp_path, 'auroc')
  _json(
    tmp_path / 'metrics.json', {'run': RUN, 'validation': summary, 'test': test}
  )
  with (tmp_path / 'per_case.csv').open('w', newline='', encoding='utf-8') as f:
    writer = csv.writer(f)
    probabilities = 'probability/normal', 'probability/pneumonia'
    writer.writerow(['split', 'id', 'patient', *probabilities, 'label'])
    writer.writerow(['test', 'right', 'p0', 0.9, 0.1, 0])
    writer.writerow(['test', 'unsure', 'p1', 0.55, 0.45, 1])
    writer.writerow(['test', NASTY, 'p2', 0.99, 0.01, 1])
    writer.writerow(['validation', 'other split', 'p3', 0.99, 0.01, 1])
  gallery.save_cases(
    tmp_path / 'figures/cases.npz',
    [
      {
        'id': NASTY,
        'caption': 'error',
        'image': np.full((8, 9, 3), 200.0),
        'label': 1,
        'probability': np.array([0.99, 0.01]),
      },
      {
        'id': 'constant',
        'image': np.full((8, 9), np.nan),
        'label': 0,
        'probability': np.array([0.9, 0.1]),
      },
    ],
  )
  return tmp_path


def test_members_and_how_sure_they_are(segmentation):
  path = segmentation / 'metrics.json'
  metrics = json.loads(path.read_text())
  scores = {'dice': 0.881, 'hd95': 2.75, 'volume_error': None}
  member = {'best_step': 4321, 'validation': {'dice': 0.877}, 'test': scores}
  metrics['members'] = {'member0': member, 'member1': {**member, 'test': {}}}
  measures = {'entropy': 0.234, 'mutual_information': 0.056}
  metrics['test'] |= {'uncertainty': measures, 'applied_temperature': 1.75}
  _json(path, metrics)
  text = _page(segmentation).text
  assert 'Members on the test split' in text
  for words in ('member0 4,321 0.877 0.881 2.750', 'member1 4,321 0.877 –',
                'entropy 0.234 nats, of it 0.056', 'split: 1.750'):  # fmt: skip
    assert words in text
  for name in ('metrics.jsonl', 'figures/cases.npz'):
    (segmentation / name).unlink()
  text = _page(segmentation).text
  assert 'in the reports of the members' in text
  assert 'missing' not in text


def test_segmentation_report(segmentation):
  page = _page(segmentation)
  assert 'Dice 0.912 95 %: 0.900 to 0.920' in page.text
  assert 'Volume error (signed, relative) −0.250' in page.text
  assert RUN['command'] in page.text
  assert 'Time 1:01:11 h:min:s Parameters 1,234,567' in page.text
  assert 'data.name mni152_tissue' in page.text
  assert 'augment[0] {"name": "flip", "p": 0.5}' in page.text
  # Value, interval, n, undefined, missed, false positive.
  assert 'HD95, mm (lower is better) 3.000 2.980 to 3.010 5 0 1 0' in page.text
  worst = page.text[page.text.index('Worst cases') :]
  assert worst.index(NASTY) < worst.index('slice_001')
  assert 'slice_003 p3 0.900 – 0.900 3.000' in worst  # grey is undefined
  pictures = {p.name for p in (segmentation / 'figures').glob('*.png')}
  assert pictures == {
    'boxes.png',
    'case_01.png',
    'case_02.png',
    'case_03.png',
    'learning_curves.png',
  }
  assert len(page.images) == len(pictures)
  assert f'Worst · {NASTY} · Dice 0.700' in [i['alt'] for i in page.images]


def test_ids_and_names_are_escaped(segmentation):
  text = report.write_report(segmentation).read_text(encoding='utf-8')
  assert '<script>alert' not in text
  assert '&lt;script&gt;alert(&#34;1&#34;)' in text


def test_classification_report(classification):
  page = _page(classification)
  assert 'chosen on the validation split: pneumonia above 0.370' in page.text
  assert 'Expected calibration error (ECE): 0.031' in page.text
  assert 'normal 0.750 0.750 4 pneumonia 0.833 – 6' in page.text
  errors = page.text[page.text.index('Errors, the most confident first') :]
  assert f'{NASTY} p2 pneumonia normal 0.990 unsure p1' in errors
  assert 'other split' not in errors
  pictures = {p.stem for p in (classification / 'figures').glob('*.png')}
  assert pictures == {
    'case_images',
    'confusion',
    'discrimination',
    'learning_curves',
    'reliability',
  }


def test_multi_label_decisions(tmp_path):
  names = [f'finding {i}' for i in range(14)]
  curve = {
    'roc': {'fpr': [0, 1], 'tpr': [0, 1]},
    'precision_recall': {'recall': [0, 1], 'precision': [1, 0.5]},
    'reliability': {'confidence': [0.5], 'frequency': [0.5], 'count': [9]},
  }
  summary = {
    'n': 9,
    'scores': {'auroc': None},
    'intervals': {'auroc': [None, None]},
    'classes': {name: {'auroc': _entry(0.5)} for name in names},
    'confusion': [[[1, 2], [3, 4]]] * 14,
    'applied_thresholds': [0.25, None] * 7,
    'curves': {name: curve for name in names},
  }
  _json(tmp_path / 'metrics.json', {'test': summary})
  (tmp_path / 'per_case.csv').write_text(
    'split,id,patient,probability/a,label/a\ntest,x,p,0.5,1\n'
  )
  page = _page(tmp_path)
  assert 'finding 3 1 2 3 4' in page.text
  assert 'finding 0 above 0.250, finding 1 above –' in page.text
  assert 'no interval' in page.text
  assert 'Errors' not in page.text
  assert not (tmp_path / 'figures/confusion.png').exists()


@pytest.mark.parametrize(
  'missing',
  ['config.json', 'metrics.json', 'metrics.jsonl', 'per_case.csv', 'cases.npz'],
)
def test_what_is_missing_is_said(segmentation, missing):
  folder = segmentation / ('figures' if missing == 'cases.npz' else '')
  (folder / missing).unlink()
  page = _page(segmentation)
  assert f'{missing} is missing' in page.text


def test_before_there_are_test_results(classification):
  path = classification / 'metrics.json'
  metrics = json.loads(path.read_text())
  del metrics['test']
  _json(path, metrics)
  page = _page(classification)
  assert 'There are no test results.' in page.text
  assert 'Scores on the validation split' in page.text
  assert 'p3 pneumonia normal 0.990' in page.text


def test_a_run_that_has_just_begun(tmp_path):
  _json(tmp_path / 'config.json', {})
  (tmp_path / 'metrics.jsonl').write_text('{"step": 1, "train/loss": null}\n')
  page = _page(tmp_path)
  assert 'the run is not evaluated yet' in page.text
  assert len(page.images) == 1


def test_pictures_of_an_older_report_go(segmentation):
  _page(segmentation)
  cases = gallery.load_cases(segmentation / 'figures/cases.npz')
  gallery.save_cases(segmentation / 'figures/cases.npz', cases[:1])
  _page(segmentation)
  assert len([*segmentation.glob('figures/case_*.png')]) == 1


def test_cases_survive_the_file(tmp_path):
  case = {
    'id': NASTY,
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
  assert (first['id'], first['caption']) == (NASTY, 'worst')
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


def test_outlines_lie_on_the_edges_of_the_mask():
  from matplotlib.figure import Figure

  inside = np.zeros((6, 8), bool)
  inside[0:3, 2:5] = True  # touches the upper border
  ax = Figure().subplots()
  figures._outline(ax, inside, 'k')
  (path,) = ax.collections[0].get_paths()
  box = path.get_extents()
  assert (box.x0, box.x1, box.y0, box.y1) == (1.5, 4.5, -0.5, 2.5)


def test_small_masks_are_shown_larger():
  mask = np.zeros((100, 200), int)
  case = {'mask': mask, 'prediction': mask}
  assert figures._frame(case) == (-0.5, 199.5, 99.5, -0.5)  # nothing to see
  mask[40:60, 100:120] = 1
  left, right, bottom, top = figures._frame(case)
  assert (left, right, bottom, top) == (92.5, 126.5, 66.5, 32.5)
  mask[5:95, 5:195] = 1
  assert figures._frame(case) == (-0.5, 199.5, 99.5, -0.5)


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (0.91249, '0.912'),
    (-0.5, '−0.500'),
    (12.34, '12.3'),
    (1234567, '1,234,567'),
    (None, '–'),
    (float('nan'), '–'),
  ],
)
def test_numbers_as_text(value, text):
  assert figures.number(value) == text


def test_command_line(tmp_path):
  command = [sys.executable, '-m', 'medjax.report', str(tmp_path)]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == 1
  assert done.stderr.startswith(f'medjax: {tmp_path} holds no config.json')
  assert len(done.stderr.splitlines()) == 1
  _json(tmp_path / 'config.json', {})
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == str(tmp_path / 'report.html')


def test_matplotlib_is_imported_only_to_draw():
  code = (
    "import sys; import medjax.report; assert 'matplotlib' not in sys.modules"
  )
  subprocess.run([sys.executable, '-c', code], check=True)
