"""What lies in a folder, as images: files, or folders of a DICOM series."""

from medjax.data import formats, walk
from medjax.data.folder.entry import IMAGE_FOLDERS, MASK_FOLDERS, masked
from medjax.data.formats import dicom

DICOM = dicom.SUFFIXES
# What lies beside images and is none; nobody misses it.
_BESIDE = (
  '.csv', '.tsv', '.parquet', '.json', '.md', '.bval', '.bvec', '.md5',
)  # fmt: skip


def images_in(folder, passed=None):
  """The images lying directly in a folder, sorted; series are folders."""
  folders, files = walk.listed(folder, passed)
  found = [f for f in files if _is_image(f, passed)]
  for child in folders:
    found += _dicom(child)
  return sorted(found, key=str)


def images_below(folder, passed=None, *, masks=False):
  """The images at any depth below a folder, sorted.

  A folder that holds DICOM files is one image, or as many as it has pictures
  (see `formats.dicom_images`); what lies in folders below it are others, but
  in those of masks. Left out are DICOM that is no image (a structure set, a
  report), and without `masks` x_mask, x_seg, x_label beside x.
  """
  found = []
  root = folder.resolve()
  seen = {root}
  stack = [folder]
  series = set()  # folders that are images themselves
  while stack:
    place = stack.pop()
    folders, files = walk.listed(place, passed)
    for file in () if place in series else files:
      if _is_image(file, passed) and (
        formats.suffix(file) not in DICOM or formats.holds_image(file)
      ):
        found.append(file)
    for child in folders:
      if place in series and child.name.lower() in MASK_FOLDERS:
        continue
      if not walk.enters(child, root, seen):
        if passed is not None:
          passed[walk.LOOPS] += 1
        continue
      if own := _dicom(child):
        found += own
        series.add(child)
      stack.append(child)
  found.sort(key=str)
  return found if masks else unmasked(found)


def put(files, key, path):
  """files[key] = path; raises ValueError where another is that already."""
  other = files.setdefault(key, path)
  if other != path:
    raise ValueError(f'{path}: is the same as {other} by its name; keep one')


def unmasked(images):
  """The images without those that are masks of others, by name and place."""
  named = [(p, masked(p)) for p in images]
  if not any(word for _, word in named):
    return list(images)
  stems = {(p.parent, formats.stem(p)) for p in images}
  return [p for p, w in named if not (w and (p.parent, w[0]) in stems)]


def folders_in(folder, passed=None):
  """The folders in a folder, sorted."""
  return walk.listed(folder, passed)[0]


def named_folders(folder):
  """(the folder of images, or None; those of masks, best first) in a folder."""
  by_name = {p.name.lower(): p for p in folders_in(folder)}
  images = next((by_name[n] for n in IMAGE_FOLDERS if n in by_name), None)
  return images, [by_name[n] for n in MASK_FOLDERS if n in by_name]


def _is_image(file, passed):
  if formats.suffix(file):
    return True
  name = file.name.lower()
  if passed is not None and not name.endswith((*formats.COMPANIONS, *_BESIDE)):
    passed.unread[file.suffix.lower()] += 1
  return False


def _dicom(folder):
  """The images in a folder that directly holds DICOM files."""
  return formats.dicom_images(folder) if formats.is_image(folder) else []
