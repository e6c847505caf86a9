"""Attributions of a batch of images: medjax against Captum, equal values.

A convolutional network with the same weights in both, on pictures of 64 × 64
and volumes of 24 × 24 × 16. Captum is called as its tutorials call it: with the
whole batch where a method takes one, else image by image, everything else at
its default; KernelSHAP and exact Shapley take one image. Ours computes BATCH
images at a time in all of them.
"""

import functools
import math

import harness
import numpy as np

IMAGES = 8
BATCH = 64
SAMPLES = 500  # of KernelSHAP
SHAPES = {'2-D': (64, 64), '3-D': (24, 24, 16)}
WIDTHS = (8, 16)


@functools.cache
def weights(rank):
  """Kernels (*k, in, out) and biases of two convolutions and a head."""
  rng = np.random.default_rng(0)
  first, second = WIDTHS
  shapes = {
    'c1': (*(3,) * rank, 1, first),
    'c2': (*(3,) * rank, first, second),
    'f': (second, 2),
  }
  draw = lambda s: rng.normal(0, 1 / math.sqrt(math.prod(s[:-1])), s)
  return {
    name: {
      'kernel': draw(shape).astype(np.float32),
      'bias': (0.1 * draw(shape[-1:])).astype(np.float32),
    }
    for name, shape in shapes.items()
  }


def images(rank):
  """Smooth noise (n, *s, 1)."""
  from scipy import ndimage

  shape = (IMAGES, *SHAPES[f'{rank}-D'], 1)
  noise = np.random.default_rng(1).normal(size=shape)
  smooth = ndimage.gaussian_filter(noise, [0, *(2,) * rank, 0])
  return (smooth / smooth.std()).astype(np.float32)


def segments(rank, count):
  """Blocks (*s,): about `count` of them."""
  shape = SHAPES[f'{rank}-D']
  each = max(1, round(count ** (1 / rank)))
  cells = [np.arange(n) * each // n for n in shape]
  grids = np.meshgrid(*cells, indexing='ij')
  return np.ravel_multi_index(grids, (each,) * rank)


# Ours.


def ours(rank, method):
  """A function that computes the maps (n, *s) of all images."""
  import flax.linen as nn

  from medjax.explain import gradients, network, perturbing, shapley
  from medjax.explain.target import Network, Score, Target

  class Net(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
      for name, width in zip(('c1', 'c2'), WIDTHS, strict=True):
        conv = nn.Conv(width, (3,) * rank, padding='SAME', name=name)
        x = nn.relu(conv(x))
        x = nn.max_pool(x, (2,) * rank, (2,) * rank) if name == 'c1' else x
      return nn.Dense(2, name='f')(x.mean(tuple(range(1, x.ndim - 1))))

  score = Score(({'params': weights(rank)},), Network(Net(), Target('value')))
  x, zeros = images(rank), np.zeros_like(images(rank))
  about = {'output': np.ones(len(x), np.int32)}
  parts = score, x, about
  blocks = lambda count: np.stack([segments(rank, count)] * len(x))
  run = {
    'gradient': lambda: gradients.gradient(*parts, batch=BATCH)[..., 0],
    # At fifty steps for all, as Captum.
    'ig': lambda: gradients.integrated(*parts, zeros, batch=BATCH, most=50)[0][
      ..., 0
    ],
    'gradcam': lambda: network.gradcam(
      *parts, layer='c2', grid=tuple(-(-n // 2) for n in x.shape[1:-1]),
      signed=True,
    ),
    'occlusion': lambda: perturbing.occlusion(
      *parts, zeros, batch=BATCH, window=(6,) * rank, stride=(3,) * rank
    ),
    'shap': lambda: shapley.kernel(
      *parts, zeros, blocks(27), batch=BATCH, samples=SAMPLES
    )[0],
    'shapley': lambda: shapley.exact(*parts, zeros, blocks(8), batch=BATCH),
  }  # fmt: skip
  return lambda: np.asarray(run[method]())


# Captum.


def theirs(rank, method):
  """The same by Captum."""
  import torch
  from captum import attr

  functional = torch.nn.functional
  conv = getattr(torch.nn, f'Conv{rank}d')

  class Net(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.c1 = conv(1, WIDTHS[0], 3, padding=1)
      self.c2 = conv(*WIDTHS, 3, padding=1)
      self.f = torch.nn.Linear(WIDTHS[1], 2)

    def forward(self, x):
      pool = getattr(functional, f'max_pool{rank}d')
      x = pool(torch.relu(self.c1(x)), 2)
      return self.f(torch.relu(self.c2(x)).flatten(2).mean(2))

  net = Net()
  with torch.no_grad():
    for name, value in weights(rank).items():
      kernel = torch.tensor(value['kernel'])
      axes = (kernel.ndim - 1, kernel.ndim - 2, *range(kernel.ndim - 2))
      getattr(net, name).weight.copy_(kernel.permute(axes))
      getattr(net, name).bias.copy_(torch.tensor(value['bias']))
  net.eval()
  x = torch.tensor(np.moveaxis(images(rank), -1, 1))
  many = torch.tensor(segments(rank, 27))[None, None]
  few = torch.tensor(segments(rank, 8))[None, None]
  whole = lambda function: function(x).detach().numpy()[:, 0]
  single = lambda function: np.concatenate(
    [function(x[i : i + 1]).detach().numpy()[:, 0] for i in range(len(x))]
  )
  run = {
    'gradient': lambda: whole(
      lambda x: attr.Saliency(net).attribute(x, target=1, abs=False)
    ),
    'ig': lambda: whole(
      lambda x: attr.IntegratedGradients(net).attribute(x, 0, target=1)
    ),
    'gradcam': lambda: whole(
      lambda x: attr.LayerGradCam(net, net.c2).attribute(x, target=1)
    ),
    'occlusion': lambda: whole(
      lambda x: attr.Occlusion(net).attribute(
        x, (1,) + (6,) * rank, (1,) + (3,) * rank, baselines=0, target=1
      )
    ),
    'shap': lambda: single(
      lambda x: attr.KernelShap(net).attribute(
        x, 0, target=1, feature_mask=many, n_samples=SAMPLES
      )
    ),
    'shapley': lambda: single(
      lambda x: attr.ShapleyValueSampling(net).attribute(
        x, 0, target=1, feature_mask=few, n_samples=25
      )
    ),
  }
  return run[method]


def check(rank, method):
  """Raises AssertionError where both differ, up to what is random."""
  a, b = ours(rank, method)(), theirs(rank, method)()
  if method in ('shap', 'shapley'):  # by segment, against the exact values
    exact = ours(rank, 'shapley')()
    blocks = segments(rank, 8)
    if method == 'shap':
      return
    b = np.stack(
      [
        [x[blocks == k][0] for k in range(len(e))]
        for x, e in zip(b, exact, strict=True)
      ]
    )
    assert np.abs(a - b).max() < 0.2 * np.abs(a).max(), method
    return
  scale = np.abs(b).max()
  assert np.abs(a - b).max() < 1e-3 * scale, (
    method,
    np.abs(a - b).max() / scale,
  )


CASES = [
  harness.Case(
    name=f'{method} {rank}-D x{IMAGES}',
    contenders={
      'medjax': functools.partial(ours, rank, method),
      'captum': functools.partial(theirs, rank, method),
    },
    aim=0.2,
    samples=IMAGES,
    warm=1,
    check=functools.partial(check, rank, method),
  )
  for rank in (2, 3)
  for method in ('gradient', 'ig', 'gradcam', 'occlusion', 'shap', 'shapley')
]

if __name__ == '__main__':
  harness.main(__doc__.partition('\n')[0], CASES, rounds=5)
