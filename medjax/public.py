"""The door for programs: `medjax.load` and `medjax.batches`."""

import pathlib
import runpy

from medjax import experiment, shipped
from medjax.data import pipeline
from medjax.prediction.trained import load

__all__ = ['batches', 'load']


def batches(config, split='train'):
  """Iterates the batches that training sees, before augmentation.

  `config` is a ConfigDict or a file, 'configs/unet.py:hippocampus'. Yields
  train.steps batches as numpy arrays by name: the inputs of the model (b, …),
  the fields of the task, whether each is known (`valid`), and the place in the
  stream (`index`). Shuffling and patches are those of the run, by its seed;
  those of another split are drawn in the same way.

  Raises ValueError for a case that the task cannot use, FileNotFoundError
  where there is no such file.
  """
  if not hasattr(config, 'train'):
    config = read_config(config)
  made = experiment.make(config)
  data, task = made.data, made.task

  def checked(case):
    task.check(case)
    return made.preprocess(case)

  samples = pipeline.Cached(
    made.cases(split), checked, budget_bytes=int(data.cache_gb * 2**30)
  )
  stream = made.stream(samples)
  return pipeline.train_batches(
    stream, local_batch_size=stream.batch_size, start_step=0
  )


def read_config(file):
  """The ConfigDict of a file 'path.py' or 'path.py:variant'."""
  path, colon, variant = str(file).partition(':')
  found = pathlib.Path(shipped.find(path))
  if not found.is_file():
    raise FileNotFoundError(f'{path}: no such config file')
  make = runpy.run_path(str(found)).get('get_config')
  if make is None:
    raise ValueError(f'{path} has no function get_config')
  return make(variant) if colon else make()
