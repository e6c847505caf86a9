"""The cases that a report shows: best, median and worst."""

import numpy as np

from medjax import files

SHOWN = 6


def display_slice(image, *masks, affine):
  """2-D slices ready to look at: (image, *masks).

  Of a volume, the plane with most labels, without any the middle one. Its
  third axis is the one cut; of the others, the first runs across the page, to
  the patient's right, front or head, and the second up.
  """
  if image.ndim == 4:
    main = np.abs(affine[:3, :2]).argmax(0)
    backward = tuple(np.flatnonzero(affine[main, (0, 1)] < 0))
    image, *masks = (np.flip(x, backward) for x in (image, *masks))
    k = image.shape[2] // 2
    labelled = sum(mask > 0 for mask in masks)
    if np.any(labelled):
      k = int((labelled > 0).sum((0, 1)).argmax())
    image, *masks = (
      np.flip(np.swapaxes(x[:, :, k], 0, 1), 0) for x in (image, *masks)
    )
  if image.shape[-1] != 3:
    image = image[..., 0]
  return image, *masks


class Gallery:
  """Keeps what the report shows: best, median and worst cases."""

  def __init__(self, task):
    self._task, self._shown = task, []

  def visit(self, case, prediction, row):
    """Remembers one slice of a case and how well it went; none of a table."""
    if 'image' not in case:
      return
    score, fields = self._task.shown(case, prediction, row)
    grid = case['image'].shape[:-1]
    maps = {k: v for k, v in fields.items() if np.shape(v) == grid}
    image, *slices = display_slice(
      case['image'], *maps.values(), affine=case['affine']
    )
    spacing = np.asarray(case['spacing'])[:2]
    if len(grid) == 3:
      spacing = spacing[::-1]
    shown = {**fields, **dict(zip(maps, slices, strict=True))}
    about = {'id': case['id'], 'score': score, 'spacing': spacing}
    self._shown.append((score, {**about, 'image': image, **shown}))

  def chosen(self):
    """SHOWN cases from best to worst: a third each best, median, worst.

    Of fewer each belongs to the end that it is nearer to, the one in the
    middle to the median; one alone is the worst.
    """
    order = sorted(
      (s for s in self._shown if not np.isnan(s[0])), key=lambda s: -s[0]
    )
    third, n = SHOWN // 3, len(order)
    half, first = n // 2, n // 2 - third // 2
    places = {
      'worst': range(max(0, n - min(third, max(half, 1))), n),
      'best': range(min(third, half)),
      'median': range(max(first, 0), min(first + third, n)),
    }
    named = {}
    for caption, indices in places.items():
      for i in indices:
        named.setdefault(i, caption)
    return [{**order[i][1], 'caption': named[i]} for i in sorted(named)]


def save_cases(path, cases):
  """Saves the cases that a report shows; no pickle, replaced atomically.

  Each case is a dict of `id` str, `image` (H, W) or (H, W, 3) real, shown as
  it lies: row 0 on top; optionally `caption` str ('worst') and `spacing` (2,)
  mm per row and column; for segmentation `mask` and `prediction` (H, W)
  integer; for classification `label` (class index or multi-hot (K,)) and
  `probability` (K,). In the file, field f of case i is the array 'i/f'.
  Raises ValueError when the shapes of a case do not fit each other.
  """
  arrays = {}
  for i, case in enumerate(cases):
    image = np.asarray(case['image'], np.float32)
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
      raise ValueError(
        f'case {case["id"]!r}: image is {image.shape}, '
        'not (rows, columns) or (rows, columns, 3)'
      )
    fields = {**case, 'image': image}
    for name in ('mask', 'prediction'):
      if name not in case:
        continue
      labels = np.asarray(case[name])
      if labels.shape != image.shape[:2]:
        raise ValueError(
          f'case {case["id"]!r}: {name} is {labels.shape}, '
          f'its image {image.shape[:2]}'
        )
      fits = labels.size and labels.min() >= 0 and labels.max() < 256
      fields[name] = labels.astype(np.uint8 if fits else np.int32)
    for name, value in fields.items():
      arrays[f'{i}/{name}'] = np.asarray(value)
  with files.replacing(path, 'wb') as f:
    np.savez_compressed(f, **arrays)


def load_cases(path):
  """The list of dicts that `save_cases` was given."""
  cases = {}
  with np.load(path, allow_pickle=False) as arrays:
    for key in arrays.files:
      i, name = key.split('/', 1)
      value = arrays[key]
      value = str(value) if value.dtype.kind == 'U' else value
      cases.setdefault(int(i), {})[name] = value
  return [cases[i] for i in sorted(cases)]
