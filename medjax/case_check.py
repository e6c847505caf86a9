"""Whether a case is one that a run takes."""

import numpy as np

from medjax.data import transforms


def checked(made, case):
  """The case, with what is to be said of it; `made` is the Experiment.

  Raises ValueError for one that the model does not take.
  """
  facts, name = made.facts, case.get('path', case['id'])
  missing = [field for field in made.task.inputs if field not in case]
  if made.optional and missing and len(missing) < len(made.task.inputs):
    missing = []
    if 'image' not in case:
      return case
  facts.check(name, case.get('image', np.empty(0)), one_size=_one_size(made))
  if missing:
    raise ValueError(f'{name} has no {missing[0]}, which the model takes')
  columns = len(facts.covariate_names)
  if 'covariates' in made.task.inputs and columns and 'covariates' in case:
    own = np.size(case['covariates'])
    if own != columns:
      raise ValueError(
        f'{name} has {own} covariates, the model was trained on {columns}: '
        f'{", ".join(facts.covariate_names)}'
      )
  told = facts.doubts(case, made.preprocess_names)
  return {**case, 'notes': (*case.get('notes', ()), *told)} if told else case


def _one_size(made):
  """Whether whole images are learnt from, which nothing brings to a size."""
  whole = not made.data.patch_size and made.data.batch_size > 1
  vector = bool(made.task.fields) and 'mask' not in made.task.fields
  return whole and vector and made.preprocess_names <= transforms.SAME_SIZE
