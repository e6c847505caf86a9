"""How values spread: boxes of a measure by class, histograms by group."""

import numpy as np

from medjax.reports.figures import look
from medjax.reports.measures import UNNAMED
from medjax.reports.rows import by_class


def boxes(rows, names, measures=UNNAMED):
  """One panel per measure, one box per class, one point per case.

  rows: dicts with columns MEASURE/CLASS, or MEASURE of the whole case. A
  measure that no case defines is left out.
  """
  data = {name: by_class(rows, name) for name in names}
  data = {
    name: {k: v[np.isfinite(v)] for k, v in values.items()}
    for name, values in data.items()
    if values and np.isfinite(np.concatenate([*values.values()])).any()
  }
  if not data:
    return None
  classes = max(len(v) for v in data.values())
  width = min(max(3.3, 0.55 * classes + 1), 22 / len(data))
  fig, axes = look.grid(1, len(data), width=width * len(data), height=3.4)
  rng = np.random.default_rng(0)
  for ax, (name, values) in zip(axes[0], data.items(), strict=True):
    for i, y in enumerate(values.values()):
      _box(ax, i, y, rng)
    counts = [len(y) for y in values.values()]
    look.name_ticks(ax, values, width=width - 0.7, counts=counts)
    ax.set(xlim=(-0.6, len(values) - 0.4), ylabel=measures.title(name))
    ax.grid(axis='x', visible=False)
    if (
      measures.unit(name)
      and min(map(np.min, filter(len, values.values()))) >= 0
    ):
      ax.set_ylim(bottom=0)  # a distance or a volume
  return fig


def _box(ax, i, y, rng):
  colour = look.COLOURS[i % len(look.COLOURS)]
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
  ax.scatter(x, y, color=colour, zorder=3, **look.dots(y))


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
  fig, axes = look.grid(rows, columns, width=3.4 * columns, height=2.6 * rows)
  axes = axes.ravel()
  for ax in axes[len(panels) :]:
    ax.set_axis_off()
  for ax, panel in zip(axes, panels, strict=False):
    _histogram(ax, *panel)
  if max(len(groups) for *_, groups in panels) > 1:
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc='outside lower center', ncols=6)
  axes[0].set_ylabel('Share')
  return fig


def _histogram(ax, title, label, groups):
  edges, threshold = _bins(np.concatenate([*groups.values()]))
  if threshold:
    ax.set_xscale('symlog', linthresh=threshold)
  for i, (name, values) in enumerate(groups.items()):
    counts, _ = np.histogram(values, edges)
    share = counts / max(len(values), 1)
    ax.stairs(share, edges, lw=1.5, label=name, **look.line(i))
  ax.set(title=title, xlabel=label)
  ax.set_ylim(bottom=0)


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
