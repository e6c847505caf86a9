"""Retinal vessels by a W-Net, on pictures of 512 x 512 pixels.

--config=configs/benchmarks/vessels_wnet.py: CHASE_DB1, first 20 / last 8.
--config=configs/benchmarks/vessels_wnet.py:drive: DRIVE, its own halves.

After Galdran et al. 2022: cross-entropy on both outputs, Adam at 1e-2, and the
threshold from elsewhere than test. A step sees four quarters of pictures, not
four whole ones: on a CPU more steps do more than larger ones. One of the ten
children of CHASE_DB1's training validates. F1 .811, AUC .986 (benchmarks/
RESULTS.md; W-Net .820, second observer .797). A step takes a core 1 s.
"""

from medjax.config import default_config


def get_config(name='chase_db1'):
  """'chase_db1' or 'drive'."""
  config = default_config()
  config.data.update(name=name, batch_size=4, patch_size=(256, 256))
  config.data.splits = dict(train='train', test='test')
  config.data.held_out = 0.1
  config.data.preprocess = (
    dict(name='resize', shape=(512, 512)),
    dict(name='zscore'),
  )
  config.augment = (
    dict(name='flip', p=0.5),
    dict(name='affine', p=0.7, rotate=45.0, scale=(0.8, 1.25), mode='edge'),
    dict(name='brightness', p=0.3, factor=(0.75, 1.25)),
    dict(name='contrast', p=0.3, factor=(0.75, 1.25)),
    dict(name='gamma', p=0.3, exponent=(0.7, 1.5)),
  )
  config.model = dict(name='WNet')
  config.task = dict(
    name='Segmentation',
    num_classes=2,
    loss={'cross_entropy': 1.0},
    level_weights=(1.0, 1.0),
  )
  config.optimizer.update(learning_rate=1e-2)
  config.schedule.update(name='cosine', warmup_steps=50)
  config.train.update(
    steps=5000, log_every=50, eval_every=1000, ema_decay=0.995
  )
  config.inference.update(batch_size=4, overlap=0.25, flips=True)
  return config
