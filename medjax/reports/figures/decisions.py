"""How well probabilities rank, how true they are, and what is decided."""

import numpy as np

from medjax.reports.figures import look
from medjax.reports.text import interval, is_defined, number, shorten


def discrimination(summary, measures):
  """ROC and precision-recall curves of a summary."""
  roc = _curves(summary, 'roc', 'fpr', 'tpr')
  pr = _curves(summary, 'precision_recall', 'recall', 'precision')
  if not roc and not pr:
    return None
  height = 4.3 + 0.2 * (max(len(roc), len(pr)) + 1)
  fig, axes = look.grid(1, 2, width=9, height=height)
  left, right = axes[0]
  for i, (name, (fpr, tpr)) in enumerate(roc):
    label = _labelled(summary, name, 'auroc')
    left.plot(fpr, tpr, lw=1.6, label=label, **look.line(i))
  left.plot([0, 1], [0, 1], label='chance', **look.GUIDE)
  left.set(
    title=f'ROC ({measures.plain_title("auroc")} with 95 % interval)',
    xlabel='1 − specificity (false positive rate)',
    ylabel='Sensitivity (true positive rate)',
  )
  for i, (name, (recall, precision)) in enumerate(pr):
    label = _labelled(summary, name, 'auprc')
    # Recall rises: the precision of a point is that of the step up to it.
    steps = look.line(i) | {'drawstyle': 'steps-pre', 'lw': 1.6}
    right.plot(recall, precision, label=label, **steps)
  share = _prevalence(summary, pr)
  if share is not None:
    right.axhline(share, label=f'prevalence: {share:.3f}', **look.GUIDE)
  right.set(
    title=f'Precision-recall ({measures.plain_title("auprc")} '
    'with 95 % interval)',
    xlabel='Recall (sensitivity)',
    ylabel='Precision (positive predictive value)',
  )
  for ax in axes[0]:
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), aspect='equal')
    look.legend_below(ax, width=3.9)
  return fig


def _curves(summary, kind, *names):
  """[(class, arrays of these names)] of one kind of curve."""
  return [
    (name, [np.array(curves[kind][n], float) for n in names])
    for name, curves in summary.get('curves', {}).items()
    if curves.get(kind)
  ]


def _labelled(summary, name, metric):
  entry = summary.get('classes', {}).get(name, {}).get(metric, {})
  name = shorten(name, 30)
  if not is_defined(entry.get('value')):
    return name
  bounds = interval(entry.get('interval'))
  bounds = f' ({bounds})' if bounds else ''
  return f'{name}: {number(entry["value"])}{bounds}'


def _prevalence(summary, curves):
  """The share of cases of the only class that is drawn, else None."""
  support, n = summary.get('support', {}), summary.get('n')
  if len(curves) == 1 and curves[0][0] in support and n:
    return support[curves[0][0]] / n
  return None


def reliability(summary):
  """Observed frequency by predicted probability, and cases per bin."""
  curves = _curves(summary, 'reliability', 'confidence', 'frequency', 'count')
  if not curves:
    return None
  names = [shorten(name, 30) for name, _ in curves]
  columns, rows = look.legend_rows(['perfect', *names], width=3.3)
  fig, axes = look.grid(
    2, 1, width=3.7, height=4.6 + 0.18 * rows, sharex=True, height_ratios=(3, 1)
  )
  ax, below = axes[:, 0]
  ax.plot([0, 1], [0, 1], label='perfect', **look.GUIDE)
  for i, (name, (_, points)) in enumerate(zip(names, curves, strict=True)):
    x, y, n = (v[points[2] > 0] for v in points)
    ax.plot(x, y, lw=1.4, marker='o', ms=4, label=name, **look.line(i))
    below.plot(x, n, lw=1.2, marker='o', ms=3, **look.line(i))
  ax.set(
    title='Reliability',
    ylabel='Observed frequency',
    xlim=(-0.02, 1.02),
    ylim=(-0.02, 1.02),
  )
  fig.legend(loc='outside lower left', ncols=columns)
  below.set(xlabel='Predicted probability', ylabel='Cases', yscale='symlog')
  most = max(points[2].max() for _, points in curves)
  below.set_ylim(0, max(2 * most, 1))
  below.yaxis.set_major_formatter(lambda v, _: f'{v:,.0f}')
  return fig


def confusion(summary):
  """Matrices of K x K: by the likeliest class, and at the threshold."""
  matrices = {
    title: np.array(summary[key], float)
    for key, title in (
      ('confusion', 'Likeliest class'),
      ('confusion_at_threshold', 'At the threshold'),
    )
    if np.ndim(summary.get(key)) == 2
  }
  if not matrices:
    return None
  k = len(next(iter(matrices.values())))
  names = [shorten(n, 28) for n in summary.get('classes') or range(k)]
  side = float(np.clip(1.6 + 0.6 * k, 2.7, 10))
  margin = 0.075 * max(map(len, names))  # of the names at the left
  fig, axes = look.grid(
    1,
    len(matrices),
    width=(side + margin) * len(matrices) + 0.9,
    height=side + 0.4 + margin / 2,
  )
  for ax, (title, matrix) in zip(axes[0], matrices.items(), strict=True):
    image = _matrix(ax, matrix)
    ax.set_yticks(range(k), names)
    look.name_ticks(ax, names, width=0.85 * side - 0.8)
    ax.set(title=title, xlabel='Predicted', ylabel='Reference')
  bar = fig.colorbar(
    image, ax=axes, shrink=0.75, label='Share of the reference class'
  )
  bar.outline.set_visible(False)
  return fig


def _matrix(ax, matrix):
  k = len(matrix)
  share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
  image = ax.imshow(share, cmap='Blues', vmin=0, vmax=1)
  ax.grid(visible=False)
  for (i, j), n in np.ndenumerate(matrix) if k <= 15 else ():
    text = f'{n:.0f}\n{share[i, j]:.0%}' if k <= 8 else f'{n:.0f}'
    colour = 'white' if share[i, j] > 0.55 else 'black'
    ax.text(j, i, text, ha='center', va='center', color=colour)
  return image
