"""The training loop, read top to bottom."""

import concurrent.futures
import contextlib
import math
import pathlib
import statistics
import time

import jax

from medjax import engine, progress
from medjax.data import pipeline, walk
from medjax.dp import private
from medjax.evaluate import evaluate_cases
from medjax.experiment import SPLITS
from medjax.finetune import adapted
from medjax.prediction.predictor import Predictor, local_variables
from medjax.prediction.samples import samples
from medjax.run.lock import locked
from medjax.run.member import Member, check_goes_on
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
  members = _members(experiment, workdir, mesh)
  if spends := members[0].private:
    until = min(until, spends.budget.steps)
  train_step, learning_rate = _begin(
    members, experiment, workdir, mesh, read_test
  )
  predictor, loss = Predictor(experiment), ValidationLoss(experiment, mesh)
  begun = min(m.step for m in members)
  clock = _Clock(begun, experiment.data.batch_size or members[0].batch_size)
  profile = Profile(workdir, settings.profile)
  _announce(experiment, members)

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
        states, metrics = train_step(
          [m.state for m in going],
          [m.metrics for m in going],
          batches,
          [m.key for m in going],
        )
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
        _validate(members[0].writer, going, step, predictor, loss)
        clock.restart(step)  # Evaluation is not training time.
      if code := stop.exit_code(step):
        for m in going:
          m.check_finite()
          m.save()
          m.checkpoints.wait()
        raise Stopped(code, f'step {step} is saved; the same command goes on')
  if spends:
    print(spends.say(members[0].step))
  return _told(members)


def _told(members):
  """Facts about the run for its record."""
  return {
    **_sizes(members[0].state),
    'seconds': members[0].writer.seconds,
    'steps': max(m.step for m in members),
  }


def _members(experiment, workdir, mesh):
  """The runs of an experiment, each with its data.

  Preprocessed cases that fit are held in memory. A split that is missing shows
  now, not after the training.
  """
  settings, task = experiment.train, experiment.task
  batch_size = experiment.data.batch_size
  if batch_size % (parts := mesh.size * settings.microbatches):
    raise ValueError(
      f'data.batch_size {batch_size} is no multiple of {parts}: {mesh.size} '
      f'devices × {settings.microbatches} microbatches'
    )
  runs = experiment.runs(workdir)
  opened = {  # Members that differ in their seed have the same cases.
    run.cases: [run.cases(split) for split in SPLITS] for run, _ in runs
  }
  budget = experiment.data.cache_gb * 2**30 / len(opened)

  def checked(case):
    task.check(case)  # the loss, on the device, cannot complain
    return experiment.preprocess(case)

  data = {}
  for run, _ in runs:
    if run.cases not in data:
      train_cases, validation_cases, _ = opened[run.cases]
      share = budget / (len(train_cases) + len(validation_cases))
      train_samples = pipeline.Cached(
        train_cases, checked, budget_bytes=int(share * len(train_cases))
      )
      validation = samples(
        run, 'validation', budget_bytes=int(share * len(validation_cases))
      )
      data[run.cases] = train_samples, validation
  spends = None
  if experiment.privacy.epsilon:
    of_training, _ = data[runs[0][0].cases]
    spends = private.begin(experiment, workdir, of_training, mesh)
  return [Member(run, f, *data[run.cases], mesh, spends) for run, f in runs]


def _read_once(members, task, read_test):
  """Reads what will be evaluated: a damaged file shows now, not at the end."""

  def read(split, i):
    sample = split[i]
    if all(field in sample['raw'] for field in task.fields):
      task.check(sample['raw'])

  places = []
  for m in {m.experiment.cases: m for m in members}.values():
    test = [samples(m.experiment, 'test')] if read_test else []
    for split in (m.validation, *test):
      mine = range(jax.process_index(), len(split), jax.process_count())
      places += [(split, i) for i in mine]
  with (
    progress.bar('looking at the cases of evaluation', len(places)) as advance,
    concurrent.futures.ThreadPoolExecutor() as threads,
  ):
    futures = [threads.submit(read, *place) for place in places]
    try:
      for future in concurrent.futures.as_completed(futures):
        future.result()
        advance()
    except BaseException:
      threads.shutdown(wait=True, cancel_futures=True)
      raise


def _never_seen(cases, names):
  """Names of the classes that no case of a folder has."""
  labels = [e.label for e in getattr(cases, 'entries', ())]
  if not labels or None in labels:
    return []
  if all(isinstance(label, tuple) for label in labels):
    counts = zip(names, zip(*labels, strict=True), strict=False)
    return [name for name, column in counts if not any(column)]
  return [name for name in names if name not in set(labels)]


def _begin(members, experiment, workdir, mesh, read_test):
  """Gives members their states, new or restored.

  Returns the compiled step over members and step → learning rate.
  """
  settings, inputs = experiment.train, members[0].inputs
  adapted.check(experiment.model, inputs)
  tx, learning_rate = experiment.optimizer(inputs)
  weights, resumed = None, [m.checkpoints.latest_step() for m in members]
  if None in resumed:
    _read_once(members, experiment.task, read_test)
    weights = experiment.pretrained(inputs)
  if len(members) > 1:
    done = [step for step in resumed if step is not None]
    new = not done or check_goes_on(experiment.config, workdir, max(done))
    if new and jax.process_index() == 0:
      experiment.store(workdir)
  for m in members:
    state = engine.create_state(
      experiment.model, tx, inputs, m.init_key, mesh, pretrained=weights,
      ema=settings.ema_decay > 0, shard_above=settings.shard_above,
      more=getattr(experiment.task, 'variables', None),
    )  # fmt: skip
    m.begin(state)
  gradient = engine.whole_batch
  if settings.microbatches > 1:
    gradient = engine.Microbatches(settings.microbatches)
  if members[0].private:
    gradient = members[0].private.gradient
  step = engine.make_train_step(
    experiment.model,
    experiment.task,
    tx,
    experiment.augment,
    mesh,
    ema_decay=settings.ema_decay,
    gradient=gradient,
    sharding=jax.tree.map(lambda x: x.sharding, members[0].state),
  )
  together = settings.together
  if together is None:  # A CPU is slow at it: benchmarks/members.py
    together = jax.default_backend() != 'cpu'
  return engine.over_members(step, together=together), learning_rate


def _counted(cases):
  """'12', or '12 of 8 patients' where that is known without reading them."""
  patients = len({e.patient for e in getattr(cases, 'entries', ())})
  if patients in (0, len(cases)):
    return str(len(cases))
  return f'{len(cases)} of {patients} patients'


def _announce(experiment, members):
  """Says what is about to be trained, before the first step is compiled."""
  if jax.process_index():
    return
  task, settings = experiment.task, experiment.train
  cases = members[0].experiment.cases
  splits = ', '.join(f'{_counted(cases(split))} {split}' for split in SPLITS)
  device = f'{jax.device_count()} × {jax.devices()[0].device_kind}'
  print(f'cases: {splits}; on {device}')
  if task.names:
    positive = getattr(task, 'positive_class', None)
    of = ', '.join(
      f'{name} (positive)' if k == positive else name
      for k, name in enumerate(task.names)
    )
    print(f'{type(task).__name__} of {of}')
  if unseen := _never_seen(cases('train'), task.names):
    print(
      f'note: no case of train is {", ".join(unseen)}, which is not learnt then'
    )
  for column in experiment.facts.telling:
    print(
      f'warning: {column} alone tells the label: if it is the label in '
      'another form, leave it out of data.fields.covariates'
    )
  count = _sizes(members[0].state)['parameters']
  if members[0].private:
    print(members[0].private.plan)
  name = experiment.config['model'].get('name')
  from_step = min(m.step for m in members)
  resumed = f', going on from step {from_step}' if from_step else ''
  print(f'{name}: {count:,} parameters; {settings.steps} steps{resumed}')
  warmup = experiment.config['schedule'].get('warmup_steps', 0)
  if 2 * warmup > settings.steps:
    print(
      f'note: schedule.warmup_steps={warmup} of {settings.steps} steps: the '
      'learning rate is hardly what it should be; lower it'
    )
  # A moving average that outlasts the run is one of its beginning too.
  if settings.ema_decay and (1 - settings.ema_decay) * settings.steps < 1:
    print(
      f'note: train.ema_decay={settings.ema_decay} averages over some '
      f'{1 / (1 - settings.ema_decay):.0f} steps, more than the run has'
    )


class _Clock:
  """How many images a second were trained on, and how long was waited."""

  def __init__(self, step, batch_size):
    self._batch_size = batch_size
    self.restart(step)

  def restart(self, step):
    self._step, self._time, self._idle = step, time.monotonic(), 0.0

  @contextlib.contextmanager
  def waiting(self, going):
    """Counts the body, unless the device was still at work after it."""
    asked = time.monotonic()
    yield
    if going[-1].state.step.is_ready():
      self._idle += time.monotonic() - asked

  def read(self, step):
    """(images a second of one member, share of the time that was waited)."""
    seconds = time.monotonic() - self._time
    images = (step - self._step) * self._batch_size
    return images / seconds, self._idle / seconds


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


def _validate(writer, going, step, predictor, loss):
  """Scores the members on their validation cases, and saves them."""
  for m in going:
    m.check_finite()
    task = m.experiment.task
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


def _sizes(state):
  """Numbers of parameters, for the record."""
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  whole = jax.eval_shape(adapted.merge, state.eval_variables)
  return {
    'parameters': count(whole['params']),
    'trained_parameters': count(state.params),
  }
