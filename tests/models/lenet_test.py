import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.models import LeNet5


def init(model, x):
  # Random numbers compile slowly, and here they are drawn once.
  quick = {'xla_backend_optimization_level': 0}
  return jax.jit(model.init, compiler_options=quick)(jax.random.key(0), x)


def test_size_is_the_known_one():
  variables = init(LeNet5(10), jnp.ones((1, 32, 32, 1)))
  assert sum(p.size for p in jax.tree.leaves(variables)) == 61_706


def test_agrees_with_torch():
  torch = pytest.importorskip('torch')
  nn = torch.nn
  torch.manual_seed(0)
  net = nn.Sequential(
    nn.Conv2d(1, 6, 5),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(6, 16, 5),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(400, 120),
    nn.ReLU(),
    nn.Linear(120, 84),
    nn.ReLU(),
    nn.Linear(84, 10),
  )
  read = lambda p: p.detach().numpy()
  layers = dict(conv_0=0, conv_1=3, dense_0=7, dense_1=9, head=11)
  params = {}
  for name, i in layers.items():
    weight = read(net[i].weight)
    kernel = weight.transpose(*range(2, weight.ndim), 1, 0)
    params[name] = {'kernel': kernel, 'bias': read(net[i].bias)}
  # torch flattens channels first, we channels last.
  kernel = params['dense_0']['kernel'].reshape(16, 5, 5, 120)
  params['dense_0']['kernel'] = kernel.transpose(1, 2, 0, 3).reshape(400, 120)
  x = np.random.default_rng(0).normal(size=(3, 32, 32, 1)).astype('f')
  y = LeNet5(10).apply({'params': params}, jnp.asarray(x))
  expected = net(torch.tensor(x.transpose(0, 3, 1, 2))).detach().numpy()
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  'shape', [(1, 28, 28, 1), (2, 17, 40, 3), (1, 16, 18, 17, 1)]
)
def test_other_sizes_and_ranks(shape):
  model = LeNet5(2, dtype=jnp.bfloat16)
  x = jax.random.normal(jax.random.key(0), shape)
  variables = init(model, x)
  assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype('f4')}
  loss = lambda v: (model.apply(v, x, train=True) ** 2).sum()
  gradients = jax.jit(jax.grad(loss))(variables)
  assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(gradients))
  y = model.apply(variables, x)
  assert y.shape == (shape[0], 2)
  assert y.dtype == jnp.float32


def test_an_image_that_is_too_small_is_refused():
  with pytest.raises(ValueError, match='16 voxels'):
    init(LeNet5(2), jnp.ones((1, 15, 32, 1)))
