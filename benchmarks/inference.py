"""Sliding windows over a volume: medjax against MONAI, label map out.

Both sides do the windows, the Gaussian weights, the average and the argmax.
With the small network the stitching is seen, with the other the network.
"""

import functools

import harness
import numpy as np

VOLUMES = {'128³': (128, 128, 128), '512x512x200': (512, 512, 200)}
PATCH = (64, 64, 64)
CLASSES = 4
BATCH = 2


def volume(shape):
  """A volume (*shape, 1) of noise."""
  return np.random.default_rng(0).normal(size=(*shape, 1)).astype(np.float32)


def ours(width, shape):
  """`inference.predict_samples`, as evaluation and prediction use it."""
  import jax

  from medjax import engine, inference, models, tasks

  task = tasks.Segmentation(num_classes=CLASSES)
  model = models.UNet(CLASSES, features=width)
  mesh = engine.make_mesh(jax.local_devices())
  variables = jax.jit(model.init)(
    jax.random.key(0), np.zeros((1, *PATCH, 1), np.float32)
  )
  forward = engine.make_forward(model, task, mesh)
  sample = {'image': volume(shape)}

  def work():
    ((_, labels),) = inference.predict_samples(
      forward,
      variables,
      [sample],
      mesh=mesh,
      batch_size=BATCH,
      patch_size=PATCH,
      overlap=0.5,
      sink=lambda sample: inference.Rows(task.decode),
    )
    return labels

  return work


def monai(width, shape):
  """MONAI's SlidingWindowInferer over the DynUNet of the same plan."""
  import torch
  from monai.inferers import SlidingWindowInferer
  from monai.networks.nets import DynUNet

  n = len(width)
  net = DynUNet(
    3,
    1,
    CLASSES,
    [3] * n,
    [1] + [2] * (n - 1),
    [2] * (n - 1),
    filters=width,
    norm_name='instance',
  ).eval()
  inferer = SlidingWindowInferer(PATCH, BATCH, overlap=0.5, mode='gaussian')
  image = torch.from_numpy(np.moveaxis(volume(shape), -1, 0)[None].copy())

  def work():
    with torch.inference_mode():
      logits = inferer(image, net)
      return logits.softmax(1).argmax(1).to(torch.uint8).numpy()

  return work


def case(name, width, shape):
  """One network on one volume."""
  return harness.Case(
    f'{name}, {shape}',
    {
      harness.OURS: functools.partial(ours, width, VOLUMES[shape]),
      'monai': functools.partial(monai, width, VOLUMES[shape]),
    },
    aim=0.5,
  )


if __name__ == '__main__':
  harness.main(
    'Sliding-window inference, 64³ windows, overlap .5, 4 classes',
    [
      case('U-Net 4-16', (4, 8, 16), '128³'),
      case('U-Net 16-128', (16, 32, 64, 128), '128³'),
      case('U-Net 4-16', (4, 8, 16), '512x512x200'),
    ],
    rounds=3,
  )
