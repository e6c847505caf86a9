"""Cuts through a volume, outlines and lines on them; pictures as they are."""

import numpy as np

from medjax.reports.figures import look
from medjax.reports.figures.images import outline, show
from medjax.reports.text import shorten

# Twelve that differ on dark and on white.
_STRUCTURES = (
  '#F0C000', '#E05CA8', '#00B07F', '#D55E00', '#3C9CF0', '#9A6CF0', '#A8C800',
  '#F07878', '#00B8C8', '#B08040', '#8890A8', '#F0F0F0',
)  # fmt: skip


def structure_colour(label):
  """The colour of a structure's label, 1 the first; twelve differ."""
  return _STRUCTURES[(int(label) - 1) % len(_STRUCTURES)]


def cuts(panels, names):
  """Panels beside each other, with a legend of the structures in them.

  Each panel: `image` (H, W), `mask` (H, W) labels, `caption`; optionally
  `lines`, each (n, 2) columns and rows, and `dots` (2,). `names`: {label:
  name}; where outlines meet, that of the lower label is seen. None for no
  panels.
  """
  if not panels:
    return None
  shares = [p['image'].shape[1] / p['image'].shape[0] for p in panels]
  height = 9.6 / sum(shares)
  fig, axes = look.grid(
    1,
    len(panels),
    width=9.6,
    height=height + 0.9,
    gridspec_kw={'width_ratios': shares},
  )
  found = set()
  for ax, panel in zip(axes[0], panels, strict=True):
    show(ax, panel)
    ax.set_title(panel['caption'], fontsize=8, loc='left')
    for k in np.unique(panel['mask'])[:40][::-1]:
      if k > 0:
        outline(ax, panel['mask'] == k, structure_colour(k), linewidths=0.9)
        found.add(int(k))
    for line in panel.get('lines', ()):
      ax.plot(*np.asarray(line).T, color='#FF3030', lw=1.6)
    for dot in panel.get('dots', ()):
      ax.plot(*dot, marker='+', ms=12, mew=1.6, color='#FF3030')
  _legend(fig, sorted(found), names)
  return fig


def picture(rgb, colours):
  """An image (h, w, 3) in [0, 1] as it is; `colours`: {name: colour}."""
  from matplotlib import lines

  scale = 6.0 / max(rgb.shape[:2])  # inches of a pixel
  height, width = rgb.shape[0] * scale, max(rgb.shape[1] * scale, 4.0)
  names = [shorten(name, 28) for name in colours]
  columns, rows = look.legend_rows(names, width=width)
  height += 0.3 + 0.2 * rows
  fig, axes = look.grid(1, 1, width=width, height=height)
  ax = axes[0, 0]
  ax.imshow(rgb, interpolation='antialiased')
  ax.set_axis_off()
  fig.legend(
    handles=[
      lines.Line2D([], [], color=c, lw=5, label=name)
      for name, c in zip(names, colours.values(), strict=True)
    ],
    loc='outside lower center',
    ncols=columns,
  )
  return fig


def _legend(fig, labels, names):
  """Bright colours, on dark: white would not show on the page."""
  from matplotlib import lines

  if labels:
    said = {k: shorten(names[k], 28) for k in labels[:12]}
    columns, _ = look.legend_rows([*said.values()], width=fig.get_figwidth())
    fig.legend(
      handles=[
        lines.Line2D([], [], color=structure_colour(k), lw=3, label=name)
        for k, name in said.items()
      ],
      loc='outside lower center',
      ncols=columns,
      frameon=True,
      facecolor='#555555',
      labelcolor='#FFFFFF',
    )
