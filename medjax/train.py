"""The training loop, read top to bottom."""

import contextlib
import functools
import math
import statistics
import time

import jax

from medjax import config as config_lib
from medjax import engine, experiment, optim
from medjax.data import pipeline
from medjax.evaluate import Predictor, evaluate_cases, local_variables
from medjax.finetune import adapted
from medjax.run.member import Member
from medjax.run.stop import Stopped, StopSignal


def train(config, workdir):
  """Trains `config` in `workdir`, from its newest checkpoint if it has one.

  Several members (`config.members`, `config.folds`) train in step with each
  other, each in a folder of its own; each is what it would be alone.

  Returns facts about the run for the record. Raises Stopped on Ctrl-C and
  SIGTERM, after saving; FloatingPointError on a loss that is not finite.
  """
  started = time.time()

  # Data. Preprocessed cases that fit are held in memory. A split that is
  # missing shows now, not after the training.
  config_lib.check_counts(config)
  runs = config_lib.members(config, workdir)
  if config.folds:
    experiment.check_folds(config)
  opened = [  # Members that differ in their seed have the same cases.
    [experiment.open_cases(run, s) for s in ('train', 'validation', 'test')]
    for run, _ in (runs if config.folds else runs[:1])
  ]
  for run in (config, *(run for run, _ in runs)):
    experiment.adopt(run, opened[0][0])
  task = experiment.make_task(config)
  preprocess = experiment.make_preprocess(config)

  def checked(case):
    task.check(case)  # the loss, on the device, cannot complain
    return preprocess(case)

  budget = int(config.data.cache_gb * 2**30 / len(opened))
  data = [
    (pipeline.Cached(cases, checked, budget_bytes=budget), validation_cases)
    for cases, validation_cases, _ in opened
  ] * (len(runs) // len(opened))

  # Model, optimizer, compiled steps.
  mesh = engine.make_mesh()
  batch_size = config.data.batch_size
  if batch_size % (parts := mesh.size * config.train.microbatches):
    raise ValueError(
      f'data.batch_size {batch_size} is no multiple of {parts}: {mesh.size} '
      f'devices × {config.train.microbatches} microbatches'
    )
  members = [
    Member(run, folder, *own, mesh)
    for (run, folder), own in zip(runs, data, strict=True)
  ]
  model = experiment.make_model(config, task)
  image_shape = members[0].image_shape
  tx, schedule = experiment.make_optimizer(config, model, image_shape)
  together = config.train.together
  if together is None:  # A CPU is slow at it: benchmarks/members.py
    together = jax.default_backend() != 'cpu'

  @functools.cache
  def compiled(stage):
    # Once more for each step at which more of the model begins to train.
    step = engine.make_train_step(
      adapted.at(model, stage),
      task,
      tx,
      experiment.make_augment(config),
      mesh,
      ema_decay=config.train.ema_decay,
      microbatches=config.train.microbatches,
      sharding=sharding,
    )
    return engine.over_members(step, together=together)

  predictor = Predictor(config, task, model)

  # Resume. A checkpoint holds all there is.
  weights, resumed = None, [m.checkpoints.latest_step() for m in members]
  if None in resumed:
    weights = experiment.load_pretrained(config, model, image_shape)
  if len(members) > 1 and set(resumed) != {None}:
    config_lib.compare(config, workdir)
  elif len(members) > 1 and jax.process_index() == 0:
    config_lib.store(config, workdir)
  for m in members:
    state = engine.create_state(
      model, tx, image_shape, m.init_key, mesh, pretrained=weights,
      ema=config.train.ema_decay > 0, shard_above=config.train.shard_above,
    )  # fmt: skip
    m.begin(state, task.monitor)
  sharding = jax.tree.map(lambda x: x.sharding, members[0].state)
  empty_metrics = engine.empty_metrics(mesh)
  progress = members[0].writer.progress
  logged_step, logged_time = min(m.step for m in members), time.monotonic()
  idle = 0.0  # seconds since then

  # Last to leave is the stop: a Ctrl-C does not tear the final save.
  with StopSignal() as stop, contextlib.ExitStack() as files:
    for m in members:
      files.enter_context(m)
    while going := [m for m in members if not m.ended]:
      # In step, unless a kill came between two checkpoints.
      step = min(m.step for m in going)
      going = [m for m in going if m.step == step]
      asked = time.monotonic()
      batches = [next(m.batches) for m in going]
      if going[-1].state.step.is_ready():  # the device waited too
        idle += time.monotonic() - asked
      train_step = compiled(optim.stage(config.optimizer.unfreeze, step))
      # Everything the step touches is already on the devices.
      with jax.transfer_guard('disallow'):
        states, metrics = train_step(
          [m.state for m in going],
          [m.metrics for m in going],
          batches,
          [m.key for m in going],
        )
      step += 1
      for m, m.state, m.metrics in zip(going, states, metrics, strict=True):
        m.step = step
      last = step == config.train.steps

      if step % config.train.log_every == 0 or last:
        losses = []
        for m in going:
          m.check_finite()
          values = {k: float(v) for k, v in m.metrics.compute().items()}
          losses.append(values['loss'])
          now = time.monotonic()
          rate = (step - logged_step) * batch_size / (now - logged_time)
          m.writer.scalars(
            step,
            {
              'train/loss': values['loss'],
              'train/grad_norm': values['grad_norm'],
              'train/learning_rate': schedule(step - 1),
              'train/examples_per_second': rate,
              'train/waiting': idle / (now - logged_time),
            },
          )
          m.metrics = empty_metrics
        progress(
          step,
          loss=statistics.mean(losses),
          examples_per_second=rate * len(going),
        )
        logged_step, logged_time, idle = step, now, 0.0

      if step % config.train.eval_every == 0 or last:
        for m in going:
          m.check_finite()
          rows = evaluate_cases(
            predictor, local_variables(m.state), task, m.validation_cases
          )
          scores = task.summarize(rows, n_resamples=0)['scores']
          scores = {k: math.nan if v is None else v for k, v in scores.items()}
          m.writer.scalars(
            step, {f'validation/{k}': v for k, v in scores.items()}
          )
          m.history.append([step, scores[task.monitor]])
          m.save()
        progress(step, score=statistics.mean(m.history[-1][1] for m in going))
        # Evaluation is not training time.
        logged_step, logged_time, idle = step, time.monotonic(), 0.0

      if (code := stop.exit_code(step)) and not last:
        for m in going:
          m.check_finite()
          m.save()
          m.checkpoints.wait()
        raise Stopped(code, f'step {step} is saved; the same command goes on')
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  state = members[0].state
  whole = jax.eval_shape(adapted.merge, state.eval_variables)
  return {
    'parameters': count(whole['params']),
    'trained_parameters': count(state.params),
    'seconds': time.time() - started,
    'steps': max(m.step for m in members),
  }
