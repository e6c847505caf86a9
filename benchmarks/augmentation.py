"""Augmentation of a batch of 8: medjax compiled, MONAI sample by sample."""

import functools
import pathlib
import runpy

import harness
import numpy as np

BATCH = 8
SHAPES = {
  '3-D 40x56x40': (40, 56, 40),
  '3-D 64³': (64, 64, 64),
  '2-D 256²': (256, 256),
}
NNUNET = runpy.run_path(
  str(pathlib.Path(__file__).resolve().parents[1] / 'configs/unet.py')
)['NNUNET']

# What is measured: our spec, and the MONAI transforms that do the same work.
# Probabilities are 1 on both sides: under vmap ours computes always.
LISTS = {
  'affine': (dict(name='affine', p=1.0, rotate=30.0, scale=(0.7, 1.4)),),
  'affine + elastic': (
    dict(name='affine', p=1.0, rotate=30.0, scale=(0.7, 1.4), elastic=4.0),
  ),
  'noise': (dict(name='gaussian_noise', p=1.0),),
  'blur': (dict(name='gaussian_blur', p=1.0),),
  'contrast': (dict(name='contrast', p=1.0),),
  'low resolution': (dict(name='low_resolution', p=1.0),),
  'gamma': (dict(name='gamma', p=1.0),),
  'flip': (dict(name='flip', p=1.0),),
  'nnU-Net list': NNUNET,
}
AIMS = {'affine': 1 / 3, 'affine + elastic': 1 / 6}


def batch(shape):
  """Images and masks, channels last."""
  rng = np.random.default_rng(0)
  return {
    'image': rng.normal(size=(BATCH, *shape, 1)).astype(np.float32),
    'mask': rng.integers(0, 3, (BATCH, *shape), np.int32),
    'index': np.arange(BATCH, dtype=np.uint32),
  }


def ours(specs, shape):
  """One compiled call for the batch."""
  import jax

  from medjax import augment
  from medjax.augment.compose import compose
  from medjax.build import build

  function = jax.jit(compose([build(augment, spec) for spec in specs]))
  data = jax.device_put(batch(shape))
  key = jax.random.key(0)
  return lambda: jax.block_until_ready(function(key, data))


def monai(name, shape):
  """MONAI's dictionary transforms, one sample after the other."""
  from monai import transforms as t

  n = len(shape)
  both = ['image', 'mask']
  modes = dict(mode=['bilinear', 'nearest'], padding_mode='zeros')
  angle = [np.pi / 6] * (n if n == 3 else 1)
  geometry = dict(prob=1.0, rotate_range=angle, scale_range=[0.3] * n, **modes)
  affine = t.RandAffined(both, **geometry)
  if n == 3:
    elastic = t.Rand3DElasticd(
      both, sigma_range=(5, 7), magnitude_range=(50, 150), **geometry
    )
  else:
    elastic = t.Rand2DElasticd(
      both, spacing=(30, 30), magnitude_range=(1, 2), **geometry
    )

  def parts(p):
    one = ['image']
    axes = [f'sigma_{a}' for a in 'xyz'[:n]]
    return {
      'noise': t.RandGaussianNoised(one, prob=p(0.1), std=0.1),
      'blur': t.RandGaussianSmoothd(
        one, prob=p(0.2), **{a: (0.5, 1.0) for a in axes}
      ),
      'brightness': t.RandScaleIntensityd(one, prob=p(0.15), factors=0.25),
      'contrast': t.RandAdjustContrastd(one, prob=p(0.15), gamma=(0.75, 1.25)),
      'low resolution': t.RandSimulateLowResolutiond(
        one,
        prob=p(0.25),
        zoom_range=(0.5, 1.0),
        upsample_mode='trilinear' if n == 3 else 'bilinear',
      ),
      'gamma': t.RandAdjustContrastd(
        one, prob=p(0.3), gamma=(0.7, 1.5), retain_stats=True
      ),
      'flip': t.RandAxisFlipd(both, prob=p(0.5)),
    }

  every = parts(lambda _: 1.0)
  chosen = {
    'affine': [affine],
    'affine + elastic': [elastic],
    'nnU-Net list': [
      t.RandAffined(both, **{**geometry, 'prob': 0.36}),
      *parts(lambda p: p).values(),
    ],
  }
  transform = t.Compose(chosen.get(name) or [every[name]])
  data = batch(shape)
  samples = [
    {'image': image[..., 0][None], 'mask': mask[None].astype(np.float32)}
    for image, mask in zip(data['image'], data['mask'], strict=True)
  ]
  return lambda: [transform(sample) for sample in samples]


def case(name, shape):
  """One list on one shape."""
  return harness.Case(
    f'{name}, {shape}',
    {
      harness.OURS: functools.partial(ours, LISTS[name], SHAPES[shape]),
      'monai': functools.partial(monai, name, SHAPES[shape]),
    },
    aim=AIMS.get(name),
  )


if __name__ == '__main__':
  harness.main(
    'Augmentation of 8 images and masks',
    [case(name, shape) for shape in SHAPES for name in LISTS],
    rounds=5,
  )
