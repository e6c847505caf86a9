"""Medical Segmentation Decathlon: one configuration for each task."""

import dataclasses
import json
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from medjax.data import download, formats, records
from medjax.data.builders import Split

URL = 'https://msd-for-monai.s3-us-west-2.amazonaws.com/{}.tar'


@dataclasses.dataclass(frozen=True)
class Task:
  """A task as its dataset.json has it; `md5` of the archive."""

  folder: str
  md5: str
  classes: tuple[str, ...]
  channels: tuple[str, ...]
  cases: int

  @property
  def dtype(self):
    """CT is in whole Hounsfield units, MRI in arbitrary ones."""
    return 'int16' if self.channels == ('CT',) else 'float32'


# MD5 of the archives: as published with MONAI's DecathlonDataset.
TASKS = {
  'brain_tumour': Task(
    folder='Task01_BrainTumour',
    md5='240a19d752f0d9e9101544901065d872',
    classes=(
      'background', 'edema', 'non-enhancing tumor', 'enhancing tumour',
    ),
    channels=('FLAIR', 'T1w', 't1gd', 'T2w'),
    cases=484,
  ),
  'heart': Task(
    folder='Task02_Heart',
    md5='06ee59366e1e5124267b774dbd654057',
    classes=('background', 'left atrium'),
    channels=('MRI',),
    cases=20,
  ),
  'liver': Task(
    folder='Task03_Liver',
    md5='a90ec6c4aa7f6a3d087205e23d4e6397',
    classes=('background', 'liver', 'cancer'),
    channels=('CT',),
    cases=131,
  ),
  'hippocampus': Task(
    folder='Task04_Hippocampus',
    md5='9d24dba78a72977dbd1d2e110310f31b',
    classes=('background', 'anterior', 'posterior'),
    channels=('MRI',),
    cases=260,
  ),
  'prostate': Task(
    folder='Task05_Prostate',
    md5='35138f08b1efaef89d7424d2bcc928db',
    classes=('background', 'PZ', 'TZ'),
    channels=('T2', 'ADC'),
    cases=32,
  ),
  'lung': Task(
    folder='Task06_Lung',
    md5='8afd997733c7fc0432f71255ba4e52dc',
    classes=('background', 'cancer'),
    channels=('CT',),
    cases=63,
  ),
  'pancreas': Task(
    folder='Task07_Pancreas',
    md5='4f7080cfca169fa8066d17ce6eb061e4',
    classes=('background', 'pancreas', 'cancer'),
    channels=('CT',),
    cases=281,
  ),
  'hepatic_vessel': Task(
    folder='Task08_HepaticVessel',
    md5='641d79e80ec66453921d997fbf12a29c',
    classes=('background', 'vessel', 'tumour'),
    channels=('CT',),
    cases=303,
  ),
  'spleen': Task(
    folder='Task09_Spleen',
    md5='410d4a301da4e5b2f6f86ec3ddba524e',
    classes=('background', 'spleen'),
    channels=('CT',),
    cases=41,
  ),
  'colon': Task(
    folder='Task10_Colon',
    md5='bad7a188931dc2f6acf72b08eb6202d0',
    classes=('background', 'colon cancer primaries'),
    channels=('CT',),
    cases=126,
  ),
}  # fmt: skip
FOLDS = 5


class Msd(tfds.core.GeneratorBasedBuilder):
  """Volumes with label maps, in the five folds that nnU-Net uses."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = tuple(
    tfds.core.BuilderConfig(name=name, description=f'MSD {task.folder}')
    for name, task in TASKS.items()
  )
  manual_dir = None

  def _info(self):
    task = TASKS[self.builder_config.name]
    return records.dataset_info(
      self,
      description=(
        f'Medical Segmentation Decathlon, {task.folder}: the training cases '
        '(the only ones with public labels), one image per patient. Splits are '
        'the five cross-validation folds of nnU-Net: to validate on fold 0, '
        "train on 'fold1+fold2+fold3+fold4'. Channels: "
        f'{", ".join(task.channels)}.'
      ),
      homepage='http://medicaldecathlon.com',
      citation=(
        'Antonelli et al., The Medical Segmentation Decathlon, Nature '
        'Communications 13 (2022) 4128.'
      ),
      license='CC BY-SA 4.0',
      features=records.features(
        3, channels=len(task.channels), dtype=task.dtype, mask=True
      ),
      class_names=task.classes,
      notes=[f'channels: {", ".join(task.channels)}'],
    )

  def _split_generators(self, dl_manager):
    task = TASKS[self.builder_config.name]
    downloads = pathlib.Path(dl_manager.download_dir)
    if self.manual_dir is None:
      archive = download.fetch(
        URL.format(task.folder), md5=task.md5, folder=downloads
      )
      folder = download.unpacked(archive, downloads) / task.folder
    else:
      folder = manual(pathlib.Path(self.manual_dir), downloads, task)
    classes, channels = declared(folder, task)
    self.info.metadata['class_names'] = list(classes)
    self.info.metadata['notes'] = [f'channels: {", ".join(channels)}']
    ids = case_ids(folder)
    if len(ids) != task.cases:
      print(
        f'note: {folder} has {len(ids)} labelled cases, the official archive '
        f'{task.cases}; the folds are of what is there'
      )
    return {
      f'fold{f}': Split(self._generate_examples, part, (folder, task))
      for f, part in enumerate(folds(ids))
    }

  def _generate_examples(self, name, folder, task):
    path = folder / 'imagesTr' / f'{name}.nii.gz'
    image = formats.read(path)
    if image.array.shape[-1] != len(task.channels):
      raise ValueError(
        f'{path}: has {image.array.shape[-1]} channels; {task.folder} has '
        f'{len(task.channels)}'
      )
    mask = formats.read_mask(folder / 'labelsTr' / f'{name}.nii.gz')
    yield records.example(
      {
        'id': name,
        'patient': name,
        'image': stored(image.array, task.dtype, path),
        'mask': mask.array,
        'affine': image.affine,
      }
    )


def stored(array, dtype, path):
  """The voxels in the dtype of the records: CT rounded to whole HU."""
  if dtype == 'float32':
    return array.astype(np.float32)
  whole = np.rint(array)
  low, high = whole.min(), whole.max()
  if not -32768 <= low <= high <= 32767:
    raise ValueError(f'{path}: {low} to {high} are no Hounsfield units')
  return whole.astype(np.int16)


def folds(ids):
  """The ids of each fold: nnU-Net's KFold(5, shuffle, random_state=12345)."""
  order = np.arange(len(ids))
  np.random.RandomState(12345).shuffle(order)
  return [
    [ids[i] for i in sorted(part)] for part in np.array_split(order, FOLDS)
  ]


def case_ids(folder):
  """Sorted ids of the cases that have an image; each must have labels."""
  ids = sorted(
    p.name.removesuffix('.nii.gz')
    for p in (folder / 'imagesTr').glob('*.nii.gz')
    if not p.name.startswith('.')
  )
  if len(ids) < FOLDS:
    raise ValueError(
      f'{folder}/imagesTr: {len(ids)} volumes; unpack the whole archive'
    )
  for name in ids:
    if not (folder / 'labelsTr' / f'{name}.nii.gz').is_file():
      raise FileNotFoundError(
        f'{folder}/labelsTr/{name}.nii.gz: no such file, though the image is '
        'there; unpack the archive again'
      )
  return ids


def manual(folder, downloads, task):
  """The task's folder at or inside `folder`, or of the archive there."""
  for place in (folder, folder / task.folder):
    if (place / 'imagesTr').is_dir() and (place / 'labelsTr').is_dir():
      return place
  archive = folder / f'{task.folder}.tar'
  if archive.is_file():
    return download.unpacked(archive, downloads) / task.folder
  raise FileNotFoundError(
    f'{folder}: holds no imagesTr and labelsTr, nor {archive.name}; download '
    f'{URL.format(task.folder)} and pass --manual_dir=FOLDER_WITH_IT'
  )


def declared(folder, task):
  """(classes, channels) that dataset.json declares; the task's without one."""
  path = folder / 'dataset.json'
  if not path.is_file():
    return task.classes, task.channels
  try:
    about = json.loads(path.read_text('utf-8-sig'))
    classes, channels = (
      tuple(about[k][str(i)] for i in range(len(about[k])))
      for k in ('labels', 'modality')
    )
  except (ValueError, KeyError, TypeError) as e:
    raise ValueError(
      f'{path}: damaged ({type(e).__name__}: {e}); unpack the archive again'
    ) from None
  counts = len(classes), len(channels)
  if counts != (len(task.classes), len(task.channels)):
    raise ValueError(
      f'{path}: declares {counts[0]} labels and {counts[1]} channels, expected '
      f'{len(task.classes)} and {len(task.channels)}: is this {task.folder}?'
    )
  # 'Anterior' and 'anterior' are one name, 'PZ' stays.
  return tuple(c.lower() if c.istitle() else c for c in classes), channels
