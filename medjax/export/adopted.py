"""A workdir of weights that were not trained in it."""

import pathlib

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from medjax import engine
from medjax.finetune import adapted
from medjax.run.checkpoint import Checkpointer, best_variables


def check_new(workdir):
  """Raises ValueError for a workdir that holds something already."""
  workdir = pathlib.Path(workdir)
  if workdir.exists() and any(workdir.iterdir()):
    raise ValueError(f'{workdir} is not empty: take a new --out')


def stored(workdir):
  """Whether `store` has come to its end in a workdir."""
  try:
    best_variables(workdir)
  except FileNotFoundError:
    return False
  return True


def store(experiment, workdir, variables, inputs):
  """Writes config, facts and a checkpoint of step 0 of an Experiment.

  inputs: those of the model, as arrays or their shapes. Raises ValueError for
  variables that are not those of its model.
  """
  wanted = adapted.outline(experiment.model, inputs)
  given = flatten_dict(variables, sep='/')
  wrong = [
    k
    for k in sorted({*wanted, *given})
    if k not in wanted or k not in given or given[k].shape != wanted[k].shape
  ]
  if wrong:
    raise ValueError(f'{workdir}: {wrong[0]} is not that of the model')
  mesh = engine.make_mesh(jax.local_devices()[:1])
  variables = jax.tree.map(jnp.asarray, dict(variables))
  state = engine.TrainState(
    step=jnp.zeros((), jnp.int32),
    params=variables.pop('params'),
    variables=variables,
    opt_state=(),
  )
  experiment.store(workdir)
  with Checkpointer(workdir) as checkpoints:
    checkpoints.save(
      engine.replicate(state, mesh), engine.empty_metrics(mesh), []
    )
    checkpoints.wait()
