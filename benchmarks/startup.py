"""From the start of a process to the end of its first training step.

medjax: the demo (configs/unet.py) through `train`, with an empty compilation
cache and with that of an earlier run. The peer is a plain script of PyTorch and
MONAI: the same slices in memory, the same augmentation, network, loss,
optimizer and batch. Both run in a new process each time.
"""

import functools
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import harness
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
CHILD = 'MEDJAX_BENCHMARK_CHILD'  # file that the peer's slices lie in, or ''


def config():
  """The demo's config."""
  import runpy

  return runpy.run_path(str(ROOT / 'configs/unet.py'))['get_config']()


def first_step():
  """Trains as `medjax.main` does, and leaves after the first step."""
  import jax

  from medjax import engine, experiment, main

  make = engine.make_train_step

  def make_train_step(*args, **options):
    step = make(*args, **options)

    def once(*args):
      jax.block_until_ready(step(*args))
      os._exit(0)

    return once

  engine.make_train_step = make_train_step
  with tempfile.TemporaryDirectory() as workdir:
    main.train(experiment.make(config()), workdir)


def first_step_of_torch(path):
  """What a user of PyTorch and MONAI writes."""
  import monai.transforms as t
  import torch
  from monai.data import DataLoader, Dataset
  from monai.losses import DiceCELoss
  from monai.networks.nets import DynUNet

  both = ['image', 'mask']
  bilinear = ('bilinear', 'nearest')
  transform = t.Compose(
    [
      t.NormalizeIntensityd('image'),
      t.DivisiblePadd(both, 8),  # DynUNet takes no other sizes
      t.RandFlipd(both, 0.5, spatial_axis=0),
      t.RandAffined(
        both, prob=0.5, rotate_range=0.26, scale_range=0.15, mode=bilinear,
        padding_mode='border',
      ),
      t.RandAdjustContrastd('image', 0.3, gamma=(0.7, 1.5)),
      t.RandGaussianNoised('image', 0.3),
    ]
  )  # fmt: skip
  kept = np.load(path)
  cases = [
    {'image': image, 'mask': mask}
    for image, mask in zip(kept['image'], kept['mask'], strict=True)
  ]
  features = (16, 32, 64, 128)
  net = DynUNet(
    2, 1, 3, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=features, trans_bias=True
  )  # fmt: skip
  optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-4)
  loss = DiceCELoss(softmax=True, to_onehot_y=True)
  batch = next(
    iter(DataLoader(Dataset(cases, transform), batch_size=8, shuffle=True))
  )
  loss(net(batch['image']), batch['mask']).backward()
  optimizer.step()
  os._exit(0)


@functools.cache
def slices():
  """The demo's training slices, channels first, in a file for the peer."""
  from medjax import experiment

  cases = experiment.make(config()).cases('train')
  path = pathlib.Path(tempfile.mkdtemp()) / 'slices.npz'
  np.savez(
    path,
    image=[np.moveaxis(c['image'], -1, 0).astype(np.float32) for c in cases],
    mask=[c['mask'][None].astype(np.int32) for c in cases],
  )
  return path


def start(child, cache=None):
  """Runs this file in a new process."""
  environment = {**os.environ, CHILD: str(child)}
  environment['JAX_COMPILATION_CACHE_DIR'] = str(cache)
  subprocess.run(
    [sys.executable, __file__],
    env=environment,
    check=True,
    stdout=subprocess.DEVNULL,
  )


def ours(cold):
  """With an empty compilation cache each time, or with the same."""
  slices()  # the data set is prepared
  kept = tempfile.mkdtemp()

  def work():
    if not cold:
      return start('', kept)
    with tempfile.TemporaryDirectory() as empty:
      before = time.perf_counter()
      start('', empty)
      return time.perf_counter() - before

  return work


def peer():
  """PyTorch has no such cache."""
  import monai  # noqa: F401 - left out where it is missing

  return functools.partial(start, slices())


def case(name, cold, aim):
  """One state of the cache."""
  contenders = {harness.OURS: functools.partial(ours, cold), 'monai': peer}
  rounds = 1 if cold else None  # it is mostly compiling
  return harness.Case(
    name, contenders, aim=aim, warm=int(not cold), rounds=rounds
  )


if __name__ == '__main__':
  if CHILD in os.environ:
    path = os.environ[CHILD]
    first_step_of_torch(path) if path else first_step()
  harness.main(
    'Process start to the end of the first training step, the demo',
    [
      case('compilation cache warm', cold=False, aim=1.0),
      case('compilation cache empty', cold=True, aim=None),
    ],
    rounds=3,
  )
