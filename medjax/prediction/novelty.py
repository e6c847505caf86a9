"""What a run has never seen: fitted on its training, kept beside it."""

import dataclasses
import pathlib
import zipfile

import numpy as np

from medjax import files
from medjax.metrics import novelty
from medjax.prediction.predictor import check_features
from medjax.prediction.trained import other_steps

FILE = 'novelty.npz'
DOUBT = 0.05  # below this p one abstains
MOST = 5000  # training cases that are looked at, drawn by the run's seed


@dataclasses.dataclass(frozen=True)
class Novelty:
  """Scores of novelty with what they are compared to.

  fitted: of the training cases. known: {score: (m,)} of the validation cases,
  by which a score becomes a p value.
  """

  fitted: novelty.Fit
  known: dict[str, np.ndarray]

  @classmethod
  def of(cls, train, validation, names):
    """Fitted on `Seen` of train, calibrated on `Seen` of validation.

    Raises ValueError for fewer than two scores, and for cases of the training
    among those of validation.
    """
    check_names(names)
    check_apart(train.ids, validation.ids)
    fitted = novelty.fit(
      train.signature, label=train.label, logits=train.logits
    )
    known = novelty.scores(
      fitted, validation.signature, logits=validation.logits, names=names
    )
    return cls(fitted, known)

  def p_values(self, signature, logits=None):
    """{score: p (n,)} of cases, and 'p' of all of them together."""
    found = novelty.scores(
      self.fitted, signature, logits=logits, names=tuple(self.known)
    )
    each = {
      name: novelty.p_values(self.known[name], score)
      for name, score in found.items()
    }
    return {**each, 'p': novelty.joint_p_values(self.known, found)}

  def judge(self, prediction):
    """({column: p}, reasons to abstain) of a `Prediction` with features."""
    logits = prediction.logits
    found = self.p_values(
      prediction.signature[None], None if logits is None else logits[None]
    )
    columns = {column(name): float(p[0]) for name, p in found.items()}
    p = columns[column('p')]
    if p >= DOUBT:
      return columns, []
    return columns, [f'unlike the training cases (p = {p:.3g})']

  def save(self, workdir, steps):
    """Writes novelty.npz, of the checkpoints of these steps."""
    arrays = {
      f'fit_{k}': np.asarray(v, np.float32)
      for k, v in dataclasses.asdict(self.fitted).items()
    }
    arrays |= {f'known_{k}': v for k, v in self.known.items()}
    arrays['steps'] = np.array(steps)
    with files.replacing(pathlib.Path(workdir) / FILE, 'wb') as f:
      np.savez_compressed(f, **arrays)


def column(name):
  """The column of a score's p values in a table."""
  return 'ood_p' if name == 'p' else f'ood_p/{name}'


def kept(workdir, steps):
  """As `load`; None where a run has fitted none."""
  try:
    return load(workdir, steps)
  except FileNotFoundError:
    return None


def load(workdir, steps):
  """The `Novelty` of a workdir, for weights of these steps.

  Raises FileNotFoundError where there is none, ValueError for that of others.
  """
  path = pathlib.Path(workdir) / FILE
  if not path.exists() and (path.parent / 'fold0' / FILE).exists():
    raise FileNotFoundError(
      f'{path} is missing: of a cross-validation each fold has its own, give '
      f'{path.parent}/fold0'
    )
  if not path.exists():
    raise FileNotFoundError(
      f'{path} is missing: fit it with --mode=evaluate and '
      "--config.inference.ood=\"('mahalanobis','residual')\""
    )
  try:
    with np.load(path) as held:
      arrays = {k: np.asarray(held[k], float) for k in held.files}
    part = lambda start: {
      k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)
    }
    fitted = novelty.Fit(**{
      **part('fit_'), 'factor': float(arrays['fit_factor'])
    })  # fmt: skip
    known = part('known_')
  except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as e:
    line = ' '.join(str(e).split())[:80]
    raise ValueError(f'{path} is damaged: {line}; evaluate again') from None
  if other := other_steps(arrays.get('steps'), steps):
    raise ValueError(f'{path}: {other}')
  return Novelty(fitted, known)


@dataclasses.dataclass(frozen=True)
class Seen:
  """What a model makes of cases: (n, d), (n, k) or None, (n,) or None, ids."""

  signature: np.ndarray
  logits: np.ndarray | None
  label: np.ndarray | None
  ids: tuple[str, ...]


def told(rows):
  """The rows of cases of which the model gives numbers."""
  return [row for row in rows if 'signature' in row]


def of_rows(rows):
  """The `Seen` of the rows of an evaluation, without labels."""
  pick = lambda name: np.stack([np.asarray(row[name]) for row in rows])
  logits = pick('logits') if 'logits' in rows[0] else None
  ids = tuple(row['id'] for row in rows)
  return Seen(pick('signature'), logits, None, ids)


def seen(predictor, samples, watch=lambda: None):
  """The `Seen` of samples; labels only where each case has one class."""
  signature, logits, label, ids = [], [], [], []
  for sample, found in predictor(samples):
    case = sample['raw']
    signature.append(found.signature)
    logits.append(found.logits)
    label.append(case.get('label'))
    ids.append(case['id'])
    watch()
  single = all(y is not None and np.ndim(y) == 0 for y in label)
  return Seen(
    np.stack(signature),
    np.stack(logits) if logits[0] is not None else None,
    np.array(label) if single else None,
    tuple(ids),
  )


def check(experiment):
  """Raises ValueError for scores of inference.ood that it cannot give.

  Asked before the training: the evaluation that fits them comes after it.
  """
  if names := tuple(experiment.inference.ood):
    maps = 'mask' in experiment.task.fields
    check_names(names)
    if maps and (odd := [name for name in names if name in novelty.OF_LOGITS]):
      raise ValueError(
        f'inference.ood={names!r}: {odd[0]} is of the logits of a case, and '
        "these are a map: ('mahalanobis', 'residual'), say"
      )
    check_features(experiment)


def check_names(names):
  """Raises ValueError for less than two scores: no single one is enough."""
  unknown = [name for name in names if name not in novelty.SCORES]
  if unknown or len(set(names)) < 2:
    raise ValueError(
      f'inference.ood={tuple(names)!r}: name two or more of '
      f'{", ".join(novelty.SCORES)}: what one does not see another may'
    )
  if set(names) <= set(novelty.OF_LOGITS) - {'vim'}:
    raise ValueError(
      f'inference.ood={tuple(names)!r}: probabilities alone do not show what '
      'is new; name a score of features too, mahalanobis or knn'
    )


def check_apart(train, calibration):
  """Raises ValueError where a case of the training is to calibrate by."""
  both = sorted(set(train) & set(calibration))
  if both:
    raise ValueError(
      f'case {both[0]} is of the training and of validation'
      f'{f", as {len(both) - 1} more" if len(both) > 1 else ""}: what was '
      'trained on cannot calibrate; give other cases in data.splits'
    )


def drawn(count, seed):
  """Places of at most MOST of `count` cases, in order."""
  if count <= MOST:
    return range(count)
  chosen = np.random.default_rng(seed).choice(count, MOST, replace=False)
  return sorted(map(int, chosen))
