"""Risk by coverage, and scores by severity of a corruption."""

import numpy as np

from medjax.reports.figures import look


def risk_coverage(summary):
  """The error of the cases that are answered, by how many are; or None."""
  found = summary.get('risk_coverage') or {}
  coverage, risk = found.get('coverage_curve'), found.get('risk_curve')
  if not coverage:
    return None
  fig, axes = look.grid(1, 1, width=3.7, height=3.9)
  ax = axes[0, 0]
  ax.plot(coverage, risk, lw=1.6, label='test', **look.line(0))
  ax.axhline(found['risk'], label=f'bound: {found["risk"]:g}', **look.GUIDE)
  if found.get('answered') is not None and found.get('error') is not None:
    ax.plot(
      [found['answered']], [found['error']], 'o', ms=6,
      color=look.COLOURS[1], label='operating point',
    )  # fmt: skip
  ax.set(
    title='Risk and coverage',
    xlabel='Coverage: share of cases answered',
    ylabel='Risk: error among these',
    xlim=(0, 1.02),
    ylim=(0, None),
  )
  look.legend_below(ax, width=3.1)
  return fig


def by_severity(rows, score, title):
  """A score by severity, a line for each corruption; severity 0 is clean."""
  clean, *others = rows
  names = list(dict.fromkeys(row['corruption'] for row in others))
  columns, lines = look.legend_rows(names, width=6)
  del columns
  fig, axes = look.grid(1, 1, width=6.6, height=3.4 + 0.2 * lines)
  ax = axes[0, 0]
  for i, name in enumerate(names):
    mine = [row for row in others if row['corruption'] == name]
    points = [(0, clean.get(score))]
    points += [(row['severity'], row.get(score)) for row in mine]
    x, y = zip(*points, strict=True)
    y = np.array([np.nan if v is None else v for v in y], float)
    label = name.replace('_', ' ')
    ax.plot(x, y, lw=1.4, marker='o', ms=3, label=label, **look.line(i))
  ax.set(xlabel='Severity', ylabel=title, title=f'{title} by severity')
  ax.set_xticks(sorted({0, *(row['severity'] for row in others)}))
  look.legend_below(ax, width=6)
  return fig


def corrupted(pictures, severities):
  """A row of pictures (h, w) for each corruption: clean, then by severity."""
  fig, axes = look.grid(
    len(pictures),
    len(severities) + 1,
    width=1.15 * (len(severities) + 1) + 1.2,
    height=1.2 * len(pictures) + 0.3,
  )
  for row, (name, shown) in zip(axes, pictures, strict=True):
    low, high = float(shown[0].min()), float(shown[0].max())
    for ax, image in zip(row, shown, strict=True):
      ax.imshow(image, cmap='gray', vmin=low, vmax=max(high, low + 1e-6))
      ax.set(xticks=[], yticks=[])
      ax.grid(visible=False)
    row[0].set_ylabel(
      name.replace('_', ' '), rotation=0, ha='right', va='center'
    )
  for ax, severity in zip(axes[0], (0, *severities), strict=True):
    ax.set_title('clean' if severity == 0 else str(severity))
  return fig
