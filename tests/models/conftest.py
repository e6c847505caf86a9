"""Parity with networks assembled in torch under our own layers' names."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

# XLA's effort is better spent elsewhere: these programs run once.
QUICK = {'xla_backend_optimization_level': 0}


@pytest.fixture
def quick():
  """jax.jit for a program that runs once."""
  return functools.partial(jax.jit, compiler_options=QUICK)


def perturb(torch, net):
  """Moves what torch makes one or zero, so that nothing passes by being it.

  Kernels grow to He's variance: under torch's own the signal of a deep network
  dies out, and its logits are those of no input at all.
  """
  with torch.no_grad():
    for name, p in (*net.named_parameters(), *net.named_buffers()):
      if p.ndim == 1:
        noise = 0.1 * torch.randn_like(p)
        p.add_(noise.abs() if 'running' in name else noise)
      elif p.ndim > 2:
        p.mul_(6**0.5)


def as_flax(net, grid):
  """Variables of a torch network whose modules have our names.

  grid: spatial size that torch flattens, channels first, before 'dense_0'.
  """
  read = lambda p: p.detach().numpy().copy()
  params, stats = {}, {}

  def put(tree, path, leaves):
    for key in path:
      tree = tree.setdefault(key, {})
    tree.update({k: v for k, v in leaves.items() if v is not None})

  for name, module in net.named_modules():
    if getattr(module, 'weight', None) is None:
      continue
    path = name.split('.')
    weight = read(module.weight)
    bias = None if module.bias is None else read(module.bias)
    if hasattr(module, 'running_var'):
      put(params, path, {'scale': weight, 'bias': bias})
      mean, var = read(module.running_mean), read(module.running_var)
      put(stats, path, {'mean': mean, 'var': var})
      continue
    if name == 'dense_0':
      weight = weight.reshape(len(weight), -1, *grid)
      weight = np.moveaxis(weight, 1, -1).reshape(len(weight), -1)
    kernel = weight.transpose(*range(2, weight.ndim), 1, 0)
    put(params, path, {'kernel': kernel, 'bias': bias})
  return {'params': params} | ({'batch_stats': stats} if stats else {})


@pytest.fixture
def assert_parity(quick):
  """assert_parity(model, net, shape): equal logits in evaluation mode."""
  torch = pytest.importorskip('torch')

  def check(model, net, shape, *, grid=()):
    perturb(torch, net)
    net.eval()
    variables = as_flax(net, grid)
    x = np.random.default_rng(0).normal(size=shape).astype('f')
    x[1:] *= 5  # Means of noise of one strength would be too much alike.
    ours = jax.eval_shape(model.init, jax.random.key(0), x)
    shapes = functools.partial(jax.tree.map, jnp.shape)
    assert shapes(variables) == shapes(ours)
    with torch.no_grad():
      expected = net(torch.tensor(np.moveaxis(x, -1, 1).copy())).numpy()
    y = quick(model.apply)(variables, x)
    # A network that ignores its input would pass anything.
    assert np.ptp(expected, axis=0).max() > 1e-3 * np.abs(expected).max()
    error = np.abs(y - expected).max() / np.abs(expected).max()
    print(f'largest relative error {error:.1e}')
    assert error <= 1e-4

  return check
