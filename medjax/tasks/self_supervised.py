"""What tasks without labels have in common: embeddings, and their worth."""

import dataclasses
import math
from typing import ClassVar

import numpy as np

from medjax.tasks import objective, probing, summary
from medjax.tasks.classification import Classification
from medjax.tasks.task import Calibration, Measure

_WAYS = {'probe': 'Linear probe', 'knn': 'Nearest neighbours'}
_OF_LABELS = {'auroc': 'AUROC', 'accuracy': 'accuracy'}
MEASURES = {
  **{
    f'{way}_{name}': Measure(None, f'{title}: {of}')
    for way, title in _WAYS.items()
    for name, of in _OF_LABELS.items()
  },
  'spread': Measure(None, 'Spread of embeddings', higher=None),
  'rank': Measure(None, 'Effective rank of embeddings', higher=None),
  'newest': Measure(None, 'None: the newest checkpoint is kept'),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfSupervised:
  """A task whose loss needs no labels; its model gives an embedding.

  Where cases have labels, the evaluation says what their embeddings know of
  them, by a logistic regression and by the nearest neighbours, both of
  embeddings of training cases (`references`). Nothing is trained by that, and
  no checkpoint chosen, unless `monitor` asks for it.

  references: training cases, with a label, at most, that a case is compared
    with.
  neighbours: how many of them vote.
  least_spread: of the projections of an evaluation, or the embeddings where
    nothing is projected; below it they are alike, the training has collapsed,
    and is stopped. 0 goes on.
  class_names: of the labels, told by the data.
  monitor: the score that chooses the checkpoint; 'newest' keeps the last.
  """

  fields: ClassVar = ()
  inputs: ClassVar = ('image',)
  unlabelled: ClassVar = True
  over_batch: ClassVar = True
  exclusive: ClassVar = True
  measures: ClassVar = MEASURES
  names: ClassVar = ()
  unwritten: ClassVar = ('pooled', 'projection', 'truth', *_WAYS)
  spoken: ClassVar = ('probe_auroc', 'knn_auroc', 'spread')
  references: int = 1000
  neighbours: int = 20
  least_spread: float = 0.05
  class_names: tuple[str, ...] = ()
  monitor: str = 'newest'

  def __post_init__(self):
    object.__setattr__(self, 'class_names', objective.frozen(self.class_names))
    summary.check_monitor(self.monitor, self.measures)
    for name, least in (
      ('references', 0), ('neighbours', 1), ('least_spread', 0)
    ):  # fmt: skip
      if getattr(self, name) < least:
        raise ValueError(f'task.{name}={getattr(self, name)} is below {least}')

  def predict(self, outputs):
    """{'pooled': (b, d)}, and where views are compared 'projection' (b, k)."""
    found = {'pooled': outputs.pooled}
    if hasattr(outputs, 'projection'):
      found['projection'] = outputs.projection
    return found

  def decode(self, rows):
    """Of a vector there is nothing to decide."""
    return rows

  def check(self, case):
    """Any image will do."""

  def metrics(self, prediction, case):
    """The vectors of `predict`, and a label that is a class, or labels."""
    for name, vector in prediction.items():
      if not np.isfinite(vector).all():
        raise ValueError(f'case {case["id"]!r}: its {name} is not finite')
    row = {k: np.asarray(v) for k, v in prediction.items()}
    label = np.asarray(case.get('label', np.nan))
    last = 1 if label.ndim else len(self.class_names) - 1
    known = self.class_names and np.isin(label, np.arange(last + 1)).all()
    return row | ({'truth': label.astype(np.int32)} if known else {})

  def compared(self, rows, references):
    """Rows with what those of training cases say of their labels.

    'probe' and 'knn', a probability for each class. Rows as they are where
    they, or the training cases, have no labels, or all the same.
    """
    known = [row for row in references if 'truth' in row]
    asked = [row for row in rows if 'truth' in row]
    if not asked or len({str(row['truth']) for row in known}) < 2:
      return rows
    label = np.stack([row['truth'] for row in known])
    options = {'num_classes': len(self.class_names)}
    known, found = (
      np.stack([row['pooled'] for row in part]) for part in (known, asked)
    )
    probe = probing.linear(known, label, found, **options)
    knn = probing.nearest(known, label, found, count=self.neighbours, **options)
    told = iter(zip(probe, knn, strict=True))
    return [
      row | dict(zip(_WAYS, next(told), strict=True)) if 'truth' in row else row
      for row in rows
    ]

  def calibrate(self, rows):
    """Nothing is decided."""
    return Calibration()

  def calibrated(self, prediction, calibration):
    """As it is."""
    return prediction

  def columns(self, prediction):
    """The numbers of the embedding."""
    return {f'embedding_{i}': float(v) for i, v in
            enumerate(prediction['pooled'])}  # fmt: skip

  def shown(self, case, prediction, row):
    """No case is shown: how well one went is not told by it alone."""
    return math.nan, {}

  def summarize(self, rows, *, calibration=None, seed=0, n_resamples=1000):
    """Scores of the embeddings, JSON-able; of labels with their intervals.

    Raises ValueError where the embeddings are alike.
    """
    groups = summary.patients(rows)
    stack = lambda name: np.stack([row[name] for row in rows])
    compared = stack('projection' if 'projection' in rows[0] else 'pooled')
    spread = probing.spread(compared)
    if spread < self.least_spread:
      raise ValueError(
        f'the embeddings of {len(rows)} cases are alike (spread {spread:.4f}, '
        f'below {self.least_spread:g}): the training has collapsed; try a '
        'lower optimizer.learning_rate, a larger data.batch_size, or another '
        'method (task.least_spread=0 goes on)'
      )
    rank = probing.effective_rank(stack('pooled'))
    scores = {
      'spread': None if math.isnan(spread) else spread,
      'rank': None if math.isnan(rank) else rank,
    }
    if not n_resamples:
      scores['newest'] = None  # while it trains, what is to choose by
    found, bounds = self._of_labels(rows, seed, n_resamples)
    return {
      'n': len(rows),
      'patients': len(set(groups)),
      'scores': {**found, **scores},
      'intervals': {**bounds, **dict.fromkeys(scores)},
    }

  def _of_labels(self, rows, seed, n_resamples):
    """Scores and intervals of what embeddings know of labels; None of none."""
    found, bounds = {}, {}
    for way in _WAYS:
      told = [
        {**row, 'probability': row[way], 'label': row['truth']}
        for row in rows
        if way in row
      ]
      result = {'scores': {}, 'intervals': {}}
      if told:
        task = Classification(
          num_classes=len(told[0][way]),
          multi_label=np.ndim(told[0]['truth']) == 1,
          class_names=self.class_names,
          risk=0,
        )
        result = task.summarize(told, seed=seed, n_resamples=n_resamples)
      for name in _OF_LABELS:
        found[f'{way}_{name}'] = result['scores'].get(name)
        bounds[f'{way}_{name}'] = result['intervals'].get(name)
    return found, bounds
