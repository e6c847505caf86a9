"""Workdirs of a segmentation and of a classification, written by hand."""

import csv
import json

import numpy as np
import pytest

from medjax.reports import gallery, page

# A file name may hold markup, quotes, mathematics and other scripts.
NASTY = '<script>alert("1")</script> & $x_1$ 患者'


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
def nasty():
  return NASTY


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
        'monitor': 'dice',
      },
      'note': NASTY,
    },
  )
  _log(tmp_path, 'dice')
  summary = {
    'n': 6,
    'patients': 6,
    'scores': {'dice': 0.912, 'hd95': 2.5, 'volume_error': -0.25},
    'intervals': {'dice': [0.9, 0.92], 'hd95': [2, 3], 'volume_error': None},
    'classes': {
      'grey': {'dice': _entry(0.9), 'hd95': _entry(3.0, n=5, missed=1)},
      'white': {'dice': _entry(0.924), 'hd95': _entry(None, n=0)},
    },
  }
  _json(
    tmp_path / 'metrics.json',
    {
      'run': RUN,
      'measures': {
        'dice': {'title': 'Dice', 'unit': '', 'higher': True},
        'hd95': {'title': 'HD95', 'unit': 'mm', 'higher': False},
        'volume_error': {
          'title': 'Volume error (signed, relative)',
          'unit': '',
          'higher': None,
        },
      },
      'unit_of_length': 'mm',
      'validation': summary,
      'test': summary,
    },
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
    tmp_path / 'metrics.json',
    {
      'run': RUN,
      'measures': {
        'auroc': {'title': 'AUROC', 'unit': '', 'higher': True},
        'ece': {
          'title': 'Expected calibration error (ECE)',
          'unit': '',
          'higher': False,
        },
      },
      'calibration': {'thresholds': [0.37], 'temperature': None},
      'validation': summary,
      'test': test,
    },
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


@pytest.fixture
def undrawn(monkeypatch):
  """Figures are made, but not drawn: that takes most of a report's time."""

  def keep(self, name, figure, alt, caption=''):
    if figure is None:
      return None
    return {'source': 'data:', 'width': 1, 'alt': alt, 'caption': caption}

  monkeypatch.setattr(page.Pictures, '__call__', keep)
