"""What the arrays given to a metric mean: masks, labels, scores; or a refusal.

A mask may come as booleans, 0/1 or 0/255 of any type, as files have it. Bits of
other numbers are never combined: a label map is refused where a mask is
expected, and the error says how to make one of it.
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Integer, Real

Mask = Bool[Array | np.ndarray, '*s'] | Real[Array | np.ndarray, '*s']
Labels = Mask
Truth = Bool[np.ndarray, 'n *k'] | Real[np.ndarray, 'n *k']
Scores = Truth
Weights = Real[np.ndarray, '*r n'] | Bool[np.ndarray, '*r n'] | None

# Of a probability: what rounding to float32 may leave above one.
_SLACK = 1e-6
# Of a sum of probabilities: they may have been float16 or bfloat16.
_SUM_SLACK = 0.01


def _array(x):
  return x if isinstance(x, jax.Array) else np.asarray(x)


def mask(x: Any, *, name: str = 'mask') -> Bool[Array | np.ndarray, '...']:
  """A binary mask as booleans: bool, 0/1 or 0/255 of any real type.

  Numpy stays numpy, jax stays jax. Under jit only booleans pass: the values of
  others cannot be seen.

  Raises:
    ValueError: for other values, label maps and probabilities among them.
  """
  x = _array(x)
  if x.dtype == bool:
    return x
  if isinstance(x, jax.core.Tracer):
    raise ValueError(
      f'{name}: under jit a mask must be bool, not {x.dtype}; give mask > 0'
    )
  seen = np.asarray(x)
  if not jax.dtypes.issubdtype(seen.dtype, np.number) or np.iscomplexobj(seen):
    raise ValueError(f'{name} must hold numbers, not {seen.dtype}')
  on = seen != 0
  if not any(((seen == high) == on).all() for high in (1, 255)):
    raise ValueError(
      f'{name} must be 0/1 or 0/255, but holds {_stranger(seen)}: give one '
      'class of a label map (labels == k), a threshold of probabilities '
      '(p > .5)'
    )
  return x != 0


def _stranger(x):
  """What is no mask's among the values, for an error."""
  others = x[(x != 0) & (x != 1) & (x != 255)]
  return f'{float(others[0]):g}' if others.size else 'both 1 and 255'


def masks(a: Any, b: Any, *, names=('prediction', 'reference')) -> tuple:
  """Two masks of one shape, as booleans."""
  a, b = mask(a, name=names[0]), mask(b, name=names[1])
  same_shape(a, b, names=names)
  return a, b


def same_shape(a, b, *, names):
  """Raises ValueError where shapes differ: they would be broadcast."""
  if a.shape != b.shape:
    raise ValueError(
      f'{names[0]} and {names[1]} of different shapes: {a.shape} and {b.shape}'
    )


def labels(
  x: Any, *, num_classes: int, name: str = 'label'
) -> Integer[Array | np.ndarray, '...']:
  """Class indices 0 … num_classes - 1 as int32; whole floats are cast.

  Under jit the values cannot be seen, and integers pass as they are.

  Raises:
    ValueError: for fractions, and for labels outside the classes.
  """
  x = _array(x)
  traced = isinstance(x, jax.core.Tracer)
  floats = jax.dtypes.issubdtype(x.dtype, np.floating)
  if x.dtype.kind not in 'biu' and (traced or not floats):
    raise ValueError(f'{name} must hold integers, not {x.dtype}')
  if x.size and not traced:
    low, high = x.min(), x.max()  # NaN, if there is one
    if not (low >= 0 and high < num_classes):
      bad = high if low >= 0 else low
      raise ValueError(
        f'{name} holds {float(bad):g}, but num_classes={num_classes} allows 0 '
        f'to {num_classes - 1}'
      )
    if floats and bool((x != x.astype(np.int32)).any()):
      raise ValueError(f'{name} must hold whole numbers, not fractions')
  return x.astype(np.int32)


def scores(x: Any, *, dtype=float) -> Real[np.ndarray, '...']:
  """Scores as float64 (dtype); ValueError if one is NaN or infinite."""
  x = np.asarray(x, dtype)
  if not np.isfinite(x).all():
    bad = int((~np.isfinite(x)).sum())
    raise ValueError(f'{bad} of {x.size} scores are NaN or infinite')
  return x


def probabilities(
  x: Any, *, exclusive: bool = False, dtype=float
) -> Real[np.ndarray, '...']:
  """Numbers from 0 to 1 as float64 (dtype); rows sum to 1 where exclusive.

  Raises:
    ValueError: for others, e.g. logits or per cents.
  """
  x = scores(x, dtype=dtype)
  if x.size and not (x.min() >= -_SLACK and x.max() <= 1 + _SLACK):
    bad = x.min() if x.min() < -_SLACK else x.max()
    raise ValueError(f'probabilities must be from 0 to 1, not {bad:g}')
  if exclusive and x.size:
    sums = x.sum(-1)
    worst = sums.flat[np.abs(sums - 1).argmax()]
    if abs(worst - 1) > _SUM_SLACK:
      raise ValueError(
        f'probabilities of exclusive classes must sum to 1, not {worst:g}; '
        'independent labels: exclusive=False'
      )
  return x


def truth_and(truth: Any, other: Any, read) -> tuple[np.ndarray, np.ndarray]:
  """Truth as booleans and what `read` makes of the other, of one shape."""
  truth, other = np.asarray(mask(truth, name='truth')), read(other)
  same_shape(truth, other, names=('truth', 'predictions'))
  return truth, other


def case_weights(weights: Any, n: int) -> Real[np.ndarray, '*r n']:
  """Weights (*r, n) as float64; ones where there are none."""
  if weights is None:
    return np.ones(n)
  weights = np.asarray(weights, float)
  if weights.shape[-1] != n:
    raise ValueError(f'{weights.shape[-1]} weights for {n} cases')
  if not (weights >= 0).all():  # nor NaN
    raise ValueError('weights must not be negative or NaN')
  return weights


def _where(valid, x):
  xp = x.__array_namespace__()
  return xp.where(valid, x, xp.zeros_like(x))


def label_maps(
  prediction: Any, reference: Any, *, num_classes: int, valid: Any = None
) -> tuple:
  """Two label maps (*s) of one shape; 0 in both where they are not valid."""
  pair = {'prediction': _array(prediction), 'reference': _array(reference)}
  if valid is not None:
    valid = mask(valid, name='valid')
    for name, x in pair.items():
      same_shape(x, valid, names=(name, 'valid'))
    # Not a product: 0 · NaN is NaN.
    pair = {k: _where(valid, x) for k, x in pair.items()}
  same_shape(*pair.values(), names=tuple(pair))
  return tuple(
    labels(x, num_classes=num_classes, name=name) for name, x in pair.items()
  )


def spacing(spacing: Any, rank: int) -> np.ndarray:
  """Spacing (rank,) in mm; one number stands for all axes."""
  spacing = np.asarray(spacing, float)
  if spacing.shape not in ((), (rank,)):
    raise ValueError(
      f'spacing has {spacing.size} numbers for an image of {rank} axes'
    )
  if not (np.isfinite(spacing) & (spacing > 0)).all():
    raise ValueError(f'spacing must be positive, not {spacing.tolist()}')
  return np.broadcast_to(spacing, (rank,))
