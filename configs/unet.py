"""U-Net segmentation, in 2-D and 3-D.

--config=configs/unet.py: tissue in slices of the MNI-152 brain (the demo).
--config=configs/unet.py:hippocampus: MSD Task04 in 3-D; fold 0 is the test set.
--config=configs/unet.py:folder: your own images and masks;
  --config.data.path=DIR (medjax/data/folder says how it may look).
"""

from ml_collections.config_dict import placeholder

from medjax.config import default_config

# What nnU-Net draws, in its order and with its probabilities (version 2; see
# Isensee et al. 2021, supplement 4, for the reasons).
NNUNET = (
  dict(name='affine', p=0.2, rotate=30.0, scale=(1 / 1.4, 1 / 0.7)),
  dict(name='gaussian_noise', p=0.1),
  dict(name='gaussian_blur', p=0.2, p_channel=0.5, sigma=(0.5, 1.0)),
  dict(name='brightness', p=0.15, factor=(0.75, 1.25)),
  dict(name='contrast', p=0.15, factor=(0.75, 1.25)),
  dict(name='low_resolution', p=0.25, p_channel=0.5, zoom=(0.5, 1.0)),
  dict(name='gamma', p=0.1, exponent=(0.7, 1.5), invert=True),
  dict(name='gamma', p=0.3, exponent=(0.7, 1.5)),
  dict(name='flip', p=0.5),
)


def get_config(variant='mni152_tissue'):
  """The experiment called `variant`."""
  variants = dict(
    mni152_tissue=mni152_tissue, hippocampus=hippocampus, folder=folder
  )
  if variant not in variants:
    raise ValueError(f'unet.py has {", ".join(variants)}, not {variant!r}')
  return variants[variant]()


def mni152_tissue():
  """2-D slices of one averaged brain: background, grey and white matter.

  `make demo` on two CPU cores (jax 0.10.2): 4 min 12 s on a Sapphire Rapids, 3
  min 29 s on an EPYC, 1.9 GiB. Test Dice grey .947 and .945, white .942 and
  .940; on a third machine .944 and .939. One brain: the scores say
  that the software works, and nothing about other brains.
  """
  config = default_config()
  config.data.update(name='mni152_tissue', batch_size=8)
  config.data.preprocess = (dict(name='zscore'),)
  config.augment = (
    dict(name='flip', p=0.5, axes=(1,)),  # left to right
    dict(name='affine', p=0.5, rotate=15.0, scale=(0.85, 1.15), mode='edge'),
    dict(name='gamma', p=0.3, exponent=(0.7, 1.5)),
    dict(name='gaussian_noise', p=0.3),
  )
  config.model = dict(name='UNet', features=(16, 32, 64, 128))
  config.task = dict(name='Segmentation', num_classes=3)
  config.optimizer.update(learning_rate=3e-3, weight_decay=1e-4)
  config.schedule.update(name='cosine', warmup_steps=10)
  config.train.update(steps=160, log_every=10, eval_every=40)
  return config


def hippocampus():
  """3-D, MSD Task04: anterior and posterior hippocampus in MRI.

  Fold 0 of nnU-Net's five is the test set; half of fold 1 validates, the rest
  trains (182 cases).

  Two CPU cores (AVX-512, jax 0.10.2), other work beside it: 27 min for 3000
  steps, .53 s each, 38 CPU minutes, 1.8 GiB. Validation Dice by step: 250
  .801, 500 .867, 1000 .879, 1500 .883, 2000 .885, 2500 .886 (kept), 3000
  .886. Test: mean .886 (95 % interval .875 to .896), anterior .894, posterior
  .878, HD95 1.47 mm. nnU-Net's 1000 epochs on the same 52 cases: .892,
  .0061 better (.0023 to .0103; medjax.compare).
  """
  config = default_config()
  config.data.update(name='msd/hippocampus', batch_size=2)
  config.data.splits = dict(
    train='fold1[50%:]+fold2+fold3+fold4',
    validation='fold1[:50%]',
    test='fold0',
  )
  config.data.preprocess = (dict(name='zscore'),)
  # Smaller than nnU-Net's 40 x 56 x 40: twice the steps in the same time. Nor
  # are there flips but left to right: a short run is better off learning the
  # anatomy in the orientation it is asked for.
  config.data.patch_size = (32, 48, 32)
  config.augment = (
    dict(name='affine', p=0.3, rotate=20.0, scale=(0.8, 1.25), mode='edge'),
    *NNUNET[1:-1],
    dict(name='flip', p=0.5, axes=(0,)),
  )
  config.model = dict(name='UNet', features=(12, 24, 48, 96))
  config.task = dict(name='Segmentation', num_classes=3)
  config.optimizer.update(learning_rate=3e-3, weight_decay=1e-4, clip_norm=12.0)
  config.schedule.update(name='cosine', warmup_steps=50)
  config.train.update(steps=3000, log_every=25, eval_every=250, ema_decay=0.995)
  config.inference.update(batch_size=8)
  return config


def folder():
  """Your images and masks: pictures of one size, or volumes by patches."""
  config = default_config()
  config.data.update(name='folder', batch_size=8, patch_size=None)
  # The z-score, unless a dataset.json names the channels otherwise.
  # A file whose axes run elsewhere, as DICOM's do, is turned to the training's.
  config.data.preprocess = (dict(name='reorient'), dict(name='normalise'))
  config.augment = NNUNET
  config.model = dict(name='UNet', features=(16, 32, 64, 128))
  # Without a number, the labels are those that the data name or hold.
  config.task = dict(name='Segmentation', num_classes=placeholder(int))
  config.optimizer.update(learning_rate=2e-3, weight_decay=1e-4)
  config.schedule.update(name='cosine', warmup_steps=50)
  config.train.update(steps=2000, log_every=20, eval_every=200)
  return config
