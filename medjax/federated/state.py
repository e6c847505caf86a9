"""The server's checkpoint: all that the next round depends on."""

import dataclasses

import jax
import numpy as np

from medjax import config as config_lib
from medjax import engine, files
from medjax.federated import rounds
from medjax.federated.local import Memory
from medjax.run.checkpoint import Checkpointer

ABOUT = 'federation.json'


class Saved:
  """Checkpoints of a server and, in a simulation, of what its sites remember.

  sites: all names, in order. fresh: the memory of a site that was never seen,
  or None where the sites keep their own.
  """

  def __init__(self, workdir, mesh, sites, fresh=None):
    self._checkpoints = Checkpointer(workdir)
    self._metrics = engine.empty_metrics(mesh)
    self._sites, self._fresh = sites, fresh

  def newest(self, server):
    """(server, memories, history) of the newest; fresh ones of none."""
    template = self._tree(server, [self._fresh] * len(self._sites))
    found = self._checkpoints.restore_newest(template, self._metrics)
    if not found:
      return server, [self._fresh] * len(self._sites), []
    state, _, history = found
    state = rounds.on_host(state)
    counted = map(int, state.opt_state['counted'])
    server = rounds.Server(
      step=int(state.step),
      params=state.params,
      variables=state.variables,
      own=state.opt_state['own'],
      counted={s: k for s, k in zip(self._sites, counted, strict=True) if k},
    )
    return server, self._memories(state.opt_state['sites']), history

  def save(self, server, memories, history):
    """Starts writing a checkpoint."""
    self._checkpoints.save(self._tree(server, memories), self._metrics, history)

  def wait(self):
    """Returns when the last checkpoint is whole."""
    self._checkpoints.wait()

  def _tree(self, server, memories):
    counted = [server.counted.get(site, 0) for site in self._sites]
    sites = [_tree(memory) for memory in memories if memory is not None]
    return engine.TrainState(
      step=np.asarray(server.step, np.int32),
      params=server.params,
      variables=server.variables,
      opt_state={
        'own': dict(server.own),
        'counted': np.asarray(counted, np.int32),
        'sites': sites,
      },
    )

  def _memories(self, trees):
    if self._fresh is None:
      return [None] * len(self._sites)
    return [_memory(tree, self._fresh) for tree in trees]

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self._checkpoints.close()


def _tree(memory):
  kept = [memory.kept[path] for path in sorted(memory.kept)]
  return {'optimizer': memory.optimizer, 'own': memory.own, 'kept': kept}


def _memory(tree, fresh):
  kept = dict(zip(sorted(fresh.kept), tree['kept'], strict=True))
  return Memory(tree['optimizer'], tree['own'], kept)


class Memories:
  """Checkpoints of what one real site remembers, by the step of the server.

  Each holds two: that which the server last counted, and the newest.
  """

  def __init__(self, workdir, mesh, fresh):
    self._checkpoints = Checkpointer(workdir)
    self._metrics, self._fresh = engine.empty_metrics(mesh), fresh

  def newest(self):
    """{step: Memory} of the newest checkpoint; {} of none."""
    template = self._state({0: self._fresh, 1: self._fresh})
    found = self._checkpoints.restore_newest(template, self._metrics)
    if not found:
      return {}
    kept = rounds.on_host(found[0].opt_state)
    memories = [_memory(tree, self._fresh) for tree in kept['memories']]
    return dict(zip(map(int, kept['steps']), memories, strict=True))

  def save(self, memories):
    """Writes {step: Memory}, two of them; they are whole when this returns."""
    self._checkpoints.save(self._state(memories), self._metrics, [])
    self._checkpoints.wait()

  def _state(self, memories):
    steps = sorted(memories)
    return engine.TrainState(
      step=np.asarray(steps[-1], np.int32),
      params={},
      variables={},
      opt_state={
        'steps': np.asarray(steps, np.int32),
        'memories': [_tree(memories[step]) for step in steps],
      },
    )

  def close(self):
    """Waits for the last save."""
    self._checkpoints.close()


class Models:
  """A run of a model at each of several steps, the best of which is kept."""

  def __init__(self, experiment, workdir, mesh):
    self._checkpoints = Checkpointer(workdir)
    self._metrics = engine.empty_metrics(mesh)
    self._history, self._experiment, self._workdir = [], experiment, workdir
    experiment.store(workdir)

  def save(self, step, params, variables, score):
    """Starts writing the model of a step with its validation score."""
    self._history.append([step, score])
    state = engine.TrainState(
      step=np.asarray(step, np.int32),
      params=jax.tree.map(np.asarray, params),
      variables=variables,
      opt_state={},
    )
    self._checkpoints.save(state, self._metrics, self._history)

  def close(self):
    """Waits for the last save."""
    self._checkpoints.close()


def settled(experiment, workdir, about):
  """Stores what a federation is in its folder, or checks that it goes on.

  Raises ValueError where the folder holds another one.
  """
  before = files.read_json(
    workdir / ABOUT, mend='take a new --workdir, or delete it'
  )
  if before is None:
    if (workdir / 'checkpoints').exists():
      raise ValueError(f'{workdir} holds a run already: take a new --workdir')
    experiment.store(workdir)
    files.write_json(workdir / ABOUT, about, sealed=True)
    return
  config_lib.compare(experiment.config, workdir)
  for name, value in files.plain(about).items():
    if before.get(name) != value:
      raise ValueError(
        f'{workdir} holds a federation with {name}={before.get(name)!r}, not '
        f'{value!r}: take a new --workdir, or the old {name}'
      )


def planned(experiment, rounds_, steps):
  """The experiment, whose run is `rounds_` rounds of `steps` steps a site."""
  config = {**experiment.config}
  config['train'] = {**config['train'], 'steps': rounds_ * steps}
  train = experiment.train._replace(steps=rounds_ * steps)
  return dataclasses.replace(experiment, config=config, train=train)
