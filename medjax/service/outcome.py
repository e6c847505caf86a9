"""What an analysis says: findings with measures and doubts, or why nothing.

An outcome is a JSON-able dict, a function of the inputs and the model:
  summary: 'finding', 'no finding' or 'abstained'.
  reasons: why it says nothing; [] of others. kind: of the first of them, a key
    of KINDS.
  doubts: sentences. notes: what was assumed of the files.
  findings: dicts as `_segments` and `_classes` give them.
  certainty: the model's, in per cent, or None.
"""

import numpy as np

KINDS = {
  'input refused': 'The images cannot be analysed',
  'out of distribution': 'The images are unlike those that the model knows',
  'model unsure': 'The model is unsure',
  'series missing': 'A series that the model needs is missing',
  'model failed': 'The model failed',
}
_Z = 1.959964


def abstained(kind, *reasons, measures=None):
  """The outcome of an analysis that says nothing."""
  certainty = measures and round(100 * measures['confidence'], 1)
  return {
    'summary': 'abstained',
    'kind': kind,
    'reasons': list(reasons),
    'doubts': [],
    'findings': [],
    'notes': [],
    'certainty': certainty,
  }


def kind_of(reason):
  """Which of KINDS a sentence of `abstain.judge` or of a seam is."""
  if reason.startswith('the model is unsure'):
    return 'model unsure'
  return 'out of distribution'


def found(facts, case, prediction, *, raw, doubts, measures):
  """The outcome of a `Prediction`.

  facts: of the model. raw: probabilities before calibration, which thresholds
  are of.
  """
  if facts['dense']:
    findings = _segments(facts, case, prediction)
  else:
    findings = _classes(facts, prediction.probabilities, raw)
  return {
    'summary': 'finding'
    if any(f['present'] for f in findings)
    else 'no finding',
    'kind': '',
    'reasons': [],
    'doubts': list(doubts),
    'findings': findings,
    'notes': [],
    'certainty': round(100 * measures['confidence'], 1),
  }


def _segments(facts, case, prediction):
  """A finding for each class of a label map: its volume or area, and where."""
  labels, voxel = prediction.labels, voxel_size(case)
  planar = labels.ndim == 2
  # A picture that does not state its scale has none.
  unit = ('mm2' if planar else 'mm3') if _has_scale(case) else 'px'
  found = []
  for number, name in enumerate(facts['names'], start=1):
    count = int((labels == number).sum())
    size = count * voxel
    about = facts['validation'].get(name)
    interval = None
    if about and about['volume'] and count:
      interval = [size * f for f in about['volume']]
    measure = {
      'name': 'area' if planar else 'volume',
      'value': size,
      'unit': unit,
      'interval': interval,
      'level': 'range' if about and about['few'] else '95 %',
    }
    found.append(
      {
        'name': name,
        'code': facts['codes'][name],
        'segment': number,
        'present': count > 0,
        'measures': [measure],
        'probability': None,
        'right': None,
        'dice': about and {'n': about['n'], 'median': about['dice']},
      }
    )
  return found


def voxel_size(case):
  """The volume of a voxel (mm³), or the area of a pixel (mm²).

  Less than its edges' product where a tilted gantry has sheared it.
  """
  return float(abs(np.linalg.det(np.asarray(case['affine'])[:-1, :-1])))


def _has_scale(case):
  affine = np.asarray(case['affine'])
  return affine.shape == (4, 4) or not np.allclose(affine, np.eye(len(affine)))


def _classes(facts, probabilities, raw):
  """A finding for each class that is one."""
  present = decided(
    np.asarray(raw),
    thresholds=facts['thresholds'],
    exclusive=facts['exclusive'],
    positive=facts['positive'],
  )
  found = []
  for k, name in enumerate(facts['names']):
    if name == facts['normal']:
      continue
    p = float(probabilities[k])
    found.append(
      {
        'name': name,
        'code': facts['codes'][name],
        'segment': None,
        'present': bool(present[k]),
        'measures': [],
        'probability': p,
        'right': right_of(facts['validation'].get(name), p),
        'dice': None,
      }
    )
  return found


def decided(raw, *, thresholds, exclusive, positive):
  """Which classes (K,) are decided for, as `tasks.scores.Scores.decide` does.

  raw: probabilities before calibration. thresholds: what validation chose, ()
  of none. positive: of two exclusive classes, the index of the one that the
  threshold is of, whichever of them is no finding.
  """
  limits = np.array([0.5 if t is None else t for t in thresholds], float)
  if not exclusive:
    return raw > (limits if len(limits) else 0.5)
  if positive is None or not len(limits):
    return np.arange(len(raw)) == int(raw.argmax())
  at = positive if raw[positive] > limits[0] else 1 - positive
  return np.arange(2) == at


def right_of(bins, p):
  """How often a class was there on validation when it was said with p.

  {'n', 'there', 'low', 'high', 'bin'}: Wilson's 95 % interval (1927); None
  where validation had no such case.
  """
  if not bins:
    return None
  at = min(int(p * len(bins)), len(bins) - 1)
  n, there = bins[at]
  low, high = wilson(there, n)
  return {
    'n': n,
    'there': there,
    'low': low,
    'high': high,
    'bin': [at / len(bins), (at + 1) / len(bins)],
  }


def wilson(k, n):
  """Wilson's 95 % interval of a share; (0, 1) of none."""
  if n == 0:
    return 0.0, 1.0
  p, z = k / n, _Z
  middle = (p + z * z / (2 * n)) / (1 + z * z / n)
  half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
  # Exact where rounding would leave the ends just within.
  low, high = 0.0 if k == 0 else middle - half, 1.0 if k == n else middle + half
  return float(low), float(high)
