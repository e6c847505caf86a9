"""Any DICOM collection with PET: SUV, and the CT on its grid."""

import collections
import dataclasses
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from medjax.data import collection, formats, records, transforms
from medjax.data.builders import Split
from medjax.data.formats import dicom
from medjax.data.formats.dicom import header
from medjax.data.formats.dicom.pet import SUV_TIMES
from medjax.data.formats.dicom.segments import classes_of

FOLDS = 5
AIR = -1024.0  # HU outside of the CT
CHANNELS = {'pet': ('SUV',), 'pet_ct': ('SUV', 'HU')}


class Pet(tfds.core.GeneratorBasedBuilder):
  """PET series of --manual_dir, in five folds of patients."""

  VERSION = tfds.core.Version('1.1.0')
  BUILDER_CONFIGS = tuple(
    tfds.core.BuilderConfig(name=name, description=', '.join(channels))
    for name, channels in CHANNELS.items()
  )
  manual_dir = None

  def _info(self):
    channels = CHANNELS[self.builder_config.name]
    return records.dataset_info(
      self,
      description=(
        'The attenuation-corrected PET series of a DICOM collection, however '
        'its folders are nested, as body-weight SUV'
        + (
          ', and the CT of the same frame of reference, linearly interpolated '
          f'on the grid of the PET, in HU ({AIR:g} outside of it)'
          if 'HU' in channels
          else ''
        )
        + '. The mask has the structures of the RTSTRUCT and SEG drawn on the '
        'PET or, without one, in its frame of reference, a class for each '
        'name; where two overlap it shows the smaller. `suv_factor` is what '
        'activity was multiplied by. Splits are five folds of patients, and '
        '`unlabelled`: series of which nothing was drawn. Their mask is empty '
        'and says nothing, and `segmented` is 0.'
      ),
      homepage='https://www.cancerimagingarchive.net',
      citation='That of the collection that was given.',
      license='That of the collection that was given.',
      features=records.features(
        3,
        channels=len(channels),
        dtype='float32',
        mask=True,
        extra=dict(series=str, segmented='uint8', suv_factor='float64'),
      ),
      class_names=('background',),
      notes=[f'channels: {", ".join(channels)}'],
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    if self.manual_dir is None:
      raise FileNotFoundError(
        'pet needs a collection of DICOM files: pass --manual_dir=FOLDER'
      )
    studies = find_studies(
      pathlib.Path(self.manual_dir), with_ct=self.builder_config.name != 'pet'
    )
    names = class_names(studies)
    self.info.metadata['class_names'] = names
    drawn = [s for s in studies if s.drawn]
    fold = records.patient_folds([s.pet.patient for s in drawn], folds=FOLDS)
    splits = collections.defaultdict(list)
    for study in drawn:
      splits[f'fold{fold[study.pet.patient]}'].append(study)
    if rest := [s for s in studies if not s.drawn]:
      splits['unlabelled'] = rest
      print(
        f'note: of {len(rest)} of {len(studies)} PET series nothing was drawn '
        '(RTSTRUCT, SEG); they are the split unlabelled'
      )
    return {
      k: Split(self._generate_examples, splits[k], (names,))
      for k in sorted(splits)
    }

  def _generate_examples(self, study, names):
    yield records.example(case(study, names))


@dataclasses.dataclass(frozen=True)
class Study:
  """A PET series, with what belongs to it; `factor` makes SUV of its values."""

  id: str
  pet: collection.Series
  factor: float
  ct: collection.Series | None
  drawn: tuple[pathlib.Path, ...]


def find_studies(folder, *, with_ct):
  """The `Study` of each attenuation-corrected PET series in a folder.

  Series that are not corrected are left out, and a line says so. Raises
  ValueError where a dose, time or weight is missing, or `with_ct` and there is
  no CT in the frame of reference of the PET.
  """
  series = collection.find_series(folder)
  count, studies = collections.Counter(), []
  for pet in series:
    if pet.modality != 'PT':
      continue
    first = header.load(pet.files[0], pixels=False)
    with header.parsing(pet.files[0]):
      corrected = first.get('CorrectedImage') or 'ATTN'
    if 'ATTN' not in corrected:
      print(f'note: {pet.folder} is left out: not corrected for attenuation')
      continue
    count[pet.patient] += 1
    beside = [
      s
      for s in series
      if (s.patient, s.frame) == (pet.patient, pet.frame) and pet.frame
    ]
    studies.append(
      Study(
        id=f'{pet.patient}_{count[pet.patient]}',
        pet=pet,
        factor=_factor(first, pet),
        ct=_ct(pet, beside) if with_ct else None,
        drawn=_drawn(pet, beside),
      )
    )
  if not studies:
    raise FileNotFoundError(f'{folder}: holds no PET series to make SUV of')
  return studies


def _factor(first, pet):
  """What makes SUV; the scan begins with the series' earliest acquisition."""
  tags = [*SUV_TIMES, 'SOPClassUID']
  headers = [header.load(p, pixels=False, tags=tags) for p in pet.files]
  return dicom.suv_factor(first, pet.files[0], series=headers)


def _ct(pet, beside):
  """The CT of the frame of reference; that of the study, the longest, first."""
  found = [s for s in beside if s.modality == 'CT']
  if not found:
    raise ValueError(
      f'{pet.folder}: no CT shares the frame of reference of this PET; take '
      'the PET out, or prepare pet/pet'
    )
  return max(found, key=lambda s: (s.study == pet.study, len(s.files)))


def _drawn(pet, beside):
  """Files that were drawn on the PET, else those of its frame of reference."""
  drawn = [s for s in beside if s.modality in ('RTSTRUCT', 'SEG')]
  own = [s for s in drawn if pet.uid in s.refers]
  return tuple(p for s in own or drawn for p in s.files)


def class_names(studies):
  """'background' and the names of all structures, sorted."""
  return list(dicom.class_names_of({p for s in studies for p in s.drawn}))


def case(study, names):
  """SUV and, if the study has a CT, HU; the mask of what was drawn."""
  pet = dicom.read_files(study.pet.files)
  channels = [pet.array * np.float32(study.factor)]
  if study.ct:
    ct = dicom.read_files(study.ct.files)
    channels.append(on_grid(ct, pet))
  return {
    'id': study.id,
    'patient': study.pet.patient,
    'image': np.concatenate(channels, -1).astype(np.float32),
    'mask': label_map(study, pet, names),
    'affine': pet.affine,
    'series': study.pet.uid,
    'segmented': int(bool(study.drawn)),
    'suv_factor': study.factor,
  }


def on_grid(ct, pet):
  """CT (*spatial, 1) in HU on the grid of the PET, linearly interpolated."""
  above_air = ct.array.astype(np.float32) - AIR
  shape = pet.array.shape[:3]
  return transforms.to_grid(above_air, ct.affine, pet.affine, shape) + AIR


def label_map(study, pet, names):
  """The structures on the grid of the PET, (*spatial,); the smallest on top."""
  masks = []
  for path in study.drawn:
    drawn = formats.read_segmentation(path, pet)
    classes, _ = classes_of(drawn, names, path)
    masks += [(drawn[n].sum(), index, drawn[n]) for n, index in classes.items()]
  labels = np.zeros(pet.array.shape[:3], np.int32)
  for _, index, mask in sorted(masks, key=lambda m: -m[0]):
    labels[mask] = index
  return labels
