"""Survival on tables: --config=configs/survival.py:SET[,MODEL].

SET is metabric, gbsg, support or whas (medjax.prepare survival/metabric …; of
whas fold 0 is the test set), pbc2 with its two competing risks, or folder: your
own table with columns `time` and `event` (0, 1, 2 …), in data.path. MODEL is
cox (linear), deepsurv (Cox of a network), coxtime, discrete, deephit or
competing (a Cox model for each cause).
"""

from medjax.config import default_config

MODELS = ('cox', 'deepsurv', 'coxtime', 'discrete', 'deephit', 'competing')
SETS = ('metabric', 'gbsg', 'support', 'whas', 'pbc2', 'folder')


def get_config(variant='metabric'):
  """The experiment on a set by a model: 'metabric,deephit'."""
  name, _, model = variant.partition(',')
  model = model or ('competing' if name == 'pbc2' else 'cox')
  for value, known in ((name, SETS), (model, MODELS)):
    if value not in known:
      raise ValueError(f'{variant}: {value!r} is none of {", ".join(known)}')
  config = default_config()
  config.data.update(name='folder' if name == 'folder' else f'survival/{name}')
  config.data.preprocess = (dict(name='standardise'),)
  if name in ('pbc2', 'whas'):  # of whas train and test share patients
    config.data.splits = dict(
      train='fold2+fold3+fold4', validation='fold1', test='fold0'
    )
  elif name == 'gbsg':  # whose file is sorted: its last rows are other patients
    config.data.held_out = 0.2
  elif name != 'folder':
    config.data.splits = dict(
      train='train[:80%]', validation='train[80%:]', test='test'
    )
  config.task = dict(name='Survival', model=model, inputs=('covariates',))
  if name in ('metabric', 'gbsg'):
    config.task.time_unit = 'months'
  if name in ('support', 'whas'):
    config.task.time_unit = 'days'
  if name == 'pbc2':
    config.task.update(
      time_unit='years', cause_names=('death', 'transplant'),
      horizons=(1.0, 5.0, 10.0), monitor='harrell',
    )  # fmt: skip
  if model in ('cox', 'competing'):
    _linear(config)
  else:
    _network(config, model)
  config.inference.batch_size = 1024
  return config


def _linear(config):
  """All cases at once, until nothing moves: the fit of a statistics package."""
  config.data.batch_size = 0
  config.model = dict(name='MLP', hidden=())
  config.optimizer.update(name='adam', learning_rate=5e-2)
  config.schedule.update(name='cosine', warmup_steps=0)
  config.train.update(steps=600, log_every=100, eval_every=600)


def _network(config, model):
  config.data.batch_size = 256
  config.model = dict(
    name='CoxTime' if model == 'coxtime' else 'MLP',
    hidden=(32, 32), norm=True, dropout=0.1,
  )  # fmt: skip
  if model == 'deepsurv':
    config.task.model = 'cox'
  config.optimizer.update(name='adamw', learning_rate=3e-3, weight_decay=1e-2)
  config.schedule.update(name='cosine', warmup_steps=0)
  config.train.update(
    steps=500, log_every=50, eval_every=25, patience=8, ema_decay=0.98
  )
