"""What would make an epsilon untrue is refused, with a way out."""

import math

import jax
import numpy as np

from medjax.finetune import adapted


def check(experiment, stream):
  """Raises ValueError for what lets a patient move more than the budget says.

  `stream` gives examples as training sees them.
  """
  _check_runs(experiment)
  _check_losses(experiment)
  _check_model(experiment, stream.inputs)
  _check_augmentation(experiment, stream[0])


def check_patients(experiment, count):
  """Raises ValueError for a budget that means nothing for so few patients."""
  batch, delta = experiment.data.batch_size, experiment.privacy.delta
  if not 0 < batch <= count:
    raise ValueError(
      f'data.batch_size is {batch}: with privacy.epsilon it is how many of the '
      f'{count} patients a step draws on average, 1 to {count}'
    )
  if delta >= 1 / count:
    raise ValueError(
      f'privacy.delta={delta:g}: one of {count} patients could be given away '
      f'with such a chance; take less than 1/{count}, {0.1 / count:.0e} say'
    )


def _check_runs(experiment):
  config, settings = experiment.config, experiment.privacy
  for name in ('folds', 'members'):
    if config[name] > 1:
      raise ValueError(
        f'{name}={config[name]} would spend privacy.epsilon in every run: '
        'train one, or each by itself and add the epsilons up'
      )
  if jax.process_count() > 1:
    raise ValueError('privacy.epsilon is for one process: start only one')
  if not 0 < settings.clip_norm < math.inf:
    raise ValueError('privacy.clip_norm must be above 0 and finite: 1, say')
  if settings.noise is not None and not settings.noise > 0:
    raise ValueError('privacy.noise must be above 0; None finds it for epsilon')
  if not settings.delta > 0:
    raise ValueError('privacy.delta must be above 0: 1e-5, say')
  if experiment.train.microbatches > 1:
    raise ValueError(
      'train.microbatches has no meaning with privacy.epsilon: the patients of '
      'a batch are taken privacy.microbatch at a time'
    )
  if experiment.inference.ood:
    raise ValueError(
      'inference.ood keeps features of the training cases, which epsilon does '
      'not cover: leave it empty'
    )


def _check_losses(experiment):
  task = experiment.task
  name = type(task).__name__
  if task.over_batch:
    raise ValueError(
      f'the loss of {name} is one over the whole batch, in which no patient '
      'can be clipped: take a task whose loss is one of each case'
    )
  if getattr(task, 'from_train', False):
    raise ValueError(
      f'{name} keeps curves of the training cases, which epsilon does not '
      'cover: take another task'
    )


def _check_model(experiment, inputs):
  if experiment.config['adapt']['name'] == 'mixstyle':
    raise ValueError("adapt.name='mixstyle' mixes patients: take another")
  outline = adapted.outline(experiment.model, inputs)
  kept = {key.split('/')[0] for key in outline} - {'params'}
  if kept:
    model = experiment.config['model']['name']
    raise ValueError(
      f'{model} keeps {", ".join(sorted(kept))} of its batches (BatchNorm does '
      'so), which mix patients and are not covered: take GroupNorm, '
      "model.norm='group' where the model has it"
    )


def _check_augmentation(experiment, example):
  """An augmentation can see other examples by the name of the batch's axis."""
  alone = lambda key, x: experiment.augment(key, x, alone=True)
  batch = jax.tree.map(lambda x: np.stack([x, x]), example)
  try:
    jax.eval_shape(alone, jax.random.key(0), batch)
  except NameError:
    names = ', '.join(entry['name'] for entry in experiment.config['augment'])
    raise ValueError(
      f'config.augment mixes the patients of a batch, as mixup does: leave it '
      f'out of {names}'
    ) from None
