"""Two runs on the same cases: one against the other, and their differences."""

import numpy as np

from medjax.reports.figures import look
from medjax.reports.text import shorten


def paired_differences(groups, value, names, ids, *, named=3):
  """B against A case by case, and their differences, of each class.

  groups: {class: (a (n,), b (n,), interval of the mean difference)}; NaN where
  a case has no value. `named`: so many cases of each class that moved most
  carry their id.
  """
  ids = np.asarray(ids)
  kept = {}
  for name, (a, b, bounds) in groups.items():
    defined = np.isfinite(a) & np.isfinite(b)
    if defined.any():
      kept[name] = a[defined], b[defined], bounds, ids[defined]
  if not kept:
    return None
  width = float(np.clip(1.4 + 0.9 * len(kept), 3.2, 14))
  fig, axes = look.grid(
    1, 2, width=4.4 + width, height=4.1, width_ratios=(4.4, width)
  )
  left, right = axes[0]
  _scatter(left, kept, value, [shorten(name, 40) for name in names])
  rng = np.random.default_rng(0)
  for i, group in enumerate(kept.values()):
    _differences(right, i, *group, named=named, rng=rng)
  right.axhline(0, **look.GUIDE)
  counts = [len(a) for a, *_ in kept.values()]
  look.name_ticks(right, kept, width=width - 0.8, counts=counts)
  right.set(
    xlim=(-0.6, len(kept) - 0.4),
    ylabel='B − A',
    title='Differences; mean and 95 % interval',
  )
  right.grid(axis='x', visible=False)
  return fig


def _scatter(ax, groups, value, names):
  """No legend: the other panel names the colours."""
  for i, (a, b, *_) in enumerate(groups.values()):
    ax.scatter(a, b, color=_colour(i), **look.dots(a))
  ends = [min(*ax.get_xlim(), *ax.get_ylim())]
  ends.append(max(ax.get_xlim()[1], ax.get_ylim()[1]))
  ax.plot(ends, ends, **look.GUIDE)
  ax.set(xlim=ends, ylim=ends, aspect='equal', title=value)
  ax.set(xlabel=f'A: {names[0]}', ylabel=f'B: {names[1]}')


def _differences(ax, i, a, b, bounds, ids, *, named, rng):
  change = b - a
  x = i + rng.uniform(-0.22, 0.22, len(a))
  ax.scatter(x, change, color=_colour(i), **look.dots(a))
  for k in np.argsort(-np.abs(change), kind='stable')[:named]:
    if change[k]:
      text = shorten(ids[k], 18)
      ax.annotate(text, (x[k], change[k]), fontsize=6, color='#555555')
  mean = change.mean()
  ax.plot([i - 0.3, i + 0.3], [mean, mean], color='#000000', lw=1.5)
  if np.isfinite(bounds).all():
    ax.vlines(i, *bounds, color='#000000', lw=4)


def _colour(i):
  return look.COLOURS[i % len(look.COLOURS)]
