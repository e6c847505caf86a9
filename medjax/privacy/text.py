"""Finds text burned into pictures without reading it: `boxes(image)`.

Glyphs are small marks of one grey, of one height, on one line, brighter or
darker than what is around them. That needs no words, so that it holds for any
script of separate letters. What it finds on real and on made pictures:
docs/privacy.md.
"""

import numpy as np
from scipy import ndimage

_STROKE = 9  # pixels; a stroke of a letter is thinner
_HEIGHT = (5, 64)  # pixels of a glyph
_ROW = 4  # glyphs on a line, at least; 3 of them, if they stand out
_PLAIN = 0.6  # of the strongest contrast: what stands out
_SIGNAL = 3.5  # standard deviations of noise above the surroundings


def boxes(image):
  """[(top, left, bottom, right)] of the lines of text in a picture (h, w)."""
  image = np.asarray(image, np.float32)
  span = float(image.max() - image.min()) if image.size else 0.0
  if span == 0 or min(image.shape) < 2 * _STROKE:
    return []
  least = max(_SIGNAL * _noise(image), 1e-3 * span)
  return _lines(image, least) + _lines(-image, least)


def blank(array, found, value):
  """Sets the boxes of a frame (h, w, …) to a value, in place."""
  for top, left, bottom, right in found:
    array[top:bottom, left:right] = value


def _noise(image):
  """Standard deviation of a picture's noise, of where it has any."""
  rough = image[1:-1, 1:-1] - 0.25 * (
    image[:-2, 1:-1] + image[2:, 1:-1] + image[1:-1, :-2] + image[1:-1, 2:]
  )
  moved = np.abs(rough[rough != 0])
  if moved.size < 0.1 * rough.size:  # a drawing: what differs is its lines
    return 0.0
  return float(np.median(moved)) * 1.4826 / np.sqrt(1.25)


def _lines(image, least):
  """Boxes of rows of bright glyphs, at thresholds from the noise upwards.

  At a low one letters run into what they are written on, at a high one the
  faint are lost.
  """
  hat = image - ndimage.grey_opening(image, size=(_STROKE, _STROKE))
  top, found = float(np.max(hat)), []
  while least < top:
    found += _rows(*_glyphs(image, hat, least), plain=_PLAIN * top)
    least *= 2
  return found


def _glyphs(image, hat, threshold):
  """Boxes (n, 4), grey and contrast (n,) of the marks that could be letters."""
  labels, count = ndimage.label(hat > threshold, np.ones((3, 3)))
  none = np.zeros((0, 4), int), np.zeros(0), np.zeros(0)
  if not count or count > 20000:
    return none
  spans = ndimage.find_objects(labels)
  edges = np.array([(y.start, x.start, y.stop, x.stop) for y, x in spans], int)
  high, wide = edges[:, 2] - edges[:, 0], edges[:, 3] - edges[:, 1]
  marked = np.flatnonzero(labels)
  name = labels.ravel()[marked] - 1
  area = np.bincount(name, minlength=count)
  # A letter is thin strokes: it fills part of its box, unless it is an I.
  full = area / (high * wide)
  fine = (
    (high >= _HEIGHT[0]) & (high <= _HEIGHT[1]) & (wide <= 1.6 * high + 2)
    & (full >= 0.15) & ((full <= 0.8) | (wide <= 0.5 * high))
    & (area >= 5)
  )  # fmt: skip
  if fine.sum() < _ROW - 1:
    return none
  inside, name = marked[fine[name]], name[fine[name]]
  return edges[fine], *(_medians(x.ravel()[inside], name) for x in (image, hat))


def _medians(values, names):
  """The median of the values of each name, in order of the names.

  As `scipy.ndimage.median`, which sorts the whole picture.
  """
  values = values[np.lexsort((values, names))]
  counts = np.bincount(names)
  counts = counts[counts > 0]
  ends = np.cumsum(counts)
  first = ends - counts
  return (values[first + (counts - 1) // 2] + values[first + counts // 2]) / 2


def _rows(glyphs, grey, lift, plain):
  """Boxes of the glyphs that stand in rows: on one line, alike, close by."""
  if len(glyphs) < _ROW - 1:
    return []
  group = _joined(glyphs, grey, lift)
  found = []
  for name in np.flatnonzero(np.bincount(group) >= _ROW - 1):
    g, strong = glyphs[group == name], lift[group == name]
    least = _ROW - (np.median(strong) >= plain)
    if len(g) < least or not _is_line(g, strong):
      continue
    pad = max(2, int(0.35 * np.median(g[:, 2] - g[:, 0])))
    top, left = np.maximum(g[:, :2].min(0) - pad, 0)
    bottom, right = g[:, 2:].max(0) + pad
    found.append((int(top), int(left - pad), int(bottom), int(right + pad)))
  return [(t, max(le, 0), b, r) for t, le, b, r in found]


def _joined(glyphs, grey, lift):
  """A number for each glyph, one for all that are linked."""
  top, left, bottom, right = glyphs.T
  high = bottom - top
  order = np.argsort(left, kind='stable')
  # All pairs (i, j) where j begins right of i, and near.
  first, end = np.searchsorted(
    left[order], [left + 1, right + 1.1 * high + 2], side='left'
  )
  counts = np.maximum(end - first, 0)
  i = np.repeat(np.arange(len(glyphs)), counts)
  ends = np.cumsum(counts)
  j = order[np.arange(len(i)) + np.repeat(first - ends + counts, counts)]
  small, large = np.minimum(high[i], high[j]), np.maximum(high[i], high[j])
  slack = 0.12 * large + 1
  alike = (
    (np.abs(bottom[j] - bottom[i]) <= slack)
    | (np.abs(top[j] - top[i]) <= slack)
  ) & (large <= 1.6 * small + 1)
  alike &= left[j] >= right[i] - 0.25 * high[i] - 1
  alike &= np.abs(grey[j] - grey[i]) <= 0.4 * np.minimum(lift[j], lift[i])
  i, j = i[alike], j[alike]
  group, before = np.arange(len(glyphs)), None
  while not np.array_equal(group, before):
    before = group.copy()
    np.minimum.at(group, j, group[i])
    np.minimum.at(group, i, group[j])
  return group


def _is_line(g, lift):
  """Whether most glyphs of a group share a line, a height and a contrast."""
  high = g[:, 2] - g[:, 0]
  middle = np.median(high)
  slack = 0.12 * middle + 1
  line = np.median(g[:, 2])
  on = np.abs(g[:, 2] - line) <= slack
  spread = g[:, 3].max() - g[:, 1].min()
  return (
    on.mean() >= 0.6
    and spread >= 1.5 * middle
    and np.median(np.abs(lift - np.median(lift))) <= 0.3 * np.median(lift)
  )
