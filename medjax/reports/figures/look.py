"""How all figures look: colours, grids of axes, legends and names of ticks."""

import contextlib
import warnings

from medjax.files import as_utf8
from medjax.reports.text import shorten

# Okabe & Ito's palette, told apart by colour-blind readers.
COLOURS = (
  '#0072B2',
  '#D55E00',
  '#009E73',
  '#CC79A7',
  '#E69F00',
  '#56B4E9',
  '#8C510A',
  '#000000',
)
_LINES = ('-', '--', ':', '-.')
# A line that is no data: chance, zero, the diagonal.
GUIDE = {'color': '#888888', 'lw': 0.9, 'ls': ':'}
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
_LETTER = 0.075  # inches, the mean width of one at 9 points


@contextlib.contextmanager
def style():
  """Context in which figures are made and saved."""
  import matplotlib

  with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
    # Names in scripts that the font lacks stay readable in the tables.
    warnings.filterwarnings('ignore', message='Glyph .* missing from')
    yield


def grid(rows, columns, *, width, height, **options):
  """A figure and its axes (rows, columns); no pyplot, no display, no state.

  width and height of the whole in inches; `options` are those of `subplots`.
  """
  from matplotlib import figure, text

  class Figure(figure.Figure):
    def draw(self, renderer):
      for found in self.findobj(text.Text):  # a font has no half characters
        found.set_text(as_utf8(found.get_text()))
      super().draw(renderer)

  # Not 'constrained', whose first layout cuts titles of axes of equal aspect.
  fig = Figure(figsize=(width, height), layout='compressed')
  return fig, fig.subplots(rows, columns, squeeze=False, **options)


def line(i):
  """Colour and dashes of the i-th line: 32 that differ."""
  return {
    'color': COLOURS[i % len(COLOURS)],
    'linestyle': _LINES[i // len(COLOURS) % len(_LINES)],
  }


def dots(values):
  """Size and strength of the dots of a scatter: weaker where they are many."""
  many = len(values) > 200
  return {'s': 5 if many else 13, 'alpha': 0.35 if many else 0.55, 'lw': 0}


def characters(inches):
  """How many letters fit in so many inches."""
  return int(inches / _LETTER)


def legend_rows(labels, *, width):
  """(columns, rows) of a legend of these labels that is `width` inches wide."""
  if not labels:
    return 1, 0
  longest = max(map(len, labels)) * _LETTER * 0.9 + 0.5
  columns = max(1, min(len(labels), int(width / longest)))
  return columns, -(-len(labels) // columns)


def legend_below(ax, *, width, drop=0.45):
  """The legend of axes below them, off what they show.

  width: inches that it may take; drop: inches that ticks and axis label need.
  """
  from matplotlib.transforms import ScaledTranslation

  handles, labels = ax.get_legend_handles_labels()
  if handles:
    below = ScaledTranslation(0, -drop, ax.get_figure().dpi_scale_trans)
    ax.legend(
      handles,
      labels,
      loc='upper left',
      ncols=legend_rows(labels, width=width)[0],
      bbox_to_anchor=(0, 0),
      bbox_transform=ax.transAxes + below,
      borderaxespad=0,
    )


def name_ticks(ax, names, *, width, counts=None):
  """Names along the x axis, turned where they would run into each other.

  width: inches of the axes. counts: cases of each, written after its name.
  """
  names = [shorten(name, 28) for name in names]
  each = _LETTER * (max(map(len, names)) + 1)
  crowded = max(each, 0.5) * len(names) > width
  if counts is not None:
    between = ', ' if crowded else '\n'
    pairs = zip(names, counts, strict=True)
    names = [f'{name}{between}n = {n}'.strip(', \n') for name, n in pairs]
  turned = {'rotation': 40, 'ha': 'right', 'rotation_mode': 'anchor'}
  ax.set_xticks(range(len(names)), names, **turned if crowded else {})
