"""Workdirs of models that others trained: MONAI bundles, nnU-Net's results.

The weights and the geometry of known networks are taken over; what is not known
is refused by its name. Nothing of a foreign folder is run.
"""

import pathlib

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from medjax import config, experiment
from medjax.data.facts import DataFacts
from medjax.export import adopted, monai_bundle, nnunet_results
from medjax.finetune import adapted, loading


def adopt(folder, out, *, fold='0'):
  """Writes a workdir of a foreign folder; returns what to tell the user.

  Raises ValueError for what is not known, FileNotFoundError where nothing is.
  """
  folder = pathlib.Path(folder)
  adopted.check_new(out)
  if (folder / 'plans.json').is_file():
    found = nnunet_results.read(folder, fold)
  elif (folder / 'configs').is_dir():
    found = monai_bundle.read(folder)
  else:
    raise FileNotFoundError(
      f'{folder} is neither a MONAI bundle (configs/) nor a result folder of '
      'nnU-Net (plans.json)'
    )
  return _stored(found, out)


def _stored(found, out):
  """The workdir of what a reader found: a dict of parts of a config, and …

  facts: of `DataFacts`; weights: a file; order: of spatial axes in which the
  weights lie, ours being 0, 1, 2; notes: a line each.
  """
  whole = config.default_config()
  for name in ('model', 'task'):
    whole[name] = config.part(found[name])
  whole.data.update(
    name='folder',
    preprocess=tuple(found['preprocess']),
    patch_size=tuple(found['patch_size']),
  )
  whole.inference.update(found.get('inference', {}))
  facts = DataFacts(**found['facts'])
  made = experiment.make(whole, facts=facts)
  order = found.get('order') or tuple(range(facts.rank))
  size = made.data.patch_size or (64,) * facts.rank
  shape = lambda axes: (
    jax.ShapeDtypeStruct((1, *(size[a] for a in axes), facts.channels), 'f4'),
  )
  # Read with the network as it lies in the file, then its axes are put right.
  whole.model = config.part(found.get('as_stored', found['model']))
  theirs = experiment.make(whole, facts=facts).model
  variables, report = loading.load(
    found['weights'], theirs, adapted.outline(theirs, shape(order))
  )
  if report.new or report.missing or report.unexpected:
    raise ValueError(f'{found["weights"]} is not that of the network: {report}')
  variables = _turned(variables, order, facts.rank)
  adopted.store(made, out, variables, shape(range(facts.rank)))
  return '\n'.join([str(report), *found['notes'], f'{out} predicts now'])


def _turned(variables, order, rank):
  """Kernels whose spatial axes lie in `order`, in ours."""
  back = tuple(int(i) for i in np.argsort(order))
  if back == tuple(range(rank)):
    return variables
  leaves = flatten_dict(variables)
  for path, array in leaves.items():
    if path[-1] == 'kernel' and array.ndim == rank + 2:
      leaves[path] = array.transpose(*back, rank, rank + 1)
  return unflatten_dict(leaves)
