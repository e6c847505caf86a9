"""Accuracy against latency on a laptop's CPU: four networks on one set.

--config=configs/benchmarks/laptop.py:resnet18 (resnet50, mobilenet_v3,
  efficientnet_b0): PneumoniaMNIST drawn to 64 pixels, the stems made for
  ImageNet, few steps. `python benchmarks/laptop.py` measures them.
--config=configs/benchmarks/laptop.py:student: resnet18 at half the width, a
  quarter of its parameters, for it to teach.
--config=configs/benchmarks/laptop.py:resnet18_28: ResNet-18 at its whole width
  and 28 pixels, which `medjax.compress` makes smaller.

Command, time and scores: docs/compress.md.
"""

from medjax.config import default_config

NETWORKS = dict(
  resnet18=dict(name='ResNet18'),
  resnet50=dict(name='ResNet50'),
  mobilenet_v3=dict(name='MobileNetV3Large'),
  efficientnet_b0=dict(name='EfficientNetB0'),
  student=dict(name='ResNet18', width=32),
  resnet18_28=dict(name='ResNet18', stem='small'),
)


def get_config(variant='resnet18'):
  """The experiment with the network `variant`."""
  config = default_config()
  config.data.update(name='medmnist/pneumoniamnist', batch_size=32)
  small = NETWORKS[variant].get('stem') == 'small'
  config.data.preprocess = (
    *(() if small else (dict(name='resize', shape=(64, 64)),)),
    dict(name='scale', mean=127.5, std=127.5),
  )
  config.augment = (
    dict(name='affine', p=0.8, rotate=10.0, scale=(0.9, 1.1), translate=2.0),
    dict(name='brightness', p=0.3, factor=(0.8, 1.2)),
    dict(name='contrast', p=0.3, factor=(0.8, 1.2)),
  )
  config.model = NETWORKS[variant]
  config.task = dict(name='Classification')
  config.optimizer.update(learning_rate=1e-3, weight_decay=1e-2)
  config.schedule.update(name='cosine', warmup_steps=20)
  config.train.update(steps=300, log_every=25, eval_every=100)
  config.inference.batch_size = 64
  return config
