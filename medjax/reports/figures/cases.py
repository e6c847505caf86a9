"""One case of a segmentation: image, masks, where they differ, and a zoom."""

import numpy as np

from medjax.reports.figures import images, look
from medjax.reports.text import shorten

# To be seen on dark: what is in the reference, in the prediction, in both.
_REFERENCE, _PREDICTION, _BOTH = '#56B4E9', '#E69F00', '#A0A0A0'
_CONFUSED = '#FFFFFF'  # in both, under another label
_PANEL = 2.55  # inches
# From so many pixels on a panel shows less than two dots of each.
_FINE = 160


def segmentation_case(case, names, heading):
  """Image | outlines, or reference | prediction | differences | zoom.

  case: `image`, `mask`, `prediction` of one slice, optionally `spacing`. Of
  one label the two outlines are drawn on one image, of several the labels side
  by side. Where the masks are small, all panels but the first show their
  surroundings, framed in the first. The zoom shows where most pixels are
  wrong; it is left out where single pixels can be seen anyway.
  """
  labels = [int(k) for k in np.union1d(case['mask'], case['prediction'])]
  labels = [k for k in labels if k > 0]
  rows, columns = case['mask'].shape
  whole = (-0.5, columns - 0.5, rows - 0.5, -0.5)
  frame = _frame(case)
  zoom = _zoom(case, frame)
  panels = {'Image': (whole, images.show)}
  if len(labels) > 1:
    panels['Reference'] = frame, _filled('mask', labels)
    panels['Prediction'] = frame, _filled('prediction', labels)
  else:
    panels['Outlines'] = frame, _outlines(labels, 0.8 if zoom else 1.5)
  panels['Differences'] = frame, _differences
  if zoom:
    panels['Zoom'] = zoom, _outlines(labels, 1.5)
  fig, axes = _axes(len(panels), images.aspect(case), frame)
  width = look.characters(fig.get_figwidth())
  fig.suptitle(shorten(heading, width), fontsize=9, x=0.01, ha='left')
  for ax, (title, (limits, draw)) in zip(axes, panels.items(), strict=False):
    draw(ax, case)
    ax.set_title(title, fontsize=9)
    ax.set(xlim=limits[:2], ylim=limits[2:])
  if frame != whole:
    _mark(axes[0], frame)
  if zoom:
    _mark(axes[len(panels) - 2], zoom)  # the differences
  _legend(fig, labels, names, outlined=zoom or len(labels) < 2)
  return fig


def _axes(count, pixel_aspect, frame):
  left, right, bottom, top = frame
  columns = count if count <= 4 else 3
  rows = -(-count // columns)
  height = _PANEL * pixel_aspect * (bottom - top) / (right - left)
  height = float(np.clip(height, 1.3, 4.0)) + 0.25
  fig, axes = look.grid(
    rows, columns, width=_PANEL * columns, height=height * rows + 0.6
  )
  for ax in axes.ravel()[count:]:
    ax.set_axis_off()
  return fig, axes.ravel()


def _filled(which, labels):
  """Labels of a mask as transparent colours within their outlines."""

  def draw(ax, case):
    from matplotlib import colors

    images.show(ax, case)
    mask = case[which]
    overlay = np.zeros((*mask.shape, 4))
    for label in labels:
      colour = images.class_colour(label)
      overlay[mask == label] = colors.to_rgba(colour, 0.3)
      images.outline(ax, mask == label, colour, linewidths=1.1)
    ax.imshow(overlay, aspect=images.aspect(case), interpolation='nearest')

  return draw


def _outlines(labels, width):
  def draw(ax, case):
    images.show(ax, case)
    for which, colour, dashes in (
      ('mask', _REFERENCE, 'solid'),
      ('prediction', _PREDICTION, 'dashed'),
    ):
      for label in labels:
        images.outline(
          ax, case[which] == label, colour, linewidths=width, linestyles=dashes
        )

  return draw


def _differences(ax, case):
  """Pixels by who labels them, on black: what is thin stays legible."""
  from matplotlib import colors

  mask, prediction = case['mask'], case['prediction']
  picture = np.zeros((*mask.shape, 3))
  for where, colour in (
    ((mask > 0) & (prediction == mask), _BOTH),
    ((mask > 0) & (prediction <= 0), _REFERENCE),
    ((mask <= 0) & (prediction > 0), _PREDICTION),
    ((mask > 0) & (prediction > 0) & (prediction != mask), _CONFUSED),
  ):
    picture[where] = colors.to_rgb(colour)
  ax.imshow(picture, aspect=images.aspect(case), interpolation='antialiased')
  ax.set_axis_off()


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


def _zoom(case, frame):
  """The quarter of the frame where most is wrong, None for a coarse one."""
  import scipy.ndimage

  left, right, bottom, top = frame
  side = max(right - left, bottom - top)
  if side < _FINE:
    return None
  wrong = case['mask'] != case['prediction']
  if not wrong.any():
    wrong = case['mask'] > 0
  if not wrong.any():
    return None
  size = np.minimum(round(side / 4), np.array(wrong.shape))
  share = scipy.ndimage.uniform_filter(
    wrong.astype(np.float32), tuple(size), mode='constant'
  )
  center = np.array(np.unravel_index(share.argmax(), share.shape))
  low = np.clip(center - size // 2, 0, np.array(wrong.shape) - size)
  (y, x), (height, width) = low - 0.5, size
  return x, x + width, y + height, y


def _mark(ax, limits):
  """The place that another panel shows larger."""
  from matplotlib import patches

  left, right, bottom, top = limits
  style = {'fill': False, 'ec': '#FFFFFF', 'lw': 1.3}
  ax.add_patch(
    patches.Rectangle((left, top), right - left, bottom - top, **style)
  )


def _legend(fig, labels, names, *, outlined):
  from matplotlib import lines, patches

  def patch(colour, label):
    return patches.Patch(fc=colour, ec='#666666', label=label)

  handles = [
    patch(_BOTH, 'both'),
    patch(_REFERENCE, 'reference only'),
    patch(_PREDICTION, 'prediction only'),
  ]
  if outlined:
    handles = [
      lines.Line2D([], [], color=_REFERENCE, lw=2, label='reference'),
      lines.Line2D(
        [], [], color=_PREDICTION, lw=2, ls='--', label='prediction'
      ),
      *handles,
    ]
  if len(labels) > 1:
    handles.append(patch(_CONFUSED, 'another label'))
    handles += [
      patch(images.class_colour(k), shorten(names.get(k, f'label {k}'), 30))
      for k in labels[:12]
    ]
  texts = [handle.get_label() for handle in handles]
  columns, _ = look.legend_rows(texts, width=fig.get_figwidth() - 0.2)
  fig.legend(handles=handles, loc='outside lower center', ncols=columns)
