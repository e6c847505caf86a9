"""What members were tested on, as the results of one run.

`members` are {folder: (results, rows of each split, {change: rows})}.
"""


def rows(experiment, members):
  """The test rows of all folds of a cross-validation."""
  return [
    {'fold': folder, **row}
    for folder, each in experiment.members
    for row in _alike(experiment, each, members[folder][1]['test'])
  ]


def changed(experiment, members):
  """The rows of changed inputs, of all folds."""
  pooled = {}
  for folder, each in experiment.members:
    for key, found in members[folder][2].items():
      own = _alike(experiment, each, found)
      pooled.setdefault(key, []).extend(own)
  return pooled


def _alike(experiment, fold, found):
  """The rows of a fold, as the task of all of them has them."""
  pooled = getattr(experiment.task, 'pooled', None)
  return pooled(found, fold.task) if pooled else found


def brief(members):
  """{folder: what metrics.json says of a member}."""
  return {folder: _brief(results) for folder, (results, *_) in members.items()}


def _brief(results):
  splits = [k for k in ('validation', 'test') if k in results]
  parts = {k: results[k]['scores'] for k in splits}
  return {'best_step': results['run']['best_step'], **parts}
