"""What validation decides about doubt: conformal sets, and where to stop.

A classification of exclusive classes has sets of classes (LAC, APS, RAPS); one
of labels, the labels above a threshold that keeps the share of missed ones low.
Cases of one patient are alike, and no independent trials: what is promised is
of the mean over patients.
"""

import numpy as np

from medjax.metrics import conformal, risk_control, selective
from medjax.metrics.paired import group_mean

_EMPTY = 'no class conforms'
_NOTHING = (
  'this run has no conformal scores: evaluate again, with --mode=evaluate; '
  'of a cross-validation each fold has its own'
)


def decided(scores, *, risk):
  """{'conformal': …, 'answering': …} of the cases of validation, JSON-able.

  `scores` is a `medjax.tasks.scores.Scores`; `risk` the error that the cases
  that are answered may have.
  """
  found = {'conformal': _conformal(scores)}
  if scores.task.multi_label or not risk:
    return found
  error, confidence = _errors(scores)
  point = selective.point(error, confidence, scores.patients, risk=risk)
  found['answering'] = {
    'risk': risk,
    'n': len(set(scores.patients)),
    'confidence': None if point is None else point.confidence,
    'coverage': 0.0 if point is None else point.coverage,
  }
  return found


def _conformal(scores):
  if scores.task.multi_label:
    return {'missed': risks(_missed(scores))}
  label = np.asarray(scores.label)
  by_method = {
    method: conformal.strangeness(scores.probability, method=method)
    for method in conformal.METHODS
  }
  classes = range(scores.task.num_classes)
  found = {
    method: [each[label == k, k].tolist() for k in classes]
    for method, each in by_method.items()
  }
  _, patient = np.unique(scores.patients, return_inverse=True)
  return {**found, 'patients': [patient[label == k].tolist() for k in classes]}


def _missed(scores):
  """(p, 1, t): share of a patient's labels below each threshold."""
  pairs = zip(scores.probability, scores.truth, strict=True)
  missed = np.stack([risk_control.missed(p[:, None], t[:, None])
                     for p, t in pairs])  # fmt: skip
  return by_patient(missed, scores.patients)


def by_patient(values, patients):
  """Means (p, k, t) of the cases (n, k, t) of each patient; NaN: of none.

  NaN is also what a case does not tell, and its patient's others do.
  """
  places = {}
  place = [places.setdefault(who, len(places)) for who in patients]
  known = ~np.isnan(values)
  total, count = np.zeros((2, len(places), *values.shape[1:]))
  np.add.at(total, place, np.where(known, values, 0))
  np.add.at(count, place, known)
  return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def risks(missed):
  """{'n': (k,), 'risk': (k, t)} of patients (p, k, t); NaN: not in any case."""
  known = ~np.isnan(missed[..., 0])
  count = known.sum(0)
  total = np.where(known[..., None], missed, 0).sum(0)
  return {
    'n': count.tolist(),
    'risk': (total / np.maximum(count, 1)[:, None]).tolist(),
  }


def thresholds(conformal_part, names, *, level):
  """Thresholds (k,) at which the share missed is at most 1 - level.

  Each with a confidence of 90 % (medjax.metrics.risk_control). Raises
  ValueError that names the class for which validation cannot show it.
  """
  conformal.check_level(level)
  if 'missed' not in (conformal_part or {}):
    raise ValueError(_NOTHING)
  found = []
  missed = conformal_part['missed']
  for name, n, risk in zip(names, missed['n'], missed['risk'], strict=True):
    i = risk_control.largest(risk, n, bound=1 - level)
    if i is None:
      least = risk_control.fewest(1 - level)
      raise ValueError(
        f'{n} validation patients have {name}, and no threshold is shown to '
        f'miss at most {1 - level:.2g} of it: {least} patients or more could, '
        'or a lower level'
      )
    found.append(float(risk_control.THRESHOLDS[i]))
  return np.array(found)


def found_within(missed, calibration, names, *, level):
  """How much of each class the thresholds of a level find: a table of rows.

  missed (p, k, t) of patients; what is found is 1 - the share missed.
  """
  about = {'method': 'missed', 'by_class': True, 'level': level}
  try:
    chosen = thresholds(calibration.conformal, names, level=level)
  except ValueError as e:
    return {**about, 'note': str(e)}
  classes, low = {}, []
  for k, (name, threshold) in enumerate(zip(names, chosen, strict=True)):
    t = int(np.searchsorted(risk_control.THRESHOLDS, threshold - 1e-12))
    each = 1 - missed[:, k, t]
    each = each[~np.isnan(each)]
    share = float(each.mean()) if len(each) else float('nan')
    error = float(each.std() / max(len(each), 1) ** 0.5)
    classes[name] = {
      'n': len(each),
      'coverage': share,
      'low': bool(share < level - 2 * error),
      'threshold': threshold,
    }
    low += [name] * classes[name]['low']
  mean = np.array([c['coverage'] for c in classes.values()])
  warning = low and (
    f'Of {", ".join(low)} less than {level:g} is found: the validation cases '
    'differ from these.'
  )
  return {
    **about,
    'n': len(missed),
    'coverage': float(mean[~np.isnan(mean)].mean()) if len(mean) else None,
    'classes': classes,
    'warning': warning or '',
  }


def _errors(scores):
  """(error, confidence) (n,) of the classes that are decided for."""
  p = scores.probability
  right = np.asarray(scores.label) == scores.task.decode(p)
  return (~right).astype(float), p.max(-1)


def limits(calibration, *, level, method='lac', by_class=False):
  """The largest strangeness (k,) of a class in a set; of how many patients.

  Raises ValueError where validation decided nothing of the kind.
  """
  part = calibration.conformal or {}
  if method not in conformal.METHODS:
    raise ValueError(
      f'--sets={method!r} is none of {", ".join(conformal.METHODS)}'
    )
  if method not in part or 'patients' not in part:
    raise ValueError(_NOTHING)
  patients = part['patients']
  limit = conformal.limits(
    part[method], level=level, mondrian=by_class, patients=patients
  )
  return limit, len(set().union(*patients))


def summary(scores, calibration, *, level):
  """What metrics.json says of sets and of answering, on the rows of `scores`.

  {'sets': [table of one way of making them], 'risk_coverage': …}; a 'note' in
  place of what the calibration cannot give.
  """
  if calibration.conformal is None:
    return {}
  task = scores.task
  if task.multi_label:
    return {'sets': [_labels(scores, calibration, level)]}
  tables = []
  for by_class in (False, True):
    about = {'method': 'lac', 'by_class': by_class, 'level': level}
    try:
      tables.append({**about, **measured(scores, calibration, **about)})
    except ValueError as e:
      tables.append({**about, 'note': str(e)})
  found = {'sets': tables}
  if calibration.answering:
    found['risk_coverage'] = _answering(scores, calibration.answering)
  return found


def measured(scores, calibration, *, level, method, by_class):
  """How sets made in a way cover the rows, all and by class's name."""
  if scores.task.multi_label:
    return _labels(scores, calibration, level)
  limit, n = limits(calibration, level=level, method=method, by_class=by_class)
  found = conformal.sets(scores.probability, limit, method=method)
  part = conformal.coverage(
    found,
    np.asarray(scores.label),
    level=level,
    calibrated_on=n,
    patients=scores.patients,
  )
  classes = dict(zip(scores.task.names, part['classes'], strict=True))
  part = {**part, 'classes': classes, 'calibrated_on': n}
  return {**part, 'warning': _warning(part, by_class)}


def _warning(part, by_class):
  """A sentence where sets cover less than they say, else ''."""
  low = [name for name, c in part['classes'].items() if c['low']]
  if not part['low'] and not low:
    return ''
  there = {k: c for k, c in part['classes'].items() if c['n']}
  worst, least = min(there.items(), key=lambda item: item[1]['coverage'])
  why = (
    'The validation cases, on which they were calibrated, differ from these.'
  )
  if not (part['low'] or by_class):
    why = 'They promise all classes together: sets by class promise each.'
  return (
    f'Sets{" by class" if by_class else ""} at {part["level"]:g} held the '
    f'truth in {part["coverage"]:.3f} of the patients, and in '
    f'{least["coverage"]:.3f} of those of {worst}: below what they say. {why}'
  )


def _labels(scores, calibration, level):
  about = {'method': 'labels', 'by_class': False, 'level': level}
  try:
    (threshold,) = thresholds(calibration.conformal, ['any label'], level=level)
  except ValueError as e:
    return {**about, 'note': str(e)}
  found = scores.probability >= threshold
  count = scores.truth.sum(-1)
  held = (found & scores.truth).sum(-1) / np.maximum(count, 1)
  held = group_mean(np.where(count > 0, held, np.nan), scores.patients)
  share = float(held.mean()) if len(held) else float('nan')
  error = float(held.std() / max(len(held), 1) ** 0.5)
  return {
    **about,
    'n': len(held),
    'coverage': share,
    'size': float(found.sum(-1).mean()),
    'threshold': threshold,
    'warning': '' if not share < level - 2 * error else (
      f'The labels above the threshold held {share:.3f} of those present, '
      f'below {level:g}: the validation cases differ from these.'
    ),
  }  # fmt: skip


def _answering(scores, decided):
  """The risk–coverage curve of the rows, and the operating point on it."""
  error, confidence = _errors(scores)
  curve = selective.curve(error, confidence, scores.patients)
  keep = np.unique(np.linspace(0, len(curve.risk) - 1, 200).round().astype(int))
  found = {
    **decided,
    'coverage_curve': curve.coverage[keep].tolist(),
    'risk_curve': curve.risk[keep].tolist(),
    'aurc': selective.area(curve),
  }
  if decided['confidence'] is not None:
    chosen = confidence >= decided['confidence']
    each = group_mean(error[chosen], np.array(scores.patients)[chosen])
    found['answered'] = float(chosen.mean())
    found['error'] = float(each.mean()) if len(each) else None
    found['warning'] = _exceeded(found, len(each))
  return found


def _exceeded(found, n):
  """A sentence where the answered err more than was promised, else ''."""
  risk, error = found['risk'], found['error']
  if error is None or error <= risk + 2 * (risk * (1 - risk) / n) ** 0.5:
    return ''
  return (
    f'Of the answered cases {error:.3f} are wrong, more than the {risk:g} that '
    'validation showed: its cases differ from these.'
  )


def answerable(task, calibration, *, level, method, by_class):
  """Raises ValueError for sets that validation does not give."""
  if not task.multi_label:
    limits(calibration, level=level, method=method, by_class=by_class)
    return
  thresholds(calibration.conformal, ['any'], level=level)


def recalled(names, row):
  """{'label', 'probability'} of a line of per_case.csv, {column: text}."""
  label = row.get('label')
  if label is None:
    label = np.array([int(float(row[f'label/{k}'])) for k in names])
  else:
    label = np.int32(float(label))
  p = np.array([float(row[f'probability/{k}']) for k in names])
  return {'probability': p, 'label': label}


def answer(task, probability, calibration, *, level, method, by_class):
  """({'set': names}, reasons to abstain) of a case's probabilities (k,)."""
  probability = np.asarray(probability, float)
  if task.multi_label:
    (least,) = thresholds(calibration.conformal, ['any'], level=level)
    inside = probability >= least
    return {'set': _joined(task, inside)}, []
  limit, _ = limits(calibration, level=level, method=method, by_class=by_class)
  (inside,) = conformal.sets(probability[None], limit, method=method)
  count, reasons = int(inside.sum()), []
  if count != 1:
    reasons.append(f'{count} classes conform' if count else _EMPTY)
  return {'set': _joined(task, inside)}, reasons


def _joined(task, inside):
  pairs = zip(task.names, inside, strict=True)
  return ' | '.join(name for name, held in pairs if held)


def unsure(probability, calibration):
  """Reasons to abstain by the operating point: [] or one."""
  chosen = calibration.answering or {}
  if not chosen:
    return []
  least, risk = chosen['confidence'], chosen['risk']
  if least is None:
    return [f'no confidence is shown to keep the error at {risk:g}']
  p = float(np.max(probability))
  if p >= least:
    return []
  return [f'confidence {p:.3f} is below {least:.3f}, at which the error is '
          f'shown to be at most {risk:g}']  # fmt: skip
