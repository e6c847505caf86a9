"""Losses: pure, per example, unreduced; 2-D or 3-D by the rank of the logits.

Every loss is `(logits (b, *s, K), target, …) -> (b,)`: s is empty for
classification. The target is an integer label map (b, *s), or soft / one-hot /
multi-hot (b, *s, K), from 0 to 1. Softmax by default; `multi_label=True` reads
the K outputs as independent sigmoids. The arithmetic is float32 whatever the
logits are, and value and gradient are finite for any finite logits, empty masks
included (beyond ±1e20 logits count as that).

`valid` (b, *s) says which positions count, e.g. all but an ignore label; the
target elsewhere may be anything. With sigmoids it may also be (b, *s, K), for
labels that are not known of every example. An example without a valid position
has loss 0, or what is left of it: see the regional losses.

A target that is none (a label outside the classes, 0/255) is a ValueError;
under jit, where values cannot be seen, it makes the loss NaN.

| many positions: entropy        | regions: overlap             | shape        |
|--------------------------------|------------------------------|--------------|
| cross_entropy                  | dice, generalised_dice       | cl_dice      |
| binary_cross_entropy           | jaccard, tversky             | hausdorff    |
| focal                          | unified_focal (both)         |              |
"""

from medjax.losses.centreline import cl_dice
from medjax.losses.distances import hausdorff
from medjax.losses.entropy import binary_cross_entropy, cross_entropy
from medjax.losses.focusing import focal, unified_focal
from medjax.losses.overlap import dice, generalised_dice, jaccard, tversky

__all__ = [
  'binary_cross_entropy',
  'cl_dice',
  'cross_entropy',
  'dice',
  'focal',
  'generalised_dice',
  'hausdorff',
  'jaccard',
  'tversky',
  'unified_focal',
]
