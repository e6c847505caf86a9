"""What the colours of a picture mean as classes: palettes, alpha, RGB.

A label map is stored as indices whose palette only makes them visible, or as
colours whose indices are what the encoder made of them. Black tells which: in
a palette for labels it is entry 0, and two greys are a binary mask.
"""

import re

import numpy as np

_LOSS = 12  # by which the channels of a grey JPEG may differ
_FAR = 64  # greys that differ by more are black and white


def shades_of(image):
  """How many greys a picture of 2 or 4 bits has, which Pillow spreads to 255.

  0 for all others. To be asked before the picture is loaded.
  """
  for tile in image.tile:
    found = re.search(r"'?L;([24])", str(tile.args))
    if found:
      return 2 ** int(found[1])
  return 0


def labels_of(path, image, shades=0, *, lossy=False):
  """(values (row, column), notes, palette {index: RGB} or None) of a mask.

  The values are class indices or greys, on which `labels.settled` decides.
  Raises ValueError for colours that cannot be classes.
  """
  transparent = 'transparency' in image.info and image.mode == 'P'
  if image.mode in ('LA', 'PA', 'RGBA') or transparent:
    found = _alpha(image)
    if found is not None:
      return (
        found,
        ('the mask is in the alpha channel: taken from there',),
        None,
      )
  if image.mode in ('P', 'PA'):
    return _palette(path, image)
  if image.mode == '1':
    return np.array(image, np.uint8), (), None
  if image.mode in ('LA', 'La'):
    image = image.getchannel('L')
  array = np.array(image if image.mode[0] in 'LIF' else image.convert('RGB'))
  array = array.astype(array.dtype.newbyteorder('='), copy=False)
  if array.ndim == 3:
    return _colours(path, array, lossy)
  if shades:
    return array // (255 // (shades - 1)), (), None
  return array, (), None


def _alpha(image):
  """The alpha channel, where it is all that a picture shows; else None."""
  image = image.convert('RGBA')
  array = np.array(image)
  colours, alpha = array[..., :3].reshape(-1, 3), array[..., 3]
  if (colours != colours[0]).any() or alpha.min() == alpha.max():
    return None
  return alpha


def _palette(path, image):
  """Indices, or the greys that they stand for."""
  palette = np.array(image.getpalette('RGB'), np.int64).reshape(-1, 3)
  if image.mode == 'PA':
    image = image.getchannel('P')
  indices = np.array(image)
  used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
  if used[-1] >= len(palette):
    return indices, (), None
  colours = palette[used]
  shown = {int(i): tuple(map(int, palette[i])) for i in used}
  if (colours == colours[:, :1]).all():
    greys = palette[:, 0].astype(np.uint8)
    if _is_binary(greys, used, (palette == palette[:, :1]).all(1)):
      return greys[indices], (), None
    if np.all(np.diff(greys[used].astype(int)) > 0):
      return indices, (), shown  # a ramp that makes classes visible
    if greys[used].max() < _FAR:
      return greys[indices], (), None  # a label map that was quantised
  elif not palette[0].any():
    return indices, (), shown
  dark = used[~colours.any(1)]
  if len(dark) == 1 and len(used) == 2:
    note = 'palette of black and one colour: taken as 0 and 1'
    return (indices != dark[0]).astype(np.uint8), (note,), None
  if len(dark) or (colours == colours[:, :1]).all():
    raise ValueError(
      f'{path}: in its palette black is not the first, so its indices are no '
      'classes (was it quantised?); save class indices'
    )
  return indices, (), shown


def _is_binary(greys, used, is_grey):
  """Whether the greys in use are those of a binary mask."""
  shades = np.unique(greys[used])
  if len(shades) > 2:
    return False
  entries = np.unique(greys[is_grey & (np.arange(len(greys)) <= used[-1])])
  if len(shades) == 1:  # empty, or full: both by what else there is
    return len(entries) <= 2 and bool(shades[0] in (0, 255))
  if int(shades[1]) - int(shades[0]) < _FAR:
    return False
  # A ramp from black to white with steps between: classes made visible.
  ramp = np.rint(np.linspace(0, 255, len(entries)))
  return len(entries) < 3 or not np.array_equal(entries, ramp)


def _colours(path, array, lossy):
  """One channel of RGB (row, column, 3)."""
  spread = np.ptp(array.astype(np.int32), axis=-1)
  if spread.max() <= (_LOSS if lossy else 0):
    return array[..., 1], (), None
  colours, inverse = np.unique(
    array.reshape(-1, 3), axis=0, return_inverse=True
  )
  if len(colours) == 2 and not colours[0].any():
    labels = inverse.reshape(array.shape[:-1]).astype(np.uint8)
    return labels, ('black and one colour: taken as 0 and 1',), None
  raise ValueError(
    f'{path}: a label map has one channel, not three that differ '
    f'({len(colours)} colours); save class indices'
  )
