"""What a training begins with: its members, their cases and their states."""

import concurrent.futures
import functools

import jax

from medjax import engine, progress
from medjax.data import groups, pipeline
from medjax.dp import private
from medjax.experiment import SPLITS
from medjax.finetune import adapted
from medjax.prediction import novelty
from medjax.prediction.samples import samples
from medjax.run.member import Member, check_goes_on


def members(experiment, workdir, mesh):
  """The runs of an experiment, each with its data.

  Preprocessed cases that fit are held in memory. A split that is missing, or
  what the evaluation cannot give, shows now, not after the training.
  """
  novelty.check(experiment)
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

  def checked(run, case):
    task.check(case)  # the loss, on the device, cannot complain
    return run.preprocess(case)

  data = {}
  for run, _ in runs:
    if run.cases not in data:
      train_cases, validation_cases, _ = opened[run.cases]
      share = budget / (len(train_cases) + len(validation_cases))
      train_samples = pipeline.Cached(
        train_cases,
        functools.partial(checked, run),
        budget_bytes=int(share * len(train_cases)),
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


def training(members, experiment, workdir, mesh, read_test):
  """Gives members their states, new or restored.

  Returns the compiled step, (members, their batches) → (states, metrics), and
  step → learning rate.
  """
  forms, optimizers = {}, {}
  for m in members:
    forms.setdefault(m.experiment.form, []).append(m)
  for form, (first, *_) in forms.items():
    adapted.check(first.experiment.model, first.inputs)
    optimizers[form] = first.experiment.optimizer(first.inputs)
  resumed = [m.checkpoints.latest_step() for m in members]
  if None in resumed:
    _check_groups(members, experiment.data.subgroups, read_test)
    _read_once(members, experiment.task, read_test)
  if len(members) > 1:
    done = [step for step in resumed if step is not None]
    new = not done or check_goes_on(experiment.config, workdir, max(done))
    if new and jax.process_index() == 0:
      experiment.store(workdir)
  together = experiment.train.together
  if together is None:  # A CPU is slow at it: benchmarks/members.py
    together = jax.default_backend() != 'cpu'
  steps = {}
  for form, alike in forms.items():
    step = _step(alike, optimizers[form][0], mesh)
    steps[form] = engine.over_members(step, together=together)

  def step(going, batches):
    done = {}
    for form, alike in forms.items():
      own = [(m, b) for m, b in zip(going, batches, strict=True) if m in alike]
      if own:
        each = [(m.state, m.metrics, b, m.key) for m, b in own]
        found = zip(*steps[form](*zip(*each, strict=True)), strict=True)
        done |= {m: new for (m, _), new in zip(own, found, strict=True)}
    return zip(*(done[m] for m in going), strict=True)

  _, learning_rate = next(iter(optimizers.values()))
  return step, learning_rate


def _step(members, tx, mesh):
  """The compiled step of members of one form, who are given their states."""
  experiment, inputs = members[0].experiment, members[0].inputs
  settings, weights = experiment.train, None
  if None in [m.checkpoints.latest_step() for m in members]:
    weights = experiment.pretrained(inputs)
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
  return engine.make_train_step(
    experiment.model,
    experiment.task,
    tx,
    experiment.augment,
    mesh,
    ema_decay=settings.ema_decay,
    gradient=gradient,
    sharding=jax.tree.map(lambda x: x.sharding, members[0].state),
  )


def _check_groups(members, names, read_test):
  """Raises ValueError for a subgroup that no case of a split could be in."""
  if not names:
    return
  splits = ('validation', 'test') if read_test else ('validation',)
  for cases in {m.experiment.cases for m in members}:
    for split in splits:
      groups.groups_of(cases(split), names)


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
    progress.wait(threads, futures, advance)
