"""Cases of a run's own splits, prepared, and what belongs to them."""

import numpy as np

from medjax import progress


def prepared(run, split, count, what, *, fits):
  """[(raw case, sample, image)] of up to `count` random cases of a split.

  `fits`: the shape that their prepared images must have. Raises ValueError
  where none has it.
  """
  cases = run.experiment.cases(split)
  order = np.random.default_rng(0).permutation(len(cases))
  taken = []
  with progress.bar(what, min(count, len(cases))) as advance:
    for i in order:
      if len(taken) == count:
        break
      case = cases[int(i)]
      sample = run.experiment.preprocess(case)
      image = np.asarray(sample['image'], np.float32)
      if image.shape == fits:
        taken.append((case, sample, image))
        advance()
  if not taken:
    raise ValueError(
      f'no case of the {split} split has a prepared image of {fits}: explain '
      'images that are prepared to one size'
    )
  return taken


def about_of(run, samples, output):
  """What belongs to prepared samples, of one output."""
  return {
    'output': np.full(len(samples), output, np.int32),
    'inputs': tuple(
      np.stack([np.asarray(s[name]) for s in samples])
      for name in run.task.inputs[1:]
    ),
  }
