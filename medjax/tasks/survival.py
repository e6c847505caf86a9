"""Survival: when an event comes, of one cause or of several that compete."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from medjax.files import plain
from medjax.metrics.conformal import check_level
from medjax.metrics.survival_curves import censoring
from medjax.tasks import objective, summary, survival_bounds, survival_scores
from medjax.tasks import survival_methods as methods
from medjax.tasks.task import Calibration

_LEVELS = 0.9  # of event times: the horizon of Uno's C and of the Brier score
_QUARTILES = (0.25, 0.5, 0.75)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Survival:
  """The time to an event, of cases that may be censored.

  model: 'cox', its risk sets being those of the batch; 'competing', a Cox model
    for each cause; 'coxtime' (of the model `CoxTime`); 'discrete', the hazard
    of each interval; 'deephit', also of several causes.
  inputs: fields of a case that the network is called with: ('covariates',),
    ('image',), or ('image', 'covariates') of `Fusion`.
  event_times: quantiles, evenly spaced from 0 to 1, of the event times of the
    training split; causes: how many there are. The data tell both.
  intervals: into which event times are cut, at their quantiles, fewer where
    these coincide to seven digits. Curves are known at their ends, `grid`.
  horizons: times at which calibration and areas under the ROC are reported; by
    default the quartiles of event times.
  cause_names: of the causes; time_unit: 'months', say, for reports.
  ties: 'efron' or 'breslow', of Cox. alpha, sigma: of DeepHit's loss. controls:
    cases that Cox-Time compares with each event.
  level: of the lower bounds of survival whose coverage is reported.

  A Cox model, also Cox-Time, knows risks relative to each other: the hazard
  that makes them survival comes from the training cases after the training.
  """

  fields: ClassVar = ('time', 'event')
  unlabelled: ClassVar = False
  from_train: ClassVar = True
  measures: ClassVar = survival_scores.MEASURES
  names: ClassVar = ()
  ways: ClassVar = survival_bounds.WAYS
  model: str = 'cox'
  inputs: tuple[str, ...] = ('covariates',)
  event_times: tuple[float, ...] = ()
  causes: int = 1
  intervals: int = 50
  horizons: tuple[float, ...] = ()
  cause_names: tuple[str, ...] = ()
  time_unit: str = ''
  ties: str = 'efron'
  alpha: float = 0.2
  sigma: float = 0.1
  controls: int = 16
  monitor: str = 'antolini'
  level: float = 0.9

  def __post_init__(self):
    for name in ('inputs', 'event_times', 'horizons', 'cause_names'):
      object.__setattr__(self, name, objective.frozen(getattr(self, name)))
    if self.model not in methods.METHODS:
      raise ValueError(
        f'task.model={self.model!r} is none of {", ".join(methods.METHODS)}'
      )
    if not self.event_times:
      raise ValueError(
        'Survival: no case of the training split has an event, so there is '
        'nothing to learn'
      )
    if self.causes > 1 and self.model in methods.SINGLE:
      raise ValueError(
        f'task.model={self.model!r} knows of one cause, the data have '
        f"{self.causes}: take 'competing' or 'deephit', or write 0 for those "
        'that are not meant'
      )
    if self.ties not in ('efron', 'breslow'):
      raise ValueError(f"task.ties is 'efron' or 'breslow', not {self.ties!r}")
    if self.intervals < 2:
      raise ValueError(f'task.intervals={self.intervals}: needs 2 or more')
    if self.cause_names and len(self.cause_names) != self.causes:
      raise ValueError(
        f'cause_names has {len(self.cause_names)} entries, the data have '
        f'{self.causes} causes'
      )
    if any(not t > 0 for t in self.horizons):
      raise ValueError(f'task.horizons={self.horizons}: times are above 0')
    check_level(self.level)
    summary.check_monitor(self.monitor, self.measures)

  # What the times say.

  def quantile(self, level):
    """The event time of the training split below which a share of them is."""
    levels = np.linspace(0, 1, len(self.event_times))
    return np.interp(level, levels, self.event_times)

  @property
  def grid(self):
    """Ends of the intervals (t,), rising.

    Of times that are written alike the last, as columns are named by them:
    65.3 - 62.2 is a little less than 3.1.
    """
    levels = np.arange(1, self.intervals + 1) / self.intervals
    ends = np.unique(self.quantile(levels))
    return np.array([*{survival_scores.written(t): t for t in ends}.values()])

  @property
  def tau(self):
    """The horizon of scores: nine tenths of the events came before it."""
    return float(self.quantile(_LEVELS))

  @property
  def shown_horizons(self):
    """`horizons`, or the quartiles of event times."""
    return self.horizons or tuple(map(float, self.quantile(_QUARTILES)))

  @property
  def named_causes(self):
    """Names of the causes: cause_names, or 'event', or their numbers."""
    if self.cause_names or self.causes == 1:
      return self.cause_names or ('event',)
    return tuple(f'event {k + 1}' for k in range(self.causes))

  def place(self, time):
    """Where times lie on the grid, from 0 to 1: what `CoxTime` is told."""
    edges = np.concatenate([[0.0], self.grid])
    return jnp.interp(time, edges, np.linspace(0, 1, len(edges)))

  # The protocol.

  @property
  def method(self):
    """The entry of `survival_methods` that the model is."""
    return methods.METHODS[self.model]

  @property
  def num_outputs(self):
    """Numbers that the network must give."""
    return self.method.outputs(self.causes, len(self.grid))

  @property
  def over_batch(self):
    """Whether a case's loss depends on the others: risk sets, pairs."""
    return self.method.over_batch

  def loss(self, forward, batch):
    """Loss (b,) of a batch; cases without time and event count for nothing."""
    valid = jnp.all(jnp.stack([batch['valid'][f] for f in self.fields]), 0)
    batch = {**batch, 'event': jnp.where(valid, batch['event'], 0)}
    time, grid = batch['time'], jnp.asarray(self.grid, batch['time'].dtype)
    # An event is in the interval that ends with it; a censoring lived that.
    by_event = jnp.searchsorted(grid, time, side='left')
    by_censoring = jnp.searchsorted(grid, time, side='right')
    survived = jnp.where(batch['event'] > 0, by_event, by_censoring)
    return self.method.loss(self, forward, batch, valid, survived)

  def predict(self, outputs):
    """{'curves': (b, causes · t)}: incidences, or log hazards (see Method)."""
    found = self.method.read(objective.main_head(outputs), self.causes)
    return {'curves': found.reshape(found.shape[0], -1)}

  def risk(self, outputs):
    """What is explained: the mean of each cause's curve (b, causes)."""
    found = self.method.read(objective.main_head(outputs), self.causes)
    return found.mean(-1)

  def decode(self, rows):
    """Of a vector there is nothing to decide."""
    return rows

  def check(self, case):
    """Raises ValueError for a time or an event that is none."""
    time, event = float(case['time']), float(case['event'])
    if not (np.isfinite(time) and time > 0):
      raise ValueError(
        f'case {case["id"]!r}: time is {time:g}; times are above 0'
      )
    if event not in range(self.causes + 1):
      raise ValueError(
        f'case {case["id"]!r}: event is {event:g}; 0 is censored, '
        f'1 to {self.causes} are the causes that training knows'
      )

  def metrics(self, prediction, case):
    """Time, event and the curves, still without a baseline."""
    self.check(case)
    curves = np.asarray(prediction['curves'], float)
    if not np.isfinite(curves).all():
      raise ValueError(f'case {case["id"]!r}: prediction is not finite')
    known = {'landmark': float(case['landmark'])} if 'landmark' in case else {}
    return {
      **known,
      'time': float(case['time']),
      'event': int(case['event']),
      'curves': curves,
    }

  def calibrate(self, rows, train=None):
    """What the training cases say: baseline hazards, censoring.

    `rows`, of the validation split, stand in for them where there are none;
    beside them they tell lower bounds of survival.
    """
    known = train or rows
    time, event, curves = self._arrays(known)
    base = None
    if self.method.relative:
      base = methods.baseline(curves, time, event, self.grid)
    g = censoring(time, event)
    moved = np.flatnonzero(np.diff(g.values, prepend=1.0))
    found = Calibration(
      baseline=None if base is None else objective.frozen(plain(base)),
      censoring=objective.frozen(plain([g.times[moved], g.values[moved]])),
      marginal=objective.frozen(
        plain(methods.marginal(time, event, self.causes, self.grid))
      ),
    )
    if not (train and rows):
      return found
    cases = survival_scores.Rows(self, self.completed(rows, found))
    bounds = survival_bounds.decided(cases, summary.patients(rows))
    return dataclasses.replace(found, conformal=bounds)

  def _arrays(self, rows):
    time, event = (np.array([row[k] for row in rows]) for k in self.fields)
    curves = np.stack([row['curves'] for row in rows])
    return time, event, curves.reshape(len(rows), self.causes, -1)

  def incidence(self, curves, calibration):
    """Curves (n, causes, …) of `predict` as incidences (n, causes, t)."""
    if not self.method.relative:
      return curves
    if calibration.baseline is None:
      raise ValueError(
        'a Cox model needs the baseline hazard of its training cases: evaluate '
        'the run first (--mode=evaluate); of a cross-validation give a fold, '
        'WORKDIR/fold0: each has its own'
      )
    return methods.incidence(curves, np.array(calibration.baseline))

  def completed(self, rows, calibration):
    """Rows whose curves are numbers of the table: risk, survival, incidence."""
    _, _, curves = self._arrays(rows)
    found = self.incidence(curves, calibration)
    return [
      {k: v for k, v in row.items() if k != 'curves'} | self.columns(each)
      for row, each in zip(rows, found, strict=True)
    ]

  def _whole(self, rows):
    """The rows, completed by their own baseline where they are not yet."""
    if 'curves' not in rows[0]:
      return rows
    return self.completed(rows, self.calibrate(rows))

  def calibrated(self, prediction, calibration):
    """The incidence (causes, t) of a case."""
    curves = np.asarray(prediction['curves'], float)
    return self.incidence(curves.reshape(1, self.causes, -1), calibration)[0]

  def columns(self, prediction):
    """Numbers of an incidence (causes, t): risk, survival/TIME, ….

    The risk of a cause is the time that is lost to it until the last event of
    training (the area below its incidence).
    """
    found = {}
    grid = self.grid
    width = np.diff(grid, prepend=0.0)
    parts = list(zip(survival_scores.keys(self), prediction, strict=True))
    for (risk, _), incidence in parts:
      start = np.concatenate([[0.0], incidence[:-1]])
      found[risk] = float(((start + incidence) / 2 * width).sum())
    free = 1 - np.sum(prediction, 0)
    found |= survival_scores.spread('survival', grid, free)
    if self.causes > 1:
      for (_, name), incidence in parts:
        found |= survival_scores.spread(name, grid, incidence)
    return found

  def pooled(self, rows, fold):
    """Completed rows of the task of a fold, on the grid of this one.

    Each fold has the event times of its own training cases.
    """
    if fold.event_times == self.event_times:
      return rows
    cases = survival_scores.Rows(fold, rows)
    found = [cases.at(k, self.grid) for k in range(self.causes)]
    theirs = fold.columns(np.zeros((self.causes, len(fold.grid))))
    return [
      {k: v for k, v in row.items() if k not in theirs} | self.columns(each)
      for row, each in zip(rows, np.stack(found, 1), strict=True)
    ]

  def answerable(self, calibration, **how):
    """Raises ValueError for lower bounds that validation does not give."""
    survival_bounds.limit(calibration, **how)

  def answer(self, prediction, calibration, **how):
    """The time that a case outlives, by its incidence; no reasons."""
    return survival_bounds.answer(self, prediction, calibration, **how), []

  def measured(self, rows, calibration, **how):
    """How many of completed rows outlive their bounds."""
    return survival_bounds.measured(self, rows, calibration, **how)

  def recalled(self, row):
    """A completed row, of a line of per_case.csv."""
    return survival_bounds.recalled(row)

  def monitored(self, rows, calibration):
    """Weights (r, n) → the monitor of the first cause (r,)."""
    rows = self._whole(rows)
    return survival_scores.monitored(self, rows, calibration)

  def shown(self, case, prediction, row):
    """How well one case went is not told by it alone; nothing is drawn."""
    return float(np.mean(prediction['curves'])), {}

  def summarize(self, rows, *, calibration=None, seed=0, n_resamples=1000):
    """Scores with intervals by patient, and what the report draws.

    rows: of `completed`, or of `metrics`, which then are their own baseline.
    The censoring distribution is that of the training cases where a
    calibration tells it, else of the rows; 'about' says which.
    """
    rows = self._whole(rows)
    found = survival_scores.summarize(
      self, rows, calibration, seed=seed, n_resamples=n_resamples
    )
    return plain(found | survival_bounds.summary(self, rows, calibration))
