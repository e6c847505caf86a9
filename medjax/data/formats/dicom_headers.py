"""The images that DICOM files lying in one folder are, by their headers."""

from medjax.data import walk
from medjax.data.formats.dicom import header, is_dicom
from medjax.data.formats.dicom.frames import frame_count, size_of

_IMAGE_TAGS = [
  'SOPClassUID',
  'Modality',
  'Rows',
  'Columns',
  'NumberOfFrames',
  'ImagePositionPatient',
]


def images_of(folder):
  """The images that the DICOM files lying directly in a folder are.

  [folder] where they are the slices of a volume, or one image; the files where
  each is a picture, or a volume, of its own (mammograms, X-rays, cine); []
  where none has pixels. The first image, by the names of files, speaks for all.
  """
  pictures = []
  for file in walk.listed(folder)[1]:
    if not is_dicom(file):
      continue
    dataset = header.load(file, pixels=False, tags=_IMAGE_TAGS)
    modality = header.modality_of(dataset)
    if modality in header.NOT_IMAGES or not size_of(dataset, file):
      continue
    placed = 'ImagePositionPatient' in dataset
    if not pictures and placed and frame_count(dataset, file) == 1:
      return [folder]
    pictures.append(file)
  return pictures if len(pictures) > 1 else [folder] * len(pictures)
