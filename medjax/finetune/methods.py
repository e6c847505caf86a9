"""Ways to train a part of a model: freezing, LoRA, adapters, BitFit, probing.

`config.adapt` names one of these functions. Each wraps a Linen module in an
`Adapted`.
"""

from medjax.finetune.adapted import Adapted, Adapters, Lora
from medjax.finetune.style import Styles

HEAD = ('^(head|aux)',)


def full(model, *, freeze=()):
  """All of the model trains but what `freeze` matches."""
  if not freeze:
    return model
  return Adapted(model, freeze)


def linear_probe(model, *, train=HEAD, freeze=()):
  """Only the head trains, on features that stay as they are."""
  return Adapted(model, freeze, tuple(train))


def bitfit(model, *, train=HEAD, freeze=()):
  """Only biases and the head train (Ben Zaken et al. 2022).

  Those of normalisations count, in most convolutional networks the only ones:
  a batch norm whose bias trains uses its batch's statistics.
  """
  return Adapted(model, freeze, ('(^|/)bias$', *train))


def lora(
  model,
  *,
  rank=8,
  alpha=16.0,
  target='kernel$',
  train=HEAD,
  freeze=(),
):
  """Kernels get a low-rank update, alpha / rank · A B (Hu et al. 2022).

  A kernel of any number of axes is taken as a matrix; B is zero at first. On
  frozen kernels whose path `target` matches; the head trains whole.
  """
  added = Lora(rank, alpha, target)
  return Adapted(model, freeze, tuple(train), lora=added)


def bottleneck(
  model,
  *,
  width=16,
  target=r'^(backbone/)?[^/]*(stage|block|layer|encoder|decoder)_\d+$',
  train=HEAD,
  freeze=(),
):
  """A small trained bottleneck behind every block (Houlsby et al. 2019).

  Behind each module whose path `target` matches; zero at first. It is not
  linear, so nothing can merge it: a deployed model keeps it.
  """
  added = Adapters(width, target)
  return Adapted(model, freeze, tuple(train), adapters=added)


def mixstyle(
  model,
  *,
  p=0.5,
  alpha=0.1,
  target=r'^(backbone/)?(stage_[01]_(block|layer)_0|encoder_[01])$',
  freeze=(),
):
  """All of it trains, early features in mixed styles (Zhou et al. 2021).

  For other scanners and sites than those of the training. Behind each module
  whose path `target` matches, with probability `p` for a batch.
  """
  return Adapted(model, freeze, adapters=Styles(p, alpha, target))
