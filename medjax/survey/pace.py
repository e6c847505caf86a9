"""The largest plan that this device trains in a given time, by measurement."""

import copy
import dataclasses
import statistics
import time

import jax
import numpy as np

from medjax import engine, experiment
from medjax.data.facts import DataFacts
from medjax.survey import plans, rules
from medjax.survey.setup import make_setup

SHARE = 0.8  # of the time, for steps; the rest compiles and validates
ENOUGH = 1000  # steps; for fewer the network and its patch are made smaller
FEWEST = 100
# (share of the memory, which decides patch and batch; width), growing.
_SIZES = (
  (1 / 8, 8),
  (1 / 4, 8),
  (1 / 4, 16),
  (1 / 2, 16),
  (1 / 2, 32),
  (1, 32),
)
_TIMED = 3  # steps
_QUICK = 3e-3  # learning rate of fewer than ENOUGH steps


def fit(about, minutes, *, memory_gb, **options):
  """The largest `Setup` of which this device takes `ENOUGH` steps in `minutes`.

  A few steps of it are taken on noise, compiled as in training: the smallest
  first, from which the time of larger ones is foretold, then the one chosen.
  `options` are those of `make_setup`. It does not mirror at test, which takes
  as long as several predictions.
  Raises ValueError where not even the smallest takes `FEWEST` steps.
  """
  sizes = _setups(about, memory_gb, options)
  seconds = seconds_per_step(sizes[0], about)
  allowed = SHARE * 60 * minutes / ENOUGH
  unit = seconds / _work(sizes[0])
  place = max(
    (i for i, size in enumerate(sizes) if unit * _work(size) <= allowed),
    default=0,
  )
  while place and (seconds := seconds_per_step(sizes[place], about)) > allowed:
    place -= 1
  if not place:
    seconds = seconds_per_step(sizes[0], about)
  steps = int(SHARE * 60 * minutes / seconds)
  if steps < FEWEST:
    raise ValueError(
      f'--minutes={minutes:g}: {steps} steps of the smallest network, at '
      f'{seconds:.2g} s each; give {FEWEST * seconds / SHARE / 60:.2g} or more'
    )
  return _with_steps(sizes[place], min(steps, rules.STEPS), minutes, seconds)


def _setups(about, memory_gb, options):
  """Setups of all sizes that differ and fit, batches for all devices."""
  found = []
  for share, width in _SIZES:
    try:
      setup = make_setup(
        about, memory_gb=share * memory_gb, width=width, **options
      )
    except rules.TooLargeError:
      if share == 1:
        raise
      continue
    data = setup.config['data']
    data['batch_size'] += -data['batch_size'] % jax.device_count()
    if not found or setup.config != found[-1].config:
      found.append(setup)
  return found


def _work(setup):
  """What a step costs, in no unit: voxels of all layers times their inputs."""
  width = setup.config['model']['features'][0] / rules.BASE_FEATURES
  return setup.plan.cost * width**2 * setup.config['data']['batch_size']


def _with_steps(setup, steps, minutes, seconds):
  config = copy.deepcopy(setup.config)
  config['train'].update(
    steps=steps,
    eval_every=max(1, steps // 10),
    log_every=max(1, min(50, steps // 10)),
  )
  config['inference']['flips'] = False
  config['schedule'].update(warmup_steps=min(100, steps // 10))
  table = setup.table
  if steps < ENOUGH:
    # 183 steps on the hippocampus: Dice .10 with what long runs want.
    config['augment'] = [e for e in config['augment'] if e['name'] != 'flip']
    config['optimizer'].update(learning_rate=_QUICK)
    why = f'fewer than {ENOUGH:,} steps do not learn every orientation'
    table = [r for r in table if r[0] != 'mirroring']
    table += [('mirroring', 'none', why)]
    table += [('learning rate', f'{_QUICK:g}', 'for so few steps')]
  device = f'{jax.device_count()} × {jax.devices()[0].device_kind}'
  row = (
    'steps',
    f'{steps:,}',
    f'{minutes:g} minutes at {seconds:.2g} s each, measured on {device}; '
    f'{1 - SHARE:.0%} of the time compiles and validates',
  )
  size = (
    'size',
    f'{config["model"]["features"][0]} features first, {setup.memory_gb:g} GB',
    f'the largest tried that takes {ENOUGH:,} steps in that time, or the '
    'smallest',
  )
  rows = (row if r[0] == 'steps' else r for r in table)
  return dataclasses.replace(setup, config=config, table=(*rows, size))


def seconds_per_step(setup, about):
  """Median time of a few training steps on noise, after the first."""
  made = experiment.make(
    plans.to_config('the plan', setup.config),
    facts=DataFacts(
      channels=about['channels'],
      rank=about['rank'],
      class_names=tuple(about['classes']),
    ),
  )
  mesh = engine.make_mesh()
  batch = _noise(made.data, about)
  inputs = [jax.ShapeDtypeStruct((1, *batch['image'].shape[1:]), np.float32)]
  tx, _ = made.optimizer(inputs)
  state = engine.create_state(
    made.model, tx, inputs, jax.random.key(0), mesh, ema=True
  )
  step = engine.make_train_step(
    made.model,
    made.task,
    tx,
    made.augment,
    mesh,
    ema_decay=made.train.ema_decay,
  )
  metrics = engine.empty_metrics(mesh)
  key = engine.replicate(jax.random.key(1), mesh)
  batch = jax.device_put(batch, engine.sharded(mesh))
  times = []
  for _ in range(1 + _TIMED):
    began = time.monotonic()
    state, metrics = step(state, metrics, batch, key)
    jax.block_until_ready(state)
    times.append(time.monotonic() - began)
  return statistics.median(times[1:])


def _noise(data, about):
  """A batch of the plan's shape."""
  rng = np.random.default_rng(0)
  shape = (data.batch_size, *data.patch_size)
  classes = len(about['classes'])
  return {
    'image': rng.normal(size=(*shape, about['channels'])).astype(np.float32),
    'mask': rng.integers(0, classes, shape, np.int32),
    'valid': {'mask': np.ones(data.batch_size, bool)},
    'index': np.arange(data.batch_size, dtype=np.uint32),
  }
