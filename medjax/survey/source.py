"""Where the cases of a survey come from: a prepared data set, or your files."""

import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Sequence

from medjax import files, prepare
from medjax.data import builders, folder, formats, records, remote
from medjax.data.case import check_case
from medjax.data.folder.grids import on_grid

# How the image and the mask of a patient with a folder of its own are called.
_IMAGE, _MASK = ('image', 'images'), ('mask', 'masks', 'label', 'labels', 'seg')
# Fields of config.data that do not say how files are read.
LATER = (
  'name', 'path', 'splits', 'data_dir', 'manual_dir', 'channels', 'rank',
  'batch_size', 'preprocess', 'patch_size', 'foreground', 'cache_gb',
  'labelled', 'labelled_ids', 'labelled_seed', 'labelled_share',
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """Raw cases by split, and what is said of them beforehand.

  `config` holds the fields of config.data that open the same cases.
  `modalities` has one name per channel, or none. `named` says whether the
  patients are named; None: to be judged by the cases. `stated` are the splits
  that the data themselves have, where others were made for them.
  """

  name: str
  splits: dict
  class_names: tuple[str, ...] = ()
  modalities: tuple[str, ...] = ()
  config: dict = dataclasses.field(default_factory=dict)
  named: bool | None = None
  stated: tuple[str, ...] = ()


def open_source(
  name, *, data_dir=None, manual_dir=None, options=None, modalities=()
):
  """The `Source` of a data set of datasets/, prepared if need be, or of files.

  A name that a builder has is that data set; './name' is always a path. Files
  are whatever training reads, and besides: one image or DICOM series, a folder
  of images without labels, a patient's folder that holds image/ and mask/, and
  a folder of such patients. `options` are fields of config.data that say how
  to read them. Raises ValueError or FileNotFoundError that says what there is.
  """
  path = pathlib.Path(name).expanduser()
  try:
    builders.find(str(name))
    known = None
  except (ValueError, FileNotFoundError) as e:
    known = e
  if known is None:
    source = _prepared(str(name), data_dir, manual_dir)
  elif path.exists():
    files.check_kind(path)
    source = _files(path, options or {})
  else:
    raise FileNotFoundError(f'{known}; nor is there a folder {name}')
  if not any(len(cases) for cases in source.splits.values()):
    raise ValueError(f'{name}: has no cases')
  return dataclasses.replace(
    source, modalities=tuple(modalities) or source.modalities
  )


def _prepared(name, data_dir, manual_dir):
  target = prepare.prepare(name, data_dir=data_dir, manual_dir=manual_dir)
  if remote.is_remote(target):
    target = records.dataset_dir(name, data_dir)
  about = records.info_of(target)
  channels = [
    note.partition(':')[2].split(',')
    for note in about['notes']
    if note.startswith('channels:')
  ]
  config = {'name': name}
  if data_dir:
    here = not remote.is_remote(data_dir)
    config['data_dir'] = os.path.abspath(data_dir) if here else str(data_dir)
  return Source(
    name=name,
    splits={s: records.Cases(name, s, target) for s in about['splits']},
    class_names=about['class_names'],
    modalities=tuple(c.strip() for c in itertools.chain(*channels)),
    config=config,
    named=not any(n.startswith('no patient ids') for n in about['notes']),
  )


def _files(path, options):
  for field in options:
    if field in LATER:
      raise ValueError(f'--config.data.{field} does not say how to read files')
  here = pathlib.Path(os.path.abspath(path))  # from where a plan is read, too
  config = {'name': 'folder', 'path': str(here), **options}
  config |= _absolute(options, ('table', 'hash_ids'))
  if joined := options.get('join'):
    config['join'] = {**joined, **_absolute(joined, ('table',))}
  patients = {} if options else _patients(here)
  if 'fields' in patients:
    config['fields'] = patients['fields']
    print(
      f'{path}: a folder for each patient; in training, too, say '
      + ' '.join(
        f"--config.data.fields.{field}='{text}'"
        for field, text in patients['fields'].items()
      )
    )
  if 'pair' in patients:
    splits = {'train': Images([patients['pair']], name=here.name)}
  elif not options and formats.is_image(here):
    splits = {'train': Images([(here, None)])}
  else:
    splits = _splits(here, config)
  stated = tuple(splits)
  if 'test' not in splits and 'fold0' not in splits and len(splits) > 1:
    # Of a folder that states none, all patients could be training's.
    stated = tuple(_splits(here, {**config, 'fractions': (1.0, 0.0, 0.0)}))
  first = next(iter(splits.values()))
  return Source(
    name=here.name,
    splits=splits,
    class_names=tuple(first.class_names),
    modalities=_declared(here / 'dataset.json'),
    config=config,
    stated=stated,
  )


def _absolute(options, names):
  """Those files that lie where the command is given, from wherever else."""
  given = {k: pathlib.Path(options.get(k) or '').expanduser() for k in names}
  return {k: os.path.abspath(p) for k, p in given.items() if p.is_file()}


def _splits(path, config):
  """What training reads, else the images that lie there without labels."""
  try:
    return folder.open_splits(
      **{k: v for k, v in config.items() if k != 'name'},
      partly=folder.has_unlabelled(path),
    )
  except ValueError:
    loose = _images_in(path) if path.is_dir() and len(config) == 2 else ()
    if not loose or _folders_in(path):
      raise
    return {'train': Images([(image, None) for image in loose])}


def check_splits(data):
  """Opens the splits of fields of config.data as training of masks does.

  Raises ValueError for what it refuses, such as a patient in two splits.
  """
  for split in data['splits'].values():
    if data['name'] == 'folder':
      how = {k: v for k, v in data.items() if k not in LATER}
      folder.open_folder(data['path'], split, dense=True, **how)
    elif not len(records.open_split(data['name'], split, data.get('data_dir'))):
      raise ValueError(f'{data["name"]}: split {split} is empty')


# Forms that no configuration is needed for.


def _patients(path):
  """{'pair': …} of one patient's folder, {'fields': …} of many, or {}."""
  if not path.is_dir() or any(path.glob('cases.*')):
    return {}
  if pair := _pair(path):
    image, mask = pair
    return {'pair': (image, _alone(mask))}
  pairs = [_pair(below) for below in _folders_in(path)]
  if not pairs or None in pairs:
    return {}
  names = {
    (image.name, f'{mask.name}/*' if _alone(mask) != mask else mask.name)
    for image, mask in pairs
  }
  if len(names) > 1:
    return {}
  ((image, mask),) = names
  return {
    'fields': {'image': f'{{patient}}/{image}', 'mask': f'{{patient}}/{mask}'}
  }


def _pair(place):
  """(image, mask) of a folder that holds one of each, called so, or None.

  images/ and masks/ whose files go by the same names are many cases.
  """
  named = {formats.stem(p): p for p in _images_in(place)}
  image, mask = (
    next((named[name] for name in names if name in named), None)
    for names in (_IMAGE, _MASK)
  )
  if image is None or mask is None:
    return None
  if image.is_dir() and mask.is_dir():
    of_images, of_masks = (
      {formats.stem(f) for f in p.iterdir()} for p in (image, mask)
    )
    if of_images & of_masks:
      return None
  return image, mask


def _alone(mask):
  """The only file of a mask's folder: a DICOM SEG or structure set."""
  files = [f for f in mask.iterdir() if f.is_file()] if mask.is_dir() else ()
  return files[0] if len(files) == 1 else mask


def _images_in(place):
  return sorted(
    p
    for p in place.iterdir()
    if not p.name.startswith('.') and formats.is_image(p)
  )


def _folders_in(place):
  return sorted(
    p for p in place.iterdir() if p.is_dir() and not p.name.startswith('.')
  )


class Images(Sequence):
  """Raw cases of (image, mask or None), each a patient, without labels.

  A case is called like its image's file, or by `name`.
  """

  class_names = ()

  def __init__(self, pairs, *, name=None):
    self._pairs, self._name = pairs, name

  def __len__(self):
    return len(self._pairs)

  def __getitem__(self, index):
    path, mask = self._pairs[index]
    volume = formats.read(path)
    case = {
      'id': self._name or formats.stem(path),
      'image': volume.array,
      'affine': volume.affine,
      'modality': volume.modality,
    }
    if mask is not None:
      case['mask'] = _labels(mask, path, volume)
    return check_case(case)


def _labels(path, image, volume):
  """The label map in a file, on the grid of an image."""
  if formats.is_segmentation(path):
    return formats.label_map(formats.read_segmentation(path, volume))[0]
  return on_grid(path, formats.read_mask(path), image, volume).array


def _declared(path):
  """The modalities in a dataset.json of the Decathlon or of nnU-Net."""
  if not path.is_file():
    return ()
  try:
    about = json.loads(path.read_text(encoding='utf-8-sig'))
    names = about.get('channel_names') or about.get('modality') or {}
    return tuple(str(names[k]) for k in sorted(names, key=int))
  except (ValueError, AttributeError, TypeError) as e:
    raise ValueError(f'{path}: not the dataset.json of a task ({e})') from None
