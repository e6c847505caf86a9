"""Small trained runs on pictures and volumes of the tests' own."""

import nibabel as nib
import numpy as np
from PIL import Image

from medjax import experiment
from medjax.config import default_config
from medjax.train import train

SIZE = 20


def picture(kind, seed):
  """A noisy picture (20, 20) uint8; of kind 1 with a bright blob; its mask."""
  rng = np.random.default_rng(seed)
  image = rng.normal(90, 14, (SIZE, SIZE))
  row, column = rng.integers(4, SIZE - 4, 2)
  y, x = np.mgrid[:SIZE, :SIZE]
  inside = (y - row) ** 2 + (x - column) ** 2 <= 9
  if kind:
    image += 120 * inside
  return np.clip(image, 0, 255).astype(np.uint8), inside & bool(kind)


def write_pictures(root, count=24):
  """A folder per class, masks aside, and a table of two concepts."""
  lines = ['path,label,size,noise,id']
  for i in range(count):
    kind = i % 2
    image, mask = picture(kind, i)
    for name, array in (('images', image), ('masks', mask.astype(np.uint8))):
      folder = root / name
      folder.mkdir(parents=True, exist_ok=True)
      Image.fromarray(array).save(folder / f'{i:02d}.png')
    noise = np.random.default_rng(i).normal()
    lines.append(f'images/{i:02d}.png,{kind},{kind + 0.1 * noise},{noise},{i}')
  (root / 'cases.csv').write_text('\n'.join(lines) + '\n')
  return root


def config_of(root, **task):
  """A narrow ResNet on the pictures of a table."""
  config = default_config()
  config.data.update(
    name='folder', path=str(root), batch_size=8, fractions=(0.5, 0.25, 0.25)
  )
  config.data.preprocess = (dict(name='scale', mean=127.5, std=127.5),)
  config.model = dict(
    name='ResNet18', width=8, stem='small', stage_sizes=(1, 1), norm='group'
  )
  config.task = dict(name='Classification', **task)
  config.optimizer.update(learning_rate=5e-3)
  config.train.update(steps=40, log_every=20, eval_every=40)
  return config


def trained(config, workdir):
  """The workdir of a config, trained in seconds."""
  train(experiment.make(config), workdir)
  return workdir


def bottleneck(root):
  """A config whose concepts are the table's two columns."""
  config = config_of(root)
  config.data.fields.covariates = 'size, noise'
  backbone = config.model.to_dict()
  config.model = dict(
    name='ConceptBottleneck', num_concepts=2, backbone=backbone
  )
  config.task = dict(name='Concepts')
  return config


def fusion(root):
  """A config that joins the pictures and the table's two columns."""
  config = bottleneck(root)
  config.model = dict(
    name='Fusion', backbone=config.model.backbone.to_dict(), hidden=4
  )
  config.task = dict(name='Classification', inputs=('image', 'covariates'))
  return config


def survival(root):
  """A Cox model of the pictures, in which those with a blob die early."""
  lines = ['path,time,event']
  for i in range(24):
    hazard = 5.0 if i % 2 else 0.2
    time = np.random.default_rng(i).exponential(1 / hazard) + 0.01
    lines.append(f'images/{i:02d}.png,{time:.4f},{int(time < 4)}')
  (root / 'cases.csv').write_text('\n'.join(lines) + '\n')
  config = config_of(root)
  config.data.fields = dict(image='path', time='time', event='event')
  config.task = dict(name='Survival', model='cox', inputs=('image',))
  return config


def write_volumes(root, count=8):
  """Volumes with a bright cube, and label maps of it, as NIfTI."""
  affine, lines = np.diag([-1.5, 1.0, 2.0, 1.0]), ['path,mask']
  for i in range(count):
    rng = np.random.default_rng(i)
    image = rng.normal(0, 10, (14, 12, 10)).astype(np.float32)
    mask = np.zeros(image.shape, np.uint8)
    start = rng.integers(2, 5, 3)
    mask[tuple(slice(a, a + 4) for a in start)] = 1
    image += 60 * mask
    for name, array in (('image', image), ('mask', mask)):
      folder = root / name
      folder.mkdir(parents=True, exist_ok=True)
      nib.save(nib.Nifti1Image(array, affine), folder / f'v{i}.nii.gz')
    lines.append(f'image/v{i}.nii.gz,mask/v{i}.nii.gz')
  (root / 'cases.csv').write_text('\n'.join(lines) + '\n')
  return root


def segmenter(root):
  """A tiny 3-D U-Net on windows of the volumes."""
  config = default_config()
  config.data.update(
    name='folder', path=str(root), batch_size=8, patch_size=(8, 8, 8)
  )
  config.data.preprocess = (dict(name='scale', mean=0.0, std=30.0),)
  config.model = dict(name='UNet', features=(4, 8))
  config.task = dict(name='Segmentation', num_classes=2)
  config.optimizer.update(learning_rate=1e-2)
  config.train.update(steps=30, log_every=15, eval_every=30)
  return config
