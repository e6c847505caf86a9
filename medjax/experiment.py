"""From a config, the objects of an experiment."""

import functools
import itertools

import jax
from jax.experimental import multihost_utils

from medjax import augment as augment_lib
from medjax import finetune, models, optim, prepare, tasks
from medjax.augment.compose import compose
from medjax.build import build, lookup
from medjax.data import folder, records, transforms
from medjax.finetune import adapted, loading


def _check_splits(splits):
  """Raises ValueError where two splits take the same whole part of a set."""
  parts = {k: {p.strip() for p in v.split('+')} for k, v in splits.items()}
  for a, b in itertools.combinations(parts, 2):
    for part in parts[a]:
      whole = part.partition('[')[0]
      if {part, whole} & parts[b] or (
        part == whole and any(p.startswith(f'{part}[') for p in parts[b])
      ):
        raise ValueError(
          f'data.splits: {part!r} of {a} is in {b} too; a case of training may '
          'not be one of testing'
        )


def open_cases(config, split):
  """The raw cases of 'train', 'validation' or 'test', prepared if need be."""
  _check_splits(config.data.splits.to_dict())
  return _open_parts(config, config.data.splits[split])


def check_folds(config):
  """Raises ValueError where the data have more folds than config.folds."""
  try:
    _open_parts(config, f'fold{config.folds}')
  except ValueError:
    return
  raise ValueError(
    f'folds is {config.folds}, but {config.data.name} has a '
    f'fold{config.folds} too: give as many as there are'
  )


def _open_parts(config, parts):
  data = config.data
  if data.name == 'folder':
    return _open_folder(config, parts)
  if jax.process_index() == 0:
    prepare.prepare(
      data.name,
      data_dir=data.data_dir or None,
      manual_dir=data.manual_dir or None,
    )
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices('prepared')
  return records.open_split(data.name, parts, data_dir=data.data_dir or None)


def _open_folder(config, parts):
  data, task = config.data, config.task
  names = () if task.get('regions') else task.get('class_names', ())
  return folder.open_folder(
    data.path,
    parts,
    seed=config.seed if data.get('seed') is None else data.seed,
    fractions=data.fractions,
    folds=data.folds,
    table=data.table,
    where=data.where,
    fields=data.fields.to_dict(),
    patient=data.patient,
    class_names=tuple(names) or None,
    dense=lookup(tasks, task.name).dense,
  )


def adopt(config, cases):
  """Writes into the config what the data set knows: shape and classes."""
  task = config.task
  with config.unlocked():
    *shape, config.data.channels = cases[0]['image'].shape
    config.data.rank = len(shape)
    if not (task.get('class_names') or task.get('regions')):
      task.class_names = tuple(cases.class_names)
    names, classes = task.get('class_names', ()), task.get('num_classes')
    if not classes:
      task.num_classes = len(names)
    elif names and not task.get('regions') and len(names) != classes:
      raise ValueError(
        f'task.num_classes is {classes}, but {config.data.name} has '
        f'{len(names)} classes: {", ".join(names)}'
      )


def make_task(config):
  """The task: what the outputs of the model mean."""
  return build(tasks, config.task)


def make_model(config, task):
  """The Linen module, with as many outputs as the task needs.

  An argument that is itself a dict with a name, as a backbone is, is built
  first. Where a part of the model trains, or something is added to it, this is
  an `adapted.Adapted`, used in the same way.
  """

  def make(spec):
    parts = {k: make(v) for k, v in spec.items() if hasattr(v, 'items')}
    return build(models, {**spec, **parts}, num_classes=task.num_outputs)

  return build(finetune, config.adapt)(
    make(config.model),
    freeze=tuple(config.optimizer.freeze),
    unfreeze=tuple(map(tuple, config.optimizer.unfreeze)),
  )


def load_pretrained(config, model, image_shape):
  """Variables that the model begins with, or None; says what they are.

  `image_shape` is that of a batch. Raises ValueError where an adaptation has
  nothing to adapt.
  """
  arguments = config.pretrained.to_dict()
  path = arguments.pop('path')
  if not path:
    if config.adapt.name != 'full':
      raise ValueError(
        f'adapt={config.adapt.name!r} keeps weights that are learnt: say where '
        'they are, loading.path=FILE or WORKDIR'
      )
    return None
  part = isinstance(model, adapted.Adapted)
  variables, report = loading.load(
    path,
    model.model if part else model,
    adapted.outline(model, image_shape),
    **arguments,
  )
  if jax.process_index() == 0:
    print(report)
  return model.split(variables) if part else variables


def make_preprocess(config):
  """One function sample → sample from config.data.preprocess, in order."""
  steps = [build(transforms, spec) for spec in config.data.preprocess]

  def preprocess(case):
    return functools.reduce(lambda sample, step: step(sample), steps, case)

  return preprocess


def make_augment(config):
  """One function (key, batch) → batch from config.augment, in order."""
  return compose([build(augment_lib, spec) for spec in config.augment])


def make_optimizer(config, model, image_shape):
  """(optax transform, schedule step → learning rate).

  `image_shape` is that of a batch.
  """
  arguments = config.optimizer.to_dict()
  learning_rate = arguments.pop('learning_rate')
  del arguments['freeze']  # What does not train is not seen by the optimizer.
  if (decay := arguments.pop('layer_decay')) != 1:
    arguments['layer_factors'] = optim.layer_factors(
      adapted.outline(model, image_shape), decay
    )
  if arguments['unfreeze']:
    arguments['start'] = model.start
  schedule = optim.make_schedule(
    learning_rate, config.schedule, steps=config.train.steps
  )
  return optim.make_optimizer(schedule=schedule, **arguments), schedule
