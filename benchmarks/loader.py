"""Reading, decoding, preparing and batching: medjax, PyTorch, MONAI.

The same files for all: 28-pixel chest X-rays as PNG, hippocampi (patches of
40x56x40, a third of them centred on a label) and CT crops of lung nodules as
NIfTI. The first epoch reads everything, from files that the system has in
memory; the later ones may keep what they have read. medjax is `TrainStream` up
to arrays on the device, as training uses it; its peers have two workers, as a
rule for two cores. 'from records' is a prepared data set in place of files.

Public sets are looked for in --files, which defaults to $MEDJAX_TEST_DATA or
shared/data beside the checkout.
"""

import argparse
import csv
import dataclasses
import functools
import itertools
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

import harness
import numpy as np

WORKERS = 2
HERE = pathlib.Path(__file__).resolve().parent
FILES = 'MEDJAX_TEST_DATA'
SCRATCH = 'MEDJAX_BENCHMARK_SCRATCH'  # of this run, for all its processes


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Set:
  """A data set, and its preparation in three libraries.

  `read` is what a PyTorch user writes: (path, mask path or None, rng) →
  arrays, channels first. `fixed` and `random` are MONAI's transforms, those
  that a cache may keep and the others; given its `transforms` module.
  """

  name: str
  records: str
  split: str
  count: int  # cases of the split
  folder: str  # within the public sets
  paths: Callable  # (its folder, case) → path of image, of mask or None
  batch: int
  preprocess: tuple
  read: Callable
  fixed: Callable
  random: Callable = lambda t: []
  patch: tuple = ()
  tolerance: float = 1e-3  # of the mean of all voxels of an epoch

  @property
  def steps(self):
    """Batches of an epoch."""
    return self.count // self.batch

  @property
  def source(self):
    """The folder of the public set."""
    home = os.environ.get(FILES, HERE.parents[1] / 'shared' / 'data')
    return pathlib.Path(home) / self.folder


# The sets.


def png_paths(folder, case):
  """Writes the image as a file, where the other sets have one."""
  del folder
  import PIL.Image

  path = scratch() / 'png' / f'{case["id"]}.png'
  path.parent.mkdir(exist_ok=True)
  if not path.exists():
    PIL.Image.fromarray(case['image'][..., 0]).save(path)
  return path, None


def png_read(path, mask, rng):
  del mask, rng
  import PIL.Image

  with PIL.Image.open(path) as image:
    array = np.asarray(image, np.float32)
  return {'image': (array[None] - 127.5) / 127.5}


def png_fixed(t):
  return [
    t.LoadImaged(['image']),
    t.EnsureChannelFirstd(['image']),
    t.ScaleIntensityRanged(['image'], 0.0, 255.0, -1.0, 1.0),
  ]


PATCH = (40, 56, 40)


def hippocampus_paths(folder, case):
  name = f'{case["id"]}.nii.gz'
  return folder / 'imagesTr' / name, folder / 'labelsTr' / name


def hippocampus_read(path, mask, rng):
  import nibabel

  image = nibabel.load(path).get_fdata(dtype=np.float32)
  image = (image - image.mean()) / image.std()
  mask = np.asarray(nibabel.load(mask).dataobj).astype(np.uint8)
  missing = np.maximum(np.subtract(PATCH, image.shape), 0)
  padding = [(n // 2, n - n // 2) for n in missing]
  image, mask = np.pad(image, padding), np.pad(mask, padding)
  room = np.subtract(image.shape, PATCH)
  start = rng.integers(0, room, endpoint=True)
  inside = np.argwhere(mask)
  if rng.random() < 1 / 3 and len(inside):
    centre = inside[rng.integers(len(inside))]
    start = np.clip(centre - np.array(PATCH) // 2, 0, room)
  window = tuple(slice(a, a + n) for a, n in zip(start, PATCH, strict=True))
  return {
    'image': np.ascontiguousarray(image[window])[None],
    'mask': mask[window][None].astype(np.int32),
  }


def hippocampus_fixed(t):
  both = ['image', 'mask']
  return [
    t.LoadImaged(both),
    t.EnsureChannelFirstd(both),
    t.NormalizeIntensityd(['image']),
    t.SpatialPadd(both, PATCH),
  ]


def hippocampus_random(t):
  return [
    t.RandCropByPosNegLabeld(
      ['image', 'mask'], 'mask', PATCH, pos=1, neg=2, num_samples=1
    )
  ]


NODULE, SPACING = (32, 32, 16), (1.0, 1.0, 2.0)


def nodule_paths(folder, case):
  return folder / 'image' / f'{case["id"]}.nii.gz', None


def nodule_read(path, mask, rng):
  del mask, rng
  import nibabel
  import torch

  volume = nibabel.as_closest_canonical(nibabel.load(path))
  image = torch.from_numpy(volume.get_fdata(dtype=np.float32).copy())
  zooms = volume.header.get_zooms()[:3]
  shape = np.maximum(1, np.rint(np.multiply(image.shape, zooms) / SPACING))
  image = torch.nn.functional.interpolate(
    image[None, None],
    tuple(int(n) for n in shape),
    mode='trilinear',
    align_corners=False,
  )[0]
  image = ((image + 1000) / 700 - 1).clip(-1, 1).numpy()
  out = np.full((1, *NODULE), -1, np.float32)
  inner, outer = [slice(None)], [slice(None)]
  for old, new in zip(image.shape[1:], NODULE, strict=True):
    cut, pad = max(old - new, 0) // 2, max(new - old, 0) // 2
    inner.append(slice(cut, cut + min(old, new)))
    outer.append(slice(pad, pad + min(old, new)))
  out[tuple(outer)] = image[tuple(inner)]
  return {'image': out}


def nodule_fixed(t):
  image = ['image']
  return [
    t.LoadImaged(image),
    t.EnsureChannelFirstd(image),
    t.Orientationd(image, 'RAS', labels=None),
    t.Spacingd(image, SPACING, mode='bilinear', padding_mode='border'),
    t.ScaleIntensityRanged(image, -1000.0, 400.0, -1.0, 1.0, clip=True),
    t.ResizeWithPadOrCropd(image, NODULE, constant_values=-1.0),
  ]


SETS = (
  Set(
    name='PNG 28 px',
    records='medmnist/pneumoniamnist',
    split='train[:2048]',
    count=2048,
    folder='pneumoniamnist',
    paths=png_paths,
    batch=64,
    preprocess=(dict(name='scale', mean=127.5, std=127.5),),
    read=png_read,
    fixed=png_fixed,
  ),
  Set(
    name='hippocampus',
    records='msd/hippocampus',
    split='fold2+fold3',
    count=104,
    folder='msd_hippocampus',
    paths=hippocampus_paths,
    batch=2,
    preprocess=(dict(name='zscore'),),
    patch=PATCH,
    read=hippocampus_read,
    fixed=hippocampus_fixed,
    random=hippocampus_random,
    tolerance=0.1,  # patches lie at random
  ),
  Set(
    name='LIDC nodules',
    records='lidc_idri/nodules',
    split='fold2[:128]',
    count=128,
    folder='lidc_nodules',
    paths=nodule_paths,
    batch=32,
    preprocess=(
      dict(name='reorient'),
      dict(name='resample', spacing=SPACING),
      dict(name='window', low=-1000.0, high=400.0),
      dict(name='crop_or_pad', shape=NODULE),
      dict(name='scale', mean=0.5, std=0.5),
    ),
    read=nodule_read,
    fixed=nodule_fixed,
    tolerance=0.02,  # each has its own idea of where a grid ends
  ),
)


# What all of them read.


def scratch():
  """A folder that is gone when the benchmark has ended."""
  return pathlib.Path(os.environ[SCRATCH])


@functools.cache
def prepared(data):
  """The raw cases of the prepared set, prepared if need be."""
  from medjax.data import records
  from medjax.prepare import prepare

  prepare(data.records, manual_dir=data.source)
  return records.open_split(data.records, data.split)


@functools.cache
def items(data):
  """[{'image': path, 'mask': path, 'label': int}, …] of the same cases."""
  found = []
  for case in prepared(data):
    image, mask = data.paths(data.source, case)
    item = {'image': image, 'mask': mask, 'label': case.get('label')}
    found.append({k: v for k, v in item.items() if v is not None})
  return found


@functools.cache
def files(data):
  """The raw cases of these files, as a user of `folder` has them."""
  from medjax.data.folder import open_folder

  folder = scratch() / data.folder
  folder.mkdir(exist_ok=True)
  with (folder / 'cases.csv').open('w', newline='') as f:
    table = csv.writer(f)
    table.writerow(['path', *list(items(data)[0])[1:]])
    table.writerows(item.values() for item in items(data))
  return open_folder(folder, 'train', fractions=(1.0, 0.0, 0.0))


# The contenders: (set) → a new loader, a function that goes through an epoch
# and yields the images of each batch.


def ours(data, cases):
  """A `TrainStream` over a new cache; the batches are on the device."""
  import jax

  from medjax import engine
  from medjax.build import build
  from medjax.data import pipeline, transforms

  mesh = engine.make_mesh(jax.local_devices()[:1])
  preprocess = [build(transforms, spec) for spec in data.preprocess]
  samples = pipeline.Cached(
    cases(data),
    lambda case: functools.reduce(lambda x, f: f(x), preprocess, case),
    budget_bytes=2**30,
  )
  epochs = itertools.count()

  def epoch():
    # A stream for each, or it would read ahead while others are timed.
    first = next(epochs) * data.steps
    stream = pipeline.TrainStream(
      samples,
      batch_size=data.batch,
      steps=first + data.steps,
      fields=('mask',) if data.patch else ('label',),
      patch_size=data.patch,
      foreground=1 / 3,
    )
    batches = pipeline.train_batches(
      stream, local_batch_size=data.batch, start_step=first
    )
    for batch in pipeline.to_device(batches, engine.sharded(mesh)):
      yield jax.block_until_ready(batch)['image']

  return epoch


def batches(dataset, data, loader=None):
  """An epoch of a DataLoader as PyTorch's users have it, on the device."""
  import torch

  on_gpu = torch.cuda.is_available()
  made = (loader or torch.utils.data.DataLoader)(
    dataset,
    batch_size=data.batch,
    shuffle=True,
    drop_last=True,
    num_workers=WORKERS,
    persistent_workers=True,
    pin_memory=on_gpu,
  )

  def epoch():
    for batch in made:
      if on_gpu:
        batch = {k: v.cuda(non_blocking=True) for k, v in batch.items()}
        torch.cuda.synchronize()
      yield batch['image']

  return epoch


class Files:
  """A torch data set that reads its files each time."""

  def __init__(self, data):
    self._data, self._items = data, items(data)

  def __len__(self):
    return len(self._items)

  def __getitem__(self, index):
    item = self._items[index]
    rng = np.random.default_rng()
    arrays = self._data.read(item['image'], item.get('mask'), rng)
    return arrays | {k: item[k] for k in item.keys() & {'label'}}


def torch_files(data):
  """The files, read by two workers."""
  return batches(Files(data), data)


def torch_memory(data):
  """Arrays in memory, as MedMNIST's own package has them."""
  kept = Files(data)
  return batches([kept[i] for i in range(len(kept))], data)


def monai_cache(data):
  """CacheDataset: everything that is not random is done once, and held."""
  import monai

  transform = monai_transform(data)
  dataset = monai.data.CacheDataset(
    items(data), transform, num_workers=WORKERS, progress=False
  )
  return batches(dataset, data, monai.data.DataLoader)


def monai_persistent(data):
  """PersistentDataset: the same, held as files."""
  import monai

  folder = tempfile.mkdtemp(dir=scratch())
  dataset = monai.data.PersistentDataset(
    items(data), monai_transform(data), cache_dir=folder
  )
  return batches(dataset, data, monai.data.DataLoader)


def monai_transform(data):
  """The set's transforms; what is cached are plain tensors."""
  from monai import transforms as t

  keys = [k for k in ('image', 'mask') if k in items(data)[0]]
  plain = t.EnsureTyped(keys, track_meta=False)
  return t.Compose([*data.fixed(t), plain, *data.random(t)])


LOADERS = {
  harness.OURS: lambda data: ours(data, files),
  'torch': torch_files,
  'monai cache': monai_cache,
  'monai persistent': monai_persistent,
}


def first(loader, data):
  """Times a new loader and its first epoch, not how it is taken down."""
  items(data), files(data)

  def work():
    before = time.perf_counter()
    epoch = loader(data)
    for _ in epoch():
      pass
    return time.perf_counter() - before

  return work


def later(loader, data):
  """Times an epoch of a loader that has been through one."""
  epoch = loader(data)
  return lambda: sum(1 for _ in epoch())


def check(data):
  """Raises unless all give as many images, as large and as bright."""
  seen = {}
  for name, loader in LOADERS.items():
    try:
      images = np.concatenate([np.array(x) for x in loader(data)()])
    except ImportError:
      continue
    seen[name] = images.squeeze(axis=-1 if name == harness.OURS else 1)
  expected = seen[harness.OURS]
  for name, images in seen.items():
    same = images.shape == expected.shape and images.dtype == expected.dtype
    if not same or abs(images.mean() - expected.mean()) > data.tolerance:
      raise ValueError(
        f'{data.name}: {name} gives {images.dtype} {images.shape}, mean '
        f'{images.mean():.4f}; medjax {expected.dtype} {expected.shape}, mean '
        f'{expected.mean():.4f}'
      )


def cases(data):
  """First epoch from files and from records; later epochs."""
  bind = lambda when, loader: functools.partial(when, loader, data)
  samples = data.steps * data.batch
  aim = 0.2 if data.name.startswith('PNG') else 0.5
  peers = dict(LOADERS)
  if data.name.startswith('PNG'):
    peers['torch, in memory'] = torch_memory
  return [
    harness.Case(
      f'{data.name}, first epoch',
      {k: bind(first, loader) for k, loader in LOADERS.items()},
      aim=aim, samples=samples, warm=1, check=lambda: check(data),
    ),
    harness.Case(
      f'{data.name}, first epoch from records',
      {
        harness.OURS: bind(first, lambda data: ours(data, prepared)),
        'torch': bind(first, torch_files),
      },
      aim=aim, samples=samples, warm=1,
    ),
    harness.Case(
      f'{data.name}, later epochs',
      {k: bind(later, loader) for k, loader in peers.items()},
      aim=aim, samples=samples, warm=1,
    ),
  ]  # fmt: skip


def main():
  """Takes --files for itself; the rest is the harness's."""
  parser = argparse.ArgumentParser(add_help=False)
  parser.add_argument('--files')
  args, rest = parser.parse_known_args()
  if args.files:
    os.environ[FILES] = args.files
  sys.argv[1:] = rest
  with tempfile.TemporaryDirectory() as folder:
    os.environ.setdefault(SCRATCH, folder)
    harness.main(
      f'Loading, {WORKERS} workers for PyTorch and MONAI',
      [case for data in SETS for case in cases(data)],
      rounds=5,
    )


if __name__ == '__main__':
  main()
