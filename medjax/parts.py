"""From a config, the objects that it names, each by itself.

A ConfigDict is seen here, in `experiment` and in the commands.
"""

import functools
import inspect

import numpy as np

from medjax import augment as augment_lib
from medjax import finetune, models, tasks
from medjax.augment.compose import compose
from medjax.build import build, lookup
from medjax.data import transforms


def make_task(config, facts, *, teacher=None):
  """The task: what the outputs of the model mean.

  What the config does not say and the task takes is told by the data. Of one
  that is taught, `teacher(workdir)` gives inputs → logits of the teacher.
  """
  task = config.task.to_dict()
  taken = inspect.signature(lookup(tasks, task['name'])).parameters
  given = lambda name: task.get(name) not in (None, ())
  if 'teach' in taken and task.get('teacher'):
    task['teach'] = teacher(task['teacher'])
  if 'regions' in taken and not given('regions') and facts.regions:
    task |= {'regions': facts.regions, 'region_order': facts.region_order}
    task['class_names'] = task.get('class_names') or facts.class_names
    task['num_classes'] = task.get('num_classes') or facts.num_labels
  if 'ignore' in taken and task.get('ignore') is None:
    task['ignore'] = facts.ignore
  if 'class_names' in taken and not (given('class_names') or given('regions')):
    task['class_names'] = facts.class_names
  if 'event_times' in taken and not given('event_times'):
    task |= {'event_times': facts.event_times, 'causes': facts.causes}
  if 'channels' in taken and not given('channels'):
    task['channels'] = facts.channels
  if 'concepts' in taken and not given('concepts'):
    task['concepts'] = facts.covariate_names
  if 'num_classes' in taken:
    names, regions = task.get('class_names') or (), given('regions')
    if not task.get('num_classes'):
      task['num_classes'] = len(names) or facts.num_labels
    elif names and not regions and len(names) != task['num_classes']:
      raise ValueError(
        f'task.num_classes is {task["num_classes"]}, but {config.data.name} '
        f'has {len(names)} classes: {", ".join(names)}'
      )
  return build(tasks, task)


def make_model(config, task):
  """The Linen module, with as many outputs as the task needs.

  An argument that is itself a dict with a name, as a backbone is, is built
  first. Where a part of the model trains, or something is added to it, this is
  an `Adapted`, used in the same way.
  """

  def model(spec):
    parts = {k: model(v) for k, v in spec.items() if hasattr(v, 'items')}
    return build(models, {**spec, **parts}, num_classes=task.num_outputs)

  module = model(config.model)
  taken = inspect.signature(module.__call__).parameters
  if not {'train', 'kwargs'} & {*taken}:
    raise ValueError(
      f'{config.model.name}: its __call__ takes no `train`, which says whether '
      'it trains: def __call__(self, x, *, train=False)'
    )
  return build(finetune, config.adapt)(
    module, freeze=tuple(config.optimizer.freeze)
  )


def make_preprocess(config, task, facts):
  """One function sample → sample from config.data.preprocess, in order.

  Further images that the task takes are prepared as the first is. `normalise`
  does what the data say of their channels, `standardise` of their columns.
  """
  told = {
    'schemes': facts.normalisation or ('zscore',),
    'statistics': facts.statistics,
  }
  known = {
    'normalise': told,
    'standardise': {'statistics': facts.covariate_statistics},
  }
  steps = [
    build(transforms, spec, **known.get(spec['name'], {}))
    for spec in config.data.preprocess
  ]
  chain = lambda sample: functools.reduce(
    lambda s, step: step(s), steps, sample
  )

  if config.data.patch_size and len(task.inputs) > 1:
    # Which of the others lie on the image's grid is not known here.
    raise ValueError(
      f'{type(task).__name__} takes {", ".join(task.inputs)}, of which no '
      'patches can be cut: leave data.patch_size empty, resize in '
      'data.preprocess'
    )

  def preprocess(case):
    sample = chain(case)
    for name in task.inputs[1:]:
      if np.ndim(case.get(name)) == np.ndim(case.get('image')):
        affine = case.get(f'{name}_affine', case['affine'])
        other = {'image': case[name], 'affine': affine, 'id': case['id']}
        other['spacing'] = case.get(f'{name}_spacing', case['spacing'])
        sample = {**sample, name: chain(other)['image']}
    return sample

  return preprocess


def make_augment(specs):
  """One function (key, batch) → batch of config.augment, in order.

  An argument that is a list of such entries, as of `views`, is built first.
  """

  def part(spec):
    inner = {
      k: tuple(map(part, v))
      for k, v in spec.items()
      if isinstance(v, list | tuple) and v and hasattr(v[0], 'items')
    }
    return build(augment_lib, {**spec, **inner})

  return compose([part(spec) for spec in specs])
