"""Figures of a report: learning curves, distributions, curves, cases.

Each takes plain data and gives a matplotlib Figure, or None where the data
hold nothing to show. Made under style(); neither pyplot nor a display is used.
"""

import contextlib
import math
import warnings

import numpy as np

# Okabe & Ito's palette, told apart by colour-blind readers.
_COLOURS = (
  '#0072B2',
  '#D55E00',
  '#009E73',
  '#CC79A7',
  '#E69F00',
  '#56B4E9',
  '#8C510A',
  '#000000',
)
# The brighter ones, to be seen on dark images: two outlines, then classes.
_REFERENCE, _PREDICTION = '#56B4E9', '#E69F00'
_CLASSES = ('#F0E442', '#CC79A7', '#00C08B', '#D55E00', '#FFFFFF', '#56B4E9')
_LINES = ('-', '--', ':', '-.')
_STYLE = {
  'font.family': 'DejaVu Sans',
  'font.size': 9,
  'axes.titlesize': 10,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.grid': True,
  'grid.color': '#e4e4e4',
  'grid.linewidth': 0.6,
  'axes.axisbelow': True,
  'legend.frameon': False,
  'legend.fontsize': 8,
  'savefig.dpi': 130,
  # A file's or class's name is not mathematics.
  'text.parse_math': False,
}

# name: (title, unit, whether lower is better)
METRICS = {
  'dice': ('Dice', '', False),
  'iou': ('IoU', '', False),
  'nsd': ('NSD', '', False),
  'hd95': ('HD95', 'mm', True),
  'hausdorff': ('Hausdorff distance', 'mm', True),
  'assd': ('ASSD', 'mm', True),
  'volume_error': ('Volume error (signed, relative)', '', None),
  'recall': ('Recall (sensitivity)', '', False),
  'sensitivity': ('Recall (sensitivity)', '', False),
  'f1': ('F1', '', False),
  'auroc': ('AUROC', '', False),
  'auprc': ('AUPRC', '', False),
  'brier': ('Brier score', '', True),
  'ece': ('ECE', '', True),
  'nll': ('Negative log-likelihood', 'nats', True),
  'volume': ('Volume', 'ml', None),
  'area': ('Area', 'share of the image', None),
}


def metric_title(metric):
  """'hd95' → 'HD95, mm'."""
  base = metric.removesuffix('_at_threshold').removesuffix('_calibrated')
  default = base.replace('_', ' ').capitalize(), '', None
  title, unit, _ = METRICS.get(base, default)
  title += ' at the threshold' if metric.endswith('_at_threshold') else ''
  title += ' after scaling' if metric.endswith('_calibrated') else ''
  return f'{title}, {unit}' if unit else title


def _defined(value):
  return value is not None and not math.isnan(value)


def number(value):
  """A number as text: '0.912', '12.3', '1,024', '–' when undefined."""
  if isinstance(value, str):
    return value
  if not _defined(value):
    return '–'
  if isinstance(value, int):
    return f'{value:,}'
  text = f'{value:.3f}' if abs(value) < 10 else f'{value:.1f}'
  return text.replace('-', '−')


def interval(bounds):
  """[lo, hi] as text, '' when undefined."""
  if not bounds or not all(_defined(b) for b in bounds):
    return ''
  return f'{number(bounds[0])} to {number(bounds[1])}'


def to_float(text):
  """A field of a CSV as a number, NaN when it is none."""
  try:
    return float(text)
  except (TypeError, ValueError):
    return math.nan


def shorten(text, length):
  """At most `length` characters, the middle left out."""
  text = str(text)
  half = (length - 1) // 2
  return text if len(text) <= length else f'{text[:half]}…{text[-half:]}'


@contextlib.contextmanager
def style():
  """Context in which figures are made and saved."""
  import matplotlib

  with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
    # Names in scripts that the font lacks stay readable in the tables.
    warnings.filterwarnings('ignore', message='Glyph .* missing from')
    yield


def _figure(width, height, columns, **kwargs):
  """A figure and its row of axes; no pyplot, so no display and no state."""
  from matplotlib import figure

  fig = figure.Figure(figsize=(width, height), layout='constrained')
  axes = fig.subplots(1, columns, squeeze=False, **kwargs)[0]
  return fig, axes


def _colour(i):
  return {
    'color': _COLOURS[i % len(_COLOURS)],
    'linestyle': _LINES[i // len(_COLOURS) % len(_LINES)],
  }


def _legend(ax, loc):
  """Legend in the axes, or below them when it is long."""
  handles, _ = ax.get_legend_handles_labels()
  if len(handles) > 9:
    ax.legend(loc='upper left', bbox_to_anchor=(0, -0.14))
  elif handles:
    ax.legend(loc=loc)


def _series(log, key):
  points = [(e['step'], e[key]) for e in log if key in e]
  steps, values = zip(*points, strict=True)
  return np.array(steps), np.array(values, float)  # null → NaN: a gap


def _smooth(values, width):
  defined = np.isfinite(values)
  window = np.ones(width)
  total = np.convolve(np.where(defined, values, 0), window, 'same')
  count = np.convolve(defined, window, 'same')
  return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _curve_groups(log, monitor):
  """[(axis title, [(legend, key)])] of what metrics.jsonl holds."""
  keys = list(dict.fromkeys(k for e in log for k in e if k != 'step'))
  losses = [k for k in keys if k.split('/')[-1] == 'loss']
  scores = [k for k in keys if k.startswith('validation/') and k not in losses]
  names = [k.split('/')[1] for k in scores]
  wanted = [monitor, 'dice', 'auroc', 'balanced_accuracy', *names]
  name = next((n for n in wanted if n in names), None)
  scores = [k for k, n in zip(scores, names, strict=True) if n == name]
  rates = [k for k in keys if 'learning_rate' in k.split('/')[-1]]
  groups = [
    ('Loss', [(k.rpartition('/')[0] or 'train', k) for k in losses]),
    (
      f'Validation {metric_title(name)}' if name else '',
      [
        ('/'.join(k.split('/')[2:]) or ('mean' if len(scores) > 1 else ''), k)
        for k in scores
      ],
    ),
    ('Learning rate', [('', k) for k in rates]),
  ]
  return [(title, lines) for title, lines in groups if lines]


def learning_curves(log, monitor, best_step):
  """Loss, validation score and learning rate by step, of metrics.jsonl."""
  groups = _curve_groups(log, monitor)
  if not groups:
    return None
  fig, axes = _figure(3.4 * len(groups), 2.8, len(groups))
  for ax, (title, lines) in zip(axes, groups, strict=True):
    for i, (label, key) in enumerate(lines):
      steps, values = _series(log, key)
      style = _colour(i)
      if title == 'Loss' and len(values) > 150:  # noisy: a line to read
        ax.plot(steps, values, lw=0.6, alpha=0.3, **style)
        values = _smooth(values, len(values) // 50)
      marker = 'o' if len(values) <= 40 else None
      ax.plot(steps, values, lw=1.5, marker=marker, ms=3, label=label, **style)
    if best_step is not None and title.startswith('Validation'):
      ax.axvline(best_step, color='#666666', lw=0.9, ls=':', label='best step')
    ax.set(title=title, xlabel='Step', ylabel=title)
    _legend(ax, 'best')
  return fig


def boxes(rows, metrics):
  """One panel per metric, one box per class, one point per case."""
  data = {}
  for metric in metrics if rows else ():
    values = {
      key.split('/', 1)[1]: np.array([to_float(row[key]) for row in rows])
      for key in rows[0]
      if key.startswith(metric + '/')
    }
    if values and np.isfinite(np.concatenate([*values.values()])).any():
      data[metric] = {k: v[np.isfinite(v)] for k, v in values.items()}
  if not data:
    return None
  classes = max(len(v) for v in data.values())
  width = max(3.3, 0.55 * classes + 1)
  fig, axes = _figure(min(width * len(data), 22), 3.4, len(data))
  rng = np.random.default_rng(0)
  for ax, (metric, values) in zip(axes, data.items(), strict=True):
    for i, (_, y) in enumerate(values.items()):
      colour = _COLOURS[i % len(_COLOURS)]
      ax.boxplot(
        y,
        positions=[i],
        widths=0.55,
        showfliers=False,
        medianprops={'color': '#000000', 'linewidth': 1.5},
        boxprops={'color': colour},
        whiskerprops={'color': colour},
        capprops={'color': colour},
      )
      x = i + rng.uniform(-0.18, 0.18, len(y))
      small = len(y) > 200
      ax.scatter(
        x,
        y,
        s=4 if small else 12,
        color=colour,
        alpha=0.3 if small else 0.55,
        linewidths=0,
        zorder=3,
      )
    turned = {'rotation': 40, 'ha': 'right'} if classes > 5 else {}
    labels = [f'{name}\nn = {len(y)}' for name, y in values.items()]
    ax.set_xticks(range(len(values)), labels, **turned)
    ax.set(xlim=(-0.6, len(values) - 0.4), ylabel=metric_title(metric))
    ax.grid(axis='x', visible=False)
    if METRICS.get(metric, ('', '', None))[1]:  # a distance
      ax.set_ylim(bottom=0)
  return fig


def _window(image):
  """Display intensities in [0, 1]: colours as they are, else percentiles."""
  finite = image[np.isfinite(image)]
  if not finite.size:
    return np.zeros(image.shape)
  if image.ndim == 3 and finite.min() >= 0 and finite.max() <= 255:
    low, high = 0, 255 if finite.max() > 1 else 1
  else:
    low, high = np.percentile(finite, (0.5, 99.5))
  scaled = (image - low) / (high - low if high > low else 1)
  return np.clip(np.nan_to_num(scaled), 0, 1)


def _aspect(case):
  spacing = case.get('spacing', (1, 1))
  return float(spacing[0] / spacing[1])


def _show(ax, case):
  ax.imshow(
    _window(case['image']),
    cmap='gray',
    vmin=0,
    vmax=1,
    aspect=_aspect(case),
    interpolation='nearest',
  )
  ax.set_axis_off()


def _outline(ax, inside, colour, **style):
  """Outline of a mask, closed where it meets the border of the image."""
  rows, columns = (np.arange(-1, n + 1) for n in inside.shape)
  if inside.any():
    padded = np.pad(inside, 1).astype(float)
    ax.contour(columns, rows, padded, [0.5], colors=[colour], **style)


def _fill(ax, mask, colours, aspect):
  """Labels of a mask as transparent colours within their outlines."""
  from matplotlib import colors

  overlay = np.zeros((*mask.shape, 4))
  for label, colour in colours.items():
    overlay[mask == label] = colors.to_rgba(colour, 0.3)
    _outline(ax, mask == label, colour, linewidths=1.1)
  ax.imshow(overlay, aspect=aspect, interpolation='nearest')


def _frame(case):
  """(left, right, bottom, top) in pixels: all, or what is around the masks."""
  shape = np.array(case['mask'].shape)
  found = np.argwhere((case['mask'] > 0) | (case['prediction'] > 0))
  low, high = np.zeros(2), shape
  if len(found):
    size = np.ptp(found, 0) + 1
    margin = np.maximum(0.35 * size.max(), 6)
    near = np.maximum(found.min(0) - margin, 0).round()
    far = np.minimum(found.max(0) + 1 + margin, shape).round()
    if np.prod((far - near) / shape) < 0.4:  # small: shown larger
      low, high = near, far
  (top, left), (bottom, right) = low - 0.5, high - 0.5
  return left, right, bottom, top


def segmentation_case(case, names, heading):
  """Image | reference | prediction | both outlines of one slice.

  With one label the two panels in the middle would say no more than the last
  and are left out. Where the masks are small, all panels but the first show
  their surroundings, framed in the first.
  """
  from matplotlib import lines, patches

  mask, prediction = case['mask'], case['prediction']
  labels = [int(k) for k in np.union1d(mask, prediction) if k > 0]
  colours = {k: _CLASSES[(k - 1) % len(_CLASSES)] for k in labels}
  panels = ['Image', 'Outlines']
  if len(labels) > 1:
    panels[1:1] = ['Reference', 'Prediction']
  rows, columns = mask.shape
  whole = (-0.5, columns - 0.5, rows - 0.5, -0.5)
  frame = left, right, bottom, top = _frame(case)
  aspect = _aspect(case)
  height = 2.5 * aspect * (bottom - top) / (right - left)
  fig, axes = _figure(
    2.55 * len(panels), float(np.clip(height, 1.3, 4.0)) + 0.85, len(panels)
  )
  fig.suptitle(heading, fontsize=9, x=0.01, ha='left')
  for ax, panel in zip(axes, panels, strict=True):
    _show(ax, case)
    ax.set_title(panel, fontsize=9)
    if panel in ('Reference', 'Prediction'):
      shown = mask if panel == 'Reference' else prediction
      _fill(ax, shown, colours, aspect)
    elif panel == 'Outlines':
      for k in labels:
        _outline(ax, mask == k, _REFERENCE, linewidths=1.7)
      for k in labels:
        _outline(
          ax, prediction == k, _PREDICTION, linewidths=1.3, linestyles='--'
        )
    limits = whole if panel == 'Image' else frame
    ax.set(xlim=limits[:2], ylim=limits[2:])
  if frame != whole:
    size = right - left, bottom - top
    style = {'fill': False, 'ec': '#FFFFFF', 'lw': 1.3}
    axes[0].add_patch(patches.Rectangle((left, top), *size, **style))
  named = colours if len(labels) > 1 else ()
  handles = [
    patches.Patch(fc=colours[k], ec='#666666', label=names.get(k, f'label {k}'))
    for k in named
  ]
  two = (_REFERENCE, '-', 'reference'), (_PREDICTION, '--', 'prediction')
  handles += [
    lines.Line2D([], [], color=c, ls=ls, lw=2, label=text)
    for c, ls, text in two
  ]
  fig.legend(handles=handles, loc='outside lower center', ncols=8)
  return fig


def _named(labels, names):
  """Class index or multi-hot (K,) → text."""
  labels = np.asarray(labels)
  if labels.ndim == 0:
    k = int(labels)
    return names[k] if k < len(names) else f'class {k}'
  hot = [names[k] for k in np.flatnonzero(labels) if k < len(names)]
  return ', '.join(hot) or 'none'


def classification_cases(cases, names):
  """A grid of images with reference and prediction."""
  columns = min(4, len(cases))
  rows = -(-len(cases) // columns)
  from matplotlib import figure

  fig = figure.Figure(
    figsize=(2.75 * columns, 3.1 * rows), layout='constrained'
  )
  axes = fig.subplots(rows, columns, squeeze=False).ravel()
  for ax in axes[len(cases) :]:
    ax.set_axis_off()
  for ax, case in zip(axes, cases, strict=False):
    _show(ax, case)
    title = [case.get('caption', ''), shorten(case['id'], 32)]
    if 'label' in case:
      title.append(f'reference: {_named(case["label"], names)}')
    if 'probability' in case:
      p = np.asarray(case['probability'])
      if np.ndim(case.get('label', 0)):
        title.append(f'predicted: {_named(p >= 0.5, names)}')
      else:
        k = int(p.argmax())
        title.append(f'predicted: {_named(k, names)} ({p[k]:.2f})')
    ax.set_title('\n'.join(filter(None, title)), fontsize=8, loc='left')
  return fig


def contours(cases, names):
  """A grid of images, the outlines of their masks on them, if any.

  Each case: `image`, `spacing`, `caption` (lines above it), optionally `mask`.
  `names`: {label: name} of the classes.
  """
  if not cases:
    return None
  from matplotlib import figure, lines

  columns = min(6, len(cases))
  rows = -(-len(cases) // columns)
  height = np.median(
    [c['image'].shape[0] / c['image'].shape[1] * _aspect(c) for c in cases]
  )
  fig = figure.Figure(
    figsize=(
      1.75 * columns,
      (1.75 * float(np.clip(height, 0.5, 1.5)) + 0.5) * rows + 0.2,
    ),
    layout='constrained',
  )
  axes = fig.subplots(rows, columns, squeeze=False).ravel()
  for ax in axes:
    ax.set_axis_off()
  found = set()
  for ax, case in zip(axes, cases, strict=False):
    _show(ax, case)
    ax.set_title(case['caption'], fontsize=7, loc='left')
    for k in np.unique(case['mask'])[:40] if 'mask' in case else ():
      if k > 0:
        colour = _CLASSES[(int(k) - 1) % len(_CLASSES)]
        _outline(ax, case['mask'] == k, colour, linewidths=0.9)
        found.add(int(k))
  handles = [
    lines.Line2D(
      [],
      [],
      color=_CLASSES[(k - 1) % len(_CLASSES)],
      lw=3,
      label=names.get(k, f'label {k}'),
    )
    for k in sorted(found)[:12]
  ]
  if handles:
    # Bright colours, on dark: white would not show on the page.
    fig.legend(
      handles=handles,
      loc='outside lower center',
      ncols=6,
      frameon=True,
      facecolor='#555555',
      labelcolor='#FFFFFF',
    )
  return fig


def distributions(panels):
  """Histograms side by side: [(title, axis label, {group: values})].

  Each group is drawn as a line, as shares of its values. A panel in which all
  values are the same is left out.
  """
  panels = [
    (title, label, {k: np.asarray(v, float) for k, v in groups.items()})
    for title, label, groups in panels
  ]
  panels = [
    panel
    for panel in panels
    if len(np.unique(np.concatenate([*panel[2].values()]))) > 1
  ]
  if not panels:
    return None
  columns = min(3, len(panels))
  rows = -(-len(panels) // columns)
  from matplotlib import figure

  fig = figure.Figure(figsize=(3.4 * columns, 2.6 * rows), layout='constrained')
  axes = fig.subplots(rows, columns, squeeze=False).ravel()
  for ax in axes[len(panels) :]:
    ax.set_axis_off()
  for ax, (title, label, groups) in zip(axes, panels, strict=False):
    edges, threshold = _bins(np.concatenate([*groups.values()]))
    if threshold:
      ax.set_xscale('symlog', linthresh=threshold)
    for i, (name, values) in enumerate(groups.items()):
      counts, _ = np.histogram(values, edges)
      share = counts / max(len(values), 1)
      ax.stairs(share, edges, lw=1.5, label=name, **_colour(i))
    ax.set(title=title, xlabel=label)
    ax.set_ylim(bottom=0)
  if max(len(groups) for *_, groups in panels) > 1:
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc='outside lower center', ncols=6)
  axes[0].set_ylabel('Share')
  return fig


def _bins(values):
  """Edges: one bin for each of a few whole numbers, else 40 of a width.

  Values over several scales get bins that widen; then also the place up to
  which the axis is linear, else 0.
  """
  low, middle, high = np.percentile(values, (0, 50, 100))
  if (values == np.rint(values)).all() and high - low < 60:
    return np.arange(low - 0.5, high + 1.5), 0
  if low >= 0 and high > 50 * middle > 0:
    threshold = middle / 10
    return np.concatenate([[0], np.geomspace(threshold, high, 40)]), threshold
  return np.linspace(low, high, 41), 0


def _curves(summary, kind, *names):
  """[(class, arrays of these names)] of one kind of curve."""
  return [
    (name, [np.array(curves[kind][n], float) for n in names])
    for name, curves in (summary.get('curves') or {}).items()
    if curves.get(kind)
  ]


def _reliabilities(summary):
  return _curves(summary, 'reliability', 'confidence', 'frequency', 'count')


def _labelled(summary, name, metric):
  entry = (summary.get('classes') or {}).get(name, {}).get(metric) or {}
  if not _defined(entry.get('value')):
    return name
  bounds = interval(entry.get('interval'))
  bounds = f' ({bounds})' if bounds else ''
  return f'{name}: {number(entry["value"])}{bounds}'


def discrimination(summary):
  """ROC and precision-recall curves of a summary."""
  roc = _curves(summary, 'roc', 'fpr', 'tpr')
  pr = _curves(summary, 'precision_recall', 'recall', 'precision')
  if not roc and not pr:
    return None
  many = max(len(roc), len(pr))
  fig, axes = _figure(9, 4.3 + (0.6 + 0.2 * many if many > 8 else 0), 2)
  for i, (name, (fpr, tpr)) in enumerate(roc):
    label = _labelled(summary, name, 'auroc')
    axes[0].plot(fpr, tpr, lw=1.6, label=label, **_colour(i))
  chance = 'chance' if many <= 8 else None
  axes[0].plot([0, 1], [0, 1], color='#888888', lw=0.9, ls=':', label=chance)
  axes[0].set(
    title='ROC (AUROC with 95 % interval)',
    xlabel='1 − specificity (false positive rate)',
    ylabel='Sensitivity (true positive rate)',
  )
  for i, (name, (recall, precision)) in enumerate(pr):
    label = _labelled(summary, name, 'auprc')
    # Recall rises: the precision of a point is that of the step up to it.
    style = _colour(i) | {'drawstyle': 'steps-pre', 'lw': 1.6}
    axes[1].plot(recall, precision, label=label, **style)
  support = summary.get('support') or {}
  if len(pr) == 1 and pr[0][0] in support:
    share = support[pr[0][0]] / summary['n']
    axes[1].axhline(
      share, color='#888888', lw=0.9, ls=':', label=f'prevalence: {share:.3f}'
    )
  axes[1].set(
    title='Precision-recall (AUPRC with 95 % interval)',
    xlabel='Recall (sensitivity)',
    ylabel='Precision (positive predictive value)',
  )
  for ax, place in zip(axes, ('lower right', 'lower left'), strict=True):
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), aspect='equal')
    _legend(ax, place)
  return fig


def reliability(summary):
  """Observed frequency by predicted probability, and cases per bin."""
  curves = _reliabilities(summary)
  if not curves:
    return None
  from matplotlib import figure

  rows = -(-len(curves) // 2) if len(curves) > 4 else 0
  fig = figure.Figure(figsize=(3.7, 4.5 + 0.18 * rows), layout='constrained')
  ax, below = fig.subplots(2, 1, sharex=True, height_ratios=(3, 1))
  ax.plot([0, 1], [0, 1], color='#888888', lw=0.9, ls=':', label='perfect')
  for i, (name, points) in enumerate(curves):
    x, y, n = (v[points[2] > 0] for v in points)
    ax.plot(x, y, lw=1.4, marker='o', ms=4, label=name, **_colour(i))
    below.plot(x, n, lw=1.2, marker='o', ms=3, **_colour(i))
  ax.set(
    title='Reliability',
    ylabel='Observed frequency',
    xlim=(-0.02, 1.02),
    ylim=(-0.02, 1.02),
  )
  if rows:
    fig.legend(loc='outside lower left', ncols=2)
  else:
    _legend(ax, 'upper left')
  below.set(xlabel='Predicted probability', ylabel='Cases', yscale='symlog')
  most = max(points[2].max() for _, points in curves)
  below.set_ylim(0, 2 * most)
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
  k = len(summary['confusion'])
  names = list(summary.get('classes') or range(k))
  side = float(np.clip(1.6 + 0.6 * k, 2.7, 10))
  fig, axes = _figure(side * len(matrices) + 0.9, side, len(matrices))
  turned = {'rotation': 40, 'ha': 'right'} if k > 3 else {}
  for ax, (title, matrix) in zip(axes, matrices.items(), strict=True):
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = ax.imshow(share, cmap='Blues', vmin=0, vmax=1)
    ax.grid(visible=False)
    ax.set_xticks(range(k), names, **turned)
    ax.set_yticks(range(k), names)
    ax.set(title=title, xlabel='Predicted', ylabel='Reference')
    for (i, j), n in np.ndenumerate(matrix) if k <= 15 else ():
      text = f'{n:.0f}\n{share[i, j]:.0%}' if k <= 8 else f'{n:.0f}'
      colour = 'white' if share[i, j] > 0.55 else 'black'
      ax.text(j, i, text, ha='center', va='center', color=colour)
  bar = fig.colorbar(
    image, ax=axes, shrink=0.75, label='Share of the reference class'
  )
  bar.outline.set_visible(False)
  return fig


def _paired_scatter(ax, groups, value, names):
  """No legend: the other panel names the colours."""
  for i, (a, b, _) in enumerate(groups.values()):
    ax.scatter(a, b, color=_COLOURS[i % len(_COLOURS)], **_dots(a))
  ends = [min(*ax.get_xlim(), *ax.get_ylim())]
  ends.append(max(ax.get_xlim()[1], ax.get_ylim()[1]))
  ax.plot(ends, ends, color='#888888', lw=0.9, ls=':')
  ax.set(xlim=ends, ylim=ends, aspect='equal', title=value)
  ax.set(xlabel=f'A: {names[0]}', ylabel=f'B: {names[1]}')


def _dots(values):
  many = len(values) > 200
  return {'s': 5 if many else 13, 'alpha': 0.35 if many else 0.55, 'lw': 0}


def paired_differences(groups, value, names, ids, *, named=3):
  """B against A case by case, and their differences, of each class.

  groups: {class: (a (n,), b (n,), interval of the mean difference)}; NaN where
  a case has no value. `named`: so many cases of each class that moved most
  carry their id.
  """
  ids = np.asarray(ids)
  kept, cases = {}, {}
  for name, (a, b, bounds) in groups.items():
    defined = np.isfinite(a) & np.isfinite(b)
    if defined.any():
      kept[name] = a[defined], b[defined], bounds
      cases[name] = ids[defined]
  if not kept:
    return None
  from matplotlib import figure

  names = [shorten(name, 40) for name in names]
  width = float(np.clip(1.4 + 0.9 * len(kept), 3.2, 14))
  fig = figure.Figure(figsize=(4.4 + width, 4.1), layout='constrained')
  left, right = fig.subplots(1, 2, width_ratios=(4.4, width))
  _paired_scatter(left, kept, value, names)
  rng = np.random.default_rng(0)
  for i, (name, (a, b, bounds)) in enumerate(kept.items()):
    x = i + rng.uniform(-0.22, 0.22, len(a))
    right.scatter(x, b - a, color=_COLOURS[i % len(_COLOURS)], **_dots(a))
    for k in np.argsort(-np.abs(b - a), kind='stable')[:named]:
      if a[k] != b[k]:
        text = shorten(cases[name][k], 18)
        right.annotate(text, (x[k], (b - a)[k]), fontsize=6, color='#555555')
    mean = (b - a).mean()
    right.plot([i - 0.3, i + 0.3], [mean, mean], color='#000000', lw=1.5)
    if np.isfinite(bounds).all():
      right.vlines(i, *bounds, color='#000000', lw=4)
  right.axhline(0, color='#888888', lw=0.9, ls=':')
  turned = {'rotation': 40, 'ha': 'right'} if len(kept) > 5 else {}
  labels = [f'{name}\nn = {len(a)}' for name, (a, *_) in kept.items()]
  right.set_xticks(range(len(kept)), labels, **turned)
  right.set(
    xlim=(-0.6, len(kept) - 0.4),
    ylabel='B − A',
    title='Differences; mean and 95 % interval',
  )
  right.grid(axis='x', visible=False)
  return fig
