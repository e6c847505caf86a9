"""The training loop, read top to bottom."""

import contextlib
import math
import pathlib
import statistics

import jax

from medjax import begin, engine
from medjax.announce import announce, sizes, trained_on
from medjax.data import walk
from medjax.evaluate import evaluate_cases
from medjax.prediction.predictor import Predictor, local_variables
from medjax.run.clock import Clock
from medjax.run.lock import locked
from medjax.run.profile import Profile
from medjax.run.stop import Stopped, StopSignal
from medjax.run.validation_loss import ValidationLoss


def train(experiment, workdir, *, until=None, read_test=True):
  """Trains an experiment in `workdir`, from its newest checkpoint if any.

  `until` stops it at that step, evaluated and saved, to go on another time as
  if it had not stopped. Without `read_test` no case of the test split is opened
  to see whether it is whole.

  Several members (`config.members`, `config.folds`) train in step with each
  other, each in a folder of its own; each is what it would be alone.

  Returns facts about the run for the record. Raises Stopped on Ctrl-C and
  SIGTERM, after saving; FloatingPointError on a loss that is not finite.
  """
  _check_workdir(experiment, workdir)
  with contextlib.ExitStack() as held:
    if jax.process_index() == 0:
      held.enter_context(locked(workdir))
    return _train(experiment, workdir, until or math.inf, read_test)


def _check_workdir(experiment, workdir):
  """Raises ValueError where results would be taken for cases."""
  data = experiment.config['data']
  folder = pathlib.Path(data['path'])
  if data['name'] == 'folder' and not data['table'] and folder.is_dir():
    walk.check_apart(workdir, folder)


def _train(experiment, workdir, until, read_test):
  settings = experiment.train
  mesh = engine.make_mesh()
  members = begin.members(experiment, workdir, mesh)
  if spends := members[0].private:
    until = min(until, spends.budget.steps)
  train_step, learning_rate = begin.training(
    members, experiment, workdir, mesh, read_test
  )
  one_each = {m.experiment.form: m.experiment for m in members}
  judges = {
    form: (Predictor(run), ValidationLoss(run, mesh))
    for form, run in one_each.items()
  }
  begun = min(m.step for m in members)
  clock = Clock(begun, experiment.data.batch_size or members[0].batch_size)
  profile = Profile(workdir, settings.profile)
  announce(experiment, members)

  # Last to leave is the stop: a Ctrl-C does not tear the final save.
  with StopSignal() as stop, contextlib.ExitStack() as files, profile:
    if spends:
      files.callback(lambda: spends.write(members[0].step))
    for m in members:
      files.enter_context(m)
    while going := [m for m in members if not m.ended and m.step < until]:
      # In step, unless a kill came between two checkpoints.
      step = min(m.step for m in going)
      going = [m for m in going if m.step == step]
      with clock.waiting(going):
        batches = [next(m.batches) for m in going]
      profile.before(step + 1)
      # Everything the step touches is already on the devices.
      with jax.transfer_guard('disallow'):
        states, metrics = train_step(going, batches)
      step += 1
      for m, m.state, m.metrics in zip(going, states, metrics, strict=True):
        m.step = step
      profile.after(step, states)
      last = step == settings.steps
      if step - begun in (1, 3):  # the pace, as soon as it can be known
        jax.block_until_ready(states)
        members[0].writer.pace(step)
      if step % settings.log_every == 0 or last:
        _log(members[0].writer, going, step, clock, learning_rate)
      if step % settings.eval_every == 0 or last or step == until:
        _validate(members[0].writer, going, step, judges)
        clock.restart(step)  # Evaluation is not training time.
      if code := stop.exit_code(step):
        for m in going:
          m.check_finite()
          m.save()
          m.checkpoints.wait()
        raise Stopped(code, f'step {step} is saved; the same command goes on')
  if spends:
    print(spends.say(members[0].step))
  return _told(experiment, members)


def _told(experiment, members):
  """Facts about the run for its record."""
  # Each fold has training cases of its own, and all share this record.
  cases = {} if experiment.folds else trained_on(experiment.cases('train'))
  return {
    **cases,
    **sizes(members[0].state),
    'seconds': members[0].writer.seconds,
    'steps': max(m.step for m in members),
  }


def _log(writer, going, step, clock, learning_rate):
  """Writes what was trained since the last time, and moves the bar."""
  losses = []
  for m in going:
    m.check_finite()
    values = {k: float(v) for k, v in m.metrics.compute().items()}
    loss = {'train/loss': values['loss']}
    if m.private and not m.private.log_loss:
      loss = {}
    losses += loss.values()
    rate, waiting = clock.read(step)
    m.writer.scalars(
      step,
      {
        **loss,
        'train/grad_norm': values['grad_norm'],
        'train/learning_rate': learning_rate(step - 1),
        'train/examples_per_second': rate,
        'train/waiting': waiting,
      },
    )
    m.clear_metrics()
  writer.progress(
    step,
    loss=statistics.mean(losses) if losses else None,
    examples_per_second=clock.read(step)[0] * len(going),
  )
  clock.restart(step)


def _validate(writer, going, step, judges):
  """Scores the members on their validation cases, and saves them."""
  for m in going:
    m.check_finite()
    task, (predictor, loss) = m.experiment.task, judges[m.experiment.form]
    current = predictor.with_weights(local_variables(m.state))
    rows = evaluate_cases(current, task, m.validation)
    summary = task.summarize(rows, n_resamples=0)
    scores = summary['scores']
    by_class = {
      f'{task.monitor}/{name}': table[task.monitor]['value']
      for name, table in summary.get('classes', {}).items()
      if task.monitor in table
    }
    logged = {**scores, **by_class}
    if (value := loss(m.state, m.validation)) is not None:
      logged.setdefault('loss', value)  # a task may have a score of that name
    m.writer.scalars(
      step, {f'validation/{k}': _number(v) for k, v in logged.items()}
    )
    m.history.append([step, _number(scores[task.monitor])])
    m.save()
  writer.progress(step, score=statistics.mean(m.history[-1][1] for m in going))


def _number(value):
  return math.nan if value is None else value
