"""Images with masks on them: how one is shown, and grids of many."""

import numpy as np

from medjax.reports.figures import look
from medjax.reports.text import number, shorten

# Bright, to be seen on dark images.
CLASSES = ('#F0E442', '#CC79A7', '#00C08B', '#D55E00', '#FFFFFF', '#56B4E9')


def class_colour(label):
  """The colour of a label of a mask, 1 the first."""
  return CLASSES[(int(label) - 1) % len(CLASSES)]


def aspect(case):
  """Height of a pixel over its width."""
  spacing = case.get('spacing', (1, 1))
  return float(spacing[0] / spacing[1])


def show(ax, case):
  """The image of a case, in grey or in its colours."""
  ax.imshow(
    windowed(case['image']),
    cmap='gray',
    vmin=0,
    vmax=1,
    aspect=aspect(case),
    # Nearest where it is enlarged; a line one pixel wide stays when it shrinks.
    interpolation='antialiased',
  )
  ax.set_axis_off()


def windowed(image):
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


def outline(ax, inside, colour, **line):
  """Outline of a mask, closed where it meets the border of the image."""
  rows, columns = (np.arange(-1, n + 1) for n in inside.shape)
  if inside.any():
    padded = np.pad(inside, 1).astype(float)
    ax.contour(columns, rows, padded, [0.5], colors=[colour], **line)


def image_grid(cases, names):
  """A grid of images, above each what is known of it.

  Each case: `id`, `image`, optionally `caption`, `label` (class index or
  multi-hot) and `probability` of the classes, whose `names` these are. What
  else it has of numbers is written too, whatever the task.
  """
  columns = min(4, len(cases))
  rows = -(-len(cases) // columns)
  fig, axes = look.grid(rows, columns, width=2.75 * columns, height=3.1 * rows)
  axes = axes.ravel()
  for ax in axes[len(cases) :]:
    ax.set_axis_off()
  for ax, case in zip(axes, cases, strict=False):
    show(ax, case)
    ax.set_title('\n'.join(_title(case, names)), fontsize=8, loc='left')
  return fig


def _title(case, names):
  lines = [case.get('caption', ''), case['id']]
  label, p = case.get('label'), case.get('probability')
  if label is not None:
    lines.append(f'reference: {_named(label, names)}')
  if p is not None and np.ndim(label) == 1:
    lines.append(f'predicted: {_named(p >= 0.5, names)}')
  elif p is not None:
    k = int(p.argmax())
    lines.append(f'predicted: {_named(k, names)} ({p[k]:.2f})')
  lines += [
    f'{name}: {number(np.asarray(value).item())}'
    for name, value in case.items()
    if name not in ('label', 'score')
    and np.ndim(value) == 0
    and not isinstance(value, str)
  ]
  return [shorten(text, 38) for text in lines if text]


def _named(labels, names):
  """Class index or multi-hot (K,) → text."""
  labels = np.asarray(labels)
  if labels.ndim == 0:
    k = int(labels)
    return names[k] if 0 <= k < len(names) else f'class {k}'
  hot = [names[k] for k in np.flatnonzero(labels > 0) if k < len(names)]
  return ', '.join(hot) or 'none'


def contours(cases, names):
  """A grid of images, the outlines of their masks on them, if any.

  Each case: `image`, `spacing`, `caption` (lines above it), optionally `mask`.
  `names`: {label: name} of the classes.
  """
  if not cases:
    return None
  columns = min(6, len(cases))
  rows = -(-len(cases) // columns)
  height = np.median(
    [c['image'].shape[0] / c['image'].shape[1] * aspect(c) for c in cases]
  )
  each = 1.75 * float(np.clip(height, 0.5, 1.5)) + 0.5
  fig, axes = look.grid(
    rows, columns, width=1.75 * columns, height=each * rows + 0.2
  )
  axes = axes.ravel()
  for ax in axes:
    ax.set_axis_off()
  found = set()
  for ax, case in zip(axes, cases, strict=False):
    show(ax, case)
    ax.set_title(case['caption'], fontsize=7, loc='left')
    for k in np.unique(case['mask'])[:40] if 'mask' in case else ():
      if k > 0:
        outline(ax, case['mask'] == k, class_colour(k), linewidths=0.9)
        found.add(int(k))
  if found:
    _legend_on_dark(fig, sorted(found)[:12], names)
  return fig


def _legend_on_dark(fig, labels, names):
  """Bright colours, on dark: white would not show on the page."""
  from matplotlib import lines

  fig.legend(
    handles=[
      lines.Line2D(
        [], [], color=class_colour(k), lw=3, label=names.get(k, f'label {k}')
      )
      for k in labels
    ],
    loc='outside lower center',
    ncols=6,
    frameon=True,
    facecolor='#555555',
    labelcolor='#FFFFFF',
  )
