"""Predictions on the rows of a table, which may name images."""

import pathlib

from medjax.data import folder
from medjax.data.folder.tables import SUFFIXES
from medjax.prediction import files

# What of the run's config.data says how a table is read.
_ALIKE = ('where', 'patient')
_FIELDS = ('id', 'patient', 'visit')


def takes(run, paths):
  """Whether cases are rows of tables: of a run without images, or of these."""
  kinds = {pathlib.Path(p).suffix.lower() for p in paths}
  return 'image' not in run.task.inputs or (
    bool(kinds) and kinds <= {*SUFFIXES}
  )


def cases(run, path):
  """The rows of a table as raw cases, with the columns that the run knows.

  Raises ValueError for a table that lacks one, or holds text where the run
  knows numbers. A kind that the training had not is missing.
  """
  data = run.experiment.config['data']
  images = 'image' in run.task.inputs
  wanted = {*_FIELDS, *run.task.inputs, *(('mask',) if images else ())}
  fields = {k: v for k, v in data['fields'].items() if k in wanted and v}
  fields.pop('covariates', None)
  splits = folder.open_splits(
    path,
    **{name: data[name] for name in _ALIKE},
    fields=fields,
    fractions=(0, 0, 1),
    images=images,
    unlabelled=True,
    covariates=run.experiment.facts.covariate_names,
    landmark=tuple(data.get('landmark') or ()),
  )
  return [case for part in splits.values() for case in part]


def predict(run, paths, out, *, judge=None, skip_existing=False):
  """Writes predictions.csv: a line per row of the tables; returns its path.

  `judge` tells each prediction its judgement. `skip_existing` keeps the lines
  that `out` holds already.
  """
  out = pathlib.Path(out)
  found, seen = [], {}
  for path in map(pathlib.Path, paths):
    if path.parent.resolve() == out.resolve():
      raise ValueError(f'{out} holds an input; results need another folder')
    for case in cases(run, path):
      other = seen.setdefault(case['id'], path)
      if other is not path:
        raise ValueError(
          f'{path}: a row is called {case["id"]}, and so is one of {other}: '
          'predict them into two --out folders'
        )
      found.append(case)
  before = files.read_table(out, key='id') if skip_existing else {}
  found = [case for case in found if case['id'] not in before]
  out.mkdir(parents=True, exist_ok=True)
  predictions = [
    (case['id'], judge(prediction) if judge else prediction)
    for case, prediction in run.predict_cases(found)
  ]
  return files.write_table(out, predictions, before.values(), key='id')
