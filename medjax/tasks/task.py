"""The protocol of a task: the questions that the rest of medjax asks of it.

A task says what the outputs of a model mean. On its way a case, as it lies in a
data set, becomes a sample (preprocessed), a part of a batch, and a row of
metrics.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np


class Measure(NamedTuple):
  """A row of a task's table of metrics.

  function: how it is computed; the task says of what.
  title, unit: for reports; a length's unit is 'mm'.
  higher: whether more is better; None is neither.
  """

  function: Callable
  title: str
  unit: str = ''
  higher: bool | None = True


@dataclasses.dataclass(frozen=True)
class Calibration:
  """Decisions of the validation split; saved beside the checkpoint.

  thresholds: above which a label is decided for, one per label or one of a
    binary task; None in place of one where validation could not tell.
  temperature: by which logits are divided.
  conformal: scores of the validation cases, of which sets at any level are
    made: {way: [the scores of each class]}, or {'missed': {'n', 'risk'}} where
    it is the share missed that is bounded (medjax.tasks.sets), or {'reached',
    'weight'} of survival (medjax.tasks.survival_bounds).
  answering: the operating point: the 'confidence' below which one abstains, as
    the error of the rest is shown to be at most 'risk'.
  baseline, censoring, marginal: curves that the training split gives, of a task
    that asks for it: `medjax.tasks.survival` says of what.
  """

  thresholds: tuple[float | None, ...] | None = None
  temperature: float | None = None
  conformal: Mapping | None = None
  answering: Mapping | None = None
  baseline: tuple[tuple[float, ...], ...] | None = None
  censoring: tuple[tuple[float, ...], ...] | None = None
  marginal: tuple[tuple[float, ...], ...] | None = None

  @classmethod
  def of(cls, values: Mapping | None):
    """From what JSON gives back of `dataclasses.asdict`.

    Raises ValueError for what is not that.
    """
    try:
      values = dict(values or {})
      if values.get('thresholds') is not None:
        values['thresholds'] = tuple(values['thresholds'])
      for name in ('baseline', 'censoring', 'marginal'):
        if values.get(name) is not None:
          values[name] = tuple(tuple(map(float, v)) for v in values[name])
      made = cls(**values)
      for number in (*(made.thresholds or ()), made.temperature):
        if number is not None and not isinstance(number, int | float):
          raise TypeError(f'{number!r} is no number')
      for part in (made.conformal, made.answering):
        if not isinstance(part, Mapping | None):
          raise TypeError(f'{part!r:.40} is no object')
        _check_numbers(part)
    except (TypeError, ValueError) as e:
      raise ValueError(f'no calibration: {e}') from None
    if made.temperature is not None and not made.temperature > 0:
      raise ValueError(f'no calibration: a temperature of {made.temperature}')
    return made


def _check_numbers(value):
  """Raises TypeError unless lists and mappings hold nothing but numbers."""
  if isinstance(value, Mapping):
    value = [*value.values()]
  if isinstance(value, list | tuple):
    for below in value:
      _check_numbers(below)
  elif value is not None and not isinstance(value, int | float):
    raise TypeError(f'{value!r} is no number')


class Task(Protocol):
  """A frozen, hashable dataclass of pure functions.

  inputs: fields of a case that the model is called with, the image first. A
    field that is an image too is prepared as the image is.
  fields: fields of a case that the loss and the metrics need. A case without
    one may be trained on where `check` allows it: in a batch its place is
    filled with zeros, and `batch['valid'][field]` (b,) is False.
  num_outputs: what the model is told as `num_classes`.
  unlabelled: whether a data set may have cases without any reference.
  over_batch: whether the loss of a case depends on the other cases of the
    batch, which then cannot be split into microbatches.
  from_train: may be left out; True: after training the training cases are
    predicted too, `calibrate(rows, train=rows)` is told of them, and what it
    returns makes rows and predictions whole: `completed(rows, calibration)`.
  views: may be left out, and is then `unlabelled`; True: the loss compares
    augmentations of an image, so that there is none of cases as they are.
  monitor: the score of `summarize` that chooses the best checkpoint, by the
    most.
  names: of the entries of a vector in a row, for the columns of per_case.csv.
  measures: name → Measure of all metrics and scores.
  """

  inputs: tuple[str, ...]
  fields: tuple[str, ...]
  num_outputs: int
  unlabelled: bool
  over_batch: bool
  monitor: str
  names: tuple[str, ...]
  measures: Mapping[str, Measure]

  def loss(self, forward: Callable, batch: Mapping) -> jax.Array:
    """Loss of each case of a batch: (b,).

    forward(*inputs, **options) → outputs of the model. It may be called several
    times, though not inside a `vmap` or `scan` of the loss: statistics of the
    batch carry over, and dropout differs from call to call. forward.ema(…) is
    the averaged model, without gradient.
    """

  def predict(self, outputs) -> jax.Array | dict[str, jax.Array]:
    """Returns the prediction of each case of a batch, from the model's outputs.

    (b, k) is a vector of the case, (b, *s, k) a map on the grid of its image.
    Over the windows of a case maps are stitched and vectors averaged.
    """

  def decode(self, rows: np.ndarray) -> np.ndarray:
    """Returns the labels of a map, (…, k) → (…,), on the host, slab by slab.

    Of a vector it is the class that is decided for.
    """

  def check(self, case: Mapping) -> None:
    """Raises ValueError of one line with the case's id if it cannot be used."""

  def metrics(self, prediction, case: Mapping) -> dict[str, Any]:
    """A row: numbers, or vectors in the order of `names`; NaN: undefined.

    A task of maps that has `ranked` (True) and `ranks`, a function of a slab of
    probabilities, is also given what that gives, as `ranks`.
    """

  def calibrate(self, rows: Sequence[Mapping]) -> Calibration:
    """Decides, on the rows of the validation split, what test will apply."""

  def summarize(
    self,
    rows: Sequence[Mapping],
    *,
    calibration: Calibration | None = None,
    seed: int = 0,
    n_resamples: int = 1000,
  ) -> dict:
    """Scores of many rows, JSON-able: {'n', 'patients', 'scores', …}."""

  def calibrated(self, prediction, calibration: Calibration):
    """A prediction after what validation decided; as it is if nothing was."""

  def columns(self, prediction) -> dict[str, float]:
    """Returns the numbers of a case for a table; {} where a map says it all."""

  # A task may have these too; without them it has no such option.
  #
  # monitored(rows, calibration) → (weights (r, n) → the monitor (r,)): what the
  #   inputs of a fusion are worth, and how much compress and stress change it.
  # answer(prediction, calibration, *, level, method, by_class) → (columns of
  #   the case, reasons to abstain): what `predict --conformal` says of it;
  #   `ways`: the methods, the usual one first; answerable(calibration, **how)
  #   raises ValueError where validation does not give it.
  # measured(rows, calibration, *, level, method, by_class) → how that holds on
  #   rows, with a 'warning' where it does not; recalled(line) → such a row, of
  #   a line of per_case.csv.
  # references, a number, and compared(rows, references) → rows: an evaluation
  #   predicts at most that many training cases too, and tells its rows of them.
  # unwritten: of a row, what per_case.csv does not hold.
  # spoken: names of scores that are shown while it trains, instead of monitor.
  # statistic(rows, calibration) → (weights (r, n) → {score: (r,)}), and
  #   `grouped`, score → whether its gap between groups is tested: subgroups.

  def shown(
    self, case: Mapping, prediction, row: Mapping
  ) -> tuple[float, dict]:
    """(how well it went, what a picture of the case shows beside its image).

    What has the grid of the image is cut as the image is.
    """
