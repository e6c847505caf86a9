"""Folders of patients: P001/image.nii.gz beside P001/mask.nii.gz, and BIDS.

Or P001/ct.nii.gz beside P001/segmentations/liver.nii.gz, spleen.nii.gz, …; and
P001/images/x.png with a mask of each cell in P001/masks/.

They look like folders of classes, and are none: what is in a patient's folder
is one case, or has to be told by `data.fields`.
"""

import re

from medjax.data import formats
from medjax.data.folder import tables
from medjax.data.folder.entry import Entry, masked, name_of
from medjax.data.folder.listing import (
  folders_in,
  images_below,
  images_in,
  named_folders,
)

_BIDS = re.compile(r'^sub-[^_/]+$')
_START = '(?<![A-Za-z0-9])'
_SIGNS = r'[\W_]+'
_ENTITIES = r'(sub|ses|run|acq|rec|dir|echo|space|res)-[^_.]+'
# Columns of participants.tsv that say what a classifier is to learn.
_LABELS = ('label', 'diagnosis', 'class', 'group', 'dx')


def entries(folder, folders, root, dense):
  """The cases of a folder of patients; None if it is none.

  Raises ValueError where a patient has several images: then fields must say
  which are channels, and which the mask.
  """
  raw = [f for f in folders if f.name.lower() == 'rawdata']
  subjects = folders_in(raw[0]) if raw else folders
  subjects = [f for f in subjects if _BIDS.match(f.name)]
  if len(subjects) > 1 or (
    subjects and (folder / 'participants.tsv').is_file()
  ):
    return _bids(folder, subjects, root, dense)
  drawn = [_drawn(place, root) for place in folders]
  if any(drawn):
    return _all_drawn(folders, drawn)
  found = {}
  for place in folders:
    every = images_below(place, masks=True)
    masks = [f for f in every if masked(f)]
    images = [f for f in every if not masked(f)]
    if not masks or not images:
      return None
    found[place] = images, masks
  single = all(len(i) == len(m) == 1 for i, m in found.values())
  if not found or not (single or _apart(found.values())):
    return None  # classes/x.png with x_mask.png beside
  for place, (images, masks) in found.items():
    if len(images) > 1 or len(masks) > 1:
      raise ValueError(_ask(folder, place, images, masks))
  return [
    Entry(
      id=name_of(place, root),
      images=tuple(images),
      masks=tuple(masks),
      patient=place.name,
    )
    for place, (images, masks) in found.items()
  ]


def _drawn(place, root):
  """The case of one image beside a folder of masks that are all its own.

  None where it is none. Masks of other names than the image's are structures.
  """
  inner, masks = named_folders(place)
  if len(masks) != 1:
    return None
  images = images_in(place) or (images_in(inner) if inner else [])
  if len(images) != 1:
    return None
  files = images_in(masks[0])
  names = tuple(formats.stem(f) for f in files)
  alike = formats.stem(images[0]) in names or any(map(masked, files))
  if not files or (alike and len(files) > 1):
    return None
  return Entry(
    id=name_of(place, root), images=tuple(images), masks=tuple(files),
    structures=() if alike else names, patient=place.name,
  )  # fmt: skip


def _all_drawn(folders, drawn):
  """The cases; raises ValueError where a patient has no such masks."""
  for place, case in zip(folders, drawn, strict=True):
    if case is None:
      first = next(filter(None, drawn))
      raise ValueError(
        f'{place}: has no image beside a folder of masks, as {first.id} has '
        f'({first.image.name}, {first.mask.parent.name}/); add them, or take '
        'the folder away'
      )
  return drawn


def _apart(found):
  """Whether some mask is called mask.nii.gz, or the one of each as no image."""
  masks = [masked(m)[0] for _, own in found for m in own]
  stems = {formats.stem(i) for own, _ in found for i in own}
  one = all(len(own) == 1 for _, own in found)
  return '' in masks or (one and stems.isdisjoint(masks))


def unlike(entries, dense):
  """A note on one mask a patient that is the liver in one, a tumour in another.

  Or it is called by who drew it, so it is not refused. Numbers, and what the
  folder or the image is called, tell no structures.
  """
  seen, count = {}, 0
  for e in entries:
    if dense and e.patient and len(e.masks) == 1 and masked(e.mask):
      count += 1
      kind = _kind(e.mask, (formats.stem(e.image), e.patient))
      seen.setdefault(kind, e.mask)
  if not 1 < len(seen) < max(count, 3):  # else these too are whose it is
    return ()
  first, second, *_ = (path.name for path in seen.values())
  return (
    f'masks have several names, as {first} and {second}: taken as one class; '
    'if they are several, put them into a folder segmentations/ of each '
    'patient, as liver.nii.gz',
  )


def _ask(folder, place, images, masks):
  """The message that proposes `data.fields` for what is there."""

  def text(path):
    found = path.relative_to(place).as_posix()
    return '{patient}/' + found.replace(place.name, '{patient}')

  names = [text(p) for p in images]
  start = _shared(names)
  end = _shared([n[::-1] for n in names])[::-1]
  image = names[0]
  if len(names) > 1:
    parts = ','.join(n[len(start) : len(n) - len(end)] for n in names)
    image = f'{start}{{{parts}}}{end}'
  return (
    f'{folder}: looks like a folder for each patient ({place.name} has '
    f'{len(images)} images and {len(masks)} masks): say '
    f"data.fields.image='{image}' and data.fields.mask='{text(masks[0])}'"
  )


def _shared(names):
  """The common start of names, up to a sign that is no letter or number."""
  count = 0
  for signs in zip(*names, strict=False):
    if len(set(signs)) > 1:
      break
    count += 1
  return re.sub(r'[A-Za-z0-9]*$', '', names[0][:count])


# BIDS.


def _bids(folder, subjects, root, dense):
  """sub-*/[ses-*/]modality/…: one image of a subject and session is a case."""
  table = folder / 'participants.tsv'
  about = _participants(table) if table.is_file() else {}
  masks = _derived(folder)
  found, drawn, several = [], [], None
  for subject in subjects:
    own = images_below(subject, masks=True)
    images = [f for f in own if not masked(f)]
    beside = [f for f in own if masked(f)]
    by_session = {}
    for image in images:
      by_session.setdefault(_prefix(image), []).append(image)
    for prefix, group in by_session.items():
      if len(group) > 1:
        several = several or group
        continue
      theirs = [
        m for m in (*beside, *masks.get(subject.name, ()))
        if _prefix(m) == prefix
      ]  # fmt: skip
      drawn.append((group[0], theirs))
      found.append(
        Entry(
          id=name_of(group[0], root),
          images=tuple(group),
          masks=tuple(theirs) if len(theirs) == 1 else (),
          patient=subject.name,
          **about.get(subject.name, {}),
        )
      )
  if several:
    names = ', '.join(f.name for f in several[:4])
    raise ValueError(
      f'{folder}: is BIDS with several images of a session ({names}); say '
      "which, as in data.table='participants.tsv', data.fields.image="
      f"'{{participant_id}}/{_inside(several[0])}', data.fields.patient="
      "'participant_id' and data.fields.label or mask"
    )
  if dense or not any(e.label for e in found):
    _check_derived(folder, drawn)
  wanted = [e for e in found if (e.dense if dense else e.dense or e.label)]
  if not wanted:
    raise ValueError(
      f'{folder}: looks like BIDS, and nothing says what to learn: say '
      "data.table='participants.tsv', data.fields.image='{participant_id}/"
      f"{_inside(found[0].image) if found else '*'}', data.fields.patient="
      "'participant_id' and data.fields.label or data.fields.mask"
    )
  return found


def _check_derived(folder, drawn):
  """Refuses several masks of a session, and of each session another kind."""
  seen = {}
  for image, masks in drawn:
    for mask in masks:
      seen.setdefault(_kind(mask, (formats.stem(image),)), (image, mask))
  several = next(([(i, m) for m in ms] for i, ms in drawn if len(ms) > 1), None)
  pair = several or [*seen.values()]
  if len(pair) > 1:
    (image, mask), (_, other) = pair[:2]
    raise ValueError(
      f'{folder}: is BIDS with masks of several names ({mask.name}, '
      f'{other.name}); say which, as in data.fields.image='
      f"'{_told(image, folder)}' and data.fields.mask='{_told(mask, folder)}'"
    )


def _kind(mask, names):
  """What a mask is of, by its name without the words of other `names`.

  Whose it is, when and how it was taken, and numbers tell nothing.
  """
  own = {word for name in names for word in re.split(_SIGNS, name)}
  rest = re.sub(_ENTITIES, '', masked(mask)[0])
  words = (w for w in re.split(_SIGNS, rest) if w not in own)
  return re.sub(r'[\W\d_]', '', ''.join(words)).casefold()


def _told(path, folder):
  """A path as `data.fields` tells it."""
  text = path.relative_to(folder).as_posix()
  for entity, name in (('sub', 'patient'), ('ses', 'session')):
    text = re.sub(rf'{_START}{entity}-[^_/.]+', f'{{{name}}}', text)
  return text


def _participants(path):
  """{participant: its label and other columns}."""
  table = tables.read(path)
  table.require('participant_id')
  label = next((c for c in _LABELS if c in table.columns), None)
  others = [c for c in table.columns if c not in (label, 'participant_id')]
  taken = {'id', 'patient', 'image', 'mask', 'split', 'affine', 'spacing'}
  cells = tables.clinical(table, [c for c in others if c not in taken])
  about = {}
  for row, extra in zip(table.rows, cells, strict=True):
    about[row.cells['participant_id']] = {'extra': extra}
    if label and row.cells[label].lower() not in tables.MISSING:
      about[row.cells['participant_id']]['label'] = row.cells[label]
  return about


def _derived(folder):
  """{subject: masks} below derivatives/."""
  found = {}
  for place in folders_in(folder):
    if place.name.lower() != 'derivatives':
      continue
    for file in images_below(place, masks=True):
      subject = re.match(r'sub-[^_.]+', file.name)
      if subject and masked(file):
        found.setdefault(subject[0], []).append(file)
  return found


def _prefix(path):
  """'sub-01_ses-1' of sub-01_ses-1_run-2_T1w: whose, and when."""
  name = formats.stem(path)
  return '_'.join(re.findall(r'(?:sub|ses)-[^_.]+', name)) or name


def _inside(image):
  """ses-*/anat/*_T1w.nii.gz: the way to an image, below its subject."""
  parts = image.parts
  start = next(i for i, p in enumerate(parts) if _BIDS.match(p))
  folders = [re.sub('^ses-.*', 'ses-*', p) for p in parts[start + 1 : -1]]
  ending = formats.stem(image).rpartition('_')[2] + formats.suffix(image)
  return '/'.join([*folders, f'*_{ending}'])
