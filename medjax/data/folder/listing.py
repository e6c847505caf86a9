"""What lies in a folder, as images: files, or folders of a DICOM series."""

from medjax.data import formats, walk
from medjax.data.folder.entry import masked


def images_in(folder, passed=None):
  """The images lying directly in a folder, sorted; series are folders."""
  folders, files = walk.listed(folder, passed)
  found = [f for f in files if _is_image(f, passed)]
  for child in folders:
    found += _dicom(child)
  return sorted(found)


def images_below(folder, passed=None, *, masks=False):
  """The images at any depth below a folder, sorted.

  A folder that holds DICOM files is one image, or as many as it has pictures
  (see `formats.dicom_images`). Left out are DICOM that is no image (a
  structure set, a report), and without `masks` x_mask, x_seg, x_label beside x.
  """
  found = []
  root = folder.resolve()
  seen, inodes = {root}, {}
  stack = [folder]
  while stack:
    place = stack.pop()
    folders, files = walk.listed(place, passed)
    for file in files:
      if _is_image(file, passed) and (
        not formats.is_dicom(file) or formats.holds_image(file)
      ):
        found.append(file)
    for child in folders:
      if not walk.enters(child, root, seen):
        if passed is not None:
          passed[walk.LOOPS] += 1
      elif formats.is_image(child):
        found += _dicom(child)
      else:
        stack.append(child)
  found = [f for f in found if f.is_dir() or not walk.again(f, inodes, passed)]
  return sorted(found) if masks else unmasked(sorted(found))


def unmasked(images):
  """The images without those that are masks of others, by name and place."""
  stems = {(p.parent, formats.stem(p)) for p in images}
  return [p for p in images if not _beside(p, stems)]


def folders_in(folder, passed=None):
  """The folders in a folder, sorted."""
  return walk.listed(folder, passed)[0]


def _is_image(file, passed):
  if formats.suffix(file):
    return True
  name = file.name.lower()
  if passed is not None and not name.endswith(formats.COMPANIONS):
    passed.unread[file.suffix.lower()] += 1
  return False


def _dicom(folder):
  """The images in a folder that directly holds DICOM files."""
  return formats.dicom_images(folder) if formats.is_image(folder) else []


def _beside(path, stems):
  """Whether a file is the mask of an image that lies beside it."""
  found = masked(path)
  return found is not None and (path.parent, found[0]) in stems
