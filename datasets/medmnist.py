"""MedMNIST v2/+: one configuration for each set and size."""

import dataclasses
import zipfile

import numpy as np
import tensorflow_datasets as tfds

from medjax.data import download, records
from medjax.data.builders import Split

URL = 'https://zenodo.org/records/10519652/files/{}.npz?download=1'
SPLITS = {'train': 'train', 'validation': 'val', 'test': 'test'}


@dataclasses.dataclass(frozen=True)
class Flag:
  """One of the sets; `md5` by size: 28, 64, 128, 224 (3-D: 28, 64)."""

  channels: int
  classes: tuple[str, ...]
  md5: tuple[str, ...]
  multi_label: bool = False
  license: str = 'CC BY 4.0'


# Names, labels and MD5 as in medmnist 3.0.2.
FLAGS = {
  'pathmnist': Flag(
    channels=3,
    classes=(
      'adipose',
      'background',
      'debris',
      'lymphocytes',
      'mucus',
      'smooth muscle',
      'normal colon mucosa',
      'cancer-associated stroma',
      'colorectal adenocarcinoma epithelium',
    ),
    md5=(
      'a8b06965200029087d5bd730944a56c1',
      '55aa9c1e0525abe5a6b9d8343a507616',
      'ac42d08fb904d92c244187169d1fd1d9',
      '2c51a510bcdc9cf8ddb2af93af1eadec',
    ),
  ),
  'chestmnist': Flag(
    channels=1,
    classes=(
      'atelectasis',
      'cardiomegaly',
      'effusion',
      'infiltration',
      'mass',
      'nodule',
      'pneumonia',
      'pneumothorax',
      'consolidation',
      'edema',
      'emphysema',
      'fibrosis',
      'pleural',
      'hernia',
    ),
    md5=(
      '02c8a6516a18b556561a56cbdd36c4a8',
      '9de6cd0b934ebb5b7426cfba5efbae16',
      'db107e5590b27930b62dbaf558aebee3',
      '45bd33e6f06c3e8cdb481c74a89152aa',
    ),
    multi_label=True,
  ),
  'dermamnist': Flag(
    channels=3,
    classes=(
      'actinic keratoses and intraepithelial carcinoma',
      'basal cell carcinoma',
      'benign keratosis-like lesions',
      'dermatofibroma',
      'melanoma',
      'melanocytic nevi',
      'vascular lesions',
    ),
    md5=(
      '0744692d530f8e62ec473284d019b0c7',
      'b70a2f5635c6199aeaa28c31d7202e1f',
      '2defd784463fa5243564e855ed717de1',
      '8974907d8e169bef5f5b96bc506ae45d',
    ),
    license='CC BY-NC 4.0',
  ),
  'octmnist': Flag(
    channels=1,
    classes=(
      'choroidal neovascularization',
      'diabetic macular edema',
      'drusen',
      'normal',
    ),
    md5=(
      'c68d92d5b585d8d81f7112f81e2d0842',
      'e229e9440236b774d9f0dfef9d07bdaf',
      '0a97e76651ace45c5d943ee3f65b63ae',
      'abc493b6d529d5de7569faaef2773ba3',
    ),
  ),
  'pneumoniamnist': Flag(
    channels=1,
    classes=(
      'normal',
      'pneumonia',
    ),
    md5=(
      '28209eda62fecd6e6a2d98b1501bb15f',
      '8f4eceb4ccffa70c672198ea285246c6',
      '05b46931834c231683c68f40c47b2971',
      'd6a3c71de1b945ea11211b03746c1fe1',
    ),
  ),
  'retinamnist': Flag(
    channels=3,
    classes=(
      '0',
      '1',
      '2',
      '3',
      '4',
    ),
    md5=(
      'bd4c0672f1bba3e3a89f0e4e876791e4',
      'afda852cc34dcda56f86ad2b2457dbcc',
      'e48e916a24454daf90583d4e6efb1a18',
      'eae7e3b6f3fcbda4ae613ebdcbe35348',
    ),
  ),
  'breastmnist': Flag(
    channels=1,
    classes=(
      'malignant',
      'normal, benign',
    ),
    md5=(
      '750601b1f35ba3300ea97c75c52ff8f6',
      '742edef2a1fd1524b2efff4bd7ba9364',
      '363e4b3f8d712e9b5de15470a2aaadf1',
      'b56378a6eefa9fed602bb16d192d4c8b',
    ),
  ),
  'bloodmnist': Flag(
    channels=3,
    classes=(
      'basophil',
      'eosinophil',
      'erythroblast',
      'immature granulocytes(myelocytes, metamyelocytes and promyelocytes)',
      'lymphocyte',
      'monocyte',
      'neutrophil',
      'platelet',
    ),
    md5=(
      '7053d0359d879ad8a5505303e11de1dc',
      '2b94928a2ae4916078ca51e05b6b800b',
      'adace1e0ed228fccda1f39692059dd4c',
      'b718ff6835fcbdb22ba9eacccd7b2601',
    ),
  ),
  'tissuemnist': Flag(
    channels=1,
    classes=(
      'Collecting Duct, Connecting Tubule',
      'Distal Convoluted Tubule',
      'Glomerular endothelial cells',
      'Interstitial endothelial cells',
      'Leukocytes',
      'Podocytes',
      'Proximal Tubule Segments',
      'Thick Ascending Limb',
    ),
    md5=(
      'ebe78ee8b05294063de985d821c1c34b',
      '123ece2eba09d0aa5d698fda57103344',
      '61b955355d7425a89687b06cca3ce0c2',
      'b077128c4a949f0a4eb01517f9037b9c',
    ),
  ),
  'organamnist': Flag(
    channels=1,
    classes=(
      'bladder',
      'femur-left',
      'femur-right',
      'heart',
      'kidney-left',
      'kidney-right',
      'liver',
      'lung-left',
      'lung-right',
      'pancreas',
      'spleen',
    ),
    md5=(
      '68e3f8846a6bd62f0c9bf841c0d9eacc',
      '2dcccc29b88e6da5a01161ef20cda288',
      'eeae80d0a227a8d099027e1b3cfd3b60',
      '50747347e05c87dd3aaf92c49f9f3170',
    ),
  ),
  'organcmnist': Flag(
    channels=1,
    classes=(
      'bladder',
      'femur-left',
      'femur-right',
      'heart',
      'kidney-left',
      'kidney-right',
      'liver',
      'lung-left',
      'lung-right',
      'pancreas',
      'spleen',
    ),
    md5=(
      'b9ceb9546e10131b32923c5bbeaea2b1',
      '3ce34a8724ea6f548e6db4744d03b6a9',
      '773c1f009daa3fe5d9a2a201b2a7ed94',
      '050f5e875dc056f6768abf94ec9995d1',
    ),
  ),
  'organsmnist': Flag(
    channels=1,
    classes=(
      'bladder',
      'femur-left',
      'femur-right',
      'heart',
      'kidney-left',
      'kidney-right',
      'liver',
      'lung-left',
      'lung-right',
      'pancreas',
      'spleen',
    ),
    md5=(
      '9ab87b696fb54e2a387ebe992d6ed5f1',
      '53a6d115339d874c25e309a994ff46d3',
      'ded0c5fa01a95dc4978b956f613e9b8e',
      'b354719e553fbbb2513d5533f52a4cb1',
    ),
  ),
  'organmnist3d': Flag(
    channels=1,
    classes=(
      'liver',
      'kidney-right',
      'kidney-left',
      'femur-right',
      'femur-left',
      'bladder',
      'heart',
      'lung-right',
      'lung-left',
      'spleen',
      'pancreas',
    ),
    md5=(
      'a0c5a1ff56af4f155c46d46fbb45a2fe',
      '58a2205adf14a9d0a189cb06dc78bf10',
    ),
  ),
  'nodulemnist3d': Flag(
    channels=1,
    classes=(
      'benign',
      'malignant',
    ),
    md5=(
      '8755a7e9e05a4d9ce80a24c3e7a256f3',
      'c47c5b7d457bf6332200d2ea6d64ecd8',
    ),
  ),
  'adrenalmnist3d': Flag(
    channels=1,
    classes=(
      'normal',
      'hyperplasia',
    ),
    md5=(
      'bbd3c5a5576322bc4cdfea780653b1ce',
      '17721accfe9fb005146a47d33bc54b2f',
    ),
  ),
  'fracturemnist3d': Flag(
    channels=1,
    classes=(
      'buckle rib fracture',
      'nondisplaced rib fracture',
      'displaced rib fracture',
    ),
    md5=(
      '6aa7b0143a6b42da40027a9dda61302f',
      'f01d7e6316aedf4210da0da5b7437b42',
    ),
  ),
  'vesselmnist3d': Flag(
    channels=1,
    classes=(
      'vessel',
      'aneurysm',
    ),
    md5=(
      'b41fd4f7e7e2feedddb201585ecafa1b',
      '6bb274a8846e1097066dcd64e2c4520f',
    ),
  ),
  'synapsemnist3d': Flag(
    channels=1,
    classes=(
      'inhibitory synapse',
      'excitatory synapse',
    ),
    md5=(
      '1235b78a3cd6280881dd7850a78eadb6',
      '43bd14ebf3af9d3dd072446fedc14d5e',
    ),
  ),
}
SIZES = (28, 64, 128, 224)


def configs():
  """Every 'flag' (28 voxels) and 'flag_size' → (flag, size, MD5)."""
  return {
    flag if size == 28 else f'{flag}_{size}': (flag, size, md5)
    for flag, about in FLAGS.items()
    for size, md5 in zip(SIZES, about.md5, strict=False)
  }


class Medmnist(tfds.core.GeneratorBasedBuilder):
  """Small labelled pictures and volumes with the official splits."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = tuple(
    tfds.core.BuilderConfig(name=name, description=f'{flag}, {size} voxels')
    for name, (flag, size, _) in configs().items()
  )
  manual_dir = None

  def _info(self):
    flag, size, _ = configs()[self.builder_config.name]
    about = FLAGS[flag]
    rank = 3 if flag.endswith('3d') else 2
    return records.dataset_info(
      self,
      description=(
        f'MedMNIST {flag}, {size} voxels a side, with the official '
        'train, validation and test splits. The files carry neither patient '
        'nor voxel size: every image counts as one patient, and spacing is 1.'
      ),
      homepage='https://medmnist.com',
      citation=(
        'Yang et al., MedMNIST v2 - A large-scale lightweight benchmark for '
        '2D and 3D biomedical image classification, Scientific Data 10 (2023) '
        '41.'
      ),
      license=about.license,
      features=records.features(
        rank,
        channels=about.channels,
        dtype='uint8',
        label=about.classes,
        multi_label=about.multi_label,
      ),
      class_names=about.classes,
      notes=['no patient ids in the source: splits are the official ones'],
    )

  def _split_generators(self, dl_manager):
    name = self.builder_config.name
    path = download.fetch(
      URL.format(name),
      md5=configs()[name][2],
      folder=dl_manager.download_dir,
      manual_dir=self.manual_dir,
    )
    # A compressed array is read from its start: one item for each split.
    return {
      split: Split(self._generate_examples, [split], (path,))
      for split in SPLITS
    }

  def _generate_examples(self, split, path):
    flag = FLAGS[configs()[self.builder_config.name][0]]
    rank = self.info.features['spacing'].shape[0]
    name = SPLITS[split]
    labels = read_labels(path, f'{name}_labels', flag)
    for i, image in enumerate(rows(path, f'{name}_images', len(labels))):
      label = labels[i] if flag.multi_label else labels[i].item()
      yield records.example(
        {
          'id': f'{split}_{i:06d}',
          'image': image.reshape(*image.shape[:rank], flag.channels),
          'label': label,
          'affine': np.eye(rank + 1),
        }
      )


def read_labels(path, name, flag):
  """The labels (n, k) of a split; there are the classes of the set."""
  labels = np.array(list(rows(path, name)))
  columns = len(flag.classes) if flag.multi_label else 1
  if labels.ndim != 2 or labels.shape[1] != columns:
    raise ValueError(
      f'{path}: {name} has shape {labels.shape}, not (…, {columns}): is it of '
      'another set?'
    )
  most = 1 if flag.multi_label else len(flag.classes) - 1
  if (
    labels.dtype.kind not in 'iub'
    or not 0 <= labels.min() <= labels.max() <= most
  ):
    raise ValueError(
      f'{path}: {name} holds {labels.min()} to {labels.max()}, but labels are '
      f'whole numbers from 0 to {most}: is it of another set?'
    )
  return labels


def rows(path, name, count=None):
  """Yields the rows of one array in an npz, without holding all of it.

  The largest file unpacks to 13 GB. Raises ValueError unless there are `count`.
  """
  try:
    with zipfile.ZipFile(path) as archive, archive.open(f'{name}.npy') as f:
      version = np.lib.format.read_magic(f)
      read = getattr(
        np.lib.format, f'read_array_header_{version[0]}_{version[1]}'
      )
      shape, fortran, dtype = read(f)
      if count is not None and shape[0] != count:
        raise ValueError(f'{name} has {shape[0]} rows for {count} labels')
      if fortran:
        raise ValueError(f'{name} is stored by column; save it again')
      size = dtype.itemsize * int(np.prod(shape[1:]))
      for _ in range(shape[0]):
        yield np.frombuffer(f.read(size), dtype).reshape(shape[1:])
  except (zipfile.BadZipFile, KeyError, EOFError, ValueError) as e:
    raise ValueError(
      f'{path}: not a whole MedMNIST file ({e}); download it again'
    ) from None
