"""A forward pass and a training step: medjax against PyTorch, same weights.

The step is forward, backward and an update of SGD with momentum. PyTorch runs
eagerly, as most of its users run it, and compiled where it can be. What both
give of the same weights is compared before anything is timed. On a GPU both
compute in bfloat16, PyTorch with channels last.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import harness
import numpy as np

CLASSES = 3


@dataclasses.dataclass(frozen=True)
class Network:
  """Ours, the peer's (given the module `references`), an input, and the aim."""

  ours: Callable[[Any], Any]
  peer: Callable[[Any], Any]
  shape: tuple[int, ...]
  dense: bool = False
  aim: float | None = None


def unet(features):
  """Ours."""
  return lambda models: models.UNet(CLASSES, features)


def dynunet(features, rank):
  """MONAI's, with all the biases that ours has."""

  def make(references):
    del references
    from monai.networks.nets import DynUNet

    n = len(features)
    return DynUNet(
      rank, 1, CLASSES, [3] * n, [1] + [2] * (n - 1), [2] * (n - 1),
      filters=features, trans_bias=True,
    )  # fmt: skip

  return make


def _resnet(stem):
  return dict(
    ours=lambda models: models.ResNet18(CLASSES, stem=stem),
    peer=lambda r: r.monai_resnet('basic', (2, 2, 2, 2), 64, 2, stem),
  )


_WIDE = (32, 64, 128, 256)
NETWORKS = {
  'ResNet-18, 28': Network(**_resnet('small'), shape=(128, 28, 28, 1), aim=1.2),
  'ResNet-18, 224': Network(**_resnet('imagenet'), shape=(8, 224, 224, 1)),
  'DenseNet-121, 224': Network(
    lambda models: models.DenseNet121(CLASSES),
    lambda r: r.monai_densenet((6, 12, 24, 16), 32, 64, 2),
    shape=(4, 224, 224, 1),
  ),
  'MobileNetV2, 224': Network(
    lambda models: models.MobileNetV2(CLASSES, epsilon=1e-3, dropout=0.0),
    lambda r: r.transformers_mobilenet_v2(1.0),
    shape=(8, 224, 224, 1),
  ),
  'U-Net 2-D, 256': Network(
    unet(_WIDE), dynunet(_WIDE, 2), (4, 256, 256, 1), dense=True, aim=1.0
  ),
  'U-Net 3-D, narrow': Network(
    unet((12, 24, 48, 96)),
    dynunet((12, 24, 48, 96), 3),
    shape=(2, 32, 48, 32, 1),
    dense=True,
    aim=1.5,
  ),
  'U-Net 3-D, Task04': Network(
    unet(_WIDE), dynunet(_WIDE, 3), (2, 40, 56, 40, 1), dense=True, aim=1.5
  ),
}


def data(network):
  """Images, and the class of each or of each of its voxels."""
  rng = np.random.default_rng(0)
  images = rng.normal(size=network.shape).astype(np.float32)
  shape = network.shape[:-1] if network.dense else network.shape[:1]
  return images, rng.integers(0, CLASSES, shape).astype(np.int32)


def variables_of(network, model, net):
  """The peer's weights as ours."""
  import jax
  import references

  from medjax.finetune import adapted, loading

  image = np.zeros((1, *network.shape[1:]), np.float32)
  template = jax.eval_shape(model.init, jax.random.key(0), image)
  if not network.dense:
    read = lambda tensor: tensor.detach().cpu().numpy().copy()
    return references.as_flax(net, read, template)
  import tempfile

  import torch

  with tempfile.NamedTemporaryFile(suffix='.pth') as file:
    torch.save(net.state_dict(), file.name)
    outline = adapted.outline(model, (image,))
    return loading.load(file.name, model, outline)[0]


def check(network):
  """Raises unless both give the same logits of the same weights."""
  import jax
  import references
  import torch

  from medjax import models

  torch.manual_seed(0)
  model, net = network.ours(models), network.peer(references).eval()
  images = data(network)[0][:1]
  ours = jax.jit(functools.partial(model.apply, train=False))(
    variables_of(network, model, net), images
  )
  with torch.no_grad():
    theirs = net(torch.from_numpy(np.moveaxis(images, -1, 1).copy()))
  theirs = getattr(theirs, 'logits', theirs).numpy()
  theirs = np.moveaxis(theirs, 1, -1)
  error = np.abs(ours - theirs).max() / np.abs(theirs).max()
  if not error < 1e-4:
    raise ValueError(f'the networks differ by {error:.1e} of the largest logit')


def forward_of(model):
  """(variables, images, labels) → logits."""

  def forward(variables, images, labels):
    del labels
    return model.apply(variables, images)

  return forward


def step_of(model, tx):
  """((params, variables, opt_state), images, labels) → the next of these."""
  import jax
  import optax

  def loss(params, variables, images, labels):
    logits, variables = model.apply(
      {'params': params, **variables}, images, train=True,
      mutable=list(variables), rngs={'dropout': jax.random.key(0)},
    )  # fmt: skip
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean(), variables

  def step(state, images, labels):
    params, variables, opt_state = state
    grads, variables = jax.grad(loss, has_aux=True)(
      params, variables, images, labels
    )
    updates, opt_state = tx.update(grads, opt_state)
    return optax.apply_updates(params, updates), variables, opt_state

  return step


def ours(network, train):
  """A compiled program of ours."""
  import jax
  import jax.numpy as jnp
  import optax

  from medjax import models
  from medjax.ops import platform

  gpu = jax.default_backend() != 'cpu'
  model = network.ours(models)
  model = model.clone(dtype=jnp.bfloat16) if gpu else model
  images, labels = jax.device_put(data(network))
  state = dict(jax.jit(model.init)(jax.random.key(0), images[:1]))
  jitted = jax.jit(forward_of(model))
  if train:
    tx = optax.sgd(1e-3, momentum=0.9)
    params = state.pop('params')
    state = (params, state, tx.init(params))
    jitted = jax.jit(step_of(model, tx), donate_argnums=0)
  # A CPU's program has other convolutions: Winograd's method saves products.
  with platform.traced_for('cuda'):
    plain = jitted.trace(state, images, labels)
  flops = plain.lower(lowering_platforms=('cuda',)).cost_analysis()['flops']
  program = jitted.lower(state, images, labels).compile()

  def work():
    nonlocal state
    out = jax.block_until_ready(program(state, images, labels))
    state = out if train else state

  work.cost = flops, program.cost_analysis()['bytes accessed']
  return work


def peer(network, train, compiled):
  """The same in PyTorch."""
  import references
  import torch

  gpu = torch.cuda.is_available()
  device = 'cuda' if gpu else 'cpu'
  torch.backends.cudnn.benchmark = True
  net = network.peer(references).to(device).train(train)
  images, labels = data(network)
  images = torch.from_numpy(np.moveaxis(images, -1, 1).copy()).to(device)
  labels = torch.from_numpy(labels).long().to(device)
  if gpu:
    last = torch.channels_last if images.ndim == 4 else torch.channels_last_3d
    net, images = net.to(memory_format=last), images.to(memory_format=last)
  if compiled:
    net = torch.compile(net)
  optimizer = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9)

  def forward():
    with torch.autocast(device, torch.bfloat16, enabled=gpu):
      logits = net(images)
      return getattr(logits, 'logits', logits)

  def work():
    if train:
      optimizer.zero_grad(set_to_none=True)
      torch.nn.functional.cross_entropy(forward().float(), labels).backward()
      optimizer.step()
    else:
      with torch.inference_mode():
        forward()
    if gpu:
      torch.cuda.synchronize()

  return work


def case(name, train):
  """One network, forward or a whole step."""
  network = NETWORKS[name]

  def eager():
    check(network)
    return peer(network, train, compiled=False)

  def compiled():
    work = peer(network, train, compiled=True)
    try:
      work()
    except Exception as e:  # no compiler, or one that gives up
      raise ImportError(f'{type(e).__name__}: {str(e)[:80]}') from None
    return work

  return harness.Case(
    f'{name}: {"step" if train else "forward"}',
    {
      harness.OURS: functools.partial(ours, network, train),
      'torch': eager,
      'torch.compile': compiled,
    },
    aim=network.aim if train else None,
  )


if __name__ == '__main__':
  harness.main(
    'Forward pass and training step, the same weights',
    [case(name, train) for name in NETWORKS for train in (False, True)],
    rounds=5,
  )
