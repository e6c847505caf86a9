"""Sliding windows over a volume: medjax against MONAI, label map out.

Both sides do the windows, the Gaussian weights, the average and the argmax,
with the same weights of the network, and their label maps are compared. The
first network is so small that all but the network is seen; the last volume is
as large as a CT of the abdomen.
"""

import dataclasses
import functools

import harness
import numpy as np
import train_step

BATCH = 2
SAME = 0.99  # share of voxels with the same label; the smallest weights differ


@dataclasses.dataclass(frozen=True)
class Scan:
  """A volume of noise, how it is cut into windows, and the U-Net's widths."""

  features: tuple[int, ...]
  shape: tuple[int, ...]
  patch: tuple[int, ...]
  overlap: float

  @property
  def network(self):
    """The U-Net of both sides."""
    return train_step.Network(
      train_step.unet(self.features),
      train_step.dynunet(self.features, len(self.shape)),
      shape=(1, *self.patch, 1),
      dense=True,
    )

  def volume(self):
    """(*shape, 1)."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((*self.shape, 1), np.float32)


def peer_of(scan):
  """MONAI's DynUNet."""
  import references
  import torch

  torch.manual_seed(0)
  return scan.network.peer(references).eval()


def ours(scan):
  """`windows.predict_samples`, as evaluation and prediction use it."""
  import jax

  from medjax import engine, models, tasks
  from medjax.prediction import windows
  from medjax.prediction.forward import make_forward

  task = tasks.Segmentation(num_classes=train_step.CLASSES)
  model = scan.network.ours(models)
  mesh = engine.make_mesh(jax.local_devices())
  variables = train_step.variables_of(scan.network, model, peer_of(scan))
  variables = jax.device_put(variables, engine.replicated(mesh))
  forward = functools.partial(make_forward(model, task, mesh), variables)

  def predict(volume):
    ((_, found),) = windows.predict_samples(
      forward,
      [{'image': volume}],
      mesh=mesh,
      batch_size=BATCH,
      patch_size=scan.patch,
      overlap=scan.overlap,
      sink=lambda sample, name: windows.Rows(task.decode),
    )
    return found['prediction']

  return ready(predict, scan)


def monai(scan):
  """MONAI's SlidingWindowInferer."""
  import torch
  from monai.inferers import SlidingWindowInferer

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  net = peer_of(scan).to(device)
  inferer = SlidingWindowInferer(
    scan.patch, BATCH, overlap=scan.overlap, mode='gaussian'
  )

  def probabilities(windows):
    return net(windows).softmax(1)

  def predict(volume):
    image = np.moveaxis(volume, -1, 0)[None]
    with torch.inference_mode():
      mean = inferer(torch.from_numpy(image.copy()).to(device), probabilities)
      return mean.argmax(1).to(torch.uint8).cpu().numpy()[0]

  return ready(predict, scan)


def ready(predict, scan):
  """The work: to predict the volume; what compiles has done so."""
  predict(np.zeros((*scan.patch, 1), np.float32))
  volume = scan.volume()
  return lambda: predict(volume)


def check(scan):
  """Raises unless both give the same label map of two windows."""
  step = round(scan.patch[0] * (1 - scan.overlap))
  shape = (scan.patch[0] + step, *scan.patch[1:])
  small = dataclasses.replace(scan, shape=shape)
  same = (ours(small)() == monai(small)()).mean()
  if same < SAME:
    raise ValueError(f'only {same:.2%} of the labels are the same')


def case(name, scan, aim=0.5, **options):
  """One network on one volume."""
  return harness.Case(
    name,
    {
      harness.OURS: functools.partial(ours, scan),
      'monai': functools.partial(monai, scan),
    },
    aim=aim,
    check=functools.partial(check, scan),
    **options,
  )


# Where both cut the same windows: steps that fill the axes.
CUBE = dict(shape=(128,) * 3, patch=(64,) * 3, overlap=0.5)
CT = dict(shape=(512, 512, 200), patch=(128, 128, 80), overlap=0.25)

if __name__ == '__main__':
  harness.main(
    f'Sliding-window inference, {train_step.CLASSES} classes',
    [
      case('U-Net 4-16, 128³', Scan((4, 8, 16), **CUBE), warm=1),
      case('U-Net 16-128, 128³', Scan((16, 32, 64, 128), **CUBE), warm=1),
      case('U-Net 4-16, 512x512x200', Scan((4, 8, 16), **CT), warm=0, rounds=1),
    ],
    rounds=3,
  )
