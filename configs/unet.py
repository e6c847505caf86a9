"""U-Net segmentation.

--config=configs/unet.py: 2-D, tissue of the MNI-152 brain (the demo).
--config=configs/unet.py:hippocampus: 3-D, MSD Task04, fold 0 is the test set.
--config=configs/unet.py:folder: your images and masks; set
  --config.data.path and --config.task.num_classes.
"""

from medjax.config import default_config

# The augmentations of nnU-Net (Isensee et al. 2021, supplement 4), in its
# order and with its probabilities.
NNUNET = (dict(name='affine', p=1.0, rotate=30.0, scale=(0.7, 1.4)),)


def mni152_tissue():
  """2-D slices of one averaged brain: background, grey and white matter."""
  config = default_config()
  config.data.update(name='mni152_tissue', batch_size=16)
  config.data.preprocess = (
    dict(name='zscore'),
    dict(name='crop_or_pad', shape=(208, 240)),
  )
  config.augment = (
    dict(name='flip', p=0.5),
    dict(name='affine', p=0.5, rotate=15.0, scale=(0.85, 1.15)),
  )
  config.model = dict(name='UNet', features=(16, 32, 64, 128))
  config.task = dict(name='Segmentation', num_classes=3)
  config.optimizer.update(learning_rate=2e-3, weight_decay=1e-4)
  config.train.update(steps=300, log_every=10, eval_every=50)
  return config
