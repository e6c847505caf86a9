"""Training with everything that belongs to it: data, augmentation, steps.

The configs `unet.py:hippocampus` and `resnet.py:pneumoniamnist` by medjax, and
the same by PyTorch and MONAI: the same prepared cases in memory, batch,
network, loss, optimizer, and list of augmentations with their probabilities,
drawn by two workers. An epoch is cut to 16 steps, the first one (compilation,
reading) is not timed. 'waiting' is the share of the time in which there was
nothing to compute, because no batch had come.
"""

import dataclasses
import functools
import itertools
import pathlib
import runpy
import time
from collections.abc import Callable
from typing import Any

import harness
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
STEPS = 16
WORKERS = 2


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
  """A config, and the same in PyTorch and MONAI.

  `transforms` is given MONAI's module of them, `net` the module `references`.
  """

  file: str
  variant: str
  fields: tuple
  transforms: Callable[[Any], list]
  net: Callable[[Any], Any]
  loss: Callable[[], Any]
  aim: float | None = None

  def config(self):
    """Without a moving average, which the peer does not have."""
    config = runpy.run_path(str(ROOT / 'configs' / self.file))['get_config'](
      self.variant
    )
    config.train.ema_decay = 0.0
    return config


def hippocampus_transforms(t):
  """configs/unet.py:hippocampus in MONAI's terms."""
  both, one = ['image', 'mask'], ['image']
  sigma = {f'sigma_{axis}': (0.5, 1.0) for axis in 'xyz'}
  return [
    t.RandCropByPosNegLabeld(both, 'mask', (32, 48, 32), pos=1, neg=2),
    t.RandAffined(
      both, prob=0.5, rotate_range=[0.35] * 3, scale_range=[0.2] * 3,
      mode=['bilinear', 'nearest'], padding_mode='border',
    ),
    t.RandGaussianNoised(one, prob=0.1),
    t.RandGaussianSmoothd(one, prob=0.2, **sigma),
    t.RandScaleIntensityd(one, prob=0.15, factors=0.25),
    t.RandAdjustContrastd(one, prob=0.15, gamma=(0.75, 1.25)),
    t.RandSimulateLowResolutiond(one, prob=0.25, zoom_range=(0.5, 1.0)),
    t.RandAdjustContrastd(one, prob=0.1, gamma=(0.7, 1.5), invert_image=True),
    t.RandAdjustContrastd(one, prob=0.3, gamma=(0.7, 1.5)),
    t.RandFlipd(both, prob=0.5, spatial_axis=0),
  ]  # fmt: skip


def pneumonia_transforms(t):
  """configs/resnet.py:pneumoniamnist in MONAI's terms."""
  return [
    t.RandAffined(
      ['image'], prob=0.99, rotate_range=0.17, scale_range=0.1,
      translate_range=2.0, padding_mode='zeros',
    ),
    t.RandScaleIntensityd(['image'], prob=0.3, factors=0.2),
    t.RandAdjustContrastd(['image'], prob=0.3, gamma=(0.8, 1.2)),
  ]  # fmt: skip


def dynunet(references):
  """The network of configs/unet.py:hippocampus."""
  del references
  from monai.networks.nets import DynUNet

  return DynUNet(
    3, 1, 3, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=(12, 24, 48, 96),
    norm_name='instance', trans_bias=True,
  )  # fmt: skip


def dice_and_entropy():
  """Of logits and a mask (b, 1, *s)."""
  from monai.losses import DiceCELoss

  return DiceCELoss(softmax=True, to_onehot_y=True)


def cross_entropy():
  """Of logits and classes."""
  import torch

  return torch.nn.functional.cross_entropy


JOBS = {
  'hippocampus': Job(
    'unet.py', 'hippocampus', ('image', 'mask'), hippocampus_transforms,
    dynunet, dice_and_entropy, 1.0,
  ),
  'PneumoniaMNIST': Job(
    'resnet.py', 'pneumoniamnist', ('image', 'label'), pneumonia_transforms,
    lambda r: r.monai_resnet('basic', (2, 2, 2, 2), 16, 2, 'small'),
    cross_entropy, 1.0,
  ),
}  # fmt: skip


def ours(job):
  """The parts of `train.train`, for STEPS steps at a time."""
  import jax

  from medjax import engine, experiment
  from medjax.data import pipeline

  made = experiment.make(job.config())
  cases, data, task = made.cases('train'), made.data, made.task
  samples = pipeline.Cached(cases, made.preprocess, budget_bytes=2**31)
  for i in range(len(cases)):
    samples[i]  # in memory, as its peer's are
  stream = functools.partial(
    pipeline.TrainStream,
    samples,
    batch_size=data.batch_size,
    inputs=task.inputs,
    fields=task.fields,
    patch_size=tuple(data.patch_size),
    foreground=data.foreground,
  )
  inputs, mesh = stream(steps=STEPS).inputs, engine.make_mesh()
  tx, _ = made.optimizer(inputs)
  key = engine.replicate(jax.random.key(0), mesh)
  state = engine.create_state(made.model, tx, inputs, jax.random.key(1), mesh)
  step = engine.make_train_step(made.model, task, tx, made.augment, mesh)
  metrics = engine.empty_metrics(mesh)
  epochs = itertools.count()
  facts = {'parameters': sum(x.size for x in jax.tree.leaves(state.params))}

  def work():
    nonlocal state, metrics
    first, waited = next(epochs) * STEPS, 0.0
    before = time.perf_counter()
    batches = pipeline.to_device(
      pipeline.train_batches(
        stream(steps=first + STEPS),
        local_batch_size=data.batch_size,
        start_step=first,
      ),
      engine.sharded(mesh),
    )
    for _ in range(STEPS):
      asked = time.perf_counter()
      batch = next(batches)
      if state.step.is_ready():
        waited += time.perf_counter() - asked
      state, metrics = step(state, metrics, batch, key)
    jax.block_until_ready(state)
    facts['waiting'] = waited / (time.perf_counter() - before)

  work.facts = facts
  return work


def arrays(job):
  """The prepared training cases, channels first, as large as a patch."""
  from medjax import experiment

  made = experiment.make(config := job.config())
  patch = tuple(config.data.patch_size)
  kept = []
  for case in map(made.preprocess, made.cases('train')):
    sample = {'image': np.moveaxis(case['image'], -1, 0).astype(np.float32)}
    if 'mask' in job.fields:
      short = np.maximum(np.subtract(patch, case['mask'].shape), 0)
      pad = [(0, 0), *((0, n) for n in short)]
      sample['image'] = np.pad(sample['image'], pad)
      sample['mask'] = np.pad(case['mask'][None].astype(np.int32), pad)
    else:
      sample['label'] = int(case['label'])
    kept.append(sample)
  return kept, config


def peer(job):
  """What a user of PyTorch and MONAI writes."""
  import references
  import torch
  from monai import transforms
  from monai.data import DataLoader, Dataset

  cases, config = arrays(job)
  gpu = torch.cuda.is_available()
  device = 'cuda' if gpu else 'cpu'
  torch.backends.cudnn.benchmark = True
  batches = DataLoader(
    Dataset(cases, transforms.Compose(job.transforms(transforms))),
    batch_size=config.data.batch_size,
    shuffle=True,
    drop_last=True,
    num_workers=WORKERS,
    persistent_workers=True,
    pin_memory=gpu,
  )
  stream = itertools.chain.from_iterable(itertools.repeat(batches))
  net, loss = job.net(references).to(device).train(), job.loss()
  settings = config.optimizer
  optimizer = torch.optim.AdamW(
    net.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
  )
  facts = {'parameters': sum(x.numel() for x in net.parameters())}

  def work():
    waited, before = 0.0, time.perf_counter()
    for _ in range(STEPS):
      asked = time.perf_counter()
      batch = next(stream)
      waited += time.perf_counter() - asked
      image, target = (batch[k].to(device) for k in job.fields)
      optimizer.zero_grad(set_to_none=True)
      with torch.autocast(device, torch.bfloat16, enabled=gpu):
        logits = net(image)
      loss(logits.float(), target).backward()
      if settings.clip_norm:
        torch.nn.utils.clip_grad_norm_(net.parameters(), settings.clip_norm)
      optimizer.step()
    if gpu:
      torch.cuda.synchronize()
    facts['waiting'] = waited / (time.perf_counter() - before)

  work.facts = facts
  return work


def case(name):
  """One job."""
  job = JOBS[name]
  return harness.Case(
    f'{name}, {STEPS} steps',
    {
      harness.OURS: functools.partial(ours, job),
      'monai': functools.partial(peer, job),
    },
    aim=job.aim,
    samples=STEPS * job.config().data.batch_size,
    warm=1,
  )


if __name__ == '__main__':
  harness.main(
    f'Training with data and augmentation, {WORKERS} workers for MONAI',
    [case(name) for name in JOBS],
    rounds=2,
  )
