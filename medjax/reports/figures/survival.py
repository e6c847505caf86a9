"""Survival: by third of risk, errors over time, incidence, calibration, cases.

Each function takes what metrics.json holds under 'survival' of a split.
"""

import numpy as np

from medjax.reports.figures import look
from medjax.reports.text import number, shorten

_OBSERVED = {'drawstyle': 'steps-post', 'lw': 1.5}
_PREDICTED = {'lw': 1.2, 'ls': '--'}


def thirds(found):
  """Kaplan–Meier by third of predicted risk, and the numbers at risk."""
  if not found or not found.get('thirds'):
    return None
  groups = found['thirds']
  fig, axes = look.grid(
    2, 1, width=5.4, height=4.9, height_ratios=(5, 1.1), sharex=True
  )
  ax, table = axes[:, 0]
  for i, group in enumerate(groups):
    style = look.line(i)
    times, values = _from_start(group['times'], group['values'], 1.0)
    label = f'{group["name"]} risk, n = {group["n"]}'
    ax.plot(times, values, label=label, **style, **_OBSERVED)
    low, high = (_array(group[k]) for k in ('low', 'high'))
    ax.fill_between(
      _array(group['times']), low, high, step='post', alpha=0.12, lw=0,
      color=style['color'],
    )  # fmt: skip
    ax.plot(
      *_from_start(found['grid'], group['mean'], 1.0),
      color=style['color'], **_PREDICTED,
    )  # fmt: skip
  of = f' of {found["causes"][0]}' if len(found['causes']) > 1 else ''
  p = found['log_rank'].get('p')
  ax.set(
    ylim=(0, 1.02),
    ylabel='Free of any event' if of else 'Survival',
    title=f'By third of predicted risk{of}; log-rank {_p(p)}',
  )
  ax.plot([], [], color='#555555', label='predicted, mean', **_PREDICTED)
  ax.legend(loc='best')
  _numbers(table, found)
  return fig


def _numbers(ax, found):
  groups = found['thirds']
  for row, group in enumerate(groups):
    for t, n in zip(found['ticks'], group['at_risk'], strict=True):
      ax.text(
        t, -row, f'{n:,}', ha='center', va='center', fontsize=7.5,
        color=look.line(row)['color'],
      )  # fmt: skip
  ax.set(ylim=(-len(groups) + 0.4, 0.6), xlabel=_time(found))
  ax.set_yticks(
    [-i for i in range(len(groups))], [group['name'] for group in groups]
  )
  ax.set_ylabel('At risk')
  ax.grid(visible=False)
  for side in ax.spines.values():
    side.set_visible(False)
  ax.tick_params(left=False)


def brier(found):
  """Brier score over time, beside that of the same curve for everybody."""
  parts = [p for p in (found or {}).get('brier', ()) if len(p['times']) > 1]
  if not parts:
    return None
  fig, axes = look.grid(1, 1, width=4.4, height=3.4)
  (ax,) = axes[0]
  for i, (part, name) in enumerate(zip(parts, found['causes'], strict=False)):
    style = look.line(i)
    ax.plot(part['times'], part['values'], lw=1.5, label=name, **style)
    ax.plot(
      part['times'], part['reference'], color=style['color'], lw=1, ls=':',
      label='no model' if len(parts) == 1 else f'{name}, no model',
    )  # fmt: skip
  ax.set(
    title='Brier score over time (lower is better)', xlabel=_time(found),
    ylabel='Brier score',
  )  # fmt: skip
  ax.set_ylim(bottom=0)
  ax.legend(loc='best')
  return fig


def incidence(found):
  """Cumulative incidence of each cause: observed, and the mean predicted."""
  if not found or not found.get('incidence'):
    return None
  fig, axes = look.grid(1, 1, width=4.4, height=3.4)
  (ax,) = axes[0]
  for i, (part, name) in enumerate(
    zip(found['incidence'], found['causes'], strict=True)
  ):
    style = look.line(i)
    times, values = _from_start(part['times'], part['values'], 0.0)
    ax.plot(times, values, label=f'{name}, observed', **style, **_OBSERVED)
    ax.fill_between(
      _array(part['times']), _array(part['low']), _array(part['high']),
      step='post', alpha=0.12, lw=0, color=style['color'],
    )  # fmt: skip
    ax.plot(
      *_from_start(found['grid'], part['predicted'], 0.0),
      color=style['color'], label=f'{name}, predicted', **_PREDICTED,
    )  # fmt: skip
  ax.set(
    title='Cumulative incidence (Aalen–Johansen)', xlabel=_time(found),
    ylabel='Share of cases', ylim=(0, None),
  )  # fmt: skip
  ax.legend(loc='best')
  return fig


def horizons(found):
  """Observed against predicted risk at each horizon, by groups of risk."""
  causes = [
    (name, parts)
    for name, parts in zip(
      (found or {}).get('causes', ()), (found or {}).get('calibration', ()),
      strict=False,
    )
    if parts
  ]  # fmt: skip
  if not causes:
    return None
  columns = max(len(parts) for _, parts in causes)
  fig, axes = look.grid(
    len(causes), columns, width=2.7 * columns + 0.5, height=3.1 * len(causes)
  )
  for row, (name, parts) in zip(axes, causes, strict=True):
    for ax in row[len(parts) :]:
      ax.set_visible(False)
    for ax, part in zip(row, parts, strict=False):
      _one_horizon(ax, part, name if len(causes) > 1 else '', found)
  return fig


def _one_horizon(ax, part, name, found):
  x, y, low, high = (
    _array(part[k]) for k in ('predicted', 'observed', 'low', 'high')
  )
  top = float(np.nanmax([*x, *high, 0.05])) * 1.05
  ax.plot([0, top], [0, top], **look.GUIDE)
  ax.errorbar(
    x, y, [np.maximum(y - low, 0), np.maximum(high - y, 0)],
    fmt='o-', ms=4, lw=1.2, elinewidth=0.9, color=look.COLOURS[0],
  )  # fmt: skip
  unit = f' {found["unit"]}' if found.get('unit') else ''
  of = f'{shorten(name, 16)}, ' if name else ''
  ratio = number(part['ratio'])
  if part['ratio_low'] is not None:
    ratio += f' ({number(part["ratio_low"])} to {number(part["ratio_high"])})'
  ax.set(
    title=f'{of}{part["horizon"]:.4g}{unit}\nO/E {ratio}',
    xlabel='Predicted risk', ylabel='Observed risk',
    xlim=(0, top), ylim=(0, top), aspect='equal',
  )  # fmt: skip


def cases(found):
  """Curves of single cases, from the lowest to the highest risk."""
  shown = (found or {}).get('cases')
  if not shown:
    return None
  competing = len(found['causes']) > 1
  fig, axes = look.grid(
    1, 1 + competing, width=4.6 * (1 + competing), height=3.6
  )
  ax = axes[0][0]
  for i, case in enumerate(shown):
    times, values = _from_start(found['grid'], case['survival'], 1.0)
    style = look.line(i)
    label = f'{case["place"]} % of risks are lower'
    ax.plot(times, values, lw=1.3, label=label, **style)
    mark = 'o' if not case['event'] else 'X'
    ax.plot(
      [case['time']], [np.interp(case['time'], times, values)], mark,
      color=style['color'], mfc='none' if mark == 'o' else style['color'],
    )  # fmt: skip
    if competing:
      grid, first = _from_start(found['grid'], case['incidence'][0], 0.0)
      axes[0][1].plot(grid, first, lw=1.3, **style)
  ax.set(
    title='Single cases; ✕ event, ○ censored', xlabel=_time(found),
    ylabel='Free of any event' if competing else 'Survival', ylim=(0, 1.02),
  )  # fmt: skip
  look.legend_below(ax, width=4.6)
  if competing:
    axes[0][1].set(
      title=f'Incidence of {shorten(found["causes"][0], 24)}',
      xlabel=_time(found), ylabel='Probability', ylim=(0, None),
    )  # fmt: skip
  return fig


def _from_start(times, values, start):
  return (
    np.concatenate([[0.0], _array(times)]),
    np.concatenate([[start], _array(values)]),
  )


def _array(values):
  return np.array(values, float)


def _time(found):
  return f'Time, {found["unit"]}' if found.get('unit') else 'Time'


def _p(value):
  if value is None or np.isnan(value):
    return 'not defined'
  return 'p < 0.001' if value < 0.001 else f'p = {value:.3f}'
