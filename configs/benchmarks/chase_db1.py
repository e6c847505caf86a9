"""CHASE_DB1: retinal vessels, the first 20 images train, the last 8 test.

Two of the ten children of training validate. The whole picture is judged
inside its field of view. Command, time and scores: benchmarks/RESULTS.md.
"""

from medjax.config import default_config


def get_config():
  """A narrow U-Net on colour patches of 128 x 128 pixels."""
  config = default_config()
  config.data.update(name='chase_db1', batch_size=8)
  config.data.splits = dict(
    train='train[:16]', validation='train[16:]', test='test'
  )
  config.data.preprocess = (dict(name='zscore'),)
  config.data.update(patch_size=(128, 128), foreground=0.9)
  config.augment = (
    dict(name='flip', p=0.5),
    dict(name='affine', p=0.7, rotate=45.0, scale=(0.8, 1.25), mode='edge'),
    dict(name='brightness', p=0.3, factor=(0.75, 1.25)),
    dict(name='contrast', p=0.3, factor=(0.75, 1.25)),
    dict(name='gamma', p=0.3, exponent=(0.7, 1.5)),
    dict(name='gaussian_noise', p=0.1),
  )
  config.model = dict(name='UNet', features=(16, 32, 64, 128))
  config.task = dict(name='Segmentation', num_classes=2)
  config.optimizer.update(learning_rate=3e-3, weight_decay=1e-4, clip_norm=12.0)
  config.schedule.update(name='cosine', warmup_steps=50)
  config.train.update(steps=1500, log_every=25, eval_every=250, ema_decay=0.99)
  config.inference.update(batch_size=16, overlap=0.25)
  return config
