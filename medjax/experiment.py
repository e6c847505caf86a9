"""From a config, the objects of an experiment: built once, then frozen.

A ConfigDict is seen here and in the commands. Below are arrays, plain arguments
and the parts of an `Experiment`.
"""

import collections
import copy
import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from medjax import case_check, files, optim, run_facts, tasks, untrusted
from medjax import config as config_lib
from medjax.build import lookup
from medjax.cases import open_cases
from medjax.data import held_out, labelled, pipeline, poisson
from medjax.data.facts import DataFacts
from medjax.finetune import adapted, loading
from medjax.parts import (
  is_optional,
  make_augment,
  make_model,
  make_preprocess,
  make_task,
  teacher,
)

SPLITS = ('train', 'validation', 'test')


@dataclasses.dataclass(frozen=True)
class Experiment:
  """The parts of a run.

  Attributes:
    config: all fields as plain values, the record of the run.
    seed: of all that is random in it.
    facts: what the data say about themselves.
    task: what the outputs of the model mean.
    model: the Linen module, or a `finetune.adapted.Adapted`, used alike.
    preprocess: sample → sample, in order.
    augment: (key, batch) → batch, in order.
    data, train, privacy, inference: the fields of these parts of the config.
    cases: split → its raw cases; opened when asked for, and kept.
    members: (folder, Experiment) of an ensemble or a cross-validation.
    folds: whether they are the folds of a cross-validation.
  """

  config: Mapping[str, Any]
  seed: int
  facts: DataFacts
  task: Any
  model: Any
  preprocess: Callable
  augment: Callable
  data: Any
  train: Any
  privacy: Any
  inference: Any
  cases: Callable[[str], Sequence]
  members: tuple = ()
  folds: bool = False

  def runs(self, workdir):
    """[(Experiment, folder)] of what is trained, mostly of itself alone."""
    workdir = pathlib.Path(workdir)
    return [(e, workdir / f) for f, e in self.members] or [(self, workdir)]

  def stream(
    self,
    samples,
    *,
    process_index=0,
    process_count=1,
    parts=1,
    draws=None,
    kind=pipeline.TrainStream,
    steps=None,
  ):
    """The `TrainStream` of samples, as this experiment trains on them.

    With `draws`, arguments of a `PoissonStream`, that. Or one of its `kind`, of
    as many `steps`.
    """
    if draws is not None:
      kind = functools.partial(poisson.PoissonStream, draws=draws)
    return kind(
      samples,
      batch_size=self.data.batch_size,
      steps=steps or self.train.steps,
      inputs=self.task.inputs,
      fields=self.task.fields,
      seed=self.seed,
      patch_size=tuple(self.data.patch_size),
      foreground=self.data.foreground,
      ignore=getattr(self.task, 'ignore', None),
      share=self.data.labelled_share,
      process_index=process_index,
      process_count=process_count,
      parts=parts,
    )

  def prepare(self, case):
    """The sample of a case, checked against the task by the caller, with it.

    Of folds that prepare it otherwise, as each was trained, the inputs of all
    are there too, side by side in their last axis: `inputs`.
    """
    sample = {**self.preprocess(case), 'raw': case}
    if self.apart:
      others = self.members[1:]  # the first is as the whole
      own = [sample, *(e.preprocess(case) for _, e in others)]
      for name, joint in zip(self.task.inputs, self.inputs, strict=True):
        sample[joint] = np.concatenate([each[name] for each in own], -1)
    return sample

  @functools.cached_property
  def apart(self):
    """Whether folds prepare a case otherwise: by numbers of their own cases."""
    told = {'normalise': 'statistics', 'standardise': 'covariate_statistics'}
    names = [v for k, v in told.items() if k in self.preprocess_names]
    numbers = lambda made: [getattr(made.facts, name) for name in names]
    return any(numbers(made) != numbers(self) for _, made in self.members)

  @property
  def inputs(self):
    """The fields of a sample that a prediction begins with."""
    if not self.apart:
      return self.task.inputs
    return tuple(f'{name} of each fold' for name in self.task.inputs)

  @property
  def form(self):
    """What members that share a program have in common."""
    times = getattr(self.task, 'event_times', ())
    return tuple(self.data.patch_size), times

  def check(self, case):
    """The case; raises ValueError for one that the model does not take."""
    return case_check.checked(self, case)

  @property
  def preprocess_names(self):
    """Names of the steps of data.preprocess."""
    return {each['name'] for each in self.config['data']['preprocess']}

  @property
  def optional(self):
    """Whether inputs of a case may be missing, as they may to `Fusion`."""
    return is_optional(self.config['model'])

  def pretrained(self, inputs):
    """Variables that the model begins with, or None; says what they are.

    `inputs` are those of the model, as arrays or their shapes. Raises
    ValueError where an adaptation has nothing to adapt.
    """
    arguments = dict(self.config['pretrained'])
    path, way = arguments.pop('path'), self.config['adapt']['name']
    if not path:
      if way not in ('full', 'mixstyle'):  # which keep nothing as it is
        raise ValueError(
          f'adapt={way!r} keeps weights that are learnt: say where they are, '
          'pretrained.path=FILE or WORKDIR'
        )
      return None
    part = isinstance(self.model, adapted.Adapted)
    variables, report = loading.load(
      path,
      self.model.model if part else self.model,
      adapted.outline(self.model, inputs),
      **arguments,
    )
    if jax.process_index() == 0:
      print(report)
    return self.model.split(variables) if part else variables

  def optimizer(self, inputs):
    """(optax transform, schedule step → learning rate).

    `inputs` are those of the model, as arrays or their shapes.
    """
    arguments = dict(self.config['optimizer'])
    learning_rate = arguments.pop('learning_rate')
    del arguments['freeze']  # What does not train is not seen by it.
    if (decay := arguments.pop('layer_decay')) != 1:
      outline = adapted.outline(self.model, inputs)
      arguments['layer_factors'] = optim.layer_factors(outline, decay)
    schedule = optim.make_schedule(
      learning_rate, self.config['schedule'], steps=self.train.steps
    )
    return optim.make_optimizer(schedule=schedule, **arguments), schedule

  def store(self, workdir):
    """Writes config.json and facts.json."""
    workdir = pathlib.Path(workdir)
    config_lib.store(self.config, workdir)
    facts = dataclasses.asdict(self.facts)
    files.write_json(workdir / 'facts.json', facts, sealed=True)

  @property
  def digest(self):
    """Twelve hexadecimal digits that stand for the config."""
    text = config_lib.to_json(self.config)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def make(config, *, facts=None):
  """The Experiment of a config.

  The facts of the data are read from the training cases, unless given: of a
  cross-validation a list, those of each fold. Fields that the config lacks have
  their defaults.
  """
  config = config_lib.complete(config)
  config_lib.check(config)
  runs = config_lib.members(config, '')
  if config.folds and facts is None:
    _check_folds(config)
  # Members that differ in their seed have the same cases.
  own = [_splits(run) for run, _ in (runs if config.folds else runs[:1])]
  facts = facts or run_facts.of(config, own)
  if isinstance(facts, DataFacts):
    facts = [facts] * len(own)
  one = _make(config, facts[0], own[0])
  if runs[0][0] is config:
    return one
  members = tuple(
    (str(name), _make(run, facts[i % len(own)], own[i % len(own)]))
    for i, (run, name) in enumerate(runs)
  )
  return dataclasses.replace(one, members=members, folds=config.folds > 0)


def restore(workdir, *, config=None, trust=False, inference=None):
  """The Experiment of a workdir, with the facts of its data; none is opened.

  `config` may stand for the stored one. A stored one that names code outside
  of medjax is refused, as it would run: `trust` says that it may. `inference`
  are fields of config.inference to set otherwise.
  """
  if config is not None:
    config = config_lib.complete(config)
    return make(config, facts=run_facts.stored(config, workdir))
  config = config_lib.load(workdir)
  if not trust:
    refuse_foreign(config, workdir, data=False)
  config.inference.update(inference or {})
  facts = run_facts.stored(config, workdir)
  try:
    made = make(config, facts=facts)
  except (ArithmeticError, AttributeError, LookupError, TypeError) as e:
    raise ValueError(
      f'{workdir}/config.json is damaged ({type(e).__name__}: {e}): take '
      'another workdir, or train again'
    ) from e
  if trust or not untrusted.is_code(config.data.name):
    return made
  # It may be loaded, and predict; its data are not opened.
  closed = {'cases': lambda split: refuse_foreign(config, workdir)}
  members = [(k, dataclasses.replace(e, **closed)) for k, e in made.members]
  return dataclasses.replace(made, members=tuple(members), **closed)


def refuse_foreign(config, workdir, *, data=True):
  """Raises ValueError if the config of a workdir names code of others.

  `data` says that its data are opened, by a builder's file, say.
  """
  foreign = sorted(set(untrusted.foreign(config.to_dict(), data=data)))
  if foreign:
    raise ValueError(
      f'{workdir} names code outside of medjax, {foreign[0]!r}, which would '
      'run: if you know where it comes from, say so with --trust'
    )


def _make(config, facts, cases):
  patch = tuple(config.data.patch_size or ())
  if patch and len(patch) != facts.rank:
    raise ValueError(
      f'data.patch_size {patch} is not {facts.rank} sizes, one for each axis'
    )
  teach = functools.partial(teacher, restore, config, facts)
  task = make_task(config, facts, teacher=teach)
  data = _settings('Data', config.data)
  if data.patch_size is None:
    data = data._replace(patch_size=facts.patch_size(data.preprocess))
  return Experiment(
    config=json.loads(config_lib.to_json(config)),
    seed=config.seed,
    facts=facts,
    task=task,
    model=make_model(config, task),
    preprocess=make_preprocess(config, task, facts),
    augment=make_augment(config.augment, task, facts),
    data=data,
    train=_settings('Train', config.train),
    privacy=_settings('Privacy', config.privacy),
    inference=_settings('Inference', config.inference),
    cases=cases,
  )


def _settings(name, part):
  """A part of a config as a named tuple: its fields, frozen."""
  values = part.to_dict()
  return collections.namedtuple(name, values)(**values)


# The data.


def _splits(config):
  """split → its raw cases, opened once."""
  config = copy.deepcopy(config)
  data = config.data

  @functools.cache
  def parts():
    seed = config.seed if data.seed is None else data.seed
    fields = lookup(tasks, config.task.get('name', '')).fields
    train = open_cases(config, data.splits.train)
    return held_out.divided(train, data.held_out, seed, fields)

  @functools.cache
  def cases(split):
    config_lib.check_splits(_named_splits(data))
    if data.held_out and split in SPLITS[:2]:
      found = parts()[SPLITS.index(split)]
    else:
      found = open_cases(config, data.splits[split])
    return found if split != 'train' else _with_references(config, found, cases)

  return cases


def _named_splits(data):
  """The splits that name cases: held-out ones are a share of train."""
  kept = [s for s in SPLITS if s != 'validation' or not data.held_out]
  return {split: data.splits[split] for split in kept}


def _with_references(config, found, cases):
  """The training cases, of which some may have no reference."""
  kind, data = lookup(tasks, config.task.get('name', '')), config.data
  given = data.labelled_seed, data.seed, config.seed
  seed = next(s for s in given if s is not None)
  choice = labelled.Choice(data.labelled, tuple(data.labelled_ids), seed)
  options = dict(fields=kind.fields, keep=kind.unlabelled)
  found = labelled.chosen(found, choice, **options)
  if not all(options.values()):
    return found
  # What is learnt from, without a reference too, is not what is judged by.
  return labelled.apart(found, {k: cases(k) for k in SPLITS[1:]})


def _check_folds(config):
  """Raises ValueError where the data have more folds than config.folds."""
  if config.data.name == 'folder' and config.data.folds != config.folds:
    try:  # a table may say them
      open_cases(config, 'fold0')
    except ValueError as e:
      raise ValueError(
        f'{e}: for folds={config.folds} say data.folds={config.folds} too'
      ) from None
  try:
    open_cases(config, f'fold{config.folds}')
  except ValueError:
    return
  raise ValueError(
    f'folds is {config.folds}, but {config.data.name} has a '
    f'fold{config.folds} too: give as many as there are'
  )
