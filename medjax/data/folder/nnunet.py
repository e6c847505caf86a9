"""nnU-Net's and the Decathlon's folders as they lie: imagesTr and dataset.json.

`read` takes the names of channels and labels, regions, the ignore label and
the file list from dataset.json, and folds from splits_final.json. Format:
nnU-Net's documentation/dataset_format.md, versions 1 and 2.
"""

import collections
import dataclasses
import json
import re

from medjax.data import formats
from medjax.data.folder.entry import Entry
from medjax.data.folder.listing import images_in, put

_CHANNEL = re.compile(r'^(.+)_(\d{4})$')
# What nnU-Net does to a channel of this name (ImageNormalization, by small
# letters); all others are z-scored.
NORMALISATIONS = {
  'ct': 'ct',
  'nonorm': 'none',
  'zscore': 'zscore',
  'rescale_to_0_1': 'rescale_0_1',
  'rgb_to_0_1': 'rgb_0_1',
}


@dataclasses.dataclass(frozen=True)
class Task:
  """What a dataset.json says.

  channel_names: of the channels of an image; normalisation: 'zscore', 'ct',
    'none', 'rescale_0_1' or 'rgb_0_1' for each.
  class_names: of the labels from 0 on, or of the regions if there are some.
  regions: the labels of each; region_order: what each writes, later ones over
    earlier. ignore: the label that is no class, or None.
  num_labels: of labels, background included, without ignore; None: untold.
  """

  channel_names: tuple[str, ...]
  normalisation: tuple[str, ...]
  class_names: tuple[str, ...]
  regions: tuple[tuple[int, ...], ...]
  region_order: tuple[int, ...]
  ignore: int | None
  num_labels: int | None


def is_task(root):
  """Whether a folder is one of nnU-Net's or the Decathlon's."""
  return (root / 'dataset.json').is_file() and (root / 'imagesTr').is_dir()


def read(root, passed, *, partly=False):
  """(`Task`, entries, notes) of a folder.

  partly: images of imagesTr may be without a mask.

  Entries of imagesTs have the split 'test' where labelsTs holds the masks of
  all, else 'unlabelled'. Those of imagesTr have the fold of splits_final.json
  in which they validate, as split 'fold0', …, or none.
  """
  path = root / 'dataset.json'
  about = _json(path)
  task = _task(path, about)
  ending = about.get('file_ending')
  entries = _listed(root, about, task) or _found(
    root, 'imagesTr', 'labelsTr', task, ending, passed, partly=partly
  )
  if not entries:
    raise ValueError(f'{root / "imagesTr"}: holds no image that is read')
  stated = about.get('numTraining')
  notes = []
  if isinstance(stated, int) and stated != len(entries):
    notes.append(f'dataset.json says {stated} cases, {len(entries)} are there')
  folds, more = _folds(root, {e.id for e in entries})
  entries = [dataclasses.replace(e, split=folds.get(e.id, '')) for e in entries]
  tests = _found(root, 'imagesTs', 'labelsTs', task, ending, passed)
  bare = sum(not e.masks for e in tests)
  labelled = bool(tests) and not bare
  kind = 'test' if labelled else 'unlabelled'
  if labelled and not folds:
    entries = [dataclasses.replace(e, split='train') for e in entries]
  known = {e.id for e in entries}
  for e in tests:
    twice = e.id in known
    entries.append(
      dataclasses.replace(
        e, split=kind, id=f'imagesTs/{e.id}' if twice else e.id
      )
    )
  if tests and not labelled:
    note = f'{len(tests)} images without labelsTs are split "unlabelled"'
    if bare < len(tests):
      note = (
        f'{bare} of {len(tests)} images have no mask in labelsTs, so all are '
        'split "unlabelled": where none lacks one, they are the test split'
      )
    notes.append(f'imagesTs: {note}')
  return task, entries, (*notes, *more)


def with_splits(entries, folds):
  """(entries with the splits that are asked for, notes).

  folds: of `data.folds`; 0 asks for train, validation and test. The stated
  folds are kept where they can be: as they are where so many are asked for;
  else a labelled imagesTs is the test set and fold 0 validates, or without one
  fold 0 is the test set and fold 1 validates.
  """
  stated = sorted({e.split for e in entries if e.split.startswith('fold')})
  if not stated or folds == len(stated):
    return entries, ()
  tested = any(e.split == 'test' for e in entries)
  if folds or (not tested and len(stated) < 3):
    note = f'the {len(stated)} folds of splits_final.json are not used'
    names, rest = {}, 'train' if tested else ''
  elif tested:
    note = 'splits_final.json: fold 0 is the validation split'
    names, rest = {'fold0': 'validation'}, 'train'
  else:
    note = 'splits_final.json: fold 0 is the test split, fold 1 validation'
    names, rest = {'fold0': 'test', 'fold1': 'validation'}, 'train'
  return [
    dataclasses.replace(e, split=names.get(e.split, rest))
    if e.split.startswith('fold')
    else e
    for e in entries
  ], (note,)


# dataset.json.


def _json(path):
  try:
    found = json.loads(path.read_text(encoding='utf-8-sig'))
  except (ValueError, OSError) as e:
    raise ValueError(f'{path}: is not JSON ({e}); mend it') from None
  if not isinstance(found, dict):
    raise ValueError(f'{path}: not the dataset.json of nnU-Net; mend it')
  return found


def _task(path, about):
  try:
    channels = about.get('channel_names') or about.get('modality') or {}
    if isinstance(channels, dict):
      channels = [channels[k] for k in sorted(channels, key=int)]
    channels = tuple(str(c) for c in channels)
    labels = _labels(about.get('labels') or {})
  except (ValueError, TypeError, KeyError, AttributeError):
    raise ValueError(
      f'{path}: labels must be {{name: number or [numbers]}} and channel_names '
      '{"0": name}; mend it'
    ) from None
  ignored = [v[0] for k, v in labels.items() if k.lower() == 'ignore']
  labels = {k: v for k, v in labels.items() if k.lower() != 'ignore'}
  every = sorted({v for values in labels.values() for v in values} | {0})
  if every != list(range(len(every))):
    raise ValueError(
      f'{path}: labels {every} have gaps; number them from 0 (background)'
    )
  regions, order = (), ()
  if any(len(v) > 1 for v in labels.values()):
    inner = {k: v for k, v in labels.items() if v != (0,)}
    names, regions = tuple(inner), tuple(inner.values())
    order = tuple(int(v) for v in about.get('regions_class_order') or ())
    if order and len(order) != len(regions):
      raise ValueError(
        f'{path}: regions_class_order has {len(order)} labels for '
        f'{len(regions)} regions; mend it'
      )
  else:
    by_number = {v[0]: k for k, v in labels.items()}
    names = tuple(by_number.get(i, 'background') for i in every)
    names = names if labels else ()
  return Task(
    channel_names=channels,
    normalisation=tuple(
      NORMALISATIONS.get(c.lower(), 'zscore') for c in channels
    ),
    class_names=names,
    regions=regions,
    region_order=order,
    ignore=ignored[0] if ignored else None,
    num_labels=len(every) if labels else None,
  )


def _labels(labels):
  """{name: (numbers)}, of version 1 ({"0": name}) and 2 ({name: 0})."""
  if labels and all(str(k).isdecimal() for k in labels):
    return {str(v): (int(k),) for k, v in labels.items()}
  return {
    str(k): tuple(map(int, v)) if isinstance(v, list | tuple) else (int(v),)
    for k, v in labels.items()
  }


# Files.


def _listed(root, about, task):
  """The entries that dataset.json lists itself: {id: {images, label}}."""
  listed = about.get('dataset')
  if not isinstance(listed, dict):
    return []
  entries = []
  for name, files in sorted(listed.items()):
    try:
      images = tuple(root / str(p) for p in files['images'])
      mask = root / str(files['label'])
    except (KeyError, TypeError):
      raise ValueError(
        f'{root / "dataset.json"}: dataset {name!r} needs images and label'
      ) from None
    missing = next((p for p in (*images, mask) if not p.exists()), None)
    if missing:
      raise FileNotFoundError(f'{missing}: is in dataset.json, not on disk')
    entries.append(Entry(id=str(name), images=images, masks=(mask,)))
  return entries


def _found(root, images, labels, task, ending, passed, *, partly=False):
  """The entries of two folders; files of one id are its channels, in order."""
  masks = {}
  for path in _ending(root / labels, ending, passed):
    put(masks, formats.stem(path), path)
  count = max(1, len(task.channel_names))
  groups = collections.defaultdict(dict)
  for path in _ending(root / images, ending, passed):
    stem = formats.stem(path)
    match = _CHANNEL.match(stem)
    if not match or stem in masks or int(match[2]) >= count:  # no channel
      put(groups[stem], 0, path)
    else:
      put(groups[match[1]], int(match[2]), path)
  if images == 'imagesTr' and groups and not masks:
    ends = f' and ends in {ending}' if ending else ''
    raise FileNotFoundError(
      f'{root / labels}: holds no mask that is read{ends}'
    )
  needed = images == 'imagesTr' and not partly
  width = collections.Counter(len(g) for g in groups.values())
  entries = []
  for name, files in sorted(groups.items()):
    most = width.most_common(1)[0][0]
    if sorted(files) != list(range(most)):
      raise FileNotFoundError(
        f'{root / images}/{name}: has channels {sorted(files)}, others have '
        f'{most}; add what is missing, or take the case away'
      )
    if name not in masks and needed:
      raise FileNotFoundError(
        f'{files[0]}: has no mask {labels}/{name}{formats.suffix(files[0])}, '
        'as others have; add it, or take the image away'
      )
    entries.append(
      Entry(
        id=name,
        images=tuple(files[k] for k in sorted(files)),
        masks=(masks[name],) if name in masks else (),
      )
    )
  return entries


def _ending(folder, ending, passed):
  """The images in a folder, if it is there, that end as dataset.json says."""
  kept = []
  for path in images_in(folder, passed) if folder.is_dir() else ():
    if path.name.endswith(ending or ''):
      kept.append(path)
    else:
      passed.unread[formats.suffix(path)] += 1
  return kept


def _folds(root, ids):
  """({id: 'fold0' in which it validates}, notes) of splits_final.json."""
  path = root / 'splits_final.json'
  if not path.is_file():
    return {}, ()
  try:
    listed = json.loads(path.read_text(encoding='utf-8-sig'))
    folds = {
      str(name): f'fold{i}'
      for i, fold in enumerate(listed)
      for name in fold['val']
    }
    count = sum(len(fold['val']) for fold in listed)
  except (ValueError, TypeError, KeyError) as e:
    raise ValueError(
      f'{path}: is no list of {{"train": […], "val": […]}} ({e}); mend it'
    ) from None
  if count != len(folds) or set(folds) != ids:
    return {}, (
      'splits_final.json: its folds do not validate every case once, so they '
      'are not used',
    )
  return folds, ()
