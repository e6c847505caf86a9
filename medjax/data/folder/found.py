"""The images on disk that cases are made of, found by the text of `fields`."""

import collections
import dataclasses
import pathlib
import re

from medjax.data import formats
from medjax.data.folder import pattern
from medjax.data.folder.entry import MASK_FOLDERS, masked
from medjax.data.folder.listing import (
  folders_in,
  images_below,
  images_in,
  put,
)
from medjax.data.folder.tables import MISSING
from medjax.files import composed


@dataclasses.dataclass(frozen=True)
class Found:
  """The images of one case, and the names that their paths hold."""

  images: tuple[pathlib.Path, ...]
  values: dict

  @property
  def id(self):
    """What the case is called, as far as the files' names tell."""
    name = self.values.get('id') or '_'.join(self.values.values())
    return name or self.images[0].parent.name


def find(root, templates, passed=None):
  """Cases [`Found`] of which each template gives a channel; all names free."""
  if len(templates) == 1:
    return [Found((p,), v) for p, v in _images(root, templates[0], passed)]
  channels = [_by_values(root, template, passed) for template in templates]
  found = []
  for key in sorted(set().union(*channels)):
    for template, paths in zip(templates, channels, strict=True):
      if key not in paths:
        missing = root / pattern.fill(template, dict(key))
        raise FileNotFoundError(
          f'{missing}: no such file, though the case has other channels'
        )
    found.append(Found(tuple(c[key] for c in channels), dict(key)))
  return found


def _images(root, template, passed):
  """What a template matches, without folders of DICOM that is no image."""
  return [
    (path, values)
    for path, values in pattern.find(root, template, passed=passed)
    if not path.is_dir() or formats.dicom_images(path)
  ]


def _by_values(root, template, passed):
  paths = {}
  for path, values in _images(root, template, passed):
    other = paths.setdefault(tuple(values.items()), path)
    if other != path:
      raise ValueError(
        f'{path}: second file of a channel after {other.name}; data.fields.'
        f'image must tell them apart'
      )
  return paths


def join(table, places, templates, rows, *, by_patient_id):
  """For each row of the table its [`Found`]; `places` are those of its files.

  `rows` are their values by name. Where these fill the templates, they are
  paths; else names of the templates, or `patient`, say which images are meant.
  """
  wheres = [row.where for row in table.rows]
  root = places.root
  if templates and set(pattern.names(*templates)) <= set(rows[0]):
    return [
      _existing(places, templates, values, where)
      for values, where in zip(rows, wheres, strict=True)
    ]
  found, names = _candidates(root, templates, by_patient_id)
  shared = [n for n in names if n in rows[0]]
  if not shared:
    raise ValueError(
      f'{table.path}: nothing says which image a row means: it needs a column '
      f'path, or {" or ".join(names)}, or one that data.fields.image names; '
      f'has {", ".join(table.columns)}'
    )
  by_key = collections.defaultdict(list)
  for f in found:
    by_key[tuple(composed(f.values[n]) for n in shared)].append(f)
  matches = []
  for values, where in zip(rows, wheres, strict=True):
    key = [composed(filled(f'{{{n}}}', values, where)) for n in shared]
    if by_patient_id:
      key = [
        formats.patient_digest(k) if n == 'patient' else k
        for n, k in zip(shared, key, strict=True)
      ]
    if tuple(key) not in by_key:  # a file's name may come with its suffix
      key = [formats.stem(k) for k in key]
    if tuple(key) not in by_key:
      raise FileNotFoundError(
        f'{where}: no image below {root} has its {" and ".join(shared)}'
      )
    matches.append(by_key[tuple(key)])
  return matches


def filled(template, values, where=''):
  """The template with its names replaced.

  `where`: of the table; ValueError where a cell of it is empty.
  """
  for name in pattern.names(template):
    cell = values[name]
    if where and cell.lower() in MISSING:
      shown = f' ({cell})' if cell else ''
      raise ValueError(f'{where}: {name} is empty{shown}')
  return pattern.fill(template, values)


def _candidates(root, templates, by_patient_id):
  """All [`Found`] below a folder, and the names they have."""
  if templates:
    found, names = find(root, templates), pattern.names(*templates)
  else:
    found = [
      Found((p,), {'patient': formats.stem(p.relative_to(root).parts[0])})
      for p in images_below(root)
    ]
    names = ('patient',)
  if by_patient_id:
    names = tuple(dict.fromkeys((*names, 'patient')))
    for f in found:
      f.values['patient'] = formats.patient_of(f.images[0])
  return found, names


def find_channels(folder, image):
  """[`Found`]: the cases in a folder, with a file for each channel, in order.

  `image` is as in `fields`; only its last part counts, the name of a file.
  """
  templates = [text.rpartition('/')[2] for text in channels(image)]
  folder = pathlib.Path(folder)
  found = find(folder, templates) if folder.is_dir() else []
  if not found:
    raise FileNotFoundError(
      f'{folder}: is no folder with {", ".join(templates)}, the channels that '
      'the model was trained on'
    )
  return found


def find_numbered(folder, count):
  """[`Found`]: the cases in a folder whose channels are x_0000, x_0001, ….

  As nnU-Net names them; `count` is how many a model takes. Files without a
  number are cases of one file. Raises FileNotFoundError where a channel of a
  case is missing, or there is no image, ValueError where one is there twice.
  """
  groups = collections.defaultdict(dict)
  for path in images_in(pathlib.Path(folder)):
    match = re.fullmatch(r'(.+)_(\d{4})', formats.stem(path))
    if match and int(match[2]) < count:
      put(groups[match[1]], int(match[2]), path)
    else:
      put(groups[formats.stem(path)], 0, path)
  if not groups:
    raise FileNotFoundError(f'{folder} holds no image file')
  width = max(map(len, groups.values()))
  for name, files in groups.items():
    if sorted(files) != list(range(width)):
      raise FileNotFoundError(
        f'{folder}/{name}: has channels {sorted(files)} of {width}'
      )
  return [
    Found(tuple(files[k] for k in sorted(files)), {'id': name})
    for name, files in sorted(groups.items())
  ]


def find_in_folders(folder):
  """[`Found`]: the one image below each folder in a folder, called as that is.

  As a folder for each patient has it; masks by their names are no images.
  Raises FileNotFoundError where there is none, ValueError where several.
  """
  found = []
  for place in folders_in(folder):
    images = [
      path
      for path in images_below(place)
      if not masked(path) and path.parent.name.lower() not in MASK_FOLDERS
    ]
    if len(images) > 1:
      names = ', '.join(str(i.relative_to(place)) for i in images[:3])
      names += ', …' if len(images) > 3 else ''
      raise ValueError(
        f'{place}: holds {len(images)} images ({names}); '
        'name the files to predict'
      )
    found += [Found((path,), {'id': place.name}) for path in images]
  if not found:
    raise FileNotFoundError(f'{folder} holds no image file')
  return found


def channels(image):
  """The texts, one for each file of a case, that `fields` image stands for."""
  return pattern.expand(image)


def _existing(places, templates, values, where):
  """[`Found`] of a row whose cells are paths; `*` may mean several images."""
  if len(templates) == 1:
    text = filled(templates[0], values, where)
    if '*' in text:
      return [Found((p,), values) for p in places.every(text, where)]
  files = [places.find(filled(t, values, where), where) for t in templates]
  return [Found(tuple(files), values)]
