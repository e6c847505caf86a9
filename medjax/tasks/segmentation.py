"""Segmentation: a label for every pixel or voxel."""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from medjax.files import plain
from medjax.metrics import bootstrap, surface
from medjax.metrics.classification import class_mean, defined_mean
from medjax.metrics.conformal import check_level
from medjax.ops.softmax import softmax
from medjax.tasks import objective, summary
from medjax.tasks import segmentation_scores as scores
from medjax.tasks.bounded import Bounded, member


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segmentation(Bounded):
  """Label maps by softmax, or overlapping regions of them by sigmoid.

  num_classes: labels of the map, background (0) included.
  loss: names in medjax.losses and their weights; by default Dice and
    cross-entropy (binary with regions), 1:1 as nnU-Net.
  regions: sets of labels, one model output each, e.g. BraTS's
    ((1, 2, 3), (2, 3), (3,)); empty for softmax over the labels.
  region_order: the label that each region writes when probabilities are
    decoded, later regions over earlier (nnU-Net's regions_class_order). Left
    out, it is the one label of a region that no later region holds.
  class_names: num_classes names, background first; or one per region.
  ignore: a label of voxels that count for nothing, in the loss, the patches
    or the metrics: what nobody annotated, say.
  level_weights: of the outputs of a model under deep supervision, the finest
    first, made to sum to 1; by default 1/2^i, that of the lowest 0 (nnU-Net).
  nsd_tolerance: mm, of the normalised surface Dice.
  more_measures: functions outside of medjax, 'mine.metric:f', of two masks
    (*s,) bool and their spacing: f(prediction, reference, spacing) → number.
    Attributes title, unit and higher of them are those of `Measure`.
  level: the share of each class that masks of `predict --conformal` find, for
    which validation then chooses thresholds; None is no such masks.
  monitor: the score by which the best checkpoint is chosen.
  """

  inputs: ClassVar = ('image',)
  fields: ClassVar = ('mask',)
  unlabelled: ClassVar = False
  grouped: ClassVar = {'dice': True, 'nsd': True, 'hd95': False}
  num_classes: int
  # The method of this name stands in as the default; see __post_init__.
  loss: dataclasses.InitVar[Any]
  regions: tuple[tuple[int, ...], ...] = ()
  region_order: tuple[int, ...] = ()
  class_names: tuple[str, ...] = ()
  ignore: int | None = None
  level_weights: tuple[float, ...] = ()
  nsd_tolerance: float = 1.0
  more_measures: tuple[str, ...] = ()
  level: float | None = None
  monitor: str = 'dice'
  terms: tuple = dataclasses.field(init=False)

  def __post_init__(self, loss):
    for name in (
      'regions', 'region_order', 'class_names', 'level_weights',
      'more_measures',
    ):  # fmt: skip
      object.__setattr__(self, name, objective.frozen(getattr(self, name)))
    if self.num_classes is None:
      raise ValueError(
        'no file says how many labels the masks have: set task.num_classes'
      )
    if self.num_classes < 2:
      raise ValueError('num_classes counts the background: at least 2')
    if self.regions:
      self._check_regions()
      if not self.region_order:
        object.__setattr__(self, 'region_order', self._derived_order())
    summary.check_monitor(
      self.monitor,
      {k: m for k, m in self.measures.items() if k not in scores.RANKINGS},
    )
    if self.level is not None:
      check_level(self.level)
    allowed = len(self.regions) or self.num_classes
    if len(self.class_names) not in (0, allowed):
      raise ValueError(
        f'class_names has {len(self.class_names)} names, not {allowed}: '
        + ('one per region' if self.regions else 'background is the first')
      )
    entropy = 'binary_cross_entropy' if self.regions else 'cross_entropy'
    if callable(loss) or loss is None:
      loss = {'dice': 1.0, entropy: 1.0}
    terms = objective.parse(loss)
    objective.check_entropy(terms, entropy)
    objective.check_weights(terms, self.num_outputs)
    if self.ignore is not None:
      objective.check_takes(terms, 'valid', 'a label to ignore')
      if 0 <= self.ignore < self.num_classes:
        raise ValueError(
          f'ignore={self.ignore} is one of the {self.num_classes} classes'
        )
    object.__setattr__(self, 'terms', terms)

  def _check_regions(self):
    for region in self.regions:
      if not isinstance(region, tuple):
        raise ValueError(
          f'regions are lists of labels, ((1, 2), (2,)), and {region!r} is '
          'none; their names go into class_names'
        )
      if not region or not all(0 < v < self.num_classes for v in region):
        raise ValueError(
          f'region {region} must hold labels 1 to {self.num_classes - 1}'
        )
    if self.region_order and len(self.region_order) != len(self.regions):
      raise ValueError('region_order must have one label per region')

  def _derived_order(self):
    order = []
    for i, region in enumerate(self.regions):
      own = set(region).difference(*self.regions[i + 1 :])
      if len(own) != 1:
        raise ValueError(
          f'region {region} does not leave one label to the later regions '
          f'(it leaves {sorted(own)}): set region_order'
        )
      order.append(own.pop())
    return tuple(order)

  @property
  def measures(self):
    """name → Measure of all metrics."""
    ranked = scores.RANKINGS if self.ranked else {}
    more = dict(map(summary.outside, self.more_measures))
    return {**scores.MEASURES, **ranked, **more}

  @property
  def ranked(self):
    """Whether there is one class, whose probability ranks the pixels."""
    return len(self.names) == 1

  @property
  def num_outputs(self):
    """Channels that the model must give."""
    return len(self.regions) or self.num_classes

  @property
  def exclusive(self):
    """Whether the probabilities are one distribution, not one for each."""
    return not self.regions

  @property
  def names(self):
    """Names of the columns of metrics(): foreground classes, or regions."""
    if self.regions:
      sums = tuple('+'.join(map(str, region)) for region in self.regions)
      return self.class_names or sums
    return self.label_names[1:]

  @property
  def label_names(self):
    """Names of the labels that decode() gives, background first."""
    given = () if self.regions else self.class_names
    return given or tuple(map(str, range(self.num_classes)))

  @property
  def over_batch(self):
    """Whether one of the losses is over the whole batch."""
    return objective.over_batch(self.terms)

  def loss(self, forward, batch):
    """Weighted sum of the losses: (b,).

    The model gives logits (b, *s, num_outputs), or a tuple of them by falling
    resolution (deep supervision), for which the mask is down-sampled by nearest
    neighbour (nnU-Net).
    """
    outputs = forward(batch['image'])
    objective.check_resolution(outputs, batch['mask'])
    weights = functools.partial(objective.level_weights, self.level_weights)

    def loss(logits):
      mask = jax.image.resize(batch['mask'], logits.shape[:-1], 'nearest')
      options = {'multi_label': bool(self.regions)}
      if self.ignore is not None:
        options['valid'] = mask != self.ignore
      target = self._target(mask)
      return objective.evaluate(self.terms, logits, target, **options)

    return objective.over_heads(loss, outputs, weights, self.num_outputs)

  def _target(self, mask):
    if not self.regions:
      return mask
    return jnp.stack([member(mask, r) for r in self.regions], -1)

  def predict(self, outputs):
    """Probabilities (b, *s, num_outputs), float32, of the finest logits."""
    logits = objective.main_head(outputs)
    return jax.nn.sigmoid(logits) if self.regions else softmax(logits)

  def decode(self, probabilities):
    """Label map (*s,) of probabilities (*s, num_outputs), on the host.

    The likeliest label; of regions, those above one half written in
    region_order, as nnU-Net.
    """
    probabilities = np.asarray(probabilities)
    dtype = np.uint8 if self.num_classes <= 256 else np.uint16
    if not self.regions:
      return probabilities.argmax(-1).astype(dtype)
    labels = np.zeros(probabilities.shape[:-1], dtype)
    for i, label in enumerate(self.region_order):
      labels[probabilities[..., i] > 0.5] = label
    return labels

  def ranks(self, probabilities):
    """The place (*s,) uint16 of each pixel by the one class's probability."""
    return scores.ranks(np.asarray(probabilities)[..., -1])

  def check(self, case):
    """Raises ValueError, one line with the id, for a mask it cannot use."""
    if 'mask' not in case:
      raise ValueError(f'case {case.get("id")!r} has no mask')
    mask = np.asarray(case['mask'])
    self._check_labels(self._known(mask), case, 'mask')

  def _known(self, mask):
    """The mask with background where its label is to be ignored."""
    return mask if self.ignore is None else mask * (mask != self.ignore)

  def _check_labels(self, labels, case, what):
    where = f'case {case.get("id")!r}: {what}'
    if labels.dtype.kind not in 'iu':
      raise ValueError(f'{where} must hold integers, not {labels.dtype}')
    low, high = (labels.min(), labels.max()) if labels.size else (0, 0)
    if low < 0 or high >= self.num_classes:
      bad = low if low < 0 else high
      raise ValueError(
        f'{where} holds label {bad}, but num_classes={self.num_classes} '
        f'allows 0 to {self.num_classes - 1}'
      )

  def metrics(self, prediction, case, *, ranks=None):
    """Metrics of a label map against case['mask']: {name: (k,)}, host.

    k: foreground classes or regions (names); `ranks` (*s,) are those of this
    task, without which nothing is said of the ranking. Distances in mm by
    case['spacing'], or by the columns of case['affine']. NaN: undefined; see
    the table in medjax.metrics. A case that has a 'field_of_view' (*s,) is
    judged inside of it: what lies outside, or is to be ignored, counts as
    background in both maps.
    """
    self.check(case)
    prediction, mask = np.asarray(prediction), np.asarray(case['mask'])
    if prediction.shape != mask.shape:
      raise ValueError(
        f'case {case.get("id")!r}: prediction has shape {prediction.shape}, '
        f'mask {mask.shape}'
      )
    self._check_labels(prediction, case, 'prediction')
    inside = np.full(mask.shape, True)
    if self.ignore is not None:
      inside = mask != self.ignore
    if 'field_of_view' in case:
      inside = inside & (np.asarray(case['field_of_view']) > 0)
    prediction, mask = prediction * inside, mask * inside
    spacing = _spacing(case, mask.ndim)
    sets = self.regions or [(v,) for v in range(1, self.num_classes)]
    ranking = {}
    if ranks is not None:
      ranking = scores.ranking(ranks, member(mask, sets[0]), inside)
    box = surface.bounding_box((prediction > 0) | (mask > 0))
    if not self.more_measures:  # which may count what is outside, too
      prediction, mask, box = prediction[box], mask[box], ()
    options = {'spacing': spacing, 'nsd_tolerance': self.nsd_tolerance}
    pairs = [
      scores.pair(member(prediction, s), member(mask, s), box, **options)
      for s in sets
    ]
    return {
      name: np.array([float(measure.function(pair)) for pair in pairs])
      for name, measure in self.measures.items()
      if name not in scores.RANKINGS
    } | ranking

  def statistic(self, rows, calibration):
    """(weights (r, n) → means over cases and classes by name, None)."""
    del calibration
    names = [*self.grouped]
    values = np.stack([[np.asarray(r[m], float) for m in names] for r in rows])

    def means(weights):
      each = defined_mean(bootstrap.weighted_mean(values, weights))
      return {name: each[..., i] for i, name in enumerate(names)}

    return means, None

  def monitored(self, rows, calibration):
    """Weights (r, n) → the score that is the monitor (r,)."""
    del calibration
    values = np.stack([np.asarray(row[self.monitor], float) for row in rows])
    known = ~np.isnan(values).all(0)
    mean = lambda weights: bootstrap.weighted_mean(values, weights)
    return lambda weights: class_mean(mean(weights), known)

  def calibrated(self, prediction, calibration):
    """A label map as it is."""
    return prediction

  def columns(self, prediction):
    """A table says nothing of a map."""
    return {}

  def shown(self, case, prediction, row):
    """The case's mean Dice, and both maps."""
    dice = row['dice'][~np.isnan(row['dice'])]
    score = float(dice.mean()) if dice.size else np.nan
    mask = self._known(np.asarray(case['mask']))
    return score, {'mask': mask, 'prediction': prediction}

  def summarize(self, rows, *, calibration=None, seed=0, n_resamples=1000):
    """Means over cases with 95 % bootstrap intervals by patient, JSON-able.

    rows: metrics() of each case with id and patient. A class's value is the
    mean over the n cases that define it; a score the mean over classes.
    undefined (both empty), missed (prediction empty) and false_positive
    (reference empty) count cases of the class. With a calibration that has
    thresholds, 'sets' says how much of each class they find. n_resamples=0
    leaves the intervals out (None).
    """
    groups = summary.patients(rows)
    names = [name for name in self.measures if name in rows[0]]
    values = np.stack(
      [np.stack([np.asarray(row[m], float) for m in names]) for row in rows]
    )

    known = ~np.isnan(values).all(0)

    def statistic(weights):
      per_class = bootstrap.weighted_mean(values, weights)
      return {'classes': per_class, 'scores': class_mean(per_class, known)}

    point = statistic(np.ones(len(rows)))
    bounds = bootstrap.intervals(
      statistic, groups, n_resamples=n_resamples, seed=seed
    )
    outcomes = scores.outcomes(values)
    return plain(
      {
        'n': len(rows),
        'patients': len(set(groups)),
        'scores': dict(zip(names, point['scores'], strict=True)),
        'intervals': dict(zip(names, bounds['scores'], strict=True)),
        'classes': summary.classes(
          self.names,
          names,
          point['classes'],
          bounds['classes'],
          (~np.isnan(values)).sum(0),
          outcomes,
        ),
        'counts': {name: int(v.sum()) for name, v in outcomes.items()},
        'nsd_tolerance': self.nsd_tolerance,
        **self.found_within(rows, calibration),
      }
    )


def _spacing(case, rank):
  if 'spacing' in case:
    return np.asarray(case['spacing'], float)
  if 'affine' in case:
    return np.linalg.norm(np.asarray(case['affine'])[:rank, :rank], axis=0)
  raise ValueError(f'case {case.get("id")!r} has neither spacing nor affine')
