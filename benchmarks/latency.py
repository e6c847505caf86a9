"""One image: how long does its prediction take, when weights are on the device?

Ours is `Trained.predict`, from the array to the `Prediction`: preparation,
windows and what the task makes of them are in it. "plain lax" is the same door
with convolutions as XLA has them on a CPU, and so says what `ops.cpu` is worth
at batch 1. PyTorch runs the network and softmax, nothing else.
"""

import dataclasses
import functools

import harness
import numpy as np
import train_step

_UNET = (32, 64, 128, 256)
CASES = {
  'ResNet-18, 28': dataclasses.replace(
    train_step.NETWORKS['ResNet-18, 28'], shape=(1, 28, 28, 1)
  ),
  'ResNet-18 for 224, 28': dataclasses.replace(
    train_step.NETWORKS['ResNet-18, 224'], shape=(1, 28, 28, 1)
  ),
  'U-Net 2-D, 256': train_step.Network(
    train_step.unet(_UNET),
    train_step.dynunet(_UNET, 2),
    shape=(1, 256, 256, 1),
    dense=True,
  ),
  'U-Net 3-D, 64': train_step.Network(
    train_step.unet(_UNET),
    train_step.dynunet(_UNET, 3),
    shape=(1, 64, 64, 64, 1),
    dense=True,
  ),
}


def image_of(network):
  """(*spatial, 1)."""
  return train_step.data(network)[0][0]


def peer_of(network):
  """The network in torch."""
  import references
  import torch

  torch.manual_seed(0)
  return network.peer(references).eval()


def trained(network):
  """A `Trained` with the peer's weights, as of a run."""
  from medjax import experiment, models
  from medjax.config import default_config
  from medjax.data.facts import DataFacts
  from medjax.prediction.trained import Trained
  from medjax.tasks.task import Calibration

  classes = tuple(f'class {i}' for i in range(train_step.CLASSES))
  config = default_config()
  config.task = dict(name='Segmentation' if network.dense else 'Classification')
  config.model = dict(name='UNet')
  facts = DataFacts(
    channels=1, rank=len(network.shape) - 2, class_names=classes
  )
  model = network.ours(models)
  made = dataclasses.replace(experiment.make(config, facts=facts), model=model)
  variables = train_step.variables_of(network, model, peer_of(network))
  return Trained(made, [variables], [0], Calibration())


def ours(network, platform_name=None):
  """The whole way of one image, traced for a platform or for this one."""
  import jax

  from medjax.ops import platform

  run, image = trained(network), image_of(network)
  traced_for = platform_name or jax.default_backend()

  def work():
    with platform.traced_for(traced_for):
      return run.probabilities(image)

  return work


def torch(network):
  """PyTorch, eager: logits and softmax."""
  import torch

  net = peer_of(network)
  image = np.moveaxis(image_of(network), -1, 0)[None].copy()
  image = torch.from_numpy(image)

  def work():
    with torch.inference_mode():
      return net(image).softmax(1).numpy()[0]

  return work


def check(network):
  """Raises unless all give the same probabilities."""
  theirs = np.moveaxis(torch(network)(), 0, -1)
  for platform_name in (None, 'cuda'):
    error = np.abs(ours(network, platform_name)() - theirs).max()
    if not error < 1e-4:
      raise ValueError(f'probabilities differ by {error:.1e}')


def case(name):
  """One network on one image."""
  network = CASES[name]
  return harness.Case(
    name,
    {
      harness.OURS: functools.partial(ours, network),
      'plain lax': functools.partial(ours, network, 'cuda'),
      'torch': functools.partial(torch, network),
    },
    check=functools.partial(check, network),
    rounds=9 if network.dense else None,
  )


if __name__ == '__main__':
  harness.main(
    'One image, from the array to its probabilities',
    [case(name) for name in CASES],
    rounds=51,
  )
