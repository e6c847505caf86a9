"""How well a model does by how much was labelled."""

from medjax.reports.figures import look


def label_curves(lines, title):
  """Scores by the number of labels, with intervals.

  lines: {name: [(labels, mean, low, high), …]}; title: of the score.
  """
  fig, axes = look.grid(1, 1, width=6.4, height=4.0)
  ax = axes[0, 0]
  for i, (name, points) in enumerate(lines.items()):
    x, mean, low, high = zip(*points, strict=True)
    # Beside each other, so that intervals can be told apart.
    x = [n * 1.015 ** (i - (len(lines) - 1) / 2) for n in x]
    errors = [
      [m - a for m, a in zip(mean, low, strict=True)],
      [b - m for m, b in zip(mean, high, strict=True)],
    ]
    ax.errorbar(
      x, mean, yerr=errors, marker='o', ms=4, lw=1.5, capsize=2.5,
      elinewidth=0.9, label=name.replace('_', ' '), **look.line(i),
    )  # fmt: skip
  counts = sorted({point[0] for points in lines.values() for point in points})
  ax.set_xscale('log')
  ax.set_xticks(counts, [f'{n:,}' for n in counts])
  ax.minorticks_off()
  ax.set(xlabel='Labelled', ylabel=title, title=f'{title} by labels')
  if len(counts) == 1:
    ax.set_xlim(counts[0] / 1.5, counts[0] * 1.5)
  look.legend_below(ax, width=6)
  return fig
