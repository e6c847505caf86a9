"""Change between two visits: RECIST 1.1 and RANO, as far as sizes tell.

RECIST 1.1 (Eisenhauer 2009) goes by the sum of the longest axial diameters,
RANO (Wen 2010) by that of the products of the two diameters. Each label is a
lesion. Earlier visits, lymph nodes, steroids and the patient's state are not
known here: the visit before counts as baseline and as smallest sum. Whether a
lesion outside of the sum that grows is progression is for a reader to say: then
there is no verdict.
"""

import numpy as np

MEASURABLE = 10.0  # mm, of the longest diameter, and for RANO of both
_LEAST = 5.0  # mm, by which a sum must grow


def change(before, after):
  """What became of lesions: a dict of sums, shares and both verdicts.

  before, after: {name: `diameters.Diameters`} of the lesions that are there.
  Verdicts: complete, partial response, stable or progressive disease; None
  where nothing was measurable before, or where a lesion `grown`, which was not,
  leaves it open.
  """
  kept = [n for n, d in before.items() if d.longest >= MEASURABLE]
  both = [n for n in kept if before[n].across >= MEASURABLE]
  new = [n for n in after if n not in before]
  gone = not any(n in after for n in before) and not new
  grown = [n for n in before if n in after and _grew(before[n], after[n])]
  sums = [_sum(x, kept, lambda d: d.longest) for x in (before, after)]
  products = [
    _sum(x, both, lambda d: d.longest * d.across) for x in (before, after)
  ]
  return {
    'lesions_before': len(before),
    'lesions_after': len(after),
    'new_lesions': len(new),
    'measurable': len(kept),
    'sum_before_mm': sums[0],
    'sum_after_mm': sums[1],
    'sum_change': _share(*sums),
    'recist': _verdict(sums, 0.30, 0.20, _LEAST, gone, new, {*grown} - {*kept}),
    'product_before_mm2': products[0],
    'product_after_mm2': products[1],
    'product_change': _share(*products),
    'rano': _verdict(products, 0.50, 0.25, 0.0, gone, new, {*grown} - {*both}),
    'grown': [n for n in grown if n not in kept],
  }


def _sum(found, names, of):
  return float(sum(of(found[n]) for n in names if n in found))


def _share(before, after):
  return (after - before) / before if before else np.nan


def _grew(before, after):
  """Whether a lesion is measurable now and grew as a sum would have to."""
  more = after.longest - before.longest
  return (
    after.longest >= MEASURABLE
    and more >= _LEAST
    and more >= 0.2 * before.longest - 1e-9
  )


def _verdict(sums, less, more, least, gone, new, grown):
  if not sums[0]:
    return None
  share = _share(*sums)
  if new or (share >= more - 1e-9 and sums[1] - sums[0] >= least):
    return 'progressive disease'
  if grown:
    return None
  if gone:
    return 'complete response'
  return 'partial response' if share <= 1e-9 - less else 'stable disease'
