"""What a run says of itself before its first step."""

import jax
import numpy as np

from medjax.data import sides
from medjax.experiment import SPLITS
from medjax.finetune import adapted

_NOTES, _LONG = 10, 400  # of the data; tables may have a thousand columns
_FAR, _DRAWN = 10, 100_000  # a value, and voxels that are looked at


def announce(experiment, members):
  """Says what is about to be trained, before the first step is compiled."""
  if jax.process_index():
    return
  task, settings = experiment.task, experiment.train
  cases = members[0].experiment.cases
  splits = ', '.join(f'{_counted(cases(split))} {split}' for split in SPLITS)
  device = f'{jax.device_count()} × {jax.devices()[0].device_kind}'
  print(f'cases: {splits}; on {device}')
  for line in _noted(experiment.facts.notes):
    print(f'note: {line}')
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
  if value := _far_out(experiment, cases('train')):
    print(
      f'note: values of the first training image reach {value:.3g} after '
      'data.preprocess, and networks learn best from some -3 to 3: '
      "{'name':'zscore'} in place of scale or window takes any range"
    )
  for column in experiment.facts.telling:
    print(
      f'warning: {column} alone tells the label: if it is the label in '
      'another form, leave it out of data.fields.covariates'
    )
  for line in _mirrored(experiment):
    print(f'warning: {line}')
  count = sizes(members[0].state)['parameters']
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
  if tolerance := _covers_all(task, experiment.facts):
    print(
      f'note: task.nsd_tolerance={tolerance:g} mm is as wide as the images: '
      'every surface is within it, and NSD says nothing; lower it'
    )


def _noted(notes):
  """What was assumed of the data, as lines that a console has room for."""
  for note in notes[:_NOTES]:
    cut = len(note) > _LONG
    yield f'{note[:_LONG]}… (the rest is in facts.json)' if cut else note
  if len(notes) > _NOTES:
    yield f'{len(notes) - _NOTES} more on the data are in facts.json'


def _far_out(experiment, cases):
  """The size of values of the first image, if it is beyond all reason; else 0.

  A scale that is meant for 8-bit pictures leaves others there. Of CT and MRI a
  few voxels lie far out by nature, so that one in a hundred does not count.
  """
  first = cases[0]
  if 'image' not in experiment.task.inputs or 'image' not in first:
    return 0.0
  values = np.abs(experiment.preprocess(first)['image']).ravel()
  value = float(np.quantile(values[:: values.size // _DRAWN or 1], 0.99))
  return value if value > _FAR else 0.0


def _mirrored(experiment):
  """What makes one side of the body the other, where a class is a side."""
  names = experiment.task.names or ()
  sided = [name for name in names if sides.names_a_side(name)]
  if not sided:
    return
  config, facts = experiment.config, experiment.facts
  axis = sides.left_right(facts, config['data']['preprocess'])
  others = tuple(a for a in range(facts.rank) if a != axis)
  mend = '' if axis is None else f', or say axes={others}'
  for axes in _flipped(config['augment'], range(facts.rank)):
    if axis is None or axis in axes:
      yield (
        f'augment has a flip, after which {sided[0]!r} is its other side under '
        f'the same name: leave flip out{mend}'
      )
      break
  if experiment.inference.flips:
    yield (
      f'inference.flips asks mirror images too, where {sided[0]!r} is its '
      'other side: leave it False'
    )


def _flipped(entries, every):
  """The axes of each flip among augmentations, and of those within them."""
  for entry in entries:
    if entry['name'] == 'flip':
      axes = entry.get('axes')
      yield every if axes is None else [a % len(every) for a in axes]
    for inner in entry.values():
      if isinstance(inner, list | tuple) and inner and hasattr(inner[0], 'get'):
        yield from _flipped(inner, every)


def _covers_all(task, facts):
  """The tolerance of surfaces, if an image is no wider; else 0."""
  tolerance = getattr(task, 'nsd_tolerance', 0.0)
  sides = [n * s for n, s in zip(facts.shape, facts.spacing, strict=False)]
  return tolerance if sides and tolerance >= max(sides) else 0.0


def _counted(cases):
  """'12', or '12 of 8 patients' where that is known and another number."""
  patients = _patients(cases)
  if patients in (0, len(cases)):
    return str(len(cases))
  return f'{len(cases)} of {patients} patients'


def _patients(cases):
  """How many patients cases are of; 0 where they would have to be read."""
  return len({e.patient for e in getattr(cases, 'entries', ())})


def trained_on(cases):
  """Numbers of training cases and, where known, patients, for the record."""
  patients = _patients(cases)
  known = {'train_patients': patients} if patients else {}
  return {'train_cases': len(cases), **known}


def _never_seen(cases, names):
  """Names of the classes that no case of a folder has."""
  labels = [e.label for e in getattr(cases, 'entries', ())]
  if not labels or None in labels:
    return []
  if all(isinstance(label, tuple) for label in labels):
    counts = zip(names, zip(*labels, strict=True), strict=False)
    return [name for name, column in counts if not any(column)]
  return [name for name in names if name not in set(labels)]


def sizes(state):
  """Numbers of parameters, for the record."""
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  whole = jax.eval_shape(adapted.merge, state.eval_variables)
  return {
    'parameters': count(whole['params']),
    'trained_parameters': count(state.params),
  }
