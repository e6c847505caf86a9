"""A search space for configs/lenet.py, of a population too."""


def space(trial):
  """Fields of the config and their values; `trial` is Optuna's."""
  return {
    'optimizer.learning_rate': trial.suggest_float(
      'learning_rate', 1e-4, 1e-1, log=True
    ),
    'optimizer.weight_decay': trial.suggest_float(
      'weight_decay', 1e-6, 1e-2, log=True
    ),
    'optimizer.b1': trial.suggest_float('b1', 0.5, 0.95),
  }
