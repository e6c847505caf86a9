"""The training loop, read top to bottom."""

import functools
import math
import pathlib
import time

import jax
from absl import logging

from medjax import config as config_lib
from medjax import engine, experiment, finetune, optim
from medjax.checkpoint import Checkpointer
from medjax.data import pipeline
from medjax.evaluate import Predictor, evaluate_cases, local_variables
from medjax.stop import Stopped, StopSignal
from medjax.writer import Writer


def stalled(history, patience):
  """Whether the last `patience` scores all fail to beat the best before."""
  scores = [-math.inf if math.isnan(s) else s for _, s in history]
  if not patience or len(scores) <= patience:
    return False
  return max(scores[-patience:]) <= max(scores[:-patience])


def check_finite(step, metrics):
  """Raises FloatingPointError that names the first step gone wrong."""
  bad = int(metrics.bad_step.compute())
  if bad < engine.FirstBadStep.empty().step:
    raise FloatingPointError(
      f'loss or gradient is not finite at step {bad + 1} (seen at step '
      f'{step}); the last good checkpoint is kept. Try a lower '
      'optimizer.learning_rate, or optimizer.clip_norm=1'
    )


def train(config, workdir):
  """Trains `config` in `workdir`, from its newest checkpoint if it has one.

  Returns facts about the run for the record. Raises Stopped on Ctrl-C and
  SIGTERM, after saving; FloatingPointError on a loss that is not finite.
  """
  started = time.time()
  workdir = pathlib.Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  main_process = jax.process_index() == 0

  # Data. Preprocessed cases that fit are held in memory. A split that is
  # missing shows now, not after the training.
  config_lib.check_counts(config)
  train_cases, validation_cases, _ = (
    experiment.open_cases(config, s) for s in ('train', 'validation', 'test')
  )
  experiment.adopt(config, train_cases)
  task = experiment.make_task(config)
  preprocess = experiment.make_preprocess(config)

  def checked(case):
    task.check(case)  # the loss, on the device, cannot complain
    return preprocess(case)

  samples = pipeline.Cached(
    train_cases,
    checked,
    budget_bytes=int(config.data.cache_gb * 2**30),
  )
  batch_size = config.data.batch_size
  stream = pipeline.TrainStream(
    samples,
    batch_size=batch_size,
    steps=config.train.steps,
    seed=config.seed,
    patch_size=tuple(config.data.patch_size),
    foreground=config.data.foreground,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )

  # Model, optimizer, compiled steps.
  mesh = engine.make_mesh()
  if batch_size % (parts := mesh.size * config.train.microbatches):
    raise ValueError(
      f'data.batch_size {batch_size} is no multiple of {parts}: {mesh.size} '
      f'devices × {config.train.microbatches} microbatches'
    )
  model = experiment.make_model(config, task)
  image_shape = (1, *stream[0]['image'].shape)
  tx, schedule = experiment.make_optimizer(config, model, image_shape)

  @functools.cache
  def compiled(stage):
    # Once more for each step at which more of the model begins to train.
    return engine.make_train_step(
      finetune.at(model, stage),
      task,
      tx,
      experiment.make_augment(config),
      mesh,
      ema_decay=config.train.ema_decay,
      microbatches=config.train.microbatches,
      sharding=sharding,
    )

  predictor = Predictor(config, task, model)
  init_key, step_key = jax.random.split(jax.random.key(config.seed))
  step_key = engine.replicate(step_key, mesh)
  checkpoints = Checkpointer(workdir)
  step = checkpoints.latest_step()
  weights = None
  if step is None:  # A checkpoint holds all there is.
    weights = experiment.load_pretrained(config, model, image_shape)
  state = engine.create_state(
    model, tx, image_shape, init_key, mesh, pretrained=weights,
    ema=config.train.ema_decay > 0, shard_above=config.train.shard_above,
  )  # fmt: skip
  sharding = jax.tree.map(lambda x: x.sharding, state)

  # Resume. Without a checkpoint, nothing yet belongs to an older config.
  history = []  # [step, validation score], newest last
  empty_metrics = metrics = engine.empty_metrics(mesh)
  if step is not None:
    config_lib.compare(config, workdir)
    state, metrics, history = checkpoints.restore(step, state, metrics)
    logging.info('resumed at step %d', step)
  elif main_process:
    config_lib.store(config, workdir)
  step = int(state.step)

  writer = Writer(
    workdir, config.train.steps, main_process, step=step, monitor=task.monitor
  )
  batches = pipeline.to_device(
    pipeline.train_batches(
      stream,
      local_batch_size=batch_size // jax.process_count(),
      start_step=step,
    ),
    engine.sharded(mesh),
  )
  logged_step, logged_time = step, time.monotonic()
  # Last to leave is the stop: a Ctrl-C does not tear the final save.
  with StopSignal() as stop, writer, checkpoints:
    while step < config.train.steps and not stalled(
      history, config.train.patience
    ):
      batch = next(batches)
      train_step = compiled(optim.stage(config.optimizer.unfreeze, step))
      # Everything the step touches is already on the devices.
      with jax.transfer_guard('disallow'):
        state, metrics = train_step(state, metrics, batch, step_key)
      step += 1
      last = step == config.train.steps

      if step % config.train.log_every == 0 or last:
        check_finite(step, metrics)
        values = {k: float(v) for k, v in metrics.compute().items()}
        now = time.monotonic()
        rate = (step - logged_step) * batch_size / (now - logged_time)
        writer.scalars(
          step,
          {
            'train/loss': values['loss'],
            'train/grad_norm': values['grad_norm'],
            'train/learning_rate': schedule(step - 1),
            'train/examples_per_second': rate,
          },
        )
        writer.progress(step, loss=values['loss'], examples_per_second=rate)
        metrics, logged_step, logged_time = empty_metrics, step, now

      if step % config.train.eval_every == 0 or last:
        check_finite(step, metrics)
        rows = evaluate_cases(
          predictor, local_variables(state), task, validation_cases
        )
        scores = task.summarize(rows, n_resamples=0)['scores']
        scores = {k: math.nan if v is None else v for k, v in scores.items()}
        writer.scalars(step, {f'validation/{k}': v for k, v in scores.items()})
        writer.progress(step, score=scores[task.monitor])
        history.append([step, scores[task.monitor]])
        checkpoints.save(state, metrics, history)
        # Evaluation is not training time.
        logged_step, logged_time = step, time.monotonic()

      if (code := stop.exit_code(step)) and not last:
        check_finite(step, metrics)
        checkpoints.save(state, metrics, history)
        checkpoints.wait()
        raise Stopped(code, f'step {step} is saved; the same command goes on')
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  whole = jax.eval_shape(finetune.merge, state.eval_variables)
  return {
    'parameters': count(whole['params']),
    'trained_parameters': count(state.params),
    'seconds': time.time() - started,
    'steps': step,
  }
