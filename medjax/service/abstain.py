"""When a model says nothing: a rule that the validation split has fixed.

`fit` measures each validation case: how sure the model is of it, and what can
be measured of an image without knowing what it shows. The latter it measures of
training cases too, for few cases do not show what is usual. `judge` compares
another case with them. The rule lies in WORKDIR/abstention.json, with the risk
at each coverage, and is a part of the model.
"""

import pathlib

import numpy as np

from medjax import files
from medjax.metrics import bootstrap
from medjax.service import outcome

NAME = 'abstention.json'
_WIDER = 0.25  # of a range, at each end: few cases do not show the extremes
_MOST = 500  # training cases that are looked at
_POINTS = 20  # of the curve of risk and coverage
# What is said of a measure outside of the range that these had.
_SEEN = 'what training and validation had'
_ABOUT = {
  'spacing': 'the spacing of voxels ({value:.3g} mm along axis {axis})',
  'extent': 'the extent of the image ({value:.4g} mm along axis {axis})',
  'contrast': 'the darkest or brightest values, relative to their spread',
  'roughness': 'how much neighbouring voxels differ',
  'skewness': 'the distribution of the values',
  'flat': 'the share of the image that is of one value',
  'volume': 'the size of what was found ({value:.4g} mm³ or mm²)',
}


def read(workdir):
  """The rule of a workdir; None where none was fixed."""
  path = pathlib.Path(workdir) / NAME
  return files.read_json(path, mend='fit it again, with --coverage')


def measure(case, sample, prediction, *, exclusive=True):
  """{name: number} of a case; names are 'kind/axis' or 'kind'.

  confidence: the highest probability; of labels how sure the least sure is,
  there or not. Of a map, the mean of these over what is near or in the
  foreground; where nothing is, how sure that is in the most doubtful voxel.
  The others describe the image and what was found in it. exclusive: whether
  the probabilities are one distribution, of a map with the background first.
  """
  found = _of_image(case, sample)
  p = np.asarray(prediction.probabilities, np.float64)
  if prediction.labels is None:
    return found | {'confidence': float(_sureness(p, exclusive))}
  found['volume'] = _volume(case, prediction.labels)
  near = p[..., 0] < 0.9 if exclusive else p.max(-1) > 0.1
  if near.any():
    confidence = _sureness(p[near], exclusive).mean()
  else:
    confidence = (p[..., 0] if exclusive else 1 - p.max(-1)).min()
  return found | {'confidence': float(confidence)}


def _sureness(p, exclusive):
  """How sure probabilities (…, K) are of what they say: (…,)."""
  return p.max(-1) if exclusive else np.maximum(p, 1 - p).min(-1)


def _of_image(case, sample):
  """What can be measured without a prediction."""
  spacing = np.asarray(case['spacing'], float)
  shape = np.array(case['image'].shape[:-1])
  found = {f'spacing/{k}': float(s) for k, s in enumerate(spacing)}
  found |= {f'extent/{k}': float(e) for k, e in enumerate(spacing * shape)}
  return found | _of_values(np.asarray(sample['image'], np.float64)[..., 0])


def _volume(case, labels):
  """The size (mm³ or mm²) of what a label map (*s,) or masks mark."""
  marked = np.asarray(labels) > 0
  rank = np.ndim(case['image']) - 1
  marked = marked.any(-1) if marked.ndim > rank else marked
  return float(marked.sum() * outcome.voxel_size(case))


def _of_training(run):
  """Measures of training cases, without predictions: theirs are too good."""
  cases, found = run.experiment.cases('train'), []
  count = min(len(cases), _MOST)
  for at in np.linspace(0, len(cases) - 1, count).astype(int):
    case = cases[int(at)]
    measures = _of_image(case, run.experiment.prepare(case))
    if 'mask' in case:
      measures['volume'] = _volume(case, case['mask'])
    found.append(measures)
  return found


def _of_values(x):
  """What the prepared values of an image (*s,) are like."""
  spread = float(x.std()) or 1.0
  z = (x - x.mean()) / spread
  steps = [np.abs(np.diff(z, axis=k)).mean() for k in range(z.ndim)
           if z.shape[k] > 1]  # fmt: skip
  _, counts = np.unique(x, return_counts=True)
  return {
    'contrast/low': float(np.quantile(z, 0.01)),
    'contrast/high': float(np.quantile(z, 0.99)),
    'roughness': float(np.mean(steps)) if steps else 0.0,
    'skewness': float((z**3).mean()),
    'flat': float(counts.max() / x.size),
  }


def fit(run, *, coverage=0.95):
  """A rule that keeps `coverage` of the validation cases of a trained run.

  Errors are of what the service would say. Needs the data of the run. Raises
  ValueError where there are no errors that could be weighed.
  """
  if not 0 < coverage <= 1:
    raise ValueError(f'--coverage={coverage} is not above 0 and up to 1')
  cases = run.experiment.cases('validation')
  measures, errors = [], []
  for raw, prediction in run.predict_cases(cases, probabilities=True):
    sample = run.experiment.prepare(raw)
    measures.append(
      measure(raw, sample, prediction, exclusive=run.task.exclusive)
    )
    errors.append(_error(run, raw, prediction))
  errors = np.array(errors)
  confidence = np.array([m['confidence'] for m in measures])
  kept = max(1, int(np.ceil(coverage * len(errors))))
  threshold = np.sort(confidence)[::-1][kept - 1]
  risk = _risk(errors[confidence >= threshold])
  if np.isnan(risk[0]):
    raise ValueError(
      f'--coverage={coverage}: no validation case that would be answered has a '
      'known label, so the risk cannot be told'
    )
  names = [n for n in measures[0] if n != 'confidence']
  seen = [*measures, *_of_training(run)]
  return files.plain(
    {
      'n': len(errors),
      'coverage': coverage,
      'threshold': float(threshold),
      'risk': risk,
      'risk_is': _kind_of_risk(run.task),
      'curve': _curve(errors, confidence),
      'ranges': {n: _range([m[n] for m in seen if n in m]) for n in names},
    }
  )


def _kind_of_risk(task):
  if 'mask' in task.fields:
    return '1 - mean Dice'
  return 'share of errors' if task.exclusive else 'share with a wrong label'


def _error(run, case, prediction):
  """How wrong what is said of a case is, from 0 to 1; NaN if nobody knows."""
  task = run.task
  if prediction.labels is not None:
    dice = task.metrics(prediction.labels, case)['dice']
    # NaN of a class that is neither there nor found, which is right.
    return 0.0 if np.isnan(dice).all() else float(1 - np.nanmean(dice))
  said = outcome.decided(
    np.asarray(prediction.probabilities),
    thresholds=run.calibration.thresholds or (),
    exclusive=task.exclusive,
    positive=task.positive_class,
  )
  label = np.asarray(case['label'])
  if task.exclusive:
    return float(not said[int(label)])
  known = label >= 0
  return float((said != label)[known].any()) if known.any() else np.nan


def _risk(errors):
  """[mean, low, high] with the bootstrap's 95 % interval, of known errors."""
  mean = float(bootstrap.weighted_mean(errors, np.ones(len(errors))))
  found = bootstrap.intervals(
    lambda w: {'risk': bootstrap.weighted_mean(errors, w)},
    np.arange(len(errors)),
  )
  return [mean, *map(float, found['risk'])]


def _curve(errors, confidence):
  """[coverage, risk, low, high] as less and less sure cases are kept."""
  order = np.argsort(-confidence, kind='stable')
  counts = np.linspace(max(2, len(order) // _POINTS), len(order), _POINTS)
  return [
    [float(n / len(order)), *_risk(errors[order[:n]])]
    for n in np.unique(counts.astype(int))
  ]


def _range(values):
  low, high = min(values), max(values)
  wider = _WIDER * (high - low) + 1e-3 * max(abs(low), abs(high))
  return [low - wider, high + wider]


def judge(rule, measures):
  """(reasons to say nothing, reasons for doubt) of a case, as sentences."""
  if not rule:
    return (), ()
  reasons, doubts = [], []
  if measures['confidence'] < rule['threshold']:
    reasons.append(
      f'the model is unsure: {measures["confidence"]:.2f}, below '
      f'{rule["threshold"]:.2f}, which {rule["coverage"]:.0%} of the '
      'validation cases reached'
    )
  odd = []
  for name, (low, high) in rule['ranges'].items():
    value = measures[name]
    if low <= value <= high:
      continue
    kind, _, axis = name.partition('/')
    text = _ABOUT[kind].format(value=value, axis=axis)
    far = max(low - value, value - high) / max(high - low, 1e-9)
    odd.append((far, f'{text} lies outside of {_SEEN}'))
  odd.sort(reverse=True)
  reasons += [f'out of distribution: {text}' for _, text in odd[:3]]
  if not reasons:
    doubts = _close_calls(rule, measures)
  return tuple(reasons), tuple(doubts)


def _close_calls(rule, measures):
  """What is within the ranges, but beyond all validation cases themselves."""
  found = []
  for name, (low, high) in rule['ranges'].items():
    wide = (high - low) * _WIDER / (1 + 2 * _WIDER)
    if not low + wide <= measures[name] <= high - wide:
      kind, _, axis = name.partition('/')
      text = _ABOUT[kind].format(value=measures[name], axis=axis)
      found.append(f'{text} is at the edge of {_SEEN}')
  return found[:3]
