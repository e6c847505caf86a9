"""A search space for configs/unet.py: rates, average, augmentation."""

FLIP = {'name': 'flip', 'p': 0.5}
AFFINE = {'name': 'affine', 'p': 0.2, 'rotate': 15.0, 'scale': (0.8, 1.25)}
AUGMENTATIONS = {'none': (), 'affine': (AFFINE,), 'flip': (FLIP,),
                 'both': (AFFINE, FLIP)}  # fmt: skip


def space(trial):
  """Fields of the config and their values; `trial` is Optuna's."""
  augment = trial.suggest_categorical(
    'augment', ['recipe', *sorted(AUGMENTATIONS)]
  )
  found = {
    'optimizer.learning_rate': trial.suggest_float(
      'learning_rate', 1e-4, 3e-2, log=True
    ),
    'optimizer.weight_decay': trial.suggest_float(
      'weight_decay', 1e-6, 1e-1, log=True
    ),
    'train.ema_decay': trial.suggest_categorical(
      'ema_decay', [0.0, 0.95, 0.99]
    ),
  }
  if augment != 'recipe':  # what the config has
    found['augment'] = AUGMENTATIONS[augment]
  return found
