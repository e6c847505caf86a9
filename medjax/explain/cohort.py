"""Cases of a run's own splits, prepared, and what belongs to them."""

import numpy as np

from medjax import progress


def prepared(run, split, count, what, *, fits=None):
  """(raw case, prepared image) of up to `count` cases of a split."""
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
      if fits is None or image.shape == fits:
        taken.append((case, sample, image))
        advance()
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
