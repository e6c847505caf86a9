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
_ROW = 3  # glyphs on a line, at least
_SIGNAL = 3.5  # standard deviations of noise above the surroundings


def boxes(image):
  """[(top, left, bottom, right)] of the lines of text in a picture (h, w)."""
  image = np.asarray(image, np.float32)
  span = float(image.max() - image.min()) if image.size else 0.0
  if span == 0 or min(image.shape) < _HEIGHT[0]:
    return []
  least = max(_SIGNAL * _noise(image), 0.02 * span)
  found = []
  for sign in (1, -1):
    found += _lines(sign * image, least)
  return found


def blank(array, found, value):
  """Sets the boxes of a frame (h, w, …) to a value, in place."""
  for top, left, bottom, right in found:
    array[top:bottom, left:right] = value


def _noise(image):
  """Standard deviation of a picture's noise, of where it has any."""
  rough = image[1:-1, 1:-1] - 0.25 * (
    image[:-2, 1:-1] + image[2:, 1:-1] + image[1:-1, :-2] + image[1:-1, 2:]
  )
  rough = np.abs(rough[rough != 0])
  return float(np.median(rough)) * 1.4826 / np.sqrt(1.25) if rough.size else 0.0


def _lines(image, least):
  """Boxes of rows of bright glyphs."""
  around = ndimage.grey_opening(image, size=(_STROKE, _STROKE))
  hat = image - around
  labels, count = ndimage.label(hat > least, np.ones((3, 3)))
  if not count:
    return []
  places = ndimage.find_objects(labels)
  tops = np.array([p[0].start for p in places])
  bottoms = np.array([p[0].stop for p in places])
  lefts = np.array([p[1].start for p in places])
  rights = np.array([p[1].stop for p in places])
  high, wide = bottoms - tops, rights - lefts
  area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
  fine = (
    (high >= _HEIGHT[0])
    & (high <= _HEIGHT[1])
    & (wide <= 8 * high)
    & (area >= 0.12 * high * wide)
    & (area >= 5)
  )
  index = np.flatnonzero(fine)
  if len(index) < 2:
    return []
  grey = ndimage.median(image, labels, index + 1)
  lift = ndimage.mean(hat, labels, index + 1)
  glyphs = np.stack(
    [tops[index], lefts[index], bottoms[index], rights[index]], 1
  )
  return _rows(glyphs, np.asarray(grey), np.asarray(lift))


def _rows(glyphs, grey, lift):
  """Boxes of the glyphs that have alike neighbours on a line."""
  top, left, bottom, right = (glyphs[:, i] for i in range(4))
  high = bottom - top
  order = np.argsort(left)
  parent = np.arange(len(glyphs))
  links = np.zeros(len(glyphs), int)

  def root(i):
    while parent[i] != i:
      parent[i] = parent[parent[i]]
      i = parent[i]
    return i

  starts = left[order]
  for i in order:
    reach = right[i] + 1.3 * high[i] + 2
    a, b = np.searchsorted(starts, [left[i] + 1, reach], side='left')
    near = order[a:b]
    if not len(near):
      continue
    alike = (
      (np.abs(bottom[near] - bottom[i]) <= 0.16 * high[i] + 1)
      | (np.abs(top[near] - top[i]) <= 0.16 * high[i] + 1)
    )
    alike &= np.maximum(high[near], high[i]) <= 1.7 * np.minimum(
      high[near], high[i]
    ) + 1
    alike &= left[near] >= right[i] - 0.3 * high[i]
    alike &= np.abs(grey[near] - grey[i]) <= 0.35 * np.minimum(
      lift[near], lift[i]
    )
    for j in near[alike]:
      links[i] += 1
      links[j] += 1
      parent[root(j)] = root(i)
  groups = {}
  for i in range(len(glyphs)):
    groups.setdefault(root(i), []).append(i)
  found = []
  for members in groups.values():
    if len(members) >= _ROW:
      g = glyphs[members]
      pad = max(2, int(0.35 * np.median(high[members])))
      found.append((
        max(int(g[:, 0].min()) - pad, 0), max(int(g[:, 1].min()) - pad, 0),
        int(g[:, 2].max()) + pad, int(g[:, 3].max()) + pad,
      ))  # fmt: skip
  return found
