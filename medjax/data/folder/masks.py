"""The label map of a case, from whatever files hold its reference."""

import collections
import dataclasses

import numpy as np

from medjax.data import formats
from medjax.data.folder.grids import on_grid
from medjax.data.formats import plain_name, polygons


@dataclasses.dataclass(frozen=True)
class Reading:
  """How masks become label maps, the same for all cases of a set.

  names: of the classes, background first, if structures in files have names:
    then these say which class they are, not their order. ignore: the value
    that is no class. values: {stored: class}. count: of labels, background
    included, None if unknown: of two, any structure is the second.
  """

  names: tuple[str, ...] = ()
  ignore: int | None = None
  values: tuple[tuple[int, int], ...] = ()
  count: int | None = None


def read(entry, volume, reading):
  """(label map (*spatial,) on the grid of an image, notes, its file's meta)."""
  shape = volume.array.shape[:-1]
  if entry.runs is not None:
    return _from_runs(entry, shape), (), {}
  if not entry.structures and len(entry.masks) == 1:
    return _one(entry.mask, entry, volume, reading)
  notes = []
  if entry.structures:
    found = {}
    for name, path in zip(entry.structures, entry.masks, strict=True):
      mask = formats.read_mask(path, values=reading.values)
      mask = on_grid(path, mask, entry.image, volume)
      notes += mask.meta.get('notes', ())
      found[name] = _binary(path, mask.array)
    return _by_name(entry.masks[0], found, reading.names), tuple(notes), {}
  joined = np.zeros(shape, bool)
  for path in entry.masks:
    mask, more, _ = _one(path, entry, volume, reading)
    joined |= _binary(path, mask)
    notes += more
  return joined.astype(np.uint8), tuple(notes), {}


def _one(path, entry, volume, reading):
  """(label map, notes, meta) of one file."""
  if formats.is_segmentation(path):
    found = formats.read_labels(path, volume, class_names=reading.names or None)
    return found.array, found.meta['notes'], {}
  mask = formats.read_mask(path, ignore=reading.ignore, values=reading.values)
  segments = mask.meta.get('segments')
  mask = on_grid(path, mask, entry.image, volume, part=bool(segments))
  notes = mask.meta.get('notes', ())
  if segments and not reading.names and reading.count == 2:
    return (mask.array > 0).astype(np.uint8), notes, {}
  if not segments or not reading.names:
    return mask.array, notes, mask.meta
  found = {name: mask.array == label for label, name in segments.items()}
  return _by_name(path, found, reading.names), notes, {}


def as_one_class(entries, given):
  """(entries, notes): structures of which no two are called alike are one.

  So are cells called, each drawn in a file of its own; only `given` names of
  classes tell that they are several.
  """
  united = sum(len(e.masks) > 1 and not e.structures for e in entries)
  note = (
    f'{united} cases have several masks, as x and x_2: taken as parts of one'
  )
  notes = (note,) if united else ()
  counts = collections.Counter(
    plain_name(name) for e in entries for name in e.structures
  )
  cases = sum(bool(e.structures) for e in entries)
  known = {plain_name(name) for name in given or ()}
  if cases < 2 or max(counts.values()) > 1 or known & set(counts):
    return entries, notes
  names = [name for e in entries for name in e.structures]
  entries = [dataclasses.replace(e, structures=()) for e in entries]
  return entries, (*notes, _one_class(names))


def _one_class(names):
  shown = ', '.join(names[:6])
  return (
    f'every mask holds one structure of another name ({shown}, …): taken as '
    'one class; else say task.class_names'
  )


def named(entries, about):
  """`About` with the classes that the files' structures name.

  The union over all cases, in the order of their first appearance, background
  first. None where no file names what it holds, and where each holds one and no
  two are called alike: then they are one class. Raises ValueError where some
  name several, and some none.
  """
  names, files, counts, nameless = {}, 0, {}, []
  for entry in entries:
    own = _structures(entry)
    files += bool(own)
    nameless += [entry] if _of_numbers(entry, own) else []
    for name in own:
      key = plain_name(name)
      names.setdefault(key, name)
      counts[key] = counts.get(key, 0) + 1
  if not names:
    return about
  if 1 < files == len(names) == sum(counts.values()):
    note = _one_class(list(names.values()))
    return dataclasses.replace(about, num_labels=2, notes=(*about.notes, note))
  if len(names) > 1 and nameless:
    raise ValueError(
      f'{nameless[0].mask or nameless[0].where}: names no structures, as '
      f'{files} other masks do ({", ".join(names.values())}): say in '
      'task.class_names what its numbers are, background first'
    )
  notes = [f'classes by name: {", ".join(names.values())}']
  rare = [f'{names[k]} ({n})' for k, n in counts.items() if n < files]
  if rare:
    notes.append(f'not in all of {files} masks: {", ".join(rare[:12])}')
  return dataclasses.replace(
    about,
    class_names=('background', *names.values()),
    notes=(*about.notes, *notes),
  )


def given(entries, about, names):
  """`About` with classes that the user names, in the order of the numbers."""
  counts = {True: 0, False: 0}
  for entry in entries:
    own = _structures(entry)
    if own or _of_numbers(entry, own):
      counts[bool(own)] += 1
  note = (
    f'{counts[False]} masks name no structures, as {counts[True]} others do: '
    'their numbers are taken as the order of task.class_names'
  )
  return dataclasses.replace(
    about,
    class_names=tuple(names),
    num_labels=None,
    notes=(*about.notes, *((note,) if all(counts.values()) else ())),
  )


def _structures(entry):
  """The names of the structures in the masks of a case."""
  if entry.structures:
    return entry.structures
  return [n for path in entry.masks for n in _named(path)]


def _of_numbers(entry, names):
  """Whether its mask holds mere numbers, and is not an empty one of names."""
  if names or not entry.dense:
    return False
  return not entry.masks or not all(
    p.name.lower().endswith('.seg.nrrd') or formats.is_segmentation(p)
    for p in entry.masks
  )


def _named(path):
  """Names in a file, read only where its format has some."""
  name = path.name.lower()
  if name.endswith('.nrrd') or formats.is_dicom(path):
    return formats.segment_names(path)
  return ()


def _by_name(path, found, names):
  """The label map of {structure: mask}; others than `names` are left out."""
  if names:
    place = {plain_name(n): i for i, n in enumerate(names)}
    known = {n: m for n, m in found.items() if plain_name(n) in place}
    if found and not known:
      raise ValueError(
        f'{path}: holds {", ".join(found)}, and none of the classes '
        f'{", ".join(names[1:])}; where there is none, give it an empty mask'
      )
  else:
    known = found
  try:
    labels, order = formats.label_map(known)
  except ValueError as e:
    raise ValueError(f'{path}: {e}') from None
  if not names or labels is None:
    return labels
  table = np.array([0, *(place[plain_name(n)] for n in order[1:])])
  return table.astype(np.min_scalar_type(int(table.max())))[labels]


def _binary(path, mask):
  if mask.max(initial=0) > 1:
    raise ValueError(
      f'{path}: holds label {mask.max()}, but several masks of one case are of '
      'one class each, 0 and 1'
    )
  return mask > 0


def _from_runs(entry, shape):
  try:
    return polygons.from_runs(entry.runs, shape)
  except ValueError as e:
    raise ValueError(f'{entry.where}: {e}') from None
