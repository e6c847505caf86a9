"""From a config, the objects that it names, each by itself.

A ConfigDict is seen here, in `experiment` and in the commands.
"""

import functools
import inspect
import json

import numpy as np

from medjax import augment as augment_lib
from medjax import finetune, models, tasks
from medjax.augment.compose import compose
from medjax.build import build, lookup
from medjax.data import absent, transforms
from medjax.finetune import loading


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


def teacher(restore, config, facts, workdir):
  """Inputs → outputs of a run's best checkpoint, read when first called.

  `restore(workdir)` gives an Experiment. Raises ValueError, before the first
  step, for a run that sees or means something else than the student does.
  """

  @functools.cache
  def opened():
    made = restore(workdir)
    if made.members:
      raise ValueError(
        f'{workdir} holds several runs: name one as the teacher, '
        f'{workdir}/{made.members[0][0]}'
      )
    _check_teacher(workdir, made, config, facts)
    return made.model, loading.best_variables(workdir)[1]

  def teach(*inputs, **options):
    model, variables = opened()
    return model.apply(variables, *inputs, train=False, **options)

  return teach


def _check_teacher(workdir, made, config, facts):
  student = make_task(config, facts, teacher=lambda workdir: None)
  ours = json.loads(json.dumps(config.data.to_dict()['preprocess']))
  if ours != made.config['data']['preprocess']:
    raise ValueError(
      f'{workdir} prepares images otherwise: a student sees what its teacher '
      'sees; give it the same data.preprocess'
    )
  ours = student.names, student.exclusive
  theirs = made.task.names, getattr(made.task, 'exclusive', None)
  if ours != theirs:
    kind = lambda exclusive: 'classes' if exclusive else 'labels'
    raise ValueError(
      f'{workdir} teaches the {kind(theirs[1])} {", ".join(theirs[0])}, the '
      f'student learns the {kind(ours[1])} {", ".join(ours[0])}: give both the '
      'same task.class_names, in one order'
    )


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

  Further images that the task takes are prepared as the first is, with the mask
  where it is on their grid; an entry with `only=('ct',)` is for these images.
  `normalise` does what the data say of their channels, `standardise` of their
  columns. Where the model is one to which inputs may be missing, those that a
  case lacks are NaN.
  """
  told = {
    'schemes': facts.normalisation or ('zscore',),
    'statistics': facts.statistics,
  }
  known = {
    'normalise': told,
    'standardise': {'statistics': facts.covariate_statistics},
  }
  steps = []
  for spec in config.data.preprocess:
    spec = dict(spec)
    only = spec.pop('only', ())
    only = (only,) if isinstance(only, str) else tuple(only)
    if odd := set(only) - {*task.inputs, 'image'}:
      raise ValueError(
        f'data.preprocess: only={only}: the model takes no {min(odd)}'
      )
    step = build(transforms, spec, **known.get(spec['name'], {}))
    steps.append((only, step))

  def chain(sample, name='image'):
    for only, step in steps:
      sample = step(sample) if not only or name in only else sample
    return sample

  if config.data.patch_size and len(task.inputs) > 1:
    # Which of the others lie on the image's grid is not known here.
    raise ValueError(
      f'{type(task).__name__} takes {", ".join(task.inputs)}, of which no '
      'patches can be cut: leave data.patch_size empty, resize in '
      'data.preprocess'
    )
  if is_optional(config.model.to_dict()):
    return functools.partial(_prepared_or_absent, chain, task.inputs, facts)
  return functools.partial(_prepared, chain, task.inputs)


def is_optional(model):
  """Whether inputs may be missing to the model of a config, or its backbone."""
  kind = lookup(models, model.get('name', ''))
  inner = model.get('backbone')
  return getattr(kind, 'optional', False) or bool(inner and is_optional(inner))


def _prepared(chain, inputs, case):
  """The sample of a case, with its further images."""
  sample = chain(case)
  for name in inputs[1:]:
    if np.ndim(case.get(name)) == np.ndim(case.get('image')) > 0:
      sample = {**sample, name: chain(_as_image(case, name), name)['image']}
  return sample


def _as_image(case, name):
  """A further image of a case in the place of the first."""
  affine = case.get(f'{name}_affine', case['affine'])
  spacing = case.get(f'{name}_spacing', case['spacing'])
  moved = {'image': case[name], 'affine': affine, 'spacing': spacing}
  kept = {k: case[k] for k in ('id', 'covariates', 'text') if k in case}
  grid = np.shape(case.get('mask')), np.shape(case[name])[:-1]
  if grid[0] == grid[1] and np.allclose(affine, case['affine']):
    kept['mask'] = case['mask']
  return {**kept, **moved}


def _prepared_or_absent(chain, inputs, facts, case):
  """As `_prepared`; what a case lacks of the inputs is NaN."""
  lacking = [name for name in inputs if name not in case]
  count = dict(zip(facts.further_images, facts.further_channels, strict=True))
  count['image'] = facts.channels
  if 'covariates' in lacking:
    columns = np.full(len(facts.covariate_names), np.nan, np.float32)
    case = {**case, 'covariates': columns}
  images = [name for name in lacking if name in count]
  first = 'image' not in case and bool(facts.rank)
  given = case
  if first:
    case = {**absent.blank(facts, facts.channels), **case}
  sample = _prepared(chain, inputs, case)
  for name in images:
    blank = {**case, **absent.blank(facts, count[name])}
    sample[name] = absent.like(chain(blank, name)['image'])
  if first and 'mask' not in given:
    sample.pop('mask', None)
  return sample


def make_augment(specs, task, facts):
  """One function (key, batch) → batch of config.augment, in order.

  An argument that is a list of such entries, as of `views`, is built first.
  Raises ValueError for mixup of cases that have more than images and a label.
  """
  mixed = {'image', 'label', *facts.further_images}
  left = sorted({*task.inputs, *task.fields} - mixed)
  if left and any(spec['name'] == 'mixup' for spec in specs):
    raise ValueError(
      f'config.augment: mixup mixes images and labels, and {left[0]} would '
      'stay that of one case: leave mixup out'
    )

  def part(spec):
    inner = {
      k: tuple(map(part, v))
      for k, v in spec.items()
      if isinstance(v, list | tuple) and v and hasattr(v[0], 'items')
    }
    return build(augment_lib, {**spec, **inner})

  return compose([part(spec) for spec in specs])
