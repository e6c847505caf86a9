"""Medical Segmentation Decathlon: one configuration for each task."""

import json
import pathlib
import shutil
import tarfile

import numpy as np
import tensorflow_datasets as tfds

from medjax.data import formats, records

URL = 'https://msd-for-monai.s3-us-west-2.amazonaws.com/{}.tar'
# MD5 of the archives: as published with MONAI's DecathlonDataset.
TASKS = {
  'hippocampus': {
    'folder': 'Task04_Hippocampus',
    'md5': '9d24dba78a72977dbd1d2e110310f31b',
    'classes': ('background', 'anterior', 'posterior'),
    'channels': ('MRI',),
  },
}
FOLDS = 5


class Msd(tfds.core.GeneratorBasedBuilder):
  """Volumes with label maps, in the five folds that nnU-Net uses."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = tuple(
    tfds.core.BuilderConfig(name=name, description=f'MSD {task["folder"]}')
    for name, task in TASKS.items()
  )
  manual_dir = None

  def _info(self):
    task = TASKS[self.builder_config.name]
    return records.dataset_info(
      self,
      description=(
        f'Medical Segmentation Decathlon, {task["folder"]}: the training cases '
        '(the only ones with public labels), one image per patient. Splits are '
        'the five cross-validation folds of nnU-Net: to validate on fold 0, '
        "train on 'fold1+fold2+fold3+fold4'. Channels: "
        f'{", ".join(task["channels"])}.'
      ),
      homepage='http://medicaldecathlon.com',
      citation=(
        'Antonelli et al., The Medical Segmentation Decathlon, Nature '
        'Communications 13 (2022) 4128.'
      ),
      license='CC BY-SA 4.0',
      features=records.features(
        3, channels=len(task['channels']), dtype='float32', mask=True
      ),
      class_names=task['classes'],
      notes=[f'channels: {", ".join(task["channels"])}'],
    )

  def _split_generators(self, dl_manager):
    task = TASKS[self.builder_config.name]
    if self.manual_dir is None:
      url = URL.format(task['folder'])
      archive = records.fetch(
        url, md5=task['md5'], folder=dl_manager.download_dir
      )
      place = archive.parent / f'{task["folder"]}.unpacked'
      folder = unpack(archive, place) / task['folder']
    else:
      folder = manual(pathlib.Path(self.manual_dir), task)
    check_names(folder, task)
    return {
      f'fold{f}': self._generate_examples(folder, ids)
      for f, ids in enumerate(folds(case_ids(folder)))
    }

  def _generate_examples(self, folder, ids):
    for name in ids:
      image = formats.read(folder / 'imagesTr' / f'{name}.nii.gz')
      mask = formats.read_mask(folder / 'labelsTr' / f'{name}.nii.gz')
      yield records.example(
        {
          'id': name,
          'patient': name,
          'image': image.array.astype(np.float32),
          'mask': mask.array,
          'affine': image.affine,
        }
      )


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


def manual(folder, task):
  """The task's folder at or inside `folder`."""
  for place in (folder, folder / task['folder']):
    if (place / 'imagesTr').is_dir() and (place / 'labelsTr').is_dir():
      return place
  raise FileNotFoundError(
    f'{folder}: holds no imagesTr and labelsTr; download '
    f'{URL.format(task["folder"])}, unpack it and pass '
    f'--manual_dir={task["folder"]}'
  )


def check_names(folder, task):
  """Compares the labels that dataset.json declares, if it is there."""
  path = folder / 'dataset.json'
  if not path.is_file():
    return
  count = len(json.loads(path.read_text())['labels'])
  if count != len(task['classes']):
    raise ValueError(
      f'{path}: declares {count} labels, expected {len(task["classes"])}: '
      f'is this {task["folder"]}?'
    )


def unpack(archive, folder):
  """Unpacks a tar once; the folder appears only when it is whole."""
  if not folder.is_dir():
    partial = folder.with_name(folder.name + '.partial')
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(archive) as f:
      f.extractall(partial, filter='data')
    partial.rename(folder)
  return folder
