"""The report: from the files of a workdir to one page, whatever is there."""

import base64
import html.parser
import io
import json

import numpy as np
import pytest
from PIL import Image

from medjax.reports import gallery
from medjax.reports.report import write_report


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
  path = write_report(workdir)
  assert path == workdir / 'report.html'
  page = _Page(path.read_text(encoding='utf-8'))
  assert page.scripts == 1  # ours
  assert all(link.startswith('data:') for link in page.links)
  for image in page.images:
    if image['src'] == 'data:':  # of a test that is not about figures
      continue
    png = base64.b64decode(image['src'].split(',')[1])
    assert Image.open(io.BytesIO(png)).format == 'PNG'
    assert image['alt']
  return page


def _json(path, value):
  path.write_text(json.dumps(value), encoding='utf-8')


def test_members_and_how_sure_they_are(segmentation, undrawn):
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


def test_segmentation_report(segmentation, nasty):
  page = _page(segmentation)
  assert 'Dice 0.912 95 %: 0.900 to 0.920' in page.text
  assert 'Volume error (signed, relative) −0.250' in page.text
  assert 'python -m medjax.main --config=configs/unet.py' in page.text
  assert 'Time 1:01:11 h:min:s Parameters 1,234,567' in page.text
  assert 'data.name mni152_tissue' in page.text
  assert 'augment[0] {"name": "flip", "p": 0.5}' in page.text
  # Value, interval, n, undefined, missed, false positive.
  assert 'HD95, mm (lower is better) 3.000 2.980 to 3.010 5 0 1 0' in page.text
  worst = page.text[page.text.index('Worst cases') :]
  assert worst.index(nasty) < worst.index('slice_001')
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
  assert f'Worst · {nasty} · Dice 0.700' in [i['alt'] for i in page.images]


def test_ids_and_names_are_escaped(segmentation, undrawn):
  text = write_report(segmentation).read_text(encoding='utf-8')
  assert '<script>alert' not in text
  assert '&lt;script&gt;alert(&#34;1&#34;)' in text


def test_classification_report(classification, nasty):
  page = _page(classification)
  assert 'chosen on the validation split: pneumonia above 0.370' in page.text
  assert 'Expected calibration error (ECE): 0.031' in page.text
  assert 'normal 4 cases' in page.text
  errors = page.text[page.text.index('Errors, the most confident first') :]
  assert f'{nasty} p2 pneumonia normal 0.990 unsure p1' in errors
  assert 'other split' not in errors
  pictures = {p.stem for p in (classification / 'figures').glob('*.png')}
  assert pictures == {
    'case_images',
    'confusion',
    'discrimination',
    'learning_curves',
    'reliability',
  }


def test_multi_label_decisions(tmp_path, undrawn):
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
    'classes': {
      name: {'auroc': {'value': 0.5, 'interval': None, 'n': 9}}
      for name in names
    },
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
def test_what_is_missing_is_said(segmentation, missing, undrawn):
  folder = segmentation / ('figures' if missing == 'cases.npz' else '')
  (folder / missing).unlink()
  page = _page(segmentation)
  assert f'{missing} is missing' in page.text


def test_before_there_are_test_results(classification, undrawn):
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


def test_pictures_of_an_older_report_go(segmentation, undrawn):
  old = segmentation / 'figures/case_09.png'
  old.touch()
  _page(segmentation)
  assert not old.exists()
  assert (segmentation / 'figures/cases.npz').exists()


def test_units_of_pictures_are_pixels(segmentation, undrawn):
  path = segmentation / 'metrics.json'
  metrics = json.loads(path.read_text()) | {'unit_of_length': 'px'}
  _json(path, metrics)
  text = _page(segmentation).text
  assert 'HD95, px (lower is better) 2.500' in text
  assert 'HD95, px: grey 0.000' in text
  assert ', mm' not in text


def test_few_patients_are_said(segmentation, undrawn):
  assert (
    'Few patients (test has 6, validation has 6)' in _page(segmentation).text
  )
  path = segmentation / 'metrics.json'
  metrics = json.loads(path.read_text())
  metrics['test']['patients'] = 30
  metrics['validation']['intervals'] = {}
  _json(path, metrics)
  assert 'Few patients' not in _page(segmentation).text


def test_images_that_training_has_seen_are_said(segmentation, undrawn):
  path = segmentation / 'metrics.json'
  metrics = json.loads(path.read_text())
  assert 'also in training' not in _page(segmentation).text
  found = metrics['test']['repeated'] = {'n': 0}
  _json(path, metrics)
  assert 'No test image is one of training' in _page(segmentation).text
  found |= {
    'n': 1,
    'without': {
      'n': 5,
      'patients': 5,
      'scores': {'dice': 0.5, 'hd95': None},
      'intervals': {'dice': [0.4, 0.6], 'hd95': None},
    },
  }
  _json(path, metrics)
  text = _page(segmentation).text
  assert '1 of 6 test images is also in training, exactly or nearly' in text
  assert 'Without them: Dice 0.500 (0.400 to 0.600), HD95 –.' in text


def test_which_class_is_positive_is_said(classification, undrawn):
  assert 'The positive class is pneumonia: sens' in _page(classification).text
  path = classification / 'metrics.json'
  metrics = json.loads(path.read_text())
  curves = metrics['test'].pop('curves')
  metrics['test']['curves'] = {'normal': curves['pneumonia']}
  _json(path, metrics)
  text = _page(classification).text
  assert 'The positive class is normal: sens' in text
  assert 'split: normal above 0.370' in text


def test_without_a_table_of_measures_cases_are_not_ranked(
  segmentation, undrawn
):
  path = segmentation / 'metrics.json'
  metrics = json.loads(path.read_text())
  del metrics['measures']
  _json(path, metrics)
  text = _page(segmentation).text
  assert 'metrics.json does not say what its scores are called' in text
  assert 'Hd95 2.500' in text
  assert 'Worst cases' not in text


def test_the_worst_by_a_measure_of_which_less_is_better(tmp_path, undrawn):
  """Days by which a task of another's is wrong: one number of each case."""
  days = {'title': 'Error', 'unit': 'days', 'higher': False}
  summary = {'n': 3, 'patients': 3, 'scores': {'error': 5.0}}
  _json(
    tmp_path / 'metrics.json', {'measures': {'error': days}, 'test': summary}
  )
  (tmp_path / 'per_case.csv').write_text(
    'split,id,patient,error\ntest,a,,1\ntest,b,,9\ntest,c,,\ntest,d,,5\n'
  )
  text = _page(tmp_path).text
  assert 'Error, days (lower is better) 5.000' in text
  assert 'Id Patient Error, days b – 9.000 d – 5.000 a – 1.000 All' in text


UNKNOWN = {
  'survival': (
    {'c_index': {'title': "Harrell's C", 'unit': '', 'higher': True}},
    {'n': 2, 'patients': 2, 'scores': {'c_index': 0.71}},
    'split,id,patient,risk,time,event\ntest,a,p,0.2,30,1\ntest,b,q,-1,9,0\n',
  ),
  'contrastive': (
    {},
    {'n': 2, 'scores': {'retrieval_at_1': 0.5}, 'intervals': None},
    'split,id,patient\ntest,a,\ntest,b,\n',
  ),
  'ordinal': (
    {'kappa': {'title': 'Weighted kappa', 'unit': '', 'higher': True}},
    {'n': 1, 'scores': {'kappa': 0.6}, 'classes': {'mild': {}, 'severe': {}}},
    'split,id,patient,probability/mild,probability/severe,label\n'
    'test,a,p,0.3,0.7,grade 2\n',
  ),
  'nothing': ({}, {}, ''),
}


@pytest.mark.parametrize('name', UNKNOWN)
def test_a_task_that_reports_know_nothing_of(tmp_path, name, undrawn):
  measures, summary, table = UNKNOWN[name]
  _json(
    tmp_path / 'metrics.json',
    {'run': {'best_step': [3, 4]}, 'measures': measures, 'test': summary},
  )
  (tmp_path / 'per_case.csv').write_text(table)
  (tmp_path / 'metrics.jsonl').write_text(
    '{"step": 1, "train/loss": 2.0, "wall_time": 3}\n'
    '{"step": 1, "validation/loss": 1.0, "host": "a"}\n'
  )
  case = {'id': 'a', 'image': np.zeros((4, 5)), 'risk': 0.2, 'event': 1}
  gallery.save_cases(tmp_path / 'figures/cases.npz', [case])
  text = _page(tmp_path).text
  for title, value in (('Weighted kappa', 0.6), ("Harrell's C", 0.71)):
    if value in summary.get('scores', {}).values():
      assert f'{title} {value:.3f}' in text
  assert 'Worst cases' not in text
  assert 'Errors' not in text
  assert 'Intervals' not in text
