"""Figures of a hyper-parameter search."""

import numpy as np

from medjax.reports.figures import look
from medjax.reports.text import shorten


def search_history(scores):
  """The score of each (trial, score), and the best so far."""
  if not scores:
    return None
  fig, axes = look.grid(1, 1, width=6.5, height=2.9)
  ax = axes[0, 0]
  numbers, values = np.array(scores, float).T
  ax.plot(numbers, values, 'o', ms=4, label='trial')
  ax.step(
    numbers, np.maximum.accumulate(values), where='post', label='best so far'
  )
  ax.set(xlabel='Trial', ylabel='Validation score')
  _whole_ticks(ax)
  look.legend_below(ax, width=6)
  return fig


def search_curves(curves):
  """The validation scores of each trial, [{step: score}], by step.

  The darker, the better its best score.
  """
  curves = [c for c in curves if c]
  if not curves or max(map(len, curves)) < 2:
    return None
  fig, axes = look.grid(1, 1, width=6.5, height=2.9)
  best = np.array([max(c.values()) for c in curves])
  for i in np.argsort(best):
    axes[0, 0].plot(
      *zip(*sorted(curves[i].items()), strict=True),
      '.-', color='#00588a', alpha=0.15 + 0.75 * _scaled(best)[i], lw=1.2,
    )  # fmt: skip
  axes[0, 0].set(xlabel='Step', ylabel='Validation score')
  _whole_ticks(axes[0, 0])
  return fig


def _whole_ticks(ax):
  """Ticks of the x axis at whole numbers: there is no trial 0.25."""
  from matplotlib.ticker import MaxNLocator

  ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def parallel(trials):
  """Lines through the parameters of each ({name: value}, score).

  Parameters whose values span more than a hundredfold are on a log scale; words
  stand in the order in which they come.
  """
  names = list(dict.fromkeys(k for params, _ in trials for k in params))
  if len(trials) < 2 or not names:
    return None
  columns = [_places([p.get(k) for p, _ in trials]) for k in names]
  scores = np.array([score for _, score in trials], float)
  columns.append(
    (_scaled(scores), f'{scores.min():.3g}', f'{scores.max():.3g}')
  )
  width = max(5.0, 1.3 * len(columns))
  fig, axes = look.grid(1, 1, width=width, height=3.2)
  ax = axes[0, 0]
  for i in np.argsort(scores):
    shade = 0.15 + 0.75 * _scaled(scores)[i]
    ys = [column[0][i] for column in columns]
    ax.plot(range(len(columns)), ys, color='#00588a', alpha=shade, lw=1.2)
  for x, (_, low, high) in enumerate(columns):
    ax.axvline(x, color='0.8', lw=0.8, zorder=0)
    ax.text(x, -0.06, low, ha='center', va='top', fontsize=7)
    ax.text(x, 1.04, high, ha='center', va='bottom', fontsize=7)
  labels = [shorten(n.rpartition('.')[2], 14) for n in (*names, 'score')]
  ax.set_xticks(range(len(columns)), labels)
  ax.set(yticks=[], ylim=(-0.2, 1.2))
  return fig


def importances(shares):
  """Bars of {parameter: share}, the largest on top."""
  if not shares:
    return None
  names = sorted(shares, key=shares.get)
  fig, axes = look.grid(1, 1, width=6, height=0.9 + 0.3 * len(names))
  ax = axes[0, 0]
  ax.barh(range(len(names)), [shares[n] for n in names])
  ax.set_yticks(range(len(names)), [shorten(n, 36) for n in names])
  ax.set(xlabel='Share of the scores explained', xlim=(0, 1))
  return fig


def _places(values):
  """(place of each from 0 to 1, text of the lowest, text of the highest)."""
  known = [v for v in values if v is not None]
  if any(isinstance(v, str | bool) for v in known):
    kinds = list(dict.fromkeys(map(str, known)))
    places = [kinds.index(str(v)) if v is not None else np.nan for v in values]
    places = np.array(places) / max(1, len(kinds) - 1)
    return places, kinds[0], kinds[-1]
  numbers = np.array([np.nan if v is None else v for v in values], float)
  low, high = np.nanmin(numbers), np.nanmax(numbers)
  if low > 0 and high / low > 100:
    numbers = np.log(numbers)
  return _scaled(numbers), f'{low:.3g}', f'{high:.3g}'


def _scaled(x):
  low, high = np.nanmin(x), np.nanmax(x)
  return (x - low) / (high - low) if high > low else np.full(len(x), 0.5)
