"""The images that DICOM files lying in one folder are, by their headers."""

from medjax.data import walk
from medjax.data.formats.dicom import is_dicom, patient


def images_of(folder):
  """The images that the DICOM files lying directly in a folder are.

  [folder] where they are the slices of a volume, or one image; the files where
  each is a picture, or a volume, of its own (mammograms, X-rays, cine); []
  where none has pixels. One slice with a place makes it a volume: reading it
  refuses what lies beside, as a dose report, and names the series.
  """
  pictures = []
  for file in walk.listed(folder)[1]:
    if not is_dicom(file):
      continue
    found = patient.seen(file)
    if found.slice:
      return [folder]
    if found.image:
      pictures.append(file)
  return pictures if len(pictures) > 1 else [folder] * len(pictures)
