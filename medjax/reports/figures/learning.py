"""Learning curves: what metrics.jsonl says by training step."""

import numpy as np

from medjax.reports.figures import look
from medjax.reports.text import shorten


def learning_curves(log, monitor, best_step, measures):
  """Loss (of training, and of validation), validation score, learning rate."""
  groups = _groups(log, monitor, measures)
  if not groups:
    return None
  width = 3.4
  rows = [
    look.legend_rows([label for label, _ in lines], width=width - 0.6)[1]
    for _, _, lines in groups
  ]
  fig, axes = look.grid(
    1, len(groups), width=width * len(groups), height=2.9 + 0.17 * max(rows)
  )
  for ax, (title, judged, lines) in zip(axes[0], groups, strict=True):
    for i, (label, key) in enumerate(lines):
      _draw(ax, *_series(log, key), label=label, noisy=not judged, i=i)
    if judged and isinstance(best_step, int | float):
      ax.axvline(best_step, label='best step', **look.GUIDE)
    ax.set_title(shorten(title, look.characters(width - 0.6)))
    ax.set(xlabel='Step', ylabel=title)
    look.legend_below(ax, width=width - 0.6)
  return fig


def _groups(log, monitor, measures):
  """[(axis title, whether it shows the monitor, [(legend, key)])]."""
  keys = list(dict.fromkeys(k for e in log for k in e if k != 'step'))
  known = {k for e in log for k, v in e.items() if v is not None}
  losses = [k for k in keys if k.split('/')[-1] == 'loss']
  scores = [
    k
    for k in keys
    if k.startswith('validation/') and k not in losses and k in known
  ]
  names = [k.split('/')[1] for k in scores]
  name = next(iter(measures.ordered(names, first=monitor)), None)
  scores = [k for k, n in zip(scores, names, strict=True) if n == name]
  # Of an only class, and of the AUROC of two, they are the mean again.
  values = {k: [e.get(k) for e in log if k in e] for k in scores}
  scores = [
    k for k in scores if k == scores[0] or values[k] != values[scores[0]]
  ]
  rates = [k for k in keys if 'learning_rate' in k.split('/')[-1]]
  groups = [
    (
      'Loss',
      monitor == 'loss',
      [(k.rpartition('/')[0] or 'train', k) for k in losses],
    ),
    (
      f'Validation {measures.title(name)}' if name else '',
      monitor != 'loss',
      [
        ('/'.join(k.split('/')[2:]) or ('mean' if len(scores) > 1 else ''), k)
        for k in scores
      ],
    ),
    ('Learning rate', False, [('', k) for k in rates]),
  ]
  return [group for group in groups if group[-1]]


def _series(log, key):
  points = [(e['step'], e[key]) for e in log if key in e]
  steps, values = zip(*points, strict=True)
  return np.array(steps), np.array(values, float)  # null → NaN: a gap


def _draw(ax, steps, values, *, label, noisy, i):
  style = look.line(i)
  if noisy and len(values) > 150:  # a line to read over the noise
    ax.plot(steps, values, lw=0.6, alpha=0.3, **style)
    values = _smooth(values, len(values) // 50)
  marker = 'o' if len(values) <= 40 else None
  ax.plot(steps, values, lw=1.5, marker=marker, ms=3, label=label, **style)


def _smooth(values, width):
  defined = np.isfinite(values)
  window = np.ones(width)
  total = np.convolve(np.where(defined, values, 0), window, 'same')
  count = np.convolve(defined, window, 'same')
  return np.where(count > 0, total / np.maximum(count, 1), np.nan)
