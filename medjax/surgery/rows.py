"""The table of paths: each proven by brute force against every structure."""

import numpy as np

from medjax.surgery import chance, distance, lines


class Prover:
  """Clearances of lines to structures, of every voxel of theirs.

  What a setting's fields say is a bound on them; this is exact.
  """

  def __init__(self, setting, masks):
    """masks: {name: (x, y, z) bool} on the setting's part of the grid."""
    self._spacing = setting.spacing
    self._masks = {
      name: (mask, distance.surface_centres(mask, setting.spacing))
      for name, mask in masks.items()
    }

  def __call__(self, line):
    """{name: mm} of a line (n, 3); what is farther than 40 counts as 40."""
    return {
      name: min(
        distance.proven(line, mask, centres, self._spacing), distance.FAR
      )
      for name, (mask, centres) in self._masks.items()
    }


def table(scene, setting, found, all_lines, proof, *, bends=None, odds=None):
  """Rows of the paths in `found` (scores) along `all_lines` (n, k, 3).

  `proof` is a `Prover`; `odds` a `chance.Chance`. Places are RAS, mm.
  """
  rows, first = [], setting.corner * setting.spacing
  for i, line in enumerate(all_lines):
    entry, target = scene.to_ras(line[[0, -1]] + first)
    each = proof(line[[0, -1]] if bends is None else line)
    nearest = min(each, key=each.get)
    row = {
      'rank': i + 1,
      **{f'entry_{a}': x for a, x in zip('xyz', entry, strict=True)},
      **{f'target_{a}': x for a, x in zip('xyz', target, strict=True)},
      'score': found.score[i],
      'length_mm': found.length[i],
      'angle_deg': found.angle[i],
      'clearance_mm': each[nearest],
      'at_least_mm': min(found.bound[i], each[nearest]),
      'nearest': nearest,
      'risk_mm': found.risk[i],
    }
    if setting.fields.grey is not None:
      row['grey_share'] = found.grey[i]
    if bends is not None:
      row['bend_mm'] = bends[i]
    if odds is not None:
      row |= {
        'p_safe': odds.safe[i],
        'p_safe_low': odds.low[i],
        'p_safe_high': odds.high[i],
        'clearance_5_mm': odds.clearance_5[i],
        'clearance_50_mm': odds.clearance_50[i],
        'miss_50_mm': odds.miss_50[i],
        'miss_95_mm': odds.miss_95[i],
      }
    row |= {f'clearance_{name}_mm': mm for name, mm in each.items()}
    rows.append({k: _rounded(v) for k, v in row.items()})
  return rows


def _rounded(value):
  if isinstance(value, str | int):
    return value
  return round(float(value), 3)


def straight(paths, samples):
  """Straight `lines.Paths` as lines (n, samples, 3)."""
  t = np.linspace(0, 1, samples)[:, None]
  return paths.entry[:, None] * (1 - t) + paths.target[:, None] * t


def odds(setting, limits, all_lines, shift, ask):
  """The `chance.Chance` of lines; `ask` has shift, deflection, draws."""
  return chance.simulate(
    setting.fields,
    lines.Limits(*limits),
    np.stack([chance.sampled(x, setting.samples) for x in all_lines]),
    shift=shift,
    most=ask.shift,
    deflection=ask.deflection,
    draws=ask.draws,
  )
