"""Maps of a number over an image, in a row: what speaks for it, and against."""

import numpy as np

from medjax.reports.figures import images, look
from medjax.reports.text import shorten

_PANEL = 1.9  # inches
_COLUMNS = 6
_STRONG = 99.5  # percentile of the values that has the full colour
_OUTLINE = '#00C08B'


def attributions(case, panels):
  """The image, then a panel for each map over it.

  case: `image` of one slice, `spacing`, optionally `mask`, whose outline is
  drawn. panels: [(title, map (h, w), signed)]. Of a signed one red speaks for
  the answer and blue against it; else brighter is more. Each has its own scale.
  """
  count = 1 + len(panels)
  columns = min(_COLUMNS, count)
  rows = -(-count // columns)
  height, width = case['image'].shape[:2]
  each = _PANEL * np.clip(height / width * images.aspect(case), 0.4, 1.6) + 0.35
  fig, axes = look.grid(
    rows, columns, width=_PANEL * columns, height=each * rows
  )
  axes = axes.ravel()
  for ax in axes:
    ax.set_axis_off()
  for ax, (title, values, signed) in zip(
    axes, [('Image', None, False), *panels], strict=False
  ):
    images.show(ax, case)
    if values is not None:
      ax.imshow(
        _coloured(values, signed),
        aspect=images.aspect(case),
        interpolation='nearest',
      )
    if case.get('mask') is not None:
      images.outline(ax, case['mask'] > 0, _OUTLINE, linewidths=0.8)
    ax.set_title(shorten(title, 30), fontsize=8, loc='left')
  return fig


def _coloured(values, signed):
  """RGBA (h, w, 4) of a map: as strong in colour as its value is."""
  from matplotlib import colormaps

  size = np.abs(values)
  top = np.percentile(size, _STRONG) or size.max() or 1.0
  strength = np.clip(size / top, 0, 1)
  if signed:
    colours = colormaps['RdBu_r'](0.5 + 0.5 * np.sign(values) * strength)
  else:
    colours = colormaps['inferno'](strength)
  colours[..., 3] = 0.75 * np.sqrt(strength)
  return colours


def overlaid(image, values, signed):
  """The picture (h, w, 3) uint8 of a map (h, w) over an image (h, w, C)."""
  grey = images.windowed(image if image.shape[-1] == 3 else image[..., 0])
  rgb = grey if grey.ndim == 3 else grey[..., None].repeat(3, -1)
  colours = _coloured(values, signed)
  alpha = colours[..., 3:]
  blend = (1 - alpha) * rgb + alpha * colours[..., :3]
  return np.rint(255 * blend).astype(np.uint8)
